"""Reaching servers: certificates that are good, expired, of others; proxies that tunnel, refuse, want a password."""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.authority import Authority

from hansa import errors, web
from hansa.web import Route

NAME = "node.example"
"""Known to the proxy alone: whoever asks for its address itself fails."""


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """Clients that hang up are what these tests are about."""


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


class Tunnels(BaseHTTPRequestHandler):
    """A proxy: every tunnel ends at `port` of this machine, whatever it was asked for."""

    port = 0
    asked: ClassVar[list[str]] = []
    password = ""

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        wanted = "Basic " + base64.b64encode(self.password.encode()).decode()
        if self.password and self.headers.get("Proxy-Authorization") != wanted:
            self.send_error(407, "Proxy Authentication Required")
            return
        with socket.create_connection(("127.0.0.1", self.port)) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pair = {self.connection: there, there: self.connection}
            while True:
                for ready in select.select(list(pair), [], [], 10)[0]:
                    if not (data := ready.recv(65536)):
                        return
                    pair[ready].sendall(data)

    def log_message(self, *arguments: Any) -> None:
        pass


Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server on a free port, with TLS if a context is given."""
    running = []

    def start(handler: Any, tls: ssl.SSLContext | None = None) -> int:
        server = Quiet(("127.0.0.1", 0), handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server.server_port

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tunnels(serve: Serve) -> tuple[type[Tunnels], int]:
    handler = type("Handler", (Tunnels,), {"asked": []})
    return handler, serve(handler)


def ask(url: str, route: Route = web.DIRECT) -> bytes:
    server = web.server("node", url, timeout=5.0, route=route)
    connection = server.connection()
    try:
        return web.exchange(server, connection, "POST", "/", b"hello", limit=100)[1]
    finally:
        connection.close()


def test_a_certificate_of_the_named_authority_is_trusted(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    port = serve(Echo, authority.inside())
    assert ask(f"https://127.0.0.1:{port}", Route(tls=web.trust(authority.file))) == b"hello"


@pytest.mark.parametrize(
    ("host", "days", "named", "why"),
    [
        ("127.0.0.1", -1, "authority", "certificate has expired"),
        ("127.0.0.1", 1, "stranger", "self-signed certificate in certificate chain"),
        ("127.0.0.1", 1, None, "self-signed certificate"),
        ("elsewhere.example", 1, "authority", "IP address mismatch"),
    ],
)
def test_any_other_certificate_is_not(
    host: str, days: int, named: str | None, why: str, serve: Serve, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    known = {"authority": authority.file, "stranger": Authority(tmp_path, "stranger").file, None: None}
    port = serve(Echo, authority.inside(host, days=days))
    with pytest.raises(errors.Unavailable, match=why) as caught:
        ask(f"https://127.0.0.1:{port}/secret", Route(tls=web.trust(known[named])))
    assert f"the certificate of the node at 127.0.0.1:{port} is not trusted" in str(caught.value)
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_client_certificate_is_shown(serve: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    port = serve(Echo, authority.inside(clients=True))
    with pytest.raises(errors.Unavailable, match="cannot reach the node"):
        ask(f"https://127.0.0.1:{port}", Route(tls=web.trust(authority.file)))
    mine = web.trust(authority.file, authority.sign("member"))
    assert ask(f"https://127.0.0.1:{port}", Route(tls=mine)) == b"hello"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_files_that_hold_no_certificate(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "some.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.Misconfigured, match="holds no certificates") as caught:
        web.trust(path)
    assert caught.value.hint
    with pytest.raises(errors.Misconfigured, match="no certificate with its private key"):
        web.trust(None, path)


def test_a_proxy_tunnels_and_looks_up_the_name_itself(
    serve: Serve, tunnels: tuple[type[Tunnels], int], tmp_path: Path
) -> None:
    handler, at = tunnels
    authority = Authority(tmp_path)
    handler.port = serve(Echo, authority.inside(NAME))
    route = Route(web.proxy(f"http://127.0.0.1:{at}"), web.trust(authority.file))
    assert ask(f"https://{NAME}:8545", route) == b"hello"
    assert handler.asked == [f"{NAME}:8545"]
    handler.port = serve(Echo)
    assert ask(f"http://{NAME}", route) == b"hello"
    assert handler.asked[1:] == [f"{NAME}:80"]


def test_a_proxy_that_wants_a_password(serve: Serve, tunnels: tuple[type[Tunnels], int]) -> None:
    handler, at = tunnels
    handler.port, handler.password = serve(Echo), "me:p@ss"
    route = Route(web.proxy(f"http://me:p%40ss@127.0.0.1:{at}"))
    assert ask(f"http://{NAME}", route) == b"hello"
    assert "p@ss" not in repr(route)
    with pytest.raises(errors.Unavailable, match=f"through the proxy at 127.0.0.1:{at}: .* 407") as caught:
        ask(f"http://{NAME}", Route(web.proxy(f"http://127.0.0.1:{at}")))
    assert caught.value.hint


def test_no_proxy_stands_before_this_machine(serve: Serve, tunnels: tuple[type[Tunnels], int]) -> None:
    handler, at = tunnels
    port = serve(Echo)
    for host in ("127.0.0.1", "localhost"):
        assert ask(f"http://{host}:{port}", Route(web.proxy(f"http://127.0.0.1:{at}"))) == b"hello"
    assert handler.asked == []


def test_a_proxy_that_is_not_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        route = Route(web.proxy(f"http://127.0.0.1:{closed.getsockname()[1]}"))
        with pytest.raises(
            errors.Unavailable, match="cannot reach the node at node.example through the proxy"
        ):
            ask(f"http://{NAME}", route)


@pytest.mark.parametrize(
    "url", ["", "proxy:3128", "https://proxy:3128", "http://proxy", "http://proxy:3128/path", "socks5://p:1"]
)
def test_what_is_no_address_of_a_proxy(url: str) -> None:
    with pytest.raises(errors.Misconfigured, match="address of the proxy is none") as caught:
        web.proxy(url)
    assert caught.value.hint
