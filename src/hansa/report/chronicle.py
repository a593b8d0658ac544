"""What a report needs of a federation's events beyond its story: when phases began, and which blobs they name."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from hansa.ledger import artefact
from hansa.ledger.follower import header_of
from hansa.ledger.rpc import Rpc, number, unhex
from hansa.protocol import events as ev
from hansa.protocol.history import RoundStory, tell
from hansa.protocol.timing import unpack_meta
from hansa.records import Phase

BATCH = 100
"""Questions that a node is asked at once."""

SET_UP = "set-up"
"""What happens before the first round."""


@dataclass(slots=True)
class Chronicle:
    """An observer of a `Fold`. `entered`: block, round and phase; `rows`: training rows that members said they had.

    `ballots`: by round and evaluator the digest of a row of the matrix; `updates` and `evidence`: digests by round.
    `contributed`: members by round in whose sum or model they are, as the chain has it.
    """

    story: tuple[RoundStory, ...] = ()
    entered: list[tuple[int, int, Phase]] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)
    ballots: dict[int, dict[int, bytes]] = field(default_factory=dict)
    updates: dict[int, dict[int, bytes]] = field(default_factory=dict)
    evidence: dict[int, bytes] = field(default_factory=dict)

    def __call__(self, event: ev.Event, block: int) -> None:
        """Note an event of this block."""
        self.story = tell(self.story, event)
        match event:
            case ev.Entered(round, phase):
                self.entered.append((block, round, Phase(phase)))
            case ev.Committed():
                self.rows[event.id] = unpack_meta(event.meta)[2]
                self.updates.setdefault(event.round, {})[event.id] = event.digest
            case ev.BallotOpened():
                self.ballots.setdefault(event.round, {})[event.id] = event.values
            case ev.Proposed():
                self.evidence[event.round] = event.evidence

    def phase_at(self, block: int) -> str:
        """The phase in which a block began: what its transactions were sent for."""
        place = bisect_left(self.entered, (block, 0, Phase.IDLE))
        return self.entered[place - 1][2].name if place else SET_UP


@dataclass(slots=True)
class Spending:
    """Gas and bytes of the contract's transactions by phase, read on from block to block."""

    gas: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    by_call: Counter[str] = field(default_factory=Counter)
    block: int = 0

    def read(self, rpc: Rpc, last: int, chronicle: Chronicle) -> None:
        """Go on to block `last`. Raises `Unavailable`, `Untrusted`."""
        while self.block < last:
            self.block += 1
            block = rpc.request("eth_getBlockByNumber", (hex(self.block), True))
            sent = block["transactions"]
            receipts = rpc.batch([("eth_getTransactionReceipt", (t["hash"],)) for t in sent])
            phase = chronicle.phase_at(self.block)
            for transaction, receipt in zip(sent, receipts, strict=True):
                data = unhex(transaction["input"])
                gas = number(receipt["gasUsed"])
                name = "deploy" if receipt.get("contractAddress") else artefact.decode_call(data)[0]
                self.by_call[name] += gas
                self.gas[phase] += gas
                self.bytes[phase] += len(data)


@dataclass(slots=True)
class Clocks:
    """Times of blocks, each asked for once."""

    known: dict[int, int] = field(default_factory=dict)

    def read(self, rpc: Rpc, blocks: set[int]) -> dict[int, int]:
        """The times of these blocks, and of all before, in UNIX seconds. Raises `Unavailable`, `Untrusted`."""
        missing = sorted(blocks - self.known.keys())
        for part in (missing[k : k + BATCH] for k in range(0, len(missing), BATCH)):
            answers = rpc.batch([("eth_getBlockByNumber", (hex(b), False)) for b in part])
            for block, answer in zip(part, answers, strict=True):
                self.known[block] = header_of(answer).timestamp
        return self.known
