"""Headers of blocks on any EVM chain, hashed again from what a node says is in them.

A header's fields are those of the yellow paper, each later fork's behind them. A chain under QBFT or IBFT 2.0
hashes its headers without what the validators sign last, their seals and the round in which they agreed (Besu's
`BftBlockHashing`); these two forms were made after its source and not yet met on a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from eth_hash.auto import keccak

from hansa.ledger.rpc import member, number, unhex

NUMBER, DATA = "quantity", "data"
FIELDS: tuple[tuple[str, str], ...] = (
    ("parentHash", DATA),
    ("sha3Uncles", DATA),
    ("miner", DATA),
    ("stateRoot", DATA),
    ("transactionsRoot", DATA),
    ("receiptsRoot", DATA),
    ("logsBloom", DATA),
    ("difficulty", NUMBER),
    ("number", NUMBER),
    ("gasLimit", NUMBER),
    ("gasUsed", NUMBER),
    ("timestamp", NUMBER),
    ("extraData", DATA),
    ("mixHash", DATA),
    ("nonce", DATA),
)
"""What every header has, in order: the name in JSON-RPC, and how it is written there."""

LATER: tuple[tuple[str, str], ...] = (
    ("baseFeePerGas", NUMBER),
    ("withdrawalsRoot", DATA),
    ("blobGasUsed", NUMBER),
    ("excessBlobGas", NUMBER),
    ("parentBeaconBlockRoot", DATA),
    ("requestsHash", DATA),
)
"""What forks added (London, Shanghai, Cancun, Prague); a chain has a first part of it."""

EXTRA = [name for name, _ in FIELDS].index("extraData")
BLOOM_BYTES = 256


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """A header as a node gives it. `sound`: it hashes to `hash`; otherwise nothing in it is certain."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    coinbase: bytes
    gas_limit: int
    base_fee: int
    mix_hash: bytes
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    bloom: bytes
    sound: bool


def read_block_header(value: Any) -> BlockHeader:
    """Read the header of a JSON-RPC block and hash it again. Raises `Untrusted` when a field is missing."""
    fields = [_field(value, *field) for field in FIELDS]
    fields += [_field(value, *field) for field in LATER if value.get(field[0]) is not None]
    found = unhex(member(value, "hash"), 32)
    return BlockHeader(
        number=number(value["number"]),
        hash=found,
        parent=unhex(value["parentHash"], 32),
        timestamp=number(value["timestamp"]),
        coinbase=unhex(value["miner"], 20),
        gas_limit=number(value["gasLimit"]),
        base_fee=number(value.get("baseFeePerGas") or "0x0"),
        mix_hash=unhex(value["mixHash"], 32),
        state_root=unhex(value["stateRoot"], 32),
        transactions_root=unhex(value["transactionsRoot"], 32),
        receipts_root=unhex(value["receiptsRoot"], 32),
        bloom=unhex(value["logsBloom"], BLOOM_BYTES),
        sound=any(form(fields) == found for form in FORMS),
    )


def may_log(header: BlockHeader, contract: bytes) -> bool:
    """Whether a log of the contract may lie in the block; if not, there is none (yellow paper, 4.3.1)."""
    digest = keccak(contract)
    bits = (int.from_bytes(digest[at : at + 2], "big") % (8 * BLOOM_BYTES) for at in (0, 2, 4))
    return all(header.bloom[BLOOM_BYTES - 1 - bit // 8] >> bit % 8 & 1 for bit in bits)


def _field(value: Any, name: str, kind: str) -> bytes | int:
    found = member(value, name)
    return number(found) if kind == NUMBER else unhex(found)


def _plain(fields: Sequence[Any]) -> bytes:
    return keccak(rlp.encode(list(fields)))


def _qbft(fields: Sequence[Any]) -> bytes | None:
    extra = _agreed(fields)
    return None if extra is None else _with_extra(fields, [*extra[:3], b"", []])


def _ibft2(fields: Sequence[Any]) -> bytes | None:
    extra = _agreed(fields)
    return None if extra is None else _with_extra(fields, extra[:3])


def _agreed(fields: Sequence[Any]) -> list[Any] | None:
    """The five parts of extraData: vanity, validators, vote, round, seals; None under another consensus."""
    try:
        parts = rlp.decode(fields[EXTRA])
    except rlp.RLPException:
        return None
    return parts if isinstance(parts, list) and len(parts) == 5 else None


def _with_extra(fields: Sequence[Any], extra: list[Any]) -> bytes:
    return _plain([*fields[:EXTRA], rlp.encode(extra), *fields[EXTRA + 1 :]])


FORMS: tuple[Callable[[Sequence[Any]], bytes | None], ...] = (_plain, _qbft, _ibft2)
