"""Sign transactions here and bring them onto any EVM chain: nonces, fees, confirmations, re-sending.

The key never leaves this process. Transactions follow EIP-1559 where the chain has a base fee above
zero; a chain without one, or with base fee zero, gets transactions that offer nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import eth_account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from hansa import errors
from hansa.ledger.follower import Log, log_of
from hansa.ledger.rpc import Fault, Rpc, error_of, hexed, member, number, quantity, unhex

MAX_GAS = 2**24
"""Most gas of one transaction (EIP-7825)."""

KNOWN = ("already known", "already imported", "known transaction", "alreadyknown")
"""What nodes say to a transaction that is in their pool."""

NONCE_TOO_LOW = ("nonce too low", "nonce is too low", "oldnonce")
UNDERPRICED = ("underpriced", "fee too low", "max fee per gas less than")


@dataclass(frozen=True, slots=True)
class Account:
    """A 20-byte address and its key, which no representation shows."""

    address: bytes
    _key: LocalAccount = field(repr=False, compare=False)

    def sign(self, transaction: dict[str, Any]) -> bytes:
        """Raw bytes of the signed transaction."""
        return bytes(self._key.sign_transaction(transaction).raw_transaction)


def account(secret: bytes) -> Account:
    """Account of a 32-byte secp256k1 key. Raises `Misconfigured`."""
    try:
        key = eth_account.Account.from_key(secret)
    except Exception:
        # The cause would carry the key into tracebacks.
        raise errors.Misconfigured(
            "the key is not a secp256k1 key of 32 bytes", hint="make one with `hansa keys`"
        ) from None
    return Account(unhex(key.address, 20), key)


@dataclass(frozen=True, slots=True)
class Call:
    """What to send: `to` None deploys `data`. `gas` 0 is estimated, with a fifth to spare."""

    to: bytes | None
    data: bytes
    gas: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that succeeded in a block; `gas` is what it used, `contract` what it deployed."""

    transaction: bytes
    block: int
    block_hash: bytes
    gas: int
    contract: bytes | None
    logs: tuple[Log, ...]


@dataclass(slots=True)
class _Sent:
    """A transaction under way; `raws` and `hashes` grow when its fee has to be raised."""

    call: Call
    nonce: int
    gas: int
    fee: Fee
    raw: bytes
    hashes: list[bytes]
    sent_at: float


@dataclass(frozen=True, slots=True)
class Fee:
    """Wei for each gas: `cap` in all, `tip` of it for the block's maker; `legacy` before EIP-1559."""

    cap: int = 0
    tip: int = 0
    legacy: bool = False
