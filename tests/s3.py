"""An S3 server as a process of its own (rclone over a folder), and a proxy before it that counts and fails."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hansa.stores import objects

KEY, SECRET = "tests-key", "tests-secret"
BUCKET = "federation"


class Server:
    """`rclone serve s3` on a free port of loopback; it keeps its objects when it is stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / BUCKET).mkdir(parents=True)
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start, on the same port as before. Raises `RuntimeError` when it does not come up."""
        rclone = str(Path(sys.executable).with_name("rclone"))
        arguments = [
            "--config",
            "",
            "--addr",
            f"127.0.0.1:{self.port}",
            "--auth-key",
            f"{KEY},{SECRET}",
            "-v",
        ]
        self._process = subprocess.Popen(
            [rclone, "serve", "s3", str(self.folder), *arguments], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                threading.Thread(target=self._process.stderr.read, daemon=True).start()
                return
        raise RuntimeError("".join(said))

    def stop(self) -> None:
        """Stop it; what it keeps stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None


Fault = Callable[[str, str], str | None]
"""What to do to a request, by its method and path: "deny", "cut" (close without an answer), "truncate"."""


class Proxy:
    """Passes requests on to a server as they are. `requests`: method and path; `sent`: bytes of bodies."""

    def __init__(self, port: int) -> None:
        self.requests: list[tuple[str, str]] = []
        self.sent = 0
        self.fault: Fault = lambda _method, _path: None
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.requests.append((self.command, self.path))
                fault = proxy.fault(self.command, self.path)
                if fault == "cut":
                    self.close_connection = True
                    return
                if fault == "deny":
                    self.send_response(403)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                server = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                server.request(self.command, self.path, body, dict(self.headers))
                self.answer(server.getresponse(), truncate=fault == "truncate")
                server.close()

            def answer(self, found: http.client.HTTPResponse, *, truncate: bool) -> None:
                body = found.read()
                self.send_response(found.status)
                for name, value in found.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                size = found.headers["Content-Length"] if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", size or "0")
                self.end_headers()
                if truncate:
                    body = body[: len(body) // 2]
                    self.close_connection = True
                try:
                    for k in range(0, len(body), 65536):
                        self.wfile.write(body[k : k + 65536])
                        proxy.sent += len(body[k : k + 65536])
                except OSError:
                    self.close_connection = True

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def wrote(self, mark: str) -> int:
        """PUT requests of keys that contain `mark`."""
        return sum(method == "PUT" and mark in path for method, path in self.requests)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def opened(port: int, prefix: str, **options: Any) -> objects.ObjectStore:
    """The store under a prefix of the server's bucket; no retries, so that faults are seen."""
    url = f"s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}&allow_http=true&region=us-east-1"
    credentials = {"access_key_id": KEY, "secret_access_key": SECRET}
    return objects.create(url, **{**credentials, "retry_config": {"max_retries": 0}, **options})
