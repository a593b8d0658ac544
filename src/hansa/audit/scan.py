"""The blocks of a chain that others keep, fetched from a node of it and believed only where they hash right.

Every header is hashed again and must name the one before. Where its bloom filter rules out that the contract
logged anything, the block is not looked into: whatever changes the federation makes a log. All other blocks are
fetched whole; their transactions and receipts must hash to the header's roots, so that none can be left out,
added or altered. Refused calls that stand in no such block are not looked at: they changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hansa import errors
from hansa.audit.report import Book
from hansa.ledger.envelopes import Envelope, Outcome, envelope_of, outcome_of, root_of
from hansa.ledger.headers import BlockHeader, may_log, read_block_header
from hansa.ledger.rpc import Fault, Rpc, error_of, hexed, member, quantity

HEADERS, BODIES = "block headers", "transactions and receipts"
AT_ONCE = 100
"""Headers asked for in one exchange."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A block with all that is in it."""

    header: BlockHeader
    items: tuple[tuple[Envelope, Outcome], ...]


class Scan:
    """Goes through the blocks once, up to `head`; ends early at the first that is not what it should be.

    `hashes` are those of the blocks seen, by number; `complete`: all hold up to the head. `unknown`: no header
    of this chain hashes right, so that this version does not know its form, and all of it is its node's word.
    """

    def __init__(self, rpc: Rpc, contract: bytes, created: int, book: Book) -> None:
        self.hashes: dict[int, bytes] = {}
        self.complete = False
        self.unknown = False
        self.head = read_block_header(rpc.request("eth_getBlockByNumber", ("latest", False)))
        self._rpc = rpc
        self._contract = contract
        self._created = created
        self._book = book
        book.expect(HEADERS, BODIES)

    def blocks(self, first: int) -> Iterator[Filled]:
        """Those from block `first` on in which the contract logged, or was made.

        Raises `Unavailable` when the node does not answer, or the chain turned over meanwhile.
        """
        for header in self._headers(first):
            if header.number == self._created or may_log(header, self._contract):
                filled = self._filled(header)
                if filled is None:
                    return
                yield filled
        if self.unknown:
            self._book.gap(HEADERS, "this chain hashes its headers in a way that this version does not know")

    def _headers(self, first: int) -> Iterator[BlockHeader]:
        before: BlockHeader | None = None
        for start in range(first, self.head.number + 1, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, self.head.number + 1))
            answers = _good(self._rpc, [("eth_getBlockByNumber", (quantity(n), False)) for n in numbers])
            for number, answer in zip(numbers, answers, strict=True):
                header = read_block_header(_there(answer, number))
                problem = self._problem(header, number, before)
                if problem:
                    self._check_head()
                    self._book.found(HEADERS, f"block {number}", problem, header.hash)
                    return
                self.hashes[number] = header.hash
                if header.sound:
                    self._book.passed(HEADERS)
                before = header
                yield header
        self._check_head()
        self.complete = True

    def _problem(self, header: BlockHeader, number: int, before: BlockHeader | None) -> str:
        if before is None:
            self.unknown = not header.sound
        if header.number != number:
            return f"the node gives block {header.number} for it"
        if before is not None and header.parent != before.hash:
            return "does not follow the block before"
        if header.sound == self.unknown:
            return "does not hash to its hash, as other blocks of this chain do"
        return ""

    def _check_head(self) -> None:
        """Whether the chain still has the head that the audit began with.

        Asked together with its logs: of several nodes a second one then has to agree on both.
        """
        number = self.head.number
        at = quantity(number)
        logs = {"address": hexed(self._contract), "fromBlock": at, "toBlock": at}
        now, _ = _good(self._rpc, [("eth_getBlockByNumber", (at, False)), ("eth_getLogs", (logs,))])
        if now is None or read_block_header(now).hash != self.head.hash:
            raise errors.Unavailable(
                f"the chain turned over while it was audited: block {number} is another one now",
                hint="Run the audit again; if it stays so, ask another node.",
            )

    def _filled(self, header: BlockHeader) -> Filled | None:
        """The block's transactions and receipts; None if they are not those of the header."""
        where = f"block {header.number}"
        with self._book.attempt(BODIES, where):
            body, receipts = self._body(header)
            envelopes = tuple(map(envelope_of, body))
            outcomes = tuple(map(outcome_of, receipts))
            parts = (
                ("transactions", [e.raw for e in envelopes], header.transactions_root),
                ("receipts", [o.raw for o in outcomes], header.receipts_root),
            )
            for name, raws, root in parts:
                if root_of(raws) != root:
                    raise errors.Untrusted(f"its {name} do not hash to the header's root", digest=root)
            self._book.passed(BODIES, len(envelopes))
            return Filled(header, tuple(zip(envelopes, outcomes, strict=True)))
        self.complete = False
        return None

    def _body(self, header: BlockHeader) -> tuple[Sequence[Any], Sequence[Any]]:
        asked = quantity(header.number)
        block, receipts = self._rpc.batch(
            [("eth_getBlockByNumber", (asked, True)), ("eth_getBlockReceipts", (asked,))]
        )
        if isinstance(block, Fault):
            raise error_of(block)
        transactions = member(_there(block, header.number), "transactions")
        if isinstance(receipts, Fault) or receipts is None:
            # A node that does not have that younger method.
            calls = [("eth_getTransactionReceipt", (member(t, "hash"),)) for t in transactions]
            receipts = _good(self._rpc, calls)
        if not isinstance(transactions, list) or not isinstance(receipts, list):
            raise errors.Untrusted(f"the node gives no lists for block {hexed(header.hash)}")
        return transactions, receipts


def _there(block: Any, number: int) -> Any:
    if block is None:
        raise errors.Unavailable(
            f"the node has no block {number}", hint="Ask a node that keeps the whole history of the chain."
        )
    return block


def _good(rpc: Rpc, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
    answers = rpc.batch(calls)
    for answer in answers:
        if isinstance(answer, Fault):
            raise error_of(answer)
    return answers
