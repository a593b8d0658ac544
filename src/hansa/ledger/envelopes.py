"""Transactions and receipts as they lie in the tries of a block, made again from what a node says of them.

Whoever trusts the block's hash needs to trust the node for none of it: the bytes hash to the roots in the header,
and a sender is who signed. Encodings: yellow paper, EIP-2718 and those of each type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from eth_hash.auto import keccak
from trie.hexary import HexaryTrie

from hansa import errors
from hansa.crypto import signatures
from hansa.ledger.follower import Log, log_of
from hansa.ledger.rpc import member, number, unhex

LEGACY = 0


@dataclass(frozen=True, slots=True)
class Envelope:
    """A transaction. `raw` are its bytes, `sender` who signed it, `to` None where it creates a contract."""

    raw: bytes
    hash: bytes
    sender: bytes
    to: bytes | None
    nonce: int
    gas: int
    value: int
    data: bytes

    @property
    def created(self) -> bytes:
        """Address of the contract that it makes; empty if it makes none (yellow paper, section 7)."""
        return keccak(rlp.encode([self.sender, self.nonce]))[12:] if self.to is None else b""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A receipt. `raw` are its bytes, `total` is the gas of the block up to here."""

    raw: bytes
    accepted: bool
    total: int
    logs: tuple[Log, ...]


def envelope_of(value: Any) -> Envelope:
    """Read a JSON-RPC transaction.

    Raises `Untrusted` unless it hashes to its hash and its signature is that of its sender, `Unavailable` for a
    type that this version does not know.
    """
    kind = number(value.get("type") or "0x0") if isinstance(value, dict) else LEGACY
    if kind not in BODIES:
        raise errors.Unavailable(f"a transaction of type {kind}, which this version does not know")
    body = [read(value, name) for name, read in BODIES[kind]]
    v, r, s = (number(member(value, name)) for name in ("v", "r", "s"))
    parity, signed = _signed(kind, body, v)
    prefix = bytes([kind]) if kind != LEGACY else b""
    raw = prefix + rlp.encode([*body, v if kind == LEGACY else parity, r, s])
    said, hash = unhex(member(value, "hash"), 32), keccak(raw)
    if hash != said:
        raise errors.Untrusted(f"transaction {said.hex()} hashes to {hash.hex()}", digest=hash)
    compact = r.to_bytes(32, "big") + (s | parity << 255).to_bytes(32, "big")
    sender = signatures.recover(keccak(prefix + rlp.encode(signed)), compact)
    if sender is None or sender != unhex(member(value, "from"), 20):
        raise errors.Untrusted(f"transaction {said.hex()} was not signed by who is said to have sent it")
    to = member(value, "to")
    return Envelope(
        raw=raw,
        hash=hash,
        sender=sender,
        to=None if to is None else unhex(to, 20),
        nonce=number(member(value, "nonce")),
        gas=number(member(value, "gas")),
        value=number(member(value, "value")),
        data=unhex(member(value, "input")),
    )


def outcome_of(value: Any) -> Outcome:
    """Read a JSON-RPC receipt. Raises `Untrusted`."""
    kind = number(member(value, "type") or "0x0") if "type" in value else LEGACY
    status, total = number(member(value, "status")), number(member(value, "cumulativeGasUsed"))
    logs = tuple(log_of(log) for log in member(value, "logs"))
    entries = [[log.address, list(log.topics), log.data] for log in logs]
    encoded = rlp.encode([status, total, unhex(member(value, "logsBloom"), 256), entries])
    return Outcome((bytes([kind]) if kind != LEGACY else b"") + encoded, status == 1, total, logs)


def root_of(items: Sequence[bytes]) -> bytes:
    """Root of the trie that holds items by their places, as a block's transactions and receipts do."""
    trie = HexaryTrie({})
    with trie.squash_changes() as changing:
        for place, item in enumerate(items):
            changing[rlp.encode(place)] = item
    return bytes(trie.root_hash)


def _signed(kind: int, body: list[Any], v: int) -> tuple[int, list[Any]]:
    """Parity of the signature, and what was signed: before EIP-155 without, since then with the chain's id."""
    if kind != LEGACY:
        return v & 1, body
    if v in (27, 28):
        return v - 27, body
    return (v - 35) & 1, [*body, (v - 35) // 2, 0, 0]


def _number(value: Any, name: str) -> int:
    return number(member(value, name))


def _data(value: Any, name: str) -> bytes:
    return unhex(member(value, name))


def _to(value: Any, name: str) -> bytes:
    to = member(value, name)
    return b"" if to is None else unhex(to, 20)


def _access(value: Any, name: str) -> list[Any]:
    entries = value.get(name) or []
    return [[_data(e, "address"), [unhex(key, 32) for key in member(e, "storageKeys")]] for e in entries]


def _hashes(value: Any, name: str) -> list[bytes]:
    return [unhex(item, 32) for item in member(value, name)]


def _authorizations(value: Any, name: str) -> list[Any]:
    fields = (("chainId", _number), ("address", _data), ("nonce", _number), ("yParity", _number),
              ("r", _number), ("s", _number))  # fmt: skip
    return [[read(entry, field) for field, read in fields] for entry in member(value, name)]


Field = tuple[str, Callable[[Any, str], Any]]
_CHAIN: tuple[Field, ...] = (("chainId", _number), ("nonce", _number))
_FEES: tuple[Field, ...] = (("maxPriorityFeePerGas", _number), ("maxFeePerGas", _number))
_CALL: tuple[Field, ...] = (("gas", _number), ("to", _to), ("value", _number), ("input", _data))
_ACCESS: Field = ("accessList", _access)

BODIES: dict[int, tuple[Field, ...]] = {
    LEGACY: (("nonce", _number), ("gasPrice", _number), *_CALL),
    1: (*_CHAIN, ("gasPrice", _number), *_CALL, _ACCESS),
    2: (*_CHAIN, *_FEES, *_CALL, _ACCESS),
    3: (*_CHAIN, *_FEES, *_CALL, _ACCESS, ("maxFeePerBlobGas", _number), ("blobVersionedHashes", _hashes)),
    4: (*_CHAIN, *_FEES, *_CALL, _ACCESS, ("authorizationList", _authorizations)),
}
"""Type -> the fields before the signature, in order: EIP-155, 2930, 1559, 4844, 7702."""
