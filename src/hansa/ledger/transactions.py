"""Sign transactions for any EVM chain, and say what fee to offer.

A chain whose base fee is zero, or that is said to be free, gets
transactions that offer nothing, and its node is not asked for a price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import rlp

from hansa.crypto import signatures
from hansa.ledger.rpc import Rpc, number
from hansa.ports import Signer

MAX_GAS = 2**24
"""Most gas of one transaction (EIP-7825)."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to send: `to` None deploys `data`. `gas` 0 is estimated, with a fifth to spare."""

    to: bytes | None
    data: bytes
    gas: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Fee:
    """Wei for each gas: `cap` in all, `tip` of it for the block's maker; `legacy` before EIP-1559."""

    cap: int = 0
    tip: int = 0
    legacy: bool = False


def sign_transaction(signer: Signer, chain_id: int, nonce: int, call: Call, fee: Fee) -> bytes:
    """Raw signed transaction: EIP-1559 (type 2), or EIP-155 when `fee.legacy`."""
    if fee.legacy:
        body = [nonce, fee.cap, call.gas, call.to or b"", call.value, call.data]
        parity, r, s = signatures.split(signer.sign(rlp.encode([*body, chain_id, 0, 0])))
        return bytes(rlp.encode([*body, chain_id * 2 + 35 + parity, r, s]))
    body = [chain_id, nonce, fee.tip, fee.cap, call.gas, call.to or b"", call.value, call.data, []]
    parity, r, s = signatures.split(signer.sign(b"\x02" + rlp.encode(body)))
    return bytes(b"\x02" + rlp.encode([*body, parity, r, s]))


def fee_of(block: Any, free: bool, rpc: Rpc) -> Fee:
    """What to offer now, given the JSON-RPC latest `block`: twice its base fee and the usual tip."""
    base = block.get("baseFeePerGas") if isinstance(block, dict) else None
    if base is None:
        return Fee(0 if free else number(rpc.request("eth_gasPrice")), legacy=True)
    base = number(base)
    if free or base == 0:
        return Fee(2 * base)
    tip = number(rpc.request("eth_maxPriorityFeePerGas"))
    return Fee(2 * base + tip, tip)
