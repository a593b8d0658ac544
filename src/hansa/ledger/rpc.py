"""The seam to an EVM chain: JSON-RPC as `request` and `batch`, and the endpoint that speaks it over HTTP.

Nothing here knows the federation's contract, apart from its one revert reason `Refused(uint256)`.
Encodings are those of the Ethereum JSON-RPC specification: quantities and data as hexadecimal strings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eth_hash.auto import keccak

from hansa import errors, web

REFUSED = keccak(b"Refused(uint256)")[:4]
"""Selector of the contract's only revert reason."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A JSON-RPC error as a value: one call of a batch failed, the others did not."""

    code: int
    message: str
    data: bytes = b""


class Rpc(Protocol):
    """A chain that answers JSON-RPC."""

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """Result of one call. Raises `Refused` for a revert of the contract, else `Unavailable`."""

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Results in the order of `calls`; a call that failed gives a `Fault`. Raises `Unavailable`."""


def quantity(value: int) -> str:
    """JSON-RPC quantity."""
    return hex(value)


def hexed(data: bytes) -> str:
    """JSON-RPC data."""
    return "0x" + data.hex()


def number(value: Any) -> int:
    """Read a JSON-RPC quantity below 2**256. Raises `Untrusted`."""
    if not isinstance(value, str) or not value.startswith("0x") or len(value) > 66:
        raise errors.Untrusted(f"the chain gave {str(value)[:40]!r} where a quantity belongs")
    try:
        return int(value, 16)
    except ValueError as e:
        raise errors.Untrusted(f"the chain gave {value!r} where a quantity belongs") from e


def unhex(value: Any, length: int | None = None) -> bytes:
    """Read JSON-RPC data, of exactly `length` bytes if given. Raises `Untrusted`."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise errors.Untrusted(f"the chain gave {str(value)[:40]!r} where data belongs")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError as e:
        raise errors.Untrusted(f"the chain gave {value[:40]!r} where data belongs") from e
    if length is not None and len(data) != length:
        raise errors.Untrusted(f"the chain gave {len(data)} bytes where {length} belong")
    return data


def member(value: Any, key: str) -> Any:
    """Field of a JSON object. Raises `Untrusted` when there is none."""
    if not isinstance(value, dict) or key not in value:
        raise errors.Untrusted(f"the chain's answer lacks {key!r}")
    return value[key]


def error_of(fault: Fault) -> errors.HansaError:
    """The error that a fault stands for: the contract's refusal by its code, else `Unavailable`."""
    if fault.data[:4] == REFUSED and len(fault.data) == 36:
        refusal = errors.REFUSALS.get(int.from_bytes(fault.data[4:], "big"))
        if refusal is not None:
            return refusal()
    return errors.Unavailable(
        f"the chain refused the call: {fault.message}",
        hint="check that the contract's address and the account that pays are right",
    )


def fault_of(error: Any) -> Fault:
    """Read the `error` member of a JSON-RPC response; nodes put revert data in different places."""
    if not isinstance(error, dict):
        return Fault(-32000, str(error)[:500])
    data: Any = error.get("data")
    while isinstance(data, dict):
        data = data.get("data") or data.get("result")
    try:
        revert = unhex(data)
    except errors.Untrusted:
        revert = b""
    code = error.get("code")
    return Fault(code if isinstance(code, int) else -32000, str(error.get("message", ""))[:500], revert)


class Endpoint:
    """An EVM node behind a URL, on one connection that is kept; one thread at a time may use it.

    `chain_id` pins the chain, or None, to the one that answers first: it is asked for in front of the first
    batch and of the first one after any failure, since another node may answer then. A call is repeated
    `attempts` times with doubling pauses; every method used here may be repeated, a transaction sent twice
    is a duplicate by its hash. `timeout` bounds each attempt in seconds, `limit` a response in bytes. `host`
    names the node in messages, without its path: providers put access keys there. Raises `Misconfigured` for
    a URL that is none of HTTP.
    """

    def __init__(
        self,
        url: str,
        chain_id: int | None,
        *,
        route: web.Route = web.DIRECT,
        timeout: float = 10.0,
        attempts: int = 4,
        limit: int = 64 * 1024 * 1024,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chain_id = chain_id
        self._attempts = attempts
        self._limit = limit
        self._sleep = sleep
        self._clock = clock
        self._server = web.server("node", url, timeout=timeout, route=route, query=True)
        self._connection = self._server.connection()
        self.host = self._server.name
        self._checked = False

    def __repr__(self) -> str:
        return f"Endpoint(host={self.host!r}, chain_id={self.chain_id})"

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See `Rpc.request`."""
        return _good(self.batch([(method, params)])[0])

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """See `Rpc.batch`. Raises `Misconfigured` when another chain than the pinned one answers."""
        if not calls:
            return []
        for attempt in range(self._attempts):
            try:
                if not self._checked:
                    self._check_chain()
                return self._exchange(calls)
            except errors.Unavailable:
                self._checked = False
                if attempt == self._attempts - 1:
                    raise
                self._sleep(0.25 * 2**attempt)
        raise AssertionError("unreachable: attempts >= 1")

    def _check_chain(self) -> None:
        found = number(_good(self._exchange([("eth_chainId", ())])[0]))
        if self.chain_id is None:
            self.chain_id = found
        if found != self.chain_id:
            raise errors.Misconfigured(
                f"the node at {self.host} serves chain {found}, not {self.chain_id}",
                hint="check the RPC address in member.toml",
            )
        self._checked = True

    def _exchange(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        body = json.dumps(
            [
                {"jsonrpc": "2.0", "id": place, "method": method, "params": list(params)}
                for place, (method, params) in enumerate(calls)
            ]
        )
        answers = self._post(body)
        if isinstance(answers, dict) and len(calls) == 1:
            answers = [answers]
        if isinstance(answers, dict):
            raise errors.Unavailable(
                f"the node at {self.host} refuses a batch: {fault_of(answers.get('error')).message}",
                hint="use a node that takes JSON-RPC batches",
            )
        results: dict[int, Any] = {}
        for answer in answers if isinstance(answers, list) else ():
            place = answer.get("id") if isinstance(answer, dict) else None
            if isinstance(place, int) and 0 <= place < len(calls):
                results[place] = fault_of(answer["error"]) if answer.get("error") else answer.get("result")
        if len(results) != len(calls):
            raise errors.Unavailable(
                f"the node at {self.host} answered {len(results)} of {len(calls)} calls",
                hint="use another node, or a smaller batch",
            )
        return [results[place] for place in range(len(calls))]

    def _post(self, body: str) -> Any:
        status, content = web.exchange(
            self._server,
            self._connection,
            "POST",
            self._server.target,
            body.encode(),
            limit=self._limit,
            clock=self._clock,
        )
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as e:
            raise errors.Unavailable(
                f"the node at {self.host} does not speak JSON-RPC (HTTP status {status})",
                hint="check the RPC address: another program may use that port",
            ) from e


def chain_id_of(url: str, route: web.Route = web.DIRECT) -> int:
    """Which chain the node at `url` serves: to be believed only where nothing was agreed before."""
    endpoint = Endpoint(url, None, route=route, attempts=1)
    try:
        return number(endpoint.request("eth_chainId"))
    finally:
        endpoint.close()


def _good(answer: Any) -> Any:
    if isinstance(answer, Fault):
        raise error_of(answer)
    return answer
