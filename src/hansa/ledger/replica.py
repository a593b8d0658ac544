"""One contract's transactions, executed again in the block context that a chain recorded for them.

The state is the contract's alone. What else a transaction needs is granted: its sender has the nonce that it
signed and can pay. So gas, which each fork counts in its own way, is not compared. A contract that reads other
accounts, or hashes of old blocks, could not be repeated like this; the federation's reads neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import rlp
from eth.abc import BlockHeaderAPI, StateAPI
from eth.constants import BLANK_ROOT_HASH
from eth.vm.forks.paris.blocks import ParisBlockHeader
from eth_hash.auto import keccak
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.exceptions import ValidationError

from hansa import errors
from hansa.ledger import blocks
from hansa.ledger.envelopes import Envelope
from hansa.ledger.headers import BlockHeader
from hansa.ledger.rpc import Fault
from hansa.ledger.trie import Trie

RICH = 2**250
"""Wei of every sender."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """What came of a transaction: whether it succeeded, and its logs as (address, topics, data)."""

    accepted: bool
    logs: tuple[tuple[bytes, tuple[bytes, ...], bytes], ...]


@dataclass(frozen=True, slots=True)
class Account:
    """Of a contract in the state trie, without its balance."""

    nonce: int
    storage: bytes
    code: bytes


class Replica:
    """The contract as it becomes, block by block."""

    def __init__(self, chain_id: int, contract: bytes) -> None:
        self._chain_id = chain_id
        self._contract = contract
        self._touched: set[int] = set()
        self._nodes = blocks.Nodes(lambda _: None)
        self._header: BlockHeaderAPI = ParisBlockHeader(
            difficulty=0, block_number=BlockNumber(0), gas_limit=0, timestamp=0, state_root=BLANK_ROOT_HASH
        )

    def begin(self, header: BlockHeader) -> StateAPI:
        """The state on which transactions of this block are to run, until `end`."""
        self._header = ParisBlockHeader(
            difficulty=0,
            block_number=BlockNumber(header.number),
            gas_limit=header.gas_limit,
            timestamp=header.timestamp,
            coinbase=Address(header.coinbase),
            parent_hash=Hash32(header.parent),
            mix_hash=Hash32(header.mix_hash),
            base_fee_per_gas=header.base_fee,
            state_root=self._header.state_root,
        )
        return blocks.state_at(self._nodes, self._header, self._chain_id, ())

    def end(self, state: StateAPI) -> None:
        """Keep what the block's transactions made."""
        self._touched |= state.persist().get_slots_queried(Address(self._contract))
        self._header = self._header.copy(state_root=state.state_root)

    def run(self, state: StateAPI, sent: Envelope) -> Repeated:
        """Execute a transaction. Raises `Untrusted` when no chain could have taken it."""
        sender = Address(sent.sender)
        state.set_nonce(sender, sent.nonce)
        state.set_balance(sender, RICH)
        state.lock_changes()
        try:
            computation = state.apply_transaction(
                blocks.unsigned(state, sent.sender, sent.to or b"", sent.data, sent.gas, sent.value,
                                price=self._header.base_fee_per_gas or 0)
            )  # fmt: skip
        except ValidationError as e:
            raise errors.Untrusted(f"no chain takes this transaction: {e}") from e
        logs = tuple(
            (bytes(address), tuple(topic.to_bytes(32, "big") for topic in topics), bytes(data))
            for address, topics, data in computation.get_log_entries()
        )
        return Repeated(not computation.is_error, logs)

    def call(self, data: bytes) -> bytes:
        """What the contract answers after the last block. Raises `Unavailable` when it refuses."""
        free = self._header.copy(base_fee_per_gas=0)
        state = blocks.state_at(self._nodes, free, self._chain_id, ())
        output = blocks.simulate(state, bytes(20), self._contract, data, free.gas_limit, 0)
        if isinstance(output, Fault):
            raise errors.Unavailable(f"the contract refuses the call: {output.message}")
        return output

    def account(self) -> Account:
        """The contract in the state trie."""
        return read_account(Trie(self._nodes, self._header.state_root)[keccak(self._contract)])

    def slots(self) -> dict[int, int]:
        """All slots that a transaction ever read or wrote, and what they hold now, also where that is 0."""
        state = blocks.state_at(self._nodes, self._header, self._chain_id, ())
        return {slot: state.get_storage(Address(self._contract), slot) for slot in sorted(self._touched)}


def read_account(leaf: bytes) -> Account:
    """An account as it lies in the state trie. Raises `Untrusted`."""
    try:
        nonce, _, storage, code = rlp.decode(leaf)
        return Account(int.from_bytes(nonce, "big"), storage, code)
    except (rlp.RLPException, ValueError, TypeError) as e:
        raise errors.Untrusted("the state trie holds no such contract") from e
