"""Recoverable secp256k1 signatures over 32-byte hashes, in the compact form of EIP-2098."""

from __future__ import annotations

from functools import lru_cache

import coincurve
from eth_hash.auto import keccak

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


@lru_cache(maxsize=65_536)
def recover(message_hash: bytes, signature: bytes) -> bytes | None:
    """Address that made the signature, or None where there is none (malformed, or high s)."""
    if len(signature) != SIGNATURE_BYTES:
        return None
    vs = int.from_bytes(signature[32:], "big")
    s = vs & (_TOP_BIT - 1)
    if s > _HALF_ORDER:
        return None
    compact = signature[:32] + s.to_bytes(32, "big") + bytes([vs >> 255])
    try:
        key = coincurve.PublicKey.from_signature_and_message(compact, message_hash, hasher=None)
    except Exception:  # coincurve raises ValueError or a bare Exception, by the step that failed
        return None
    return keccak(key.format(compressed=False)[1:])[12:]
