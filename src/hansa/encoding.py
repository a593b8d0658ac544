"""The only canonical bytes: deterministic CBOR (RFC 8949, section 4.2), digests, EIP-712 hashes.

Two equal values have one encoding, and `decode` accepts no other: a digest therefore names a value.
"""

from __future__ import annotations

import dataclasses
import hashlib
from enum import IntEnum
from functools import lru_cache
from typing import Any

import cbor2
from eth_hash.auto import keccak

from hansa import abi, errors

DOMAIN_TYPE = "EIP712Domain(string name,uint256 chainId,address verifyingContract,bytes32 salt)"
DOMAIN_NAME = "Hansa"

TYPES: dict[str, str] = {
    "Join": "Join(uint256 nonce,bytes32 key,bytes32 onion,uint256 resources,uint256 role)",
    "Status": "Status(uint256 nonce,uint256 standing)",
    "Motion": "Motion(uint256 nonce,uint256 kind,address who,bytes32 reason)",
    "Commit": "Commit(uint256 round,uint256 base,bytes32 digest,uint256 meta)",
    "Availability": "Availability(uint256 round,uint256[4] held)",
    "Ballot": "Ballot(uint256 round,bytes32 commitment)",
    "Precommit": "Precommit(uint256 round,bytes32 commitment)",
    "Proposal": "Proposal(uint256 round,uint256 attempt,bytes32 result,bytes32 evidence)",
    "Vote": "Vote(uint256 round,uint256 attempt,bytes32 result,bool approve)",
    "Opening": "Opening(uint256 round,bytes32 digest)",
    "Record": "Record(uint256 round,uint256 kind,bytes32 digest)",
    "Roster": "Roster(uint256 version,bytes32 digest)",
    "Manifest": "Manifest(uint256 round,bytes32 digest)",
    "Payload": "Payload(uint256 round,bytes32 digest)",
    "Result": "Result(uint256 round,bytes32 digest)",
    "Link": "Link(uint256 round,bytes32 digest)",
}
"""EIP-712 type of every signed message, by name."""

_ARRAY = "uint256[4]"


def digest(data: bytes | memoryview) -> bytes:
    """SHA-256 of a blob: its address in the store."""
    return hashlib.sha256(data).digest()


_ATOMS = frozenset({int, bytes, str, bool, float, type(None)})


def _plain(value: Any) -> Any:
    if type(value) in _ATOMS:
        return value
    if isinstance(value, IntEnum):
        return int(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def encode(value: Any) -> bytes:
    """Canonical CBOR of None, bool, int, float, bytes, str, lists, dicts and frozen dataclasses."""
    return cbor2.dumps(_plain(value), canonical=True)


def _is_tagged(data: bytes) -> bool:
    """Whether a CBOR tag stands anywhere; the decoder would obey it: compile a pattern, raise 10 to 2**63."""
    at = 0
    while at < len(data):
        major, info = data[at] >> 5, data[at] & 31
        if major == 6:
            return True
        width = 1 << (info - 24) if 24 <= info < 28 else 0
        argument = int.from_bytes(data[at + 1 : at + 1 + width], "big") if width else info
        at += 1 + width + (argument if major in (2, 3) else 0)
    return False


def decode(data: bytes, *, limit: int = 1024 * 1024) -> Any:
    """Read canonical CBOR of at most `limit` bytes.

    Raises `Untrusted` when the bytes are too many, malformed, carry tags, or are not the one
    canonical encoding of what they say.
    """
    if len(data) > limit:
        size = f"{len(data)} bytes, limit {limit}"
        raise errors.Untrusted(f"record is too long: {size}", digest=digest(data))
    if _is_tagged(data):
        raise errors.Untrusted("record carries a CBOR tag", digest=digest(data))
    try:
        value = cbor2.loads(data)
        canonical = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError) as e:
        raise errors.Untrusted(f"not a CBOR record: {e}", digest=digest(data)) from e
    if canonical != data:
        raise errors.Untrusted("record is not canonically encoded", digest=digest(data))
    return value


def hash_fields(types: tuple[str, ...], values: tuple[Any, ...]) -> bytes:
    """Keccak-256 of the ABI encoding, as the contract computes it."""
    return keccak(abi.encode(types, values))


@lru_cache(maxsize=64)
def type_hash(name: str) -> bytes:
    """EIP-712 typeHash of a message named in `TYPES`."""
    return keccak(TYPES[name].encode())


@lru_cache(maxsize=64)
def field_types(name: str) -> tuple[str, ...]:
    """Solidity types of a message's fields, in order."""
    inner = TYPES[name].split("(", 1)[1].rstrip(")")
    return tuple(f.split(" ")[0] for f in inner.split(","))


@lru_cache(maxsize=64)
def _struct_types(name: str) -> tuple[str, ...]:
    """Types of what a message's hash covers: typeHash and fields, an array by its hash."""
    return ("bytes32", *("bytes32" if kind == _ARRAY else kind for kind in field_types(name)))


def domain_separator(chain_id: int, contract: bytes, salt: bytes) -> bytes:
    """EIP-712 domain separator. `contract` is 20 bytes; `salt` is the digest of the terms.

    The salt keeps messages of two federations apart even where a test chain reuses chain ids and
    contract addresses.
    """
    return hash_fields(
        ("bytes32", "bytes32", "uint256", "address", "bytes32"),
        (keccak(DOMAIN_TYPE.encode()), keccak(DOMAIN_NAME.encode()), chain_id, contract, salt),
    )


def message_bytes(domain: bytes, name: str, *values: Any) -> bytes:
    """What a member signs the Keccak-256 of, for message `name`: 0x1901 || domain || struct hash (EIP-712)."""
    fields = [
        hash_fields((kind,), (value,)) if kind == _ARRAY else value
        for kind, value in zip(field_types(name), values, strict=True)
    ]
    struct = hash_fields(_struct_types(name), (type_hash(name), *fields))
    return b"\x19\x01" + domain + struct


def message_hash(domain: bytes, name: str, *values: Any) -> bytes:
    """The 32 bytes that a member signs for message `name` (EIP-712)."""
    return keccak(message_bytes(domain, name, *values))
