"""The seam to an EVM chain: JSON-RPC as `request` and `batch`, and the endpoint that speaks it over HTTP.

Nothing here knows the federation's contract, apart from its one revert reason `Refused(uint256)`.
Encodings are those of the Ethereum JSON-RPC specification: quantities and data as hexadecimal strings.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Protocol
from urllib.parse import urlsplit

from eth_hash.auto import keccak

from hansa import errors

REFUSED = keccak(b"Refused(uint256)")[:4]
"""Selector of the contract's only revert reason."""

RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP answers that mean "later", of the node or of a proxy before it."""


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

    `chain_id` pins the chain: it is asked for in front of the first batch and of the first one after
    any failure, since another node may answer then. A call is repeated `attempts` times with doubling
    pauses; every method used here may be repeated, a transaction sent twice is a duplicate by its
    hash. `timeout` bounds each attempt in seconds, `limit` a response in bytes. Raises `Misconfigured`
    for a URL that is none of HTTP.
    """

    def __init__(
        self,
        url: str,
        chain_id: int,
        *,
        timeout: float = 10.0,
        attempts: int = 4,
        limit: int = 64 * 1024 * 1024,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chain_id = chain_id
        self._timeout = timeout
        self._attempts = attempts
        self._limit = limit
        self._sleep = sleep
        self._clock = clock
        self._connection, self._target = _connection(url, timeout)
        self._host = self._connection.host
        self._checked = False

    def __repr__(self) -> str:
        """Without the URL: providers put access keys into its path."""
        return f"Endpoint(host={self._host!r}, chain_id={self.chain_id})"

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See `Rpc.request`."""
        result = self.batch([(method, params)])[0]
        if isinstance(result, Fault):
            raise error_of(result)
        return result

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
        found = number(self._exchange([("eth_chainId", ())])[0])
        if found != self.chain_id:
            raise errors.Misconfigured(
                f"the node at {self._host} serves chain {found}, not {self.chain_id}",
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
                f"the node at {self._host} refuses a batch: {fault_of(answers.get('error')).message}",
                hint="use a node that takes JSON-RPC batches",
            )
        results: dict[int, Any] = {}
        for answer in answers if isinstance(answers, list) else ():
            place = answer.get("id") if isinstance(answer, dict) else None
            if isinstance(place, int) and 0 <= place < len(calls):
                results[place] = fault_of(answer["error"]) if answer.get("error") else answer.get("result")
        if len(results) != len(calls):
            raise errors.Unavailable(
                f"the node at {self._host} answered {len(results)} of {len(calls)} calls",
                hint="use another node, or a smaller batch",
            )
        return [results[place] for place in range(len(calls))]

    def _post(self, body: str) -> Any:
        try:
            status, content = self._send(body.encode())
        except TimeoutError as e:
            raise errors.Unavailable(
                f"the node at {self._host} did not answer within {self._timeout:g} s",
                hint="the node may be overloaded or hang; try again or use another",
            ) from e
        except (OSError, HTTPException) as e:
            raise errors.Unavailable(
                f"cannot reach the node at {self._host}: {type(e).__name__}",
                hint="check that the node runs and that the RPC address in member.toml is right",
            ) from e
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as e:
            raise errors.Unavailable(
                f"the node at {self._host} does not speak JSON-RPC (HTTP status {status})",
                hint="check the RPC address: another program may use that port",
            ) from e

    def _send(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; a redirect is not followed."""
        kept = self._connection.sock is not None
        try:
            return self._exchange_http(body)
        except ConnectionError:
            # Nodes hang up on connections that were idle.
            if not kept:
                raise
            return self._exchange_http(body)

    def _exchange_http(self, body: bytes) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", self._target, body, {"Content-Type": "application/json"})
            with self._connection.getresponse() as response:
                return response.status, self._read(response)
        except BaseException:
            # What is left of the answer must not meet the next request.
            self._connection.close()
            raise

    def _read(self, response: HTTPResponse) -> bytes:
        """Body of at most `limit` bytes that ends within `timeout`, however slowly it drips."""
        if response.status in RETRY_STATUS:
            raise errors.Unavailable(
                f"the node at {self._host} answers with HTTP status {response.status}",
                hint="the node or the proxy before it is overloaded; try again later",
            )
        until = self._clock() + self._timeout
        content = bytearray()
        while chunk := response.read1(64 * 1024):
            content += chunk
            if len(content) > self._limit:
                raise errors.Untrusted(f"the node at {self._host} sent more than {self._limit} bytes")
            if self._clock() > until:
                raise TimeoutError
        return bytes(content)


def chain_id_of(url: str) -> int:
    """Which chain the node at `url` serves: to be believed only where nothing was agreed before."""
    endpoint = Endpoint(url, 0)
    try:
        return number(endpoint._exchange([("eth_chainId", ())])[0])
    finally:
        endpoint.close()


def _connection(url: str, timeout: float) -> tuple[HTTPConnection, str]:
    """A connection not yet open, and what to ask it for. Certificates are checked by the system's trust.

    Of the standard library, since it takes half the time of urllib3 for one request.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise errors.Misconfigured(
            "the RPC address is no URL of HTTP", hint="write it as https://host:port/path in member.toml"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # http.client would read the end of an IPv6 address as a port.
    if parts.scheme == "http":
        return HTTPConnection(host, port or 80, timeout=timeout), target
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return HTTPSConnection(host, port or 443, timeout=timeout, context=context), target
