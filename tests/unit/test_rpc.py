"""The HTTP endpoint against nodes that are absent, slow, huge, wrong or broken."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from tests.authority import Authority

import hansa.ledger.embedded  # noqa: F401, its py-evm raises Python's recursion limit
from hansa import errors
from hansa.ledger import rpc
from hansa.ledger.rpc import Endpoint, Fault
from hansa.web import Route, trust

Answer = Callable[[list[dict[str, Any]]], tuple[int, bytes]]


class Node:
    """A server whose behaviour a test swaps."""

    def __init__(self) -> None:
        self.answer: Answer = honest
        self.posts = 0
        self.connections: set[Any] = set()
        self.headers: dict[str, str] = {}
        self.hang_up = False
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                node.posts += 1
                node.connections.add(self.client_address)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content = node.answer(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in node.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                # Decided before the answer: afterwards the test may be further already.
                self.close_connection |= node.hang_up
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:
                """Clients that hang up are what these tests are about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def endpoint(self, chain_id: int = 7, **options: Any) -> Endpoint:
        self.pauses: list[float] = []
        return Endpoint(self.url, chain_id, sleep=self.pauses.append, **options)


def honest(calls: list[dict[str, Any]]) -> tuple[int, bytes]:
    """Chain 7; every other method echoes its parameters. Answers come in reverse, as they may."""
    answers = [
        {"jsonrpc": "2.0", "id": c["id"], "result": "0x7" if c["method"] == "eth_chainId" else c["params"]}
        for c in calls
    ]
    return 200, json.dumps(answers[::-1]).encode()


@pytest.fixture
def node() -> Iterator[Node]:
    running = Node()
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_answers_come_in_the_order_of_the_calls(node: Node) -> None:
    endpoint = node.endpoint()
    assert endpoint.batch([("a", (1,)), ("b", (2,)), ("c", (3,))]) == [[1], [2], [3]]
    assert endpoint.request("d", (4,)) == [4]
    assert node.posts == 3  # one of them asked for the chain id


def test_another_chain_is_refused_before_anything_is_sent(node: Node) -> None:
    with pytest.raises(errors.Misconfigured, match="serves chain 7, not 8"):
        node.endpoint(chain_id=8).request("eth_sendRawTransaction", ("0x",))
    assert node.posts == 1


def test_the_chain_is_checked_again_after_a_failure(node: Node) -> None:
    endpoint = node.endpoint(attempts=2)
    endpoint.request("a")
    node.answer = lambda calls: (503, b"")
    with pytest.raises(errors.Unavailable):
        endpoint.request("a")
    node.answer = lambda calls: (200, honest(calls)[1].replace(b"0x7", b"0x8"))
    with pytest.raises(errors.Misconfigured):
        endpoint.request("a")


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        pauses: list[float] = []
        port = closed.getsockname()[1]
        endpoint = Endpoint(f"http://127.0.0.1:{port}/v1/secret-key", 7, attempts=3, sleep=pauses.append)
        with pytest.raises(errors.Unavailable, match="cannot reach") as caught:
            endpoint.request("a")
    assert pauses == [0.25, 0.5]
    assert caught.value.hint
    assert "secret-key" not in f"{caught.value} {endpoint!r}"


def test_a_node_that_stops_answering_times_out(node: Node) -> None:
    endpoint = node.endpoint(timeout=0.2, attempts=2)
    endpoint.request("a")
    hang = threading.Event()

    def silent(calls: list[dict[str, Any]]) -> tuple[int, bytes]:
        hang.wait(10)
        return 200, b"[]"

    node.answer = silent
    with pytest.raises(errors.Unavailable, match="did not answer") as caught:
        endpoint.request("a")
    hang.set()
    assert caught.value.hint


def test_a_node_that_drips_times_out(node: Node) -> None:
    ticks = iter(range(0, 1000, 6))
    endpoint = node.endpoint(attempts=1, clock=lambda: float(next(ticks)))
    node.answer = lambda calls: (200, b" " * 1_000_000)
    with pytest.raises(errors.Unavailable, match="did not answer"):
        endpoint.request("a")


def test_a_connection_that_the_node_closed_meanwhile_is_opened_again_without_a_pause(node: Node) -> None:
    endpoint = node.endpoint(attempts=1)
    endpoint.request("a")
    for _ in range(2):
        node.hang_up = True
        endpoint.request("a")
        node.hang_up = False
        assert endpoint.request("a", (1,)) == [1]
    assert node.pauses == []
    assert len(node.connections) == 3


def test_one_connection_serves_all_requests_and_nothing_of_a_failure_reaches_the_next(node: Node) -> None:
    endpoint = node.endpoint(attempts=1, limit=1000)
    for _ in range(5):
        endpoint.request("a")
    assert len(node.connections) == 1
    node.answer = lambda calls: (200, b" " * 2000 + b'[{"id": 0, "result": "late"}]')
    with pytest.raises(errors.Untrusted):
        endpoint.request("a")
    node.answer = honest
    assert endpoint.request("a", (1,)) == [1]


