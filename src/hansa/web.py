"""One exchange with a server of HTTP: whom to trust, which proxy to go through, how long to wait, how much to read.

Of the standard library, since it takes half the time of urllib3 for one request. Messages name a server by its
host and port alone: the rest of its URL may be an access key.
"""

from __future__ import annotations

import base64
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hansa import errors

RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP answers that mean "later", of the server or of a proxy before it."""

_ODD = re.compile(r"[^!-~]|[?#@]")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that opens tunnels (HTTP CONNECT, RFC 9110 section 9.3.6). `credentials`: `user:password`."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """How servers are reached. `tls` replaces the system's trust, and may carry a client certificate.

    The `proxy` is left out for this machine's own addresses.
    """

    proxy: Proxy | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)


DIRECT = Route()


@dataclass(frozen=True, slots=True)
class Server:
    """A program behind a URL; `what` names it in messages. `timeout` bounds each answer in seconds."""

    what: str
    name: str
    host: str = field(repr=False)
    port: int = field(repr=False)
    target: str = field(repr=False)
    timeout: float = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)
    proxy: Proxy | None = field(repr=False)

    def connection(self) -> HTTPConnection:
        """A connection, not yet open."""
        at = self.proxy or self
        made = (
            HTTPSConnection(at.host, at.port, timeout=self.timeout, context=self.tls)
            if self.tls
            else HTTPConnection(at.host, at.port, timeout=self.timeout)
        )
        if self.proxy:
            made.set_tunnel(self.host, self.port, _authorization(self.proxy))
        return made


def server(what: str, url: str, *, timeout: float, route: Route = DIRECT, query: bool = False) -> Server:
    """The server at `url`. `query`: whether a query and credentials may stand in it. Raises `Misconfigured`."""
    parts = _parts(url)
    if parts is None or (not query and _ODD.search(url)):
        plain = "URL of HTTP" if query else "plain URL of HTTP"
        raise errors.Misconfigured(
            f"the address of the {what} is no {plain}", hint="Write it as https://host:port/path."
        )
    scheme, host, port, path = parts
    # http.client would read the end of an IPv6 address as a port.
    number = port or (443 if scheme == "https" else 80)
    tls = None
    if scheme == "https":
        tls = route.tls or ssl.create_default_context()
    name = f"{host}:{port}" if port else host
    return Server(what, name, host, number, path, timeout, tls, None if _here(host) else route.proxy)


def proxy(url: str) -> Proxy:
    """The proxy at `http://[user:password@]host:port`. Raises `Misconfigured`."""
    parts = _parts(url)
    if parts is None or parts[0] != "http" or not parts[2] or parts[3] != "/":
        raise errors.Misconfigured(
            "the address of the proxy is none", hint="Write it as http://host:port; it must allow CONNECT."
        )
    given = urlsplit(url)
    credentials = f"{unquote(given.username)}:{unquote(given.password or '')}" if given.username else ""
    return Proxy(parts[1], parts[2], credentials)


def trust(ca: Path | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Trust in the authorities in `ca` (PEM) in place of the system's, showing `certificate` to who asks.

    The certificate's private key lies in `key`, or in the same file. Raises `Misconfigured`.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as e:  # SSLError is one
        raise errors.Misconfigured(
            f"{ca} holds no certificates: {e.strerror or e}", hint="Name a file of PEM certificates."
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        try:
            # The empty password keeps OpenSSL from asking at the terminal.
            context.load_cert_chain(certificate, key, password="")
        except OSError as e:
            raise errors.Misconfigured(
                f"{certificate} is no certificate with its private key: {e.strerror or e}",
                hint="Name PEM files; the private key must not be under a password.",
            ) from None
    return context


def exchange(
    at: Server,
    connection: HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    *,
    limit: int,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, bytes]:
    """Status and body of one answer, of at most `limit` bytes; a redirect is not followed.

    Raises `Unavailable` when none comes within the timeout, or only one that means "later", and `Untrusted`
    when it is too long. Afterwards the connection is open for the next exchange, or closed.
    """
    once = partial(_once, at, connection, method, target, body, limit, clock)
    through = f" through the proxy at {at.proxy.host}:{at.proxy.port}" if at.proxy else ""
    kept = connection.sock is not None
    try:
        try:
            return once()
        except ConnectionError:
            # Servers hang up on connections that were idle.
            if not kept:
                raise
            return once()
    except TimeoutError as e:
        raise errors.Unavailable(
            f"the {at.what} at {at.name} did not answer within {at.timeout:g} s{through}",
            hint="It may be overloaded or hang; try again, or use another.",
        ) from e
    except ssl.SSLCertVerificationError as e:
        raise errors.Unavailable(
            f"the certificate of the {at.what} at {at.name} is not trusted: {e.verify_message}",
            hint="Whoever runs it must renew it; or name the authority that signed it (ca in member.toml).",
        ) from e
    except (OSError, HTTPException) as e:
        why = str(e) if at.proxy and str(e).startswith("Tunnel connection failed") else type(e).__name__
        raise errors.Unavailable(
            f"cannot reach the {at.what} at {at.name}{through}: {why}",
            hint="Check that it runs, its address, and what your network lets through.",
        ) from e


def _once(
    at: Server,
    connection: HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    limit: int,
    clock: Callable[[], float],
) -> tuple[int, bytes]:
    try:
        connection.request(method, target, body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            return response.status, _read(at, response, limit, clock)
    except BaseException:
        # What is left of the answer must not meet the next request.
        connection.close()
        raise


def _read(at: Server, response: HTTPResponse, limit: int, clock: Callable[[], float]) -> bytes:
    """A body that ends within the timeout, however slowly it drips."""
    if response.status in RETRY_STATUS:
        raise errors.Unavailable(
            f"the {at.what} at {at.name} answers with HTTP status {response.status}",
            hint="It, what it needs itself, or the proxy before it is overloaded or down; try again later.",
        )
    until = clock() + at.timeout
    content = bytearray()
    while chunk := response.read1(64 * 1024):
        content += chunk
        if len(content) > limit:
            raise errors.Untrusted(
                f"the {at.what} at {at.name} sent more than {limit} bytes",
                hint="Check its address: another program may use that port.",
            )
        if clock() > until:
            raise TimeoutError
    return bytes(content)


def _parts(url: str) -> tuple[str, str, int | None, str] | None:
    """Scheme, host, port and target, None where the URL is none of HTTP."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in ("http", "https"):
        return None
    return parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authorization(at: Proxy) -> dict[str, str]:
    if not at.credentials:
        return {}
    return {"Proxy-Authorization": "Basic " + base64.b64encode(at.credentials.encode()).decode()}
