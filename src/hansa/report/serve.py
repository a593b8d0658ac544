"""The report of what goes on, served on loopback: the page, and newer facts whenever it asks for them.

Another page in the same browser must not read it by giving its own name this machine's address (DNS rebinding):
whoever asks must have called the server by a name of loopback.
"""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hansa import encoding, errors
from hansa.report.facts import Facts
from hansa.report.page import inline, page

HOST = "127.0.0.1"
NAMES = "127.0.0.1", "localhost", "[::1]"
LOOK = 1.0
"""Seconds for which facts are new enough: several browsers cost no more than one."""

SHARE = 5
"""And at least this many times what reading them took, so that looking never costs a run much."""


@dataclass(slots=True)
class Latest:
    """The newest facts, read when somebody asks and the last ones are old. Threads take turns."""

    read: Callable[[], Facts]
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _facts: Facts | None = None
    _until: float = 0.0

    def __call__(self) -> Facts:
        """Raises what `read` raises, each time it is due."""
        with self._lock:
            begun = self.clock()
            if self._facts is None or begun >= self._until:
                self._facts = self.read()
                took = self.clock() - begun
                self._until = self.clock() + max(LOOK, SHARE * took)
            return self._facts


def tag_of(facts: Facts) -> str:
    """The same as long as nothing has happened."""
    return f'"{encoding.digest(inline([replace(facts, made=0)]).encode()).hex()[:32]}"'


@contextmanager
def served(latest: Callable[[], Facts], port: int) -> Iterator[str]:
    """Serve on this port of the loopback interface, 0 for any; gives the address. Raises `Misconfigured`."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version, sys_version = "hansa", ""

        def do_GET(self) -> None:
            if not self._known():
                return self._reply(421, "text/plain", b"this server answers to names of loopback only\n")
            path = self.path.split("?", 1)[0]
            if path == "/":
                return self._page()
            if path == "/facts.json":
                return self._newest()
            return self._reply(404, "text/plain", b"the report lies at /\n")

        def _known(self) -> bool:
            name, _, number = self.headers.get("Host", "").rpartition(":")
            return name in NAMES and number == str(server.server_port)

        def _page(self) -> None:
            try:
                self._reply(200, "text/html", page([latest()], live=True).encode())
            except errors.HansaError as e:
                self._reply(503, "text/plain", f"{e} {e.hint}\n".encode())

        def _newest(self) -> None:
            try:
                facts = latest()
            except errors.HansaError as e:
                return self._reply(503, "application/json", json.dumps({"error": str(e)}).encode())
            tag = tag_of(facts)
            if self.headers.get("If-None-Match") == tag:
                return self._reply(304, "application/json", b"", tag)
            return self._reply(200, "application/json", inline([facts], live=True).encode(), tag)

        def _refuse(self) -> None:
            self._reply(405, "text/plain", b"only GET\n")

        do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse

        def _reply(self, status: int, kind: str, body: bytes, tag: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            if tag:
                self.send_header("ETag", tag)
            for name, value in PROTECTION:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Whoever looks is no event."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Browsers that hang up are no event either."""

    try:
        server = Server((HOST, port), Handler)
    except (OSError, OverflowError) as e:
        used = isinstance(e, OSError) and e.errno == errno.EADDRINUSE
        why = f"port {port} of this machine is in use" if used else f"cannot open port {port}: {e}"
        raise errors.Misconfigured(
            why, hint="Name another one by --port, or 0 for any that is free."
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="report", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


PROTECTION = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""Headers of every answer: nobody keeps it, frames it, or takes it into a page of another origin."""
