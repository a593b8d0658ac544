"""JSON-RPC read from strangers and answered: what is wrong becomes an error in its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hansa.ledger import jsonrpc
from hansa.ledger.rpc import Fault


def request(**changes: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [], **changes}


def answered(value: Any, *results: Any) -> Any:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return json.loads(jsonrpc.written(jsonrpc.read(raw), results))


def test_a_request_and_a_batch_are_answered_in_kind() -> None:
    assert jsonrpc.read(json.dumps(request(params=["0x1"])).encode()).calls == [("eth_chainId", ["0x1"])]
    assert answered(request(id="a"), "0x1") == {"jsonrpc": "2.0", "id": "a", "result": "0x1"}
    assert answered([request()], None) == [{"jsonrpc": "2.0", "id": 1, "result": None}]


def test_parameters_may_be_left_out() -> None:
    body = request()
    del body["params"]
    assert jsonrpc.read(json.dumps(body).encode()).calls == [("eth_chainId", [])]


def test_a_fault_becomes_an_error_with_its_data() -> None:
    error = answered(request(), Fault(3, "execution reverted", b"\x01\x02"))["error"]
    assert error == {"code": 3, "message": "execution reverted", "data": "0x0102"}
    assert answered(request(), Fault(-32601, "no"))["error"] == {"code": -32601, "message": "no"}


@pytest.mark.parametrize(
    ("value", "code", "id"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b"\xff", -32700, None),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"m"}', -32700, None),
        (b"[" * 200_000, -32700, None),
        ([], -32600, None),
        ([request()] * (jsonrpc.BATCH_LIMIT + 1), -32600, None),
        ("eth_chainId", -32600, None),
        ({}, -32600, None),
        (request(jsonrpc="1.0"), -32600, None),
        (request(id=None), -32600, None),
        (request(id=True), -32600, None),
        (request(id=[1]), -32600, None),
        (b'{"jsonrpc":"2.0","id":1e999,"method":"m"}', -32600, None),
        (request(method=7), -32600, 1),
        (request(params={"a": 1}), -32602, 1),
    ],
)
def test_what_is_no_request_is_said_so(value: Any, code: int, id: Any) -> None:
    answer = answered(value)
    assert (answer["error"]["code"], answer["id"]) == (code, id)


def test_a_bad_request_does_not_spoil_its_batch() -> None:
    batch = [request(id=1), 7, request(id=3, method=None), request(id=4)]
    assert len(jsonrpc.read(json.dumps(batch).encode()).calls) == 2
    answers = answered(batch, "0x1", "0x4")
    assert [(a["id"], a.get("result")) for a in answers] == [(1, "0x1"), (None, None), (3, None), (4, "0x4")]


def test_a_request_of_the_largest_batch_is_taken() -> None:
    assert len(jsonrpc.read(json.dumps([request()] * jsonrpc.BATCH_LIMIT).encode()).calls) == 1000
