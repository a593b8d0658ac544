"""Blocks of the embedded chain: execution on py-evm without a node around it.

The chain follows the rules of the Paris fork with three simplifications that a private chain may make:
the base fee stays 0, the gas limit stays that of the genesis, and two blocks may carry one timestamp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import rlp
from eth.abc import BlockHeaderAPI, ReceiptAPI, SignedTransactionAPI, StateAPI
from eth.constants import BLANK_ROOT_HASH
from eth.db.backends.base import BaseAtomicDB
from eth.db.trie import make_trie_root_and_nodes
from eth.exceptions import OutOfGas, PyEVMError, VMError
from eth.vm.chain_context import ChainContext
from eth.vm.forks.byzantium.constants import EIP658_TRANSACTION_STATUS_CODE_FAILURE as FAILED
from eth.vm.forks.byzantium.constants import EIP658_TRANSACTION_STATUS_CODE_SUCCESS as SUCCEEDED
from eth.vm.forks.paris.blocks import ParisBlockHeader
from eth.vm.spoof import SpoofTransaction
from eth_hash.auto import keccak
from eth_keys.exceptions import BadSignature
from eth_typing import Address, BlockNumber, Hash32
from eth_utils.exceptions import ValidationError
from lru import LRU

from hansa import errors
from hansa.ledger.machine import Machine
from hansa.ledger.rpc import Fault

COINBASE = Address(bytes(17) + bytes.fromhex("c0ffee"))
"""Receiver of fees. It owns one wei from the start, so that no engine has to clear an empty account."""

BUILDER = Machine.get_transaction_builder()
RECEIPTS = Machine.get_receipt_builder()
CACHED_NODES = 1 << 16


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a chain starts from: `balances` are pairs of a 20-byte address and wei."""

    chain_id: int
    timestamp: int
    balances: tuple[tuple[bytes, int], ...] = ()
    gas_limit: int = 10**9


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """An executed block. A receipt's `gas_used` is cumulative, as in the receipt trie."""

    header: BlockHeaderAPI
    transactions: tuple[SignedTransactionAPI, ...]
    receipts: tuple[ReceiptAPI, ...]


