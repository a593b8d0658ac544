"""What a node should do next for the keys and openings of scheme `secagg`; a part of `protocol.plan`.

Of several key centres or servers the first answers at once; the others after a quarter of the phase, if no answer
of a colleague is on the chain; and after half of it in any case, since a colleague's answer may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hansa.protocol import cohorts, secagg
from hansa.protocol.secagg import Parties
from hansa.protocol.state import State, record_of
from hansa.records import Phase, RecordKind, Terms

PATIENCE = 0.25
"""Part of a phase after which a standby answers."""

DOUBT = 0.5
"""Part of a phase after which a standby answers although a colleague did: nobody could use that answer so far."""

RELEASERS = 2
"""Contributors that release the opened model at once; the others after half of the phase if nobody did."""


@dataclass(frozen=True, slots=True)
class Found:
    """Make the parameters, deal the halves, record both. The first key centre's step."""


@dataclass(frozen=True, slots=True)
class Enrol:
    """Publish and record the own public key."""


@dataclass(frozen=True, slots=True)
class Certify:
    """Check the newest public keys of these members, and record them if they are good."""

    ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Halve:
    """Answer the recorded opening with the own half, sealed to its contributors."""


@dataclass(frozen=True, slots=True)
class Readmit:
    """Seal the own half of the standing model's opening to these members."""

    ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Reenter:
    """Ask for the standing model, which was opened without this member."""


@dataclass(frozen=True, slots=True)
class Open:
    """Put the halves together, unmask the sums, judge what comes out."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Record which cohorts' sums are good."""


@dataclass(frozen=True, slots=True)
class Decide:
    """Fix what to vote for the opened model, out of the cohorts that were accepted."""


@dataclass(frozen=True, slots=True)
class Release:
    """Seal the opened model under what its opening gave, and record it."""


Step = Found | Enrol | Certify | Halve | Readmit | Reenter | Open | Approve | Decide | Release


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one node knows beyond the chain. `key`: digest of the own public key, None before there are parameters.

    `opened`: it has judged the cohorts' sums; `decided`: it knows what to vote. `held`: it has the standing model.
    """

    id: int
    terms: Terms
    parties: Parties
    key: bytes | None = None
    opened: bool = False
    decided: bool = False
    held: bool = False
    sent: frozenset[str] = frozenset()


def steps(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    """Steps that are possible now; `done`: how much of the phase is over."""
    if state.phase is not Phase.STOPPED:
        yield from _keys(state, know, done)
    yield from _release(state, know, done)
    if state.phase is Phase.COMMIT:
        yield from _reentry(state, know, done)
    elif state.phase is Phase.OPEN:
        yield from _opening(state, know, done)


def ready(state: State, know: Knowledge) -> bool:
    """Whether a member can train in this round: its key counts, and the standing model can be had."""
    if secagg.certified(state, know.parties, know.id) != know.key or know.key is None:
        return False
    return know.held or not secagg.outside(know.terms, state, know.id) or _readmitted(state, know)


def _keys(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    me, found = know.id, know.parties
    made = secagg.setup(state, found)
    if made is None:
        if found.centres[:1] == (me,) and secagg.complete(know.terms, state):
            yield Found()
        return
    if me in found.centres and (me == found.centres[0] or done >= PATIENCE):
        waiting = secagg.uncertified(state, found)
        if waiting:
            yield Certify(waiting)
    if state.members[me].member:
        own = secagg.latest(state, RecordKind.KEY, me)
        free = own is None or own[0] < state.round
        if free and (own is None or own[1] != know.key):
            yield Enrol()


def _readmitted(state: State, know: Knowledge) -> bool:
    groups = know.parties.centres, know.parties.servers
    return all(secagg.readmissions(state, know.id, group) for group in groups)


def _reentry(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    me = know.id
    group = know.parties.colleagues(me)
    if group:
        asked = secagg.reentering(state, know.terms)
        given = {i: secagg.readmissions(state, i, group) for i in asked}
        waiting = frozenset(i for i in asked if _in_duty(me, group, given[i], done))
        if waiting:
            yield Readmit(waiting)
    asked_before = record_of(state, state.model_round, RecordKind.REENTRY, me) is not None
    if (
        me in state.current.roster
        and not know.held
        and not asked_before
        and secagg.may_reenter(know.terms, state, me)
    ):
        yield Reenter()


def _release(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    """What the last round opened is released while the next one begins, or when training has stopped."""
    if state.phase not in (Phase.COMMIT, Phase.STOPPED) or not know.held:
        return
    me, mine = know.id, RecordKind.RELEASE
    released = any(record_of(state, state.model_round, mine, i) for i in state.model_set)
    if owes_release(state, me) or (me in state.model_set and done >= 0.5 and not released):
        yield Release()


def owes_release(state: State, id: int) -> bool:
    """Whether an id is one of the first contributors to the standing model, and has not released it yet.

    When training has stopped, only those count that were there to vote for it: others may never come back.
    """
    places = sorted(state.model_set)
    if state.phase is Phase.STOPPED and state.model_round == state.round:
        places = [i for i in places if i in state.current.open_votes]
    return id in places[:RELEASERS] and record_of(state, state.model_round, RecordKind.RELEASE, id) is None


def _in_duty(me: int, group: tuple[int, ...], answered: Mapping[int, bytes], done: float) -> bool:
    """Whether it is this holder's turn to answer, when these of its group already did."""
    if me in answered:
        return False
    return done >= DOUBT if answered else me == group[0] or done >= PATIENCE


def _opening(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    me, found, current = know.id, know.parties, state.current
    group = found.colleagues(me)
    if group and _in_duty(me, group, secagg.halves(state, state.round, group), done):
        yield Halve()
    if me not in current.available or "opened" in know.sent:
        return
    halves = (secagg.halves(state, state.round, g) for g in (found.centres, found.servers))
    if not all(halves) or (know.terms.tee and not secagg.deliveries(know.terms, state, state.round)):
        return
    if not know.opened:
        yield Open()
    elif len(cohorts.split(state)) > 1 and record_of(state, state.round, RecordKind.COHORTS, me) is None:
        yield Approve()
    elif not know.decided and (len(cohorts.split(state)) == 1 or cohorts.settled(state) or done >= 0.5):
        yield Decide()
