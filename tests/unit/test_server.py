"""The embedded chain over HTTP: what is no request of JSON-RPC, who else asks at the time, when blocks come."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests import ticker
from tests.served import Served, served

from hansa import errors
from hansa.crypto import signatures
from hansa.ledger import jsonrpc
from hansa.ledger.embedded import Chain, Genesis
from hansa.ledger.rpc import Endpoint, number
from hansa.ledger.sender import Receipt, Sender
from hansa.ledger.server import Server
from hansa.ledger.transactions import Call

GENESIS = Genesis(5, 1_700_000_000)
JSON = {"Content-Type": "application/json"}
ASKED = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "chain.sqlite", GENESIS) as place:
        yield place


def connection(place: Served) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=10)


def posted(place: Served, body: bytes, **headers: str) -> tuple[int, bytes]:
    to = connection(place)
    to.request("POST", "/", body, JSON | headers)
    answer = to.getresponse()
    return answer.status, answer.read()


def height(place: Served) -> int:
    return number(Endpoint(place.url, 5).request("eth_blockNumber"))


def test_one_connection_serves_many_requests(place: Served) -> None:
    to = connection(place)
    for _ in range(3):
        to.request("POST", "/", ASKED, JSON)
        own = to.sock.getsockname()
        answer = to.getresponse()
        assert json.loads(answer.read()) == {"jsonrpc": "2.0", "id": 1, "result": "0x5"}
        assert to.sock.getsockname() == own


def test_errors_of_json_rpc_come_with_status_200(place: Served) -> None:
    status, content = posted(place, b"[1,")
    assert (status, json.loads(content)["error"]["code"]) == (200, -32700)
    status, content = posted(place, ASKED.replace(b"eth_chainId", b"eth_mine"))
    assert (status, json.loads(content)["error"]["code"]) == (200, -32601)
    status, content = posted(place, b"[" + ASKED + b",7]")
    assert [a["id"] for a in json.loads(content)] == [1, None]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Length": "many"}, 411),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": str(jsonrpc.BODY_LIMIT + 1)}, 413),
        ({"Content-Length": "9" * 5000}, 413),
    ],
)
def test_bodies_are_refused_before_they_are_read(place: Served, headers: dict[str, str], status: int) -> None:
    to = connection(place)
    to.putrequest("POST", "/")
    for name, value in ({"Content-Type": "application/json", "Content-Length": "59"} | headers).items():
        to.putheader(name, value)
    to.endheaders()
    assert to.getresponse().status == status


def test_only_post_is_served(place: Served) -> None:
    for method in ("GET", "OPTIONS", "PUT"):
        to = connection(place)
        to.request(method, "/")
        assert to.getresponse().status == 501


def test_a_client_that_hangs_up_harms_nobody(place: Served) -> None:
    address = ("127.0.0.1", urlsplit(place.url).port or 0)
    for half in (b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Type: application/json\r\n"
                 b"Content-Length: 59\r\n\r\n{", b"\x16\x03\x01\x00\xff"):  # fmt: skip
        with socket.create_connection(address) as hanging:
            hanging.sendall(half)
    assert posted(place, ASKED)[0] == 200


def test_accounts_may_send_all_at_once(place: Served) -> None:
    code = ticker.bytecode()  # before the threads: the compiler is not made for them

    def history(secret: int) -> list[Any]:
        sender = Sender(Endpoint(place.url, 5), signatures.account(bytes([secret]) * 32), 5)
        made = sender.send([Call(None, code)])
        assert isinstance(made[0], Receipt)
        return made + [
            receipt
            for value in range(5)
            for receipt in sender.send([Call(made[0].contract, ticker.data("tick", value), 200_000)] * 2)
        ]

    with ThreadPoolExecutor(8) as threads:
        receipts = [receipt for made in threads.map(history, range(1, 9)) for receipt in made]
    assert len(receipts) == 88
    assert [receipt for receipt in receipts if not isinstance(receipt, Receipt)] == []


def test_blocks_carry_the_clocks_time_which_never_runs_backwards(place: Served) -> None:
    rpc = Endpoint(place.url, 5)
    sender = Sender(rpc, signatures.account(bytes(range(1, 33))), 5)
    for now, expected in ((100, 100), (160, 160), (30, 160)):
        place.now = GENESIS.timestamp + now
        sender.send([Call(bytes(20), b"", 21_000)])
        block = rpc.request("eth_getBlockByNumber", ("latest", False))
        assert number(block["timestamp"]) == GENESIS.timestamp + expected


def test_blocks_come_without_transactions_too(tmp_path: Path) -> None:
    with served(tmp_path / "chain.sqlite", GENESIS, block_time=0.01) as place:
        while height(place) < 3:
            time.sleep(0.01)


def test_without_need_there_is_no_block(place: Served) -> None:
    posted(place, ASKED)
    assert height(place) == 0


def test_what_goes_wrong_inside_ends_one_request_only(
    place: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for error, code, said in (
        (ZeroDivisionError(), -32603, "ZeroDivisionError"),
        (errors.Unavailable("the disk is full"), -32000, "the disk is full"),
    ):

        def failing(*_: Any, error: Exception = error) -> Any:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Chain, "batch", failing)
            answer = json.loads(posted(place, ASKED)[1])["error"]
        assert answer["code"] == code
        assert said in answer["message"]
        assert json.loads(posted(place, ASKED)[1])["result"] == "0x5"
    assert "fault of Hansa" in caplog.text


def test_a_port_in_use_is_one_paragraph(place: Served) -> None:
    with pytest.raises(errors.Misconfigured, match="is in use") as caught:
        Server(urlsplit(place.url).port or 0)
    assert "--port" in caught.value.hint
