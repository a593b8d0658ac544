"""A federation's transactions executed again, and what they make held against what the chain holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rlp
from eth_hash.auto import keccak
from trie.exceptions import BadTrieProof
from trie.hexary import HexaryTrie

from hansa import errors
from hansa.audit.report import Book
from hansa.audit.scan import Filled
from hansa.ledger.replica import Repeated, Replica, read_account
from hansa.ledger.rpc import Fault, Rpc, hexed, member, quantity, unhex

REPEATED, STORAGE = "transactions repeated", "contract's storage"
AT_ONCE = 100
"""Slots of which a proof is asked for in one exchange."""


class Repeating:
    """The contract's own transactions on a replica, as long as it agrees with the chain."""

    def __init__(self, chain_id: int, contract: bytes, book: Book) -> None:
        self._replica = Replica(chain_id, contract)
        self._contract = contract
        self._book = book
        self._broken = False

    def block(self, filled: Filled) -> None:
        """Execute what the block has for the contract."""
        if self._broken:
            return
        state = self._replica.begin(filled.header)
        for place, (envelope, outcome) in enumerate(filled.items):
            where = f"block {filled.header.number}, transaction {place}"
            ours = self._contract in (envelope.to, envelope.created)
            logged = tuple((log.address, log.topics, log.data) for log in outcome.logs)
            self._broken = True
            with self._book.attempt(REPEATED, where):
                if ours:
                    _compare_outcome(self._replica.run(state, envelope), outcome.accepted, logged)
                    self._book.passed(REPEATED)
                elif any(address == self._contract for address, _, _ in logged):
                    raise errors.Unavailable(
                        "another contract called the federation's: it cannot be repeated"
                    )
                self._broken = False
            if self._broken:
                return
        self._replica.end(state)

    @property
    def replica(self) -> Replica | None:
        """The contract as it has become, if all could be repeated."""
        return None if self._broken else self._replica


def _compare_outcome(found: Repeated, accepted: bool, logs: tuple[Any, ...]) -> None:
    if found.accepted != accepted:
        said, got = ("succeeded", "fails") if accepted else ("failed", "succeeds")
        raise errors.Untrusted(f"{said} on the chain and {got} when it is repeated")
    if found.logs != logs:
        raise errors.Untrusted("makes other logs when it is repeated")


class Proofs:
    """What the node proves of the contract at one block (EIP-1186); asked early, since nodes forget old states."""

    def __init__(self, rpc: Rpc, contract: bytes, block: int) -> None:
        self._rpc = rpc
        self._asked = (hexed(contract), quantity(block))
        self._contract = contract
        (answer,) = rpc.batch([self._question([])])
        self._account = None if isinstance(answer, Fault) else answer

    @property
    def offered(self) -> bool:
        """Whether the node gives proofs."""
        return self._account is not None

    def compare(self, root: bytes, replica: Replica | None, book: Book) -> None:
        """The state `root` must hold the storage and code that the repetition made. Raises what does not.

        Nodes that keep slots of value 0 in the trie, as anvil does, have another root for the same storage: there
        each slot that was ever touched is proven by itself.
        """
        if replica is None:
            raise errors.Unavailable("not all transactions could be repeated")
        leaf = _proven(root, keccak(self._contract), member(self._account, "accountProof"))
        there, made = read_account(leaf), replica.account()
        if (there.nonce, there.code) != (made.nonce, made.code):
            raise errors.Untrusted("the chain holds other code than the transactions make")
        slots = replica.slots()
        if there.storage != made.storage:
            self._compare_slots(there.storage, slots)
            book.note(
                "the node's trie holds more than the contract's values, as anvil's does: each was proven"
            )
        book.passed(STORAGE, len(slots))

    def _compare_slots(self, root: bytes, slots: Mapping[int, int]) -> None:
        every = list(slots)
        for start in range(0, len(every), AT_ONCE):
            some = every[start : start + AT_ONCE]
            (answer,) = self._rpc.batch([self._question([hexed(slot.to_bytes(32, "big")) for slot in some])])
            if isinstance(answer, Fault):
                raise errors.Unavailable(f"the node gives no proofs of slots: {answer.message}")
            for slot, proof in zip(some, member(answer, "storageProof"), strict=True):
                leaf = _proven(root, keccak(slot.to_bytes(32, "big")), member(proof, "proof"))
                found = int.from_bytes(rlp.decode(leaf), "big") if leaf else 0
                if found != slots[slot]:
                    message = f"slot {slot:#x} holds {found:#x} on the chain, {slots[slot]:#x} when repeated"
                    raise errors.Untrusted(message)

    def _question(self, slots: list[str]) -> tuple[str, tuple[Any, ...]]:
        contract, block = self._asked
        return "eth_getProof", (contract, slots, block)


def _proven(root: bytes, key: bytes, proof: Any) -> bytes:
    """What the trie of this root has under a key, empty if nothing. Raises `Untrusted`."""
    read: Any = HexaryTrie.get_from_proof  # untyped
    try:
        return bytes(read(root, key, [rlp.decode(unhex(node)) for node in proof]))
    except (BadTrieProof, rlp.RLPException) as e:
        raise errors.Untrusted(f"the node's proof does not lead to the state root: {e}") from e
