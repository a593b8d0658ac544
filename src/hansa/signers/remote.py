"""A signer whose key stays elsewhere, in a KMS or an HSM, behind the ETH1 signing API of Consensys Web3Signer.

https://docs.web3signer.consensys.io: `GET /api/v1/eth1/publicKeys` lists keys as uncompressed points, and
`POST /api/v1/eth1/sign/{public key}` signs the Keccak-256 of the "data" that it is given; the answer is
r || s || v in hexadecimal, v being 27 or 28. Given the bytes of an EIP-712 message, or of an unsigned
transaction, that is the signature which the contract or the chain expects. Its JSON-RPC `eth_sign` would put
the prefix of EIP-191 in front.

No answer is believed: what does not recover to the expected address is not used. But whoever reaches the
service can have anything signed: let it listen on loopback only, or over TLS for known client certificates.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from eth_hash.auto import keccak

from hansa import errors
from hansa.crypto import signatures

KEYS_PATH = "/api/v1/eth1/publicKeys"
SIGN_PATH = "/api/v1/eth1/sign/"
ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes; a list of 30,000 keys."""

RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
"""HTTP answers that mean "later"; 500 is what Web3Signer says when its KMS does not answer."""

_POINT = re.compile(r"(?:0x)?(?:04)?([0-9a-fA-F]{128})")
_ODD = re.compile(r"[^!-~]|[?#@]")
_SIGNATURE = re.compile(rb"0x([0-9a-fA-F]{130})")


@dataclass(frozen=True, slots=True)
class RemoteSigner:
    """Signs with one key of a signing service. Satisfies `ports.Signer`; threads may share it.

    Each call opens a connection of its own: a member signs a few messages a round.
    """

    address: bytes
    _service: _Service
    _key: str = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """See `ports.Signer.sign`.

        Raises `Unavailable` when the service does not answer, `Misconfigured` when it refuses or has lost
        the key, `Untrusted` when its answer is no signature of this address over these data.
        """
        body = json.dumps({"data": "0x" + data.hex()}).encode()
        status, content = self._service.ask("POST", SIGN_PATH + self._key, body)
        if status == 404:
            raise self._service.lacks(self.address)
        self._service.check(status)
        matched = _SIGNATURE.fullmatch(content.strip())
        if matched is None:
            raise errors.Untrusted(
                f"the signer at {self._service.host} answered with something else than a signature",
                hint="check that the address is that of a Web3Signer in mode eth1",
            )
        signature = _compact(bytes.fromhex(matched[1].decode()))
        if signature is None or signatures.recover(keccak(data), signature) != self.address:
            raise errors.Untrusted(
                f"the signer at {self._service.host} gave a signature that is not one of"
                f" 0x{self.address.hex()} over what it was asked to sign",
                hint="nothing was sent; check which program answers there, and its log",
            )
        return signature


def remote_signer(
    url: str, address: bytes, *, timeout: float = 10.0, tls: ssl.SSLContext | None = None
) -> RemoteSigner:
    """The signer at `url` for the key of a 20-byte address.

    `timeout` bounds each answer in seconds. `tls` replaces the system's trust, and may carry the client
    certificate that the service asks for. Raises `Misconfigured` for a bad URL or a service without this key,
    `Unavailable` when it does not answer, `Untrusted` when it does not speak the API.
    """
    service = _service(url, timeout, tls)
    status, content = service.ask("GET", KEYS_PATH)
    service.check(status)
    try:
        listed: Any = json.loads(content)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list):
        raise errors.Untrusted(
            f"the program at {service.host} is no Web3Signer: it does not list its keys",
            hint="check the address of the signer: another program may use that port",
        )
    for key in listed:
        if isinstance(key, str) and _address(key) == address:
            return RemoteSigner(address, service, key)
    raise service.lacks(address)


def _address(key: str) -> bytes | None:
    """Address of a listed public key, None if it is none."""
    matched = _POINT.fullmatch(key)
    return keccak(bytes.fromhex(matched[1]))[12:] if matched else None


def _compact(signature: bytes) -> bytes | None:
    """EIP-2098 form of r || s || v, None where v or s cannot be."""
    parity, s = signature[64] - 27, int.from_bytes(signature[32:64], "big")
    if parity not in (0, 1) or s >> 255:
        return None
    return signature[:32] + (s | parity << 255).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class _Service:
    """Where a signing service is reached. Its URL may carry a password or a token: it is not shown."""

    host: str
    port: int = field(repr=False)
    prefix: str = field(repr=False)
    timeout: float = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one answer. Raises `Unavailable`, or `Untrusted` when it is too long."""
        connection = (
            HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.tls)
            if self.tls
            else HTTPConnection(self.host, self.port, timeout=self.timeout)
        )
        try:
            connection.request(method, self.prefix + path, body, {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                return response.status, self._read(response)
        except TimeoutError:
            raise errors.Unavailable(
                f"the signer at {self.host} did not answer within {self.timeout:g} s",
                hint="it may be waiting for its KMS, or for somebody's consent; try again",
            ) from None
        except ssl.SSLCertVerificationError as e:
            raise errors.Misconfigured(
                f"the certificate of the signer at {self.host} is not trusted: {e.verify_message}",
                hint="renew it, or name the authority that signed it",
            ) from None
        except (OSError, HTTPException) as e:
            raise errors.Unavailable(
                f"cannot reach the signer at {self.host}: {type(e).__name__}",
                hint="check that it runs, its address, and the client certificate if it wants one",
            ) from None
        finally:
            connection.close()

    def _read(self, response: HTTPResponse) -> bytes:
        """Body of at most `ANSWER_LIMIT` bytes that ends within the timeout, however slowly it drips."""
        until = time.monotonic() + self.timeout
        content = bytearray()
        while chunk := response.read1(64 * 1024):
            content += chunk
            if len(content) > ANSWER_LIMIT:
                raise errors.Untrusted(
                    f"the signer at {self.host} sent more than {ANSWER_LIMIT} bytes",
                    hint="check the address of the signer: another program may use that port",
                )
            if time.monotonic() > until:
                raise TimeoutError
        return bytes(content)

    def check(self, status: int) -> None:
        """Raise for a status that is no success: `Unavailable` where it may pass, else `Misconfigured`."""
        if status in RETRY_STATUS:
            raise errors.Unavailable(
                f"the signer at {self.host} answers with HTTP status {status}",
                hint="it may not reach its KMS; see its log, and try again later",
            )
        if status != 200:
            raise errors.Misconfigured(
                f"the signer at {self.host} refuses: HTTP status {status}",
                hint="check its address, its mode (eth1) and what it lets this machine do",
            )

    def lacks(self, address: bytes) -> errors.Misconfigured:
        """The error for a key that is not there."""
        return errors.Misconfigured(
            f"the signer at {self.host} holds no key of 0x{address.hex()}",
            hint="load the key there, or name the address of one that it holds",
        )


def _service(url: str, timeout: float, tls: ssl.SSLContext | None) -> _Service:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https") or _ODD.search(url):
        raise errors.Misconfigured(
            "the signer's address is no plain URL of HTTP", hint="write it as https://host:port"
        )
    # http.client would read the end of an IPv6 address as a port.
    if parts.scheme == "http":
        return _Service(host, port or 80, parts.path.rstrip("/"), timeout, None)
    context = tls or ssl.create_default_context()
    return _Service(host, port or 443, parts.path.rstrip("/"), timeout, context)
