"""The embedded chain as a node for other processes: JSON-RPC over HTTP on loopback, blocks in real time.

One thread answers: the one that calls `Server.serve` and opened the chain. Those of the connections read and write.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from hansa import errors
from hansa.ledger import jsonrpc
from hansa.ledger.embedded import Chain
from hansa.ledger.rpc import Fault

HOST = "127.0.0.1"
IDLE = 120.0
"""Seconds after which a connection that says nothing is closed."""

log = logging.getLogger(__name__)

Job = tuple[list[jsonrpc.Call], Future[list[Any]]]


@contextmanager
def opening(port: int) -> Iterator[None]:
    """Turn what the system says to a port that cannot be had into `Misconfigured`."""
    try:
        yield
    except OSError as e:
        used = e.errno == errno.EADDRINUSE
        raise errors.Misconfigured(
            f"port {port} of this machine is in use" if used else f"cannot open port {port}: {e.strerror}",
            hint="Another chain may run there: use that one, or name another port by --port.",
        ) from e


class Server:
    """A port on loopback, taken at once; `serve` answers from a chain until `stop`. A port of 0 takes a free one.

    Raises `Misconfigured` when the port cannot be had.
    """

    def __init__(self, port: int) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        try:
            self._http = _Http((HOST, port), self._ask)
        except OSError as e:
            used = e.errno == errno.EADDRINUSE
            raise errors.Misconfigured(
                f"port {port} of this machine is in use"
                if used
                else f"cannot open port {port}: {e.strerror}",
                hint="Another chain may run there: use that one, or name another port by --port.",
            ) from e

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://{HOST}:{self._http.server_port}"

    def serve(
        self,
        chain: Chain,
        block_time: float,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Answer until `stop`. A block comes with each sending, and `block_time` seconds after the last one.

        `clock` gives the blocks' time in UNIX seconds; a block is never before the one before.
        """
        Thread(target=self._http.serve_forever, daemon=True).start()
        height, made = chain.height, monotonic()
        try:
            while True:
                if chain.height != height:
                    height, made = chain.height, monotonic()
                try:
                    job = self._jobs.get(timeout=max(0.0, made + block_time - monotonic()))
                except Empty:
                    self._tick(chain, clock)
                    made = monotonic()
                    continue
                if job is None:
                    return
                self._now(chain, clock)
                job[1].set_result(_results(chain, job[0]))
        finally:
            self._http.shutdown()
            self._http.server_close()

    def stop(self) -> None:
        """End `serve` after what it is at. Any thread and any signal handler may call it."""
        self._jobs.put(None)

    def _ask(self, calls: list[jsonrpc.Call]) -> list[Any]:
        answered: Future[list[Any]] = Future()
        self._jobs.put((calls, answered))
        return answered.result()

    def _now(self, chain: Chain, clock: Callable[[], float]) -> None:
        chain.set_time(max(chain.time, int(clock())))

    def _tick(self, chain: Chain, clock: Callable[[], float]) -> None:
        self._now(chain, clock)
        try:
            chain.mine([])
        except errors.Unavailable as e:
            log.warning("no block: %s; %s", e, e.hint)


def _results(chain: Chain, calls: list[jsonrpc.Call]) -> list[Any]:
    """Results of calls; the server outlives whatever goes wrong in them."""
    try:
        return chain.batch(calls)
    except errors.HansaError as e:
        log.warning("%s; %s", e, e.hint)
        return [Fault(-32000, str(e))] * len(calls)
    except Exception as e:
        log.exception("a request failed by a fault of Hansa")
        return [Fault(jsonrpc.INTERNAL, f"internal error: {type(e).__name__}")] * len(calls)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], ask: Callable[[list[jsonrpc.Call]], list[Any]]) -> None:
        self.ask = ask
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is no event."""


class _Handler(BaseHTTPRequestHandler):
    """One connection; a body is read only after its length and type are known to be right."""

    server: _Http
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = IDLE

    def do_POST(self) -> None:
        """Answer one request or one batch."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            return self._refuse(411, "a body needs its Content-Length")
        if len(length) > 10 or int(length) > jsonrpc.BODY_LIMIT:
            return self._refuse(413, f"a body has at most {jsonrpc.BODY_LIMIT} bytes")
        # A page in a browser can send other types to this port without being asked for leave.
        if self.headers.get_content_type() != "application/json":
            return self._refuse(415, "the Content-Type must be application/json")
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            self.close_connection = True
            return None
        body = jsonrpc.read(data)
        calls = body.calls
        self._send(200, jsonrpc.written(body, self.server.ask(calls) if calls else ()), "application/json")
        return None

    def _refuse(self, status: int, why: str) -> None:
        # What it sent stays unread, so nothing more can be read after it.
        self.close_connection = True
        self._send(status, f"{why}\n".encode(), "text/plain; charset=utf-8")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep no log of requests."""
