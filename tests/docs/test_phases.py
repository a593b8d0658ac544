"""The table of phases against the real rules, and the picture in the documentation against the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.tiny import Tiny, tiny

from hansa import encoding
from hansa.protocol import diagram, rules
from hansa.protocol import events as ev
from hansa.protocol import messages as msg
from hansa.protocol.state import State
from hansa.records import (
    GovernanceTerms,
    Motion,
    Outcome,
    Phase,
    SelectionTerms,
    Standing,
    Training,
)

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
BEGIN, END = "<!-- phases: generated, see docs/contributing.md -->", "<!-- end of phases -->"
Edges = set[tuple[str, str]]
NOBODY = frozenset[int]()


def edges(state: Phase, events: Iterable[ev.Event]) -> Edges:
    """Moves in a run of events that begins in a phase."""
    at, found = state.name, set()
    for event in events:
        match event:
            case ev.Ended():
                there = Outcome(event.outcome).name
            case ev.Entered():
                there = Phase(event.phase).name
            case _:
                continue
        found.add((at, there))
        at = there
    return found


class Driver:
    """Calls the rules for a federation whose nodes have stopped, and collects the moves."""

    def __init__(self, made: Tiny) -> None:
        self.made = made
        self.state: State = made.state
        self.now = made.now
        self.found: Edges = set()

    def call(self, call: msg.Call) -> Driver:
        events, _ = rules.decide(self.state, call, self.now, self.state.owner)
        self.found |= edges(self.state.phase, events)
        for event in events:
            self.state = rules.evolve(self.state, event)
        return self

    def wait(self, deadlines: int = 1) -> Driver:
        """Nobody acts until the deadline, then somebody advances."""
        for _ in range(deadlines):
            self.now = self.state.deadline
            self.call(msg.Advance(self.state.round))
        return self

    def sign(self, id: int, name: str, *values: object) -> bytes:
        return self.made.parties[id].sign(encoding.message_bytes(self.state.domain, name, *values))

    def move(self, kind: Motion) -> Driver:
        nobody, reason = bytes(20), bytes(32)
        fields = (self.state.motions, kind, nobody, reason)
        signers = sorted(i for i, m in self.state.members.items() if m.member)
        return self.call(
            msg.Move(kind, nobody, reason, tuple((i, self.sign(i, "Motion", *fields)) for i in signers))
        )

    def leave(self, ids: Iterable[int]) -> Driver:
        for id in ids:
            nonce = self.state.nonces[self.state.members[id].address]
            self.call(msg.Status(id, Standing.LEFT, self.sign(id, "Status", nonce, Standing.LEFT)))
        return self

    def vote(self, ids: Iterable[int]) -> Driver:
        """Approve what is proposed, without precommitments."""
        round, now = self.state.round, self.state.current
        items = (
            msg.Vote(i, True, bytes(32), self.sign(i, "Vote", round, now.attempt, now.result, True))
            for i in ids
        )
        return self.call(msg.Votes(round, now.attempt, tuple(items)))

    def open(self, ids: Iterable[int], digest: bytes) -> Driver:
        round = self.state.round
        items = (msg.OpeningVote(i, digest, self.sign(i, "Opening", round, digest)) for i in ids)
        return self.call(msg.OpeningVotes(round, tuple(items)))


MEMBERS = range(5)
BARE = GovernanceTerms(precommit=False)


@cache
def stopped(phase: Phase) -> Tiny:
    """A federation whose nodes worked until this phase of round 1. The rest of each test is pure."""
    made = tiny(len(MEMBERS), govern=BARE)
    made.until(phase, round=1)
    return made


def at(phase: Phase, **parameters: object) -> Driver:
    driver = Driver(stopped(phase))
    driver.state = replace(driver.state, parameters=replace(driver.state.parameters, **parameters))
    return driver


def idle() -> Driver:
    """The same members, before the owner starts."""
    made = stopped(Phase.COMMIT)
    driver = Driver(made)
    s = made.state
    driver.state = rules.found(s.parameters, s.seats, s.owner, s.domain, s.models[0])
    for event in made.chain.events:
        if isinstance(event, ev.Entered):
            break
        driver.state = rules.evolve(driver.state, event)
    return driver


def in_open(**parameters: object) -> Driver:
    return at(Phase.VERIFY, opens=True, **parameters).vote(MEMBERS)


def undisturbed() -> Edges:
    made = tiny(training=Training(rounds=2, min_members=4, deadline=100))
    made.run()
    return edges(Phase.IDLE, made.chain.events)


def without_ballots() -> Edges:
    made = tiny(
        selection=SelectionTerms(rule="none"), training=Training(rounds=1, min_members=4, deadline=100)
    )
    made.run()
    return edges(Phase.IDLE, made.chain.events)


SCENARIOS: dict[str, Callable[[], Edges]] = {
    "undisturbed": undisturbed,
    "without ballots": without_ballots,
    "nobody commits": lambda: at(Phase.COMMIT).wait(9).found,
    "nobody reveals": lambda: at(Phase.BEACON).wait().found,
    "nobody holds anything": lambda: at(Phase.AVAILABLE).wait().found,
    "nobody opens a ballot": lambda: at(Phase.REVEAL).wait().found,
    "every leader is absent": lambda: at(Phase.AGGREGATE).wait(3).found,
    "nobody votes": lambda: at(Phase.VERIFY).wait().found,
    "nobody votes on the last attempt": lambda: at(Phase.VERIFY, attempts=1).wait().found,
    "the sum is opened": lambda: in_open().open(MEMBERS, b"\1" * 32).found,
    "the sum is rejected": lambda: in_open().open(MEMBERS, bytes(32)).found,
    "nobody opens the sum": lambda: in_open().wait().found,
    "one burned round too many": lambda: in_open(max_voids=1).wait().found,
    "a final round, but members have left": lambda: at(Phase.VERIFY).leave([0, 1]).vote([1, 2, 3, 4]).found,
    "pause and resume": lambda: at(Phase.COMMIT).move(Motion.PAUSE).move(Motion.RESUME).found,
    "resume with too few": lambda: (
        at(Phase.COMMIT).move(Motion.PAUSE).leave([0, 1]).move(Motion.RESUME).found
    ),
    "stop while paused": lambda: at(Phase.COMMIT).move(Motion.PAUSE).move(Motion.STOP).found,
    "stop before the start": lambda: idle().move(Motion.STOP).found,
    "paused while a sum is open": lambda: in_open().move(Motion.PAUSE).found,
    "stopped while a sum is open": lambda: in_open().move(Motion.STOP).found,
    **{
        f"{kind.name} in {phase.name}": lambda kind=kind, phase=phase: at(phase).move(kind).found
        for kind in (Motion.PAUSE, Motion.STOP)
        for phase in diagram.ROUND
        if phase is not Phase.OPEN
    },
}


def test_the_rules_make_all_moves_of_the_table_and_no_other() -> None:
    table = {edge for transition in diagram.TRANSITIONS for edge in transition.edges()}
    made = {name: scenario() for name, scenario in SCENARIOS.items()}
    unlisted = {name: found - table for name, found in made.items() if found - table}
    assert not unlisted
    assert table - set().union(*made.values()) == set()


def test_the_table_names_every_move_once() -> None:
    listed = [edge for transition in diagram.TRANSITIONS for edge in transition.edges()]
    assert len(listed) == len(set(listed))


def test_the_picture_shows_every_move() -> None:
    lines = [line.strip() for line in diagram.mermaid().splitlines()]
    running = {phase.name for phase in diagram.ROUND}
    for transition in diagram.TRANSITIONS:
        for source, target in transition.edges():
            whole = source in running and f"ROUND --> {target} : {transition.cause}" in lines
            assert whole or f"{source} --> {target} : {transition.cause}" in lines


def test_the_documented_picture_is_the_generated_one() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    shown = text.split(BEGIN, 1)[1].split(END, 1)[0].strip()
    assert shown == f"```mermaid\n{diagram.mermaid()}\n```"