class Nodes(BaseAtomicDB):
    """Nodes of the state trie by their hash, and code by its hash: never changed, so cached.

    What a block writes waits in `fresh` until the caller has stored it with `read`'s source.
    """

    def __init__(self, read: Callable[[bytes], bytes | None]) -> None:
        self.fresh: dict[bytes, bytes] = {}
        self._read = read
        self._cache: LRU[bytes, bytes] = LRU(CACHED_NODES)

    def __getitem__(self, key: bytes) -> bytes:
        value = self._cache.get(key)
        if value is None:
            value = self.fresh.get(key)
        if value is None:
            value = self._read(key)
            if value is None:
                raise KeyError(key)
            self._cache[key] = value
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.fresh[key] = bytes(value)

    def __delitem__(self, key: bytes) -> None:
        self.fresh.pop(key, None)

    def _exists(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    @contextmanager
    def atomic_batch(self) -> Iterator[Nodes]:  # type: ignore[override]
        """The SQLite transaction around the block makes a batch atomic, not this method."""
        yield self

    def stored(self) -> None:
        """The caller has stored `fresh`."""
        self._cache.update(self.fresh)
        self.fresh = {}


def first_block(nodes: Nodes, genesis: Genesis) -> Block:
    """Block 0: the balances and nothing else."""
    header = ParisBlockHeader(
        difficulty=0,
        block_number=BlockNumber(0),
        gas_limit=genesis.gas_limit,
        timestamp=genesis.timestamp,
        coinbase=COINBASE,
        state_root=BLANK_ROOT_HASH,
    )
    state = state_at(nodes, header, genesis.chain_id, ())
    for address, wei in (*genesis.balances, (COINBASE, 1)):
        state.set_balance(Address(address), wei)
    state.persist()
    return Block(header.copy(state_root=state.state_root), (), ())


def next_header(parent: BlockHeaderAPI, timestamp: int) -> BlockHeaderAPI:
    """Header of the block after `parent`, still without transactions."""
    return ParisBlockHeader(
        difficulty=0,
        block_number=BlockNumber(parent.block_number + 1),
        gas_limit=parent.gas_limit,
        timestamp=timestamp,
        coinbase=COINBASE,
        parent_hash=parent.hash,
        state_root=parent.state_root,
    )


def state_at(nodes: Nodes, header: BlockHeaderAPI, chain_id: int, ancestors: Iterable[Hash32]) -> StateAPI:
    """State to execute on: accounts of the header's root, block context of the header.

    `ancestors`: hashes of the blocks before, newest first, read only if a contract asks.
    """
    return Machine.build_state(nodes, header, ChainContext(chain_id), ancestors)


def execute(
    state: StateAPI, header: BlockHeaderAPI, raws: Sequence[bytes]
) -> tuple[Block, list[bytes | Fault]]:
    """Execute raw transactions in order on the fresh `state` of `header`.

    Returns the block of those that are valid, and for each one its hash or why it was left out.
    """
    transactions: list[SignedTransactionAPI] = []
    receipts: list[ReceiptAPI] = []
    results: list[bytes | Fault] = []
    used = bloom = 0
    for raw in raws:
        try:
            transaction = decode(raw)
            _admit(state, transaction, header.gas_limit - used)
            state.lock_changes()
            # Whatever py-evm still refuses, it refuses before it changes the state.
            computation = state.apply_transaction(transaction)
        except ValidationError as e:
            results.append(Fault(-32000, str(e)))
            continue
        used += Machine.finalize_gas_used(transaction, computation)
        receipt = transaction.make_receipt(
            FAILED if computation.is_error else SUCCEEDED, used, computation.get_log_entries()
        )
        bloom |= receipt.bloom
        transactions.append(transaction)
        receipts.append(receipt)
        results.append(keccak(raw))
    state.persist()
    header = header.copy(
        state_root=state.state_root,
        transaction_root=make_trie_root_and_nodes(tuple(transactions))[0],
        receipt_root=make_trie_root_and_nodes(tuple(receipts))[0],
        gas_used=used,
        bloom=bloom,
    )
    return Block(header, tuple(transactions), tuple(receipts)), results


def decode(raw: bytes) -> SignedTransactionAPI:
    """Transaction in raw bytes, with a sender. Raises `ValidationError`, whatever py-evm raises."""
    try:
        transaction = BUILDER.decode(raw)
        _ = transaction.sender
    except (rlp.RLPException, PyEVMError, BadSignature, ValueError, TypeError, IndexError) as e:
        raise ValidationError(f"not a transaction: {e}") from e
    return transaction


def _admit(state: StateAPI, transaction: SignedTransactionAPI, gas_left: int) -> None:
    """Raise `ValidationError`, worded as geth does, for a transaction that no block may hold."""
    if transaction.chain_id != state.execution_context.chain_id:
        raise ValidationError("invalid chain id for signer")
    if transaction.gas > gas_left:
        raise ValidationError("exceeds block gas limit")
    if transaction.gas < transaction.intrinsic_gas:
        raise ValidationError("intrinsic gas too low")
    nonce = state.get_nonce(transaction.sender)
    if transaction.nonce < nonce:
        raise ValidationError(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
    if transaction.nonce > nonce:
        raise ValidationError(f"nonce too high: next nonce {nonce}, tx nonce {transaction.nonce}")
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    if state.get_balance(transaction.sender) < cost:
        raise ValidationError("insufficient funds for gas * price + value")


def simulate(state: StateAPI, sender: bytes, to: bytes, data: bytes, gas: int, value: int) -> bytes | Fault:
    """Output of a call that leaves `state` as it was; a `Fault` with the revert data if it fails."""
    state.lock_changes()
    before = state.snapshot()
    try:
        computation = state.apply_transaction(unsigned(state, sender, to, data, gas, value))
    except ValidationError as e:
        return Fault(-32000, str(e))
    finally:
        state.revert(before)
    if computation.is_error:
        return _failure(computation.error, computation.output)
    return computation.output


def estimate(state: StateAPI, sender: bytes, to: bytes, data: bytes, gas: int, value: int) -> int | Fault:
    """Smallest gas limit, within 2 %, with which the call succeeds; at most `gas`."""

    def tried(limit: int) -> bytes | Fault:
        return simulate(state, sender, to, data, limit, value)

    best = tried(gas)
    if isinstance(best, Fault):
        return best
    low, high = unsigned(state, sender, to, data, gas, value).intrinsic_gas - 1, gas
    guess = low + 1
    while high - low > high // 50:
        if isinstance(tried(guess), Fault):
            low = guess
        else:
            high = guess
        guess = min((low + high) // 2, low * 2)
    return high


def unsigned(
    state: StateAPI, sender: bytes, to: bytes, data: bytes, gas: int, value: int, price: int = 0
) -> SignedTransactionAPI:
    """A transaction that needs no signature of its sender; `price` in wei for each gas."""
    nonce = state.get_nonce(Address(sender))
    plain = BUILDER.create_unsigned_transaction(
        nonce=nonce, gas_price=price, gas=gas, to=Address(to), value=value, data=data
    )
    return cast(SignedTransactionAPI, SpoofTransaction(plain, from_=sender))


def _failure(error: VMError, output: bytes) -> Fault:
    if isinstance(error, OutOfGas):
        return Fault(-32000, "out of gas")
    return Fault(3, "execution reverted", output)


def unpack(header: bytes, transactions: bytes, receipts: bytes) -> Block:
    """Block from its RLP columns. Raises `Untrusted` when they are damaged."""
    try:
        return Block(
            rlp.decode(header, ParisBlockHeader),
            tuple(decode(t) for t in raw_transactions(transactions)),
            tuple(RECEIPTS.decode(r) for r in rlp.decode(receipts)),
        )
    except (rlp.RLPException, PyEVMError, ValidationError, ValueError, TypeError) as e:
        raise errors.Untrusted(f"the chain's file holds a damaged block: {e}") from e


def raw_transactions(packed: bytes) -> tuple[bytes, ...]:
    """Raw transactions in a journal row. Raises `Untrusted`."""
    try:
        items = rlp.decode(packed)
    except rlp.RLPException as e:
        raise errors.Untrusted(f"the journal holds a damaged row: {e}") from e
    if not isinstance(items, list) or not all(isinstance(item, bytes) for item in items):
        raise errors.Untrusted("the journal holds a damaged row: not a list of transactions")
    return tuple(items)
