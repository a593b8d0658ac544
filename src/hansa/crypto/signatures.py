"""Recoverable secp256k1 signatures over 32-byte hashes, in the compact form of EIP-2098."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import coincurve
from eth_hash.auto import keccak

from hansa import errors

SIGNATURE_BYTES = 64
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_TOP_BIT = 1 << 255


@lru_cache(maxsize=4096)
def _key(secret: bytes) -> coincurve.PrivateKey:
    return coincurve.PrivateKey(secret)


def address(secret: bytes) -> bytes:
    """The 20-byte Ethereum address of a 32-byte secret key."""
    return keccak(_key(secret).public_key.format(compressed=False)[1:])[12:]


def sign(secret: bytes, message_hash: bytes) -> bytes:
    """Deterministic (RFC 6979) signature r || (y parity << 255 | s) of 64 bytes."""
    raw = _key(secret).sign_recoverable(message_hash, hasher=None)
    s = int.from_bytes(raw[32:64], "big") | (raw[64] << 255)
    return raw[:32] + s.to_bytes(32, "big")


def split(signature: bytes) -> tuple[int, int, int]:
    """Parity of y, r and s of a 64-byte signature."""
    vs = int.from_bytes(signature[32:], "big")
    return vs >> 255, int.from_bytes(signature[:32], "big"), vs & (_TOP_BIT - 1)


@dataclass(frozen=True, slots=True)
class Account:
    """A 20-byte address and its key, which no representation shows. Satisfies `ports.Signer`."""

    address: bytes
    _secret: bytes = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """See `ports.Signer.sign`."""
        return sign(self._secret, keccak(data))


def account(secret: bytes) -> Account:
    """Account of a 32-byte key. Raises `Misconfigured`."""
    try:
        key = coincurve.PrivateKey(secret) if len(secret) == 32 else None
    except ValueError:
        key = None
    if key is None:
        raise errors.Misconfigured(
            "an account's key must be a secp256k1 key of 32 bytes", hint="make a new one, or check its file"
        )
    return Account(address(secret), secret)


@lru_cache(maxsize=65_536)
def recover(message_hash: bytes, signature: bytes) -> bytes | None:
    """Address that made the signature, or None where there is none (malformed, or high s)."""
    if len(signature) != SIGNATURE_BYTES:
        return None
    parity, _, s = split(signature)
    if s > _HALF_ORDER:
        return None
    compact = signature[:32] + s.to_bytes(32, "big") + bytes([parity])
    try:
        key = coincurve.PublicKey.from_signature_and_message(compact, message_hash, hasher=None)
    except Exception:  # coincurve raises ValueError or a bare Exception, by the step that failed
        return None
    return keccak(key.format(compressed=False)[1:])[12:]
