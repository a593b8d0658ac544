"""The chain of a run: executed again, and decided again by the rules, transaction by transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_hash.auto import keccak

from hansa import errors
from hansa.audit.getters import STATE, check_getters
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
from hansa.protocol.fold import evolve
from hansa.protocol.history import RoundStory, tell
from hansa.protocol.state import State
from hansa.runfolder import RunRecord

BLOCKS, FILE, CODE, CALLS = "blocks replayed", "chain file", "contract", "transactions decided"
REFUSALS, IDLE = "refusals", "calls without effect"


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
            self.state = evolve(self.state, event)
            self.story = tell(self.story, event)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A transaction of a replayed block. `spent`: it used all the gas that its sender gave it."""

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
    logs: tuple[dict[str, Any], ...]


def read_chain(folder: Path, record: RunRecord, book: Book) -> History:
    """Replay and decide the whole chain. What is wrong goes to the book; raises `BadTerms`.

    The contract is the authority: where the rules differ, that is a finding, and the contract's own events
    are folded on, so that everything behind it is still checked.
    """
    book.expect(BLOCKS, FILE, CODE, STATE, CALLS)
    history = History(founded(record.deployment))
    path, same = folder / "chain.sqlite", False
    with book.attempt(BLOCKS, "chain", gaps=False):
        genesis, entries = read_journal(path)
        if genesis.chain_id != record.deployment.chain_id:
            book.found(BLOCKS, "genesis", f"chain {genesis.chain_id}, not {record.deployment.chain_id}")
        with Replay(genesis) as fresh:
            for entry in entries:
                _block(entry, fresh.step(entry), record, history, book)
            with book.attempt(FILE, "chain.sqlite", gaps=False):
                same = _compare_file(fresh, path, book)
        if same:
            check_getters(path, record.deployment.contract, history.state, book)
    if not history.deployed:
        book.found(CODE, "deployment", "the chain never created the federation's contract")
    return history


def _compare_file(fresh: Replay, path: Path, book: Book) -> bool:
    """Whether every row and byte of the chain's file is what replay makes of the journal."""
    log = path.with_name(path.name + "-wal")
    if log.is_file() and log.stat().st_size:
        book.gap(FILE, f"{log.name} holds a part of it: the run was not closed, go on with it by --resume")
        return False
    differences = fresh.differences(path)
    for difference in differences:
        book.found(FILE, path.name, difference)
    if not differences:
        book.passed(FILE)
    return not differences


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
        where = f"{subject}, transaction {place}"
        with book.attempt(CALLS, where, gaps=False):
            raw = raws[unhex(receipt["transactionHash"], 32)]
            sent = _sent(where, raw, receipt, entry)
            if sent.created:
                _creation(sent, record, history, book)
            else:
                _call(sent, record.deployment.contract, history, book)


def _sent(where: str, raw: bytes, receipt: dict[str, Any], entry: Entry) -> _Sent:
    transaction = blocks.decode(raw)
    gas = number(receipt["gasUsed"])
    return _Sent(
        where=where,
        block=entry.number,
        time=entry.timestamp,
        sender=unhex(receipt["from"], 20),
        to=bytes(transaction.to),
        created=unhex(receipt["contractAddress"] or "0x"),
        data=bytes(transaction.data),
        accepted=receipt["status"] == "0x1",
        gas=gas,
        spent=gas == transaction.gas,
        logs=tuple(receipt["logs"]),
    )


def _creation(sent: _Sent, record: RunRecord, history: History, book: Book) -> None:
    """The shipped code with exactly the terms' parameters, seats and initial model, by the stated owner."""
    d, terms = record.deployment, record.terms
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


def _call(sent: _Sent, contract: bytes, history: History, book: Book) -> None:
    events = [event_from(log) for log in map(log_of, sent.logs) if log.address == contract]
    if sent.to != contract:
        if events:
            raise errors.Untrusted("another contract called the federation's: that cannot be decided anew")
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
    history.fold(events)


def _decide(sent: _Sent, call: msg.Call, events: list[Event], history: History, book: Book) -> None:
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
