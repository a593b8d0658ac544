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
from dataclasses import dataclass, field
from typing import Any

from eth_hash.auto import keccak

from hansa import errors, web
from hansa.crypto import signatures

KEYS_PATH = "/api/v1/eth1/publicKeys"
SIGN_PATH = "/api/v1/eth1/sign/"
ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes; a list of 30,000 keys."""

_POINT = re.compile(r"(?:0x)?(?:04)?([0-9a-fA-F]{128})")
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
    url: str, address: bytes, *, timeout: float = 10.0, route: web.Route = web.DIRECT
) -> RemoteSigner:
    """The signer at `url` for the key of a 20-byte address.

    `timeout` bounds each answer in seconds; `route` may carry the client certificate that the service asks
    for. Raises `Misconfigured` for a bad URL or a service without this key, `Unavailable` when it does not
    answer or its certificate is not trusted, `Untrusted` when it does not speak the API.
    """
    service = _Service(web.server("signer", url, timeout=timeout, route=route))
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

    server: web.Server

    @property
    def host(self) -> str:
        """What messages call it by."""
        return self.server.name

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one answer. Raises `Unavailable`, or `Untrusted` when it is too long."""
        connection = self.server.connection()
        target = self.server.target.rstrip("/") + path
        try:
            return web.exchange(self.server, connection, method, target, body, limit=ANSWER_LIMIT)
        finally:
            connection.close()

    def check(self, status: int) -> None:
        """Raise `Misconfigured` for a status that is no success."""
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