def test_a_redirect_is_not_followed(node: Node) -> None:
    other = Node()
    node.headers["Location"] = other.url
    node.answer = lambda calls: (307, b"")
    with pytest.raises(errors.Unavailable, match="HTTP status 307"):
        node.endpoint(attempts=1).request("a")
    assert other.posts == 0


def test_a_node_whose_certificate_nobody_vouches_for_is_not_spoken_to(node: Node, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    node.server.socket = authority.inside().wrap_socket(node.server.socket, server_side=True)
    url = node.url.replace("http:", "https:")
    with pytest.raises(errors.Unavailable, match="certificate of the node at .* is not trusted"):
        Endpoint(url, 7, attempts=1).request("a")
    assert node.posts == 0
    route = Route(tls=trust(authority.file))
    assert Endpoint(url, 7, attempts=1, route=route).request("a", (1,)) == [1]


@pytest.mark.parametrize(
    "url", ["", "localhost:8545", "ftp://host/", "http://", "http://host:port", "http://[::"]
)
def test_what_is_no_url_of_http_is_misconfigured(url: str) -> None:
    with pytest.raises(errors.Misconfigured) as caught:
        Endpoint(url, 7)
    assert caught.value.hint


def test_an_address_of_ipv6_needs_no_port() -> None:
    connection = Endpoint("http://[::1]", 7)._connection
    assert (connection.host, connection.port) == ("::1", 80)


def test_a_failure_is_retried(node: Node) -> None:
    endpoint = node.endpoint()
    replies = iter([(503, b""), (429, b""), (200, b"not json")])
    node.answer = lambda calls: next(replies, None) or honest(calls)
    assert endpoint.request("a", (1,)) == [1]
    assert node.pauses == [0.25, 0.5, 1.0]


def test_a_huge_answer_is_cut_off(node: Node) -> None:
    node.answer = lambda calls: (200, b"[" + b" " * 2_000_000)
    with pytest.raises(errors.Untrusted, match="more than 1000000 bytes"):
        node.endpoint(limit=1_000_000).request("a")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        b"[]",
        b"[1]",
        b'[{"id": 5, "result": 1}]',
        b'{"error": {"message": "no"}}',
        b"7",
    ],
)
def test_what_is_not_json_rpc_is_unavailable(content: bytes, node: Node) -> None:
    endpoint = node.endpoint(attempts=1)
    endpoint.request("a")
    node.answer = lambda calls: (200, content)
    with pytest.raises(errors.Unavailable) as caught:
        endpoint.batch([("a", ()), ("b", ())])
    assert caught.value.hint


def error(value: Any) -> Answer:
    def answer(calls: list[dict[str, Any]]) -> tuple[int, bytes]:
        if calls[0]["method"] == "eth_chainId":
            return honest(calls)
        return 200, json.dumps([{"id": c["id"], "error": value} for c in calls]).encode()

    return answer


REVERT = "0x" + (rpc.REFUSED + encode(["uint256"], [11])).hex()


@pytest.mark.parametrize("data", [REVERT, {"data": REVERT}, {"result": REVERT}])
def test_refusals_are_found_wherever_nodes_put_them(data: Any, node: Node) -> None:
    node.answer = error({"code": 3, "message": "execution reverted", "data": data})
    with pytest.raises(errors.StaleBase):
        node.endpoint().request("eth_call")
    (fault,) = node.endpoint().batch([("eth_call", ())])
    assert fault == Fault(3, "execution reverted", bytes.fromhex(REVERT[2:]))


@pytest.mark.parametrize(
    "value",
    ["text", {"message": "x", "data": 5}, {"code": "a", "message": None}, {"data": "0xzz"}, {"data": "0x01"}],
)
def test_other_errors_are_unavailable(value: Any, node: Node) -> None:
    node.answer = error(value)
    with pytest.raises(errors.Unavailable) as caught:
        node.endpoint(attempts=1).request("eth_call")
    assert type(caught.value) is errors.Unavailable


@pytest.mark.parametrize("value", [None, 5, "5", "0x", "0xg", "0x" + "f" * 65, ["0x1"]])
def test_bad_quantities_are_untrusted(value: Any) -> None:
    with pytest.raises(errors.Untrusted):
        rpc.number(value)


@pytest.mark.parametrize("value", [None, 5, "aa", "0xa", "0xgg", "0x" + "00" * 31])
def test_bad_data_is_untrusted(value: Any) -> None:
    with pytest.raises(errors.Untrusted):
        rpc.unhex(value, 32)


def test_a_missing_member_is_untrusted() -> None:
    for value in ({}, None, [], "x"):
        with pytest.raises(errors.Untrusted):
            rpc.member(value, "hash")
