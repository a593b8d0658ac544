"""The chain of a run: executed again, and decided again by the rules, transaction by transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eth_hash.auto import keccak

from hansa import errors
from hansa.audit.report import Book
from hansa.ledger import artefact, blocks
from hansa.ledger.binding import call_of, parameter_fields
from hansa.ledger.embedded import Entry, Replay, Replayed, read_journal
from hansa.ledger.evm import event_from, founded
from hansa.ledger.follower import log_of
from hansa.ledger.rpc import number, unhex
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.audit import counts
from hansa.protocol.events import Ended, Event
from hansa.protocol.history import RoundStory, tell
from hansa.protocol.state import State
from hansa.records import Slot
from hansa.runfolder import RunRecord

BLOCKS, FILE, CODE, CALLS = "blocks replayed", "chain file", "contract", "transactions decided"


@dataclass(frozen=True, slots=True)
class Round:
    """A round just before its end, and how it ended."""

    state: State
    ended: Ended


@dataclass(slots=True)
class History:
    """What replay and rules made of the chain so far; `gas` by function, `hashes` from block 0 on."""

    state: State
    rounds: list[Round] = field(default_factory=list)
    story: tuple[RoundStory, ...] = ()
    gas: Counter[str] = field(default_factory=Counter)
    hashes: list[bytes] = field(default_factory=list)
    deployed: bool = False

    def fold(self, events: Sequence[Event]) -> None:
        """Take what the contract said."""
        for event in events:
            if isinstance(event, Ended):
                self.rounds.append(Round(self.state, event))
            self.state = rules.evolve(self.state, event)
            self.story = tell(self.story, event)


def read_chain(folder: Path, record: RunRecord, book: Book) -> History:
    """Replay and decide the whole chain. What is wrong goes to the book; raises `BadTerms`.

    The chain is the authority: where rules and contract differ, that is a finding, and the contract's own
    events are folded on, so that everything behind it is still checked.
    """
    book.expect(BLOCKS, FILE, CODE, CALLS)
    history = History(founded(record.deployment))
    path = folder / "chain.sqlite"
    with book.attempt(BLOCKS, "chain", gaps=False):
        genesis, entries = read_journal(path)
        if genesis.chain_id != record.deployment.chain_id:
            book.found(BLOCKS, "genesis", f"chain {genesis.chain_id}, not {record.deployment.chain_id}")
        with Replay(genesis) as fresh:
            for entry in entries:
                _block(entry, fresh.step(entry), record, history, book)
            with book.attempt(FILE, "chain.sqlite", gaps=False):
                differences = fresh.differences(path)
                for difference in differences:
                    book.found(FILE, "chain.sqlite", difference)
                if not differences:
                    book.passed(FILE)
    if not history.deployed:
        book.found(CODE, "deployment", "the chain never created the federation's contract")
    return history


def _block(entry: Entry, replayed: Replayed, record: RunRecord, history: History, book: Book) -> None:
    subject = f"block {entry.number}"
    history.hashes.append(entry.hash)
    if not replayed.root_ok:
        book.found(BLOCKS, subject, "replay gives another state root than recorded", entry.root)
    if not replayed.hash_ok:
        book.found(BLOCKS, subject, "replay gives another block hash than recorded", entry.hash)
    if replayed.root_ok and replayed.hash_ok:
        book.passed(BLOCKS)
    raws = {keccak(raw): raw for raw in entry.transactions}
    for place, receipt in enumerate(replayed.receipts):
        raw = raws[unhex(receipt["transactionHash"], 32)]
        where = f"{subject}, transaction {place}"
        with book.attempt(CALLS, where, gaps=False):
            _transaction(where, raw, receipt, entry, record, history, book)


def _transaction(
    where: str,
    raw: bytes,
    receipt: dict[str, Any],
    entry: Entry,
    record: RunRecord,
    history: History,
    book: Book,
) -> None:
    contract = record.deployment.contract
    transaction = blocks.decode(raw)
    data, sender = bytes(transaction.data), unhex(receipt["from"], 20)
    if receipt["contractAddress"] is not None:
        if unhex(receipt["contractAddress"], 20) == contract:
            _deployment(where, data, sender, receipt, entry, record, history, book)
        return
    events = [event_from(log) for log in map(log_of, receipt["logs"]) if log.address == contract]
    if unhex(receipt["to"], 20) != contract:
        if events:
            raise errors.Untrusted("another contract called the federation's: that cannot be decided anew")
        return
    used = number(receipt["gasUsed"])
    history.gas[_function(data)] += used
    accepted = receipt["status"] == "0x1"
    try:
        call = call_of(*artefact.decode_call(data))
    except errors.Untrusted:
        if events:
            raise
        book.passed("calls without effect")
        return
    _decide(where, call, entry.timestamp, sender, events, accepted, used == transaction.gas, history, book)


def _function(data: bytes) -> str:
    try:
        return artefact.decode_call(data)[0]
    except errors.Untrusted:
        return "unknown"


def _decide(
    where: str,
    call: msg.Call,
    now: int,
    sender: bytes,
    events: list[Event],
    accepted: bool,
    spent: bool,
    history: History,
    book: Book,
) -> None:
    name = type(call).__name__
    try:
        expected, _ = rules.decide(history.state, call, now, sender)
    except errors.Refused as refusal:
        if accepted:
            book.found(CALLS, where, f"the contract accepted {name}, the rules refuse it: {refusal}")
        else:
            book.passed("refusals")
    else:
        if accepted and expected == events:
            book.passed(CALLS)
            for kind, count in counts(call, expected).items():
                book.passed(kind, count)
        elif accepted:
            book.found(CALLS, where, f"{name} made other events than the rules: {_first(expected, events)}")
        elif spent:
            # A relayer that gives too little gas is refused by the machine, whatever it sent.
            book.passed("refusals")
        else:
            book.found(CALLS, where, f"the contract refused {name}, the rules accept it")
    history.fold(events)
    if accepted and isinstance(call, msg.Accuse):
        # No event tells which slot was accused; the rules need it to refuse a second accusation.
        attempt = 0 if call.slot is Slot.COMMIT else call.a.attempt
        key = (int(call.slot), call.round, attempt, call.id)
        history.state = replace(history.state, accused=history.state.accused | {key})


def _first(expected: list[Event], events: list[Event]) -> str:
    for mine, theirs in zip(expected, events, strict=False):
        if mine != theirs:
            return f"{theirs} instead of {mine}"
    return f"{len(events)} events instead of {len(expected)}"


def _deployment(
    where: str,
    data: bytes,
    sender: bytes,
    receipt: dict[str, Any],
    entry: Entry,
    record: RunRecord,
    history: History,
    book: Book,
) -> None:
    """The shipped code with exactly the terms' parameters, seats and initial model, by the stated owner."""
    d, terms = record.deployment, record.terms
    history.gas["deploy"] += number(receipt["gasUsed"])
    history.deployed = receipt["status"] == "0x1"
    seats = tuple(bytes.fromhex(s.removeprefix("0x")) for s in terms.govern.seats)
    shipped = artefact.creation_code(parameter_fields(d.parameters), seats, terms.initial)
    facts = (
        ("code", data[: len(artefact.bytecode())] == artefact.bytecode(), "is not the shipped artefact"),
        ("parameters", data == shipped, "are not those that follow from the terms"),
        ("seats", seats == d.seats, "are not those of the terms"),
        ("initial model", terms.initial == d.model, "is not that of the terms"),
        ("owner", sender == d.owner, "did not deploy the contract"),
        ("block", entry.number == d.block, "of the deployment is not the recorded one"),
        ("deployment", history.deployed, "failed"),
    )
    for name, holds, message in facts:
        if holds:
            book.passed(CODE)
        else:
            book.found(CODE, f"{where}: {name}", message)
