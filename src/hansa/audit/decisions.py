"""Transactions of a federation's contract, decided again by the rules, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hansa import errors
from hansa.audit.report import Book
from hansa.ledger import artefact
from hansa.ledger.binding import call_of, parameter_fields
from hansa.ledger.evm import Deployment, event_from
from hansa.ledger.follower import Log
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.audit import counts
from hansa.protocol.events import Ended, Event, Proposed, Recorded
from hansa.protocol.fold import evolve
from hansa.protocol.history import RoundStory, tell
from hansa.protocol.state import State
from hansa.records import RecordKind, Terms

CODE, CALLS = "contract", "transactions decided"
REFUSALS, IDLE = "refusals", "calls without effect"


@dataclass(frozen=True, slots=True)
class Round:
    """A round just before its end, and how it ended."""

    state: State
    ended: Ended


@dataclass(frozen=True, slots=True)
class Noted:
    """A generic record, the round that ran when it was made, the round of the model that stood then, and the time.

    `time`: of its block, UNIX seconds.
    """

    running: int
    standing: int
    event: Recorded
    time: int


@dataclass(slots=True)
class History:
    """What replay and rules made of the chain so far.

    `records` and proposals in their order, `gas` by function, `hashes` of blocks by their numbers, `consents`: by id,
    digest of what was agreed to.
    """

    state: State
    rounds: list[Round] = field(default_factory=list)
    story: tuple[RoundStory, ...] = ()
    gas: Counter[str] = field(default_factory=Counter)
    hashes: dict[int, bytes] = field(default_factory=dict)
    records: list[Noted] = field(default_factory=list)
    proposed: list[Proposed] = field(default_factory=list)
    consents: dict[int, bytes] = field(default_factory=dict)
    deployed: bool = False

    def fold(self, events: Sequence[Event], time: int) -> None:
        """Take what the contract said in a block of this time."""
        for event in events:
            if isinstance(event, Ended):
                self.rounds.append(Round(self.state, event))
            if isinstance(event, Recorded):
                self.records.append(Noted(self.state.round, self.state.model_round, event, time))
                if event.kind == RecordKind.CONSENT:
                    self.consents[event.id] = event.digest
            if isinstance(event, Proposed):
                self.proposed.append(event)
            self.state = evolve(self.state, event)
            self.story = tell(self.story, event)


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction as its block has it. `spent`: it used all the gas that its sender gave it."""

    where: str
    block: int
    time: int
    sender: bytes
    to: bytes
    created: bytes
    data: bytes
    accepted: bool
    gas: int
    spent: bool
    logs: tuple[Log, ...]


def decide(sent: Sent, deployment: Deployment, terms: Terms, history: History, book: Book) -> None:
    """Hold what the contract made of a transaction against the rules, and fold its events into the history.

    The contract is the authority: where the rules differ, that is a finding, and the contract's own events
    are folded on, so that everything behind it is still checked. Raises `Untrusted` for what cannot be read,
    `Unavailable` for what cannot be decided, `BadTerms`.
    """
    if sent.created:
        _creation(sent, deployment, terms, history, book)
    else:
        _call(sent, deployment.contract, history, book)


def _creation(sent: Sent, d: Deployment, terms: Terms, history: History, book: Book) -> None:
    """The shipped code with exactly the terms' parameters, seats and initial model, by the stated owner."""
    if sent.created != d.contract:
        return
    history.gas["deploy"] += sent.gas
    history.deployed = sent.accepted
    seats = tuple(bytes.fromhex(s.removeprefix("0x")) for s in terms.govern.seats)
    shipped = artefact.creation_code(parameter_fields(d.parameters), seats, terms.initial)
    facts = (
        ("code", sent.data.startswith(artefact.bytecode()), "is not the shipped artefact"),
        ("parameters", sent.data == shipped, "are not those that follow from the terms"),
        ("seats", seats == d.seats, "are not those of the terms"),
        ("initial model", terms.initial == d.model, "is not that of the terms"),
        ("owner", sent.sender == d.owner, "did not deploy the contract"),
        ("block", sent.block == d.block, "of the deployment is not the recorded one"),
        ("deployment", sent.accepted, "failed"),
    )
    for name, holds, message in facts:
        if holds:
            book.passed(CODE)
        else:
            book.found(CODE, f"{sent.where}: {name}", message)


def _call(sent: Sent, contract: bytes, history: History, book: Book) -> None:
    events = [event_from(log) for log in sent.logs if log.address == contract]
    if sent.to != contract:
        history.fold(events, sent.time)
        if events:
            raise errors.Unavailable("another contract called the federation's: that cannot be decided anew")
        return
    try:
        name, arguments = artefact.decode_call(sent.data)
        history.gas[name] += sent.gas
        call = call_of(name, arguments)
    except errors.Untrusted:
        if events:
            raise
        book.passed(IDLE)
        return
    _decide(sent, call, events, history, book)
    history.fold(events, sent.time)


def _decide(sent: Sent, call: msg.Call, events: list[Event], history: History, book: Book) -> None:
    """The rules must give the events of the contract, and refuse what it refused."""
    name = type(call).__name__
    try:
        expected, _ = rules.decide(history.state, call, sent.time, sent.sender)
    except errors.Refused as refusal:
        if sent.accepted:
            book.found(CALLS, sent.where, f"the contract accepted {name}, the rules refuse it: {refusal}")
        else:
            book.passed(REFUSALS)
        return
    if sent.accepted and expected == events:
        book.passed(CALLS)
        for kind, count in counts(call, expected).items():
            book.passed(kind, count)
    elif sent.accepted:
        book.found(CALLS, sent.where, f"{name} made other events than the rules: {_first(expected, events)}")
    elif sent.spent:
        # A relayer that gives too little gas is refused by the machine, whatever it sent.
        book.passed(REFUSALS)
    else:
        book.found(CALLS, sent.where, f"the contract refused {name}, the rules accept it")


def _first(expected: list[Event], events: list[Event]) -> str:
    for mine, theirs in zip(expected, events, strict=False):
        if mine != theirs:
            return f"{theirs} instead of {mine}"
    return f"{len(events)} events instead of {len(expected)}"
