"""JSON-RPC 2.0 from the side that answers (https://www.jsonrpc.org/specification): requests read, answers written.

Stricter than the specification: parameters are a list, and a request has an id, since nothing here is a notification.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hansa.ledger.rpc import Fault, hexed

BODY_LIMIT = 16 * 1024 * 1024
BATCH_LIMIT = 1000
NO_JSON, NO_REQUEST, BAD_PARAMETERS, INTERNAL = -32700, -32600, -32602, -32603

Call = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its `id`, and what to call or why not."""

    id: Any
    call: Call | Fault


@dataclass(frozen=True, slots=True)
class Body:
    """What one HTTP request asks; `batch`: as a list, so that the answer is one too."""

    asked: tuple[Asked, ...]
    batch: bool

    @property
    def calls(self) -> list[Call]:
        """Those that can be called, in order."""
        return [asked.call for asked in self.asked if not isinstance(asked.call, Fault)]


def read(body: bytes) -> Body:
    """Read a request or a batch. Whatever is wrong becomes a `Fault` in its place."""
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return Body((Asked(None, Fault(NO_JSON, "the body is not JSON")),), batch=False)
    if not isinstance(value, list):
        return Body((_read_one(value),), batch=False)
    if not 0 < len(value) <= BATCH_LIMIT:
        fault = Fault(NO_REQUEST, f"a batch has 1 to {BATCH_LIMIT} requests, not {len(value)}")
        return Body((Asked(None, fault),), batch=False)
    return Body(tuple(_read_one(item) for item in value), batch=True)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read_one(value: Any) -> Asked:
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return Asked(None, Fault(NO_REQUEST, "not a request of JSON-RPC 2.0"))
    id, method, params = value.get("id"), value.get("method"), value.get("params", [])
    if not isinstance(id, str | int) or isinstance(id, bool):
        return Asked(None, Fault(NO_REQUEST, "a request needs an id, a string or an integer"))
    if not isinstance(method, str):
        return Asked(id, Fault(NO_REQUEST, "a request needs a method"))
    if not isinstance(params, list):
        return Asked(id, Fault(BAD_PARAMETERS, "parameters are a list"))
    return Asked(id, (method, params))


def written(body: Body, results: Sequence[Any]) -> bytes:
    """The answer to a body, given the results of its `calls`; a `Fault` becomes an error."""
    given = iter(results)
    answers = [
        _answer(asked.id, asked.call if isinstance(asked.call, Fault) else next(given))
        for asked in body.asked
    ]
    return json.dumps(answers if body.batch else answers[0], allow_nan=False).encode()


def _answer(id: Any, result: Any) -> dict[str, Any]:
    if not isinstance(result, Fault):
        return {"jsonrpc": "2.0", "id": id, "result": result}
    error: dict[str, Any] = {"code": result.code, "message": result.message}
    if result.data:
        error["data"] = hexed(result.data)
    return {"jsonrpc": "2.0", "id": id, "error": error}
