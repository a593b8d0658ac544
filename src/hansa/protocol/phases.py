"""How one phase follows another: what each waits for, how it closes, how a round ends."""

from __future__ import annotations

from collections.abc import Iterable

from hansa import errors
from hansa.protocol import election
from hansa.protocol import events as ev
from hansa.protocol.fold import evolve
from hansa.protocol.items import require
from hansa.protocol.state import State, active_members, from_bitmap, quorum, to_bitmap
from hansa.records import Fault, Governance, Outcome, Phase, Standing

RUNNING = frozenset(range(Phase.COMMIT, Phase.OPEN + 1))


class Decision:
    """The events decided so far, and the state as it stands after them."""

    __slots__ = ("events", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.events: list[ev.Event] = []

    def emit(self, event: ev.Event) -> None:
        """Add an event."""
        self.state = evolve(self.state, event)
        self.events.append(event)


def in_time(state: State, round: int, phase: Phase, now: int) -> None:
    """A message of this round and phase, before the deadline. Raises `Refused`."""
    require(round == state.round, errors.WrongRound)
    require(state.phase is phase, errors.WrongPhase)
    require(now < state.deadline, errors.DeadlinePassed)


def least(state: State) -> int:
    """The fewest active members that a round can start with."""
    return max(state.parameters.min_quorum, state.parameters.min_updates)


def enter(decision: Decision, phase: Phase, now: int, round: int | None = None) -> None:
    """Begin a phase, with its full time."""
    duration = decision.state.parameters.durations[phase - 1]
    decision.emit(ev.Entered(round or decision.state.round, phase, now + duration))


def open_round(decision: Decision, now: int) -> None:
    """Begin the next round, or pause where too few are active."""
    round = decision.state.round + 1
    if len(active_members(decision.state)) < least(decision.state):
        decision.emit(ev.Entered(round, Phase.PAUSED, 0))
    else:
        enter(decision, Phase.COMMIT, now, round)


def slash(decision: Decision, ids: Iterable[int], why: Fault) -> None:
    """Take reputation for a fault: once a round, but for every equivocation."""
    for id in sorted(ids):
        if why is Fault.EQUIVOCATION or id not in decision.state.current.slashed:
            decision.emit(ev.Slashed(decision.state.round, id, int(why)))


def bound(state: State) -> bool:
    """Whether as many verifiers fixed their own results as must approve; before that no leader proposes."""
    verifiers, fixed = len(state.current.verifiers), len(state.current.precommits)
    return not state.parameters.precommit or fixed >= quorum(verifiers)


def _complete(state: State) -> bool:
    """Nobody is awaited in this phase any more."""
    now, p = state.current, state.parameters
    match state.phase:
        case Phase.COMMIT:
            full = p.buffer != 0 and len(now.commits) >= max(p.buffer, p.min_updates)
            return len(now.commits) == len(now.roster) or full
        case Phase.BEACON:
            return len(now.revealed) == len(now.commits)
        case Phase.AVAILABLE:
            balloted = len(now.ballots) == len(now.revealed) if p.evaluate else True
            return len(now.held) == len(now.verifiers) and balloted
        case _:
            return False


def advance(decision: Decision, now: int, *, late: bool) -> None:
    """Go on after a deadline (`late`), or when nobody is awaited any more. Raises `Refused`."""
    state = decision.state
    match state.phase:
        case Phase.COMMIT:
            require(late or _complete(state), errors.TooEarly)
            if len(state.current.commits) >= state.parameters.min_updates:
                enter(decision, Phase.BEACON, now)
            elif state.current.extensions < state.parameters.extensions:
                enter(decision, Phase.COMMIT, now)
            else:
                end(decision, Outcome.VOID, now)
        case Phase.BEACON:
            require(late or _complete(state), errors.TooEarly)
            _close_beacon(decision, now)
        case Phase.AVAILABLE:
            require(late or _complete(state), errors.TooEarly)
            _freeze(decision, now)
        case Phase.REVEAL:
            grace = state.parameters.durations[Phase.REVEAL - 1]
            hopeless = late and not state.current.opened
            require(hopeless or now >= state.deadline + grace, errors.TooEarly)
            end(decision, Outcome.VOID, now)
        case Phase.AGGREGATE:
            require(late, errors.TooEarly)
            assert state.current.leader is not None
            if bound(state):
                slash(decision, [state.current.leader], Fault.ABSENT_LEADER)
            else:
                missing = state.current.verifiers - state.current.precommits.keys()
                slash(decision, missing, Fault.SILENT_VERIFIER)
            elect(decision, state.current.attempt + 1, now)
        case Phase.VERIFY:
            require(late, errors.TooEarly)
            # Who had no time to fix its own result cannot approve.
            current = state.current
            fixed = frozenset(current.precommits)
            awaited = fixed if state.parameters.precommit else current.verifiers
            slash(decision, awaited - current.votes.keys(), Fault.SILENT_VERIFIER)
            elect(decision, state.current.attempt + 1, now)
        case Phase.OPEN:
            require(late, errors.TooEarly)
            end(decision, Outcome.BURNED, now)
        case _:
            raise errors.WrongPhase


def _close_beacon(decision: Decision, now: int) -> None:
    state = decision.state
    beacon = election.next_beacon(state.beacon, state.round, state.current.acc)
    decision.emit(ev.BeaconSet(state.round, beacon))
    slash(decision, set(state.current.commits) - state.current.revealed, Fault.WITHHELD_BEACON)
    if len(state.current.revealed) < state.parameters.min_updates:
        end(decision, Outcome.VOID, now)
        return
    p = state.parameters
    due = state.committee_round == 0 or state.round >= state.committee_round + p.epoch
    if p.governance is Governance.HYBRID and due:
        committee = election.draw_committee(decision.state, beacon)
        decision.emit(ev.CommitteeDrawn(state.round, to_bitmap(committee)))
    if not decision.state.current.verifiers:
        end(decision, Outcome.VOID, now)
    else:
        enter(decision, Phase.AVAILABLE, now)


def _freeze(decision: Decision, now: int) -> None:
    current = decision.state.current
    need = quorum(len(current.verifiers))
    counts = dict.fromkeys(current.revealed, 0)
    for held in current.held.values():
        for id in from_bitmap(held) & current.revealed:
            counts[id] += 1
    available = frozenset(i for i, n in counts.items() if n >= need)
    decision.emit(ev.Frozen(decision.state.round, to_bitmap(available)))
    if len(available) < decision.state.parameters.min_updates:
        end(decision, Outcome.VOID, now)
        return
    slash(decision, current.revealed - available, Fault.WITHHELD_BLOB)
    if decision.state.parameters.evaluate:
        enter(decision, Phase.REVEAL, now)
    else:
        decision.emit(ev.Selected(decision.state.round, to_bitmap(available)))
        elect(decision, 0, now)


def elect(decision: Decision, attempt: int, now: int) -> None:
    """Give the attempt its leader; void the round where nobody is left."""
    state = decision.state
    chosen = election.choose_leader(state, attempt) if attempt < state.parameters.attempts else None
    if chosen is None:
        end(decision, Outcome.VOID, now)
        return
    decision.emit(ev.Elected(state.round, attempt, chosen[0]))
    enter(decision, Phase.AGGREGATE, now)


def end(decision: Decision, outcome: Outcome, now: int, model: bytes | None = None) -> None:
    """End the round: send the long absent away, then stop, pause or begin the next."""
    state = decision.state
    final = outcome is Outcome.FINAL
    decision.emit(ev.Ended(state.round, outcome, state.version + final, model if model else state.model))
    p = state.parameters
    for id in sorted(state.current.roster):
        member = decision.state.members[id]
        gone = member.active and member.member and member.absent >= p.max_absent
        if gone and len(active_members(decision.state)) > p.min_quorum:
            decision.emit(ev.StandingChanged(id, int(Standing.AWAY)))
    after = decision.state
    if final and (after.version == p.rounds or 2 * state.current.stops > len(state.current.opened)):
        decision.emit(ev.Entered(state.round, Phase.STOPPED, 0))
    elif after.voids == p.max_voids:
        decision.emit(ev.Entered(state.round, Phase.PAUSED, 0))
    else:
        open_round(decision, now)


def close_phase(decision: Decision, now: int) -> None:
    """Go on if this batch was the last that the phase waited for."""
    if _complete(decision.state):
        advance(decision, now, late=False)


def close_nothing(decision: Decision, now: int) -> None:
    """Openings wait for `Select`, precommitments for the proposal."""


def close_votes(decision: Decision, now: int) -> None:
    """Finality at a quorum of approvals; a veto of a third, or no more votes to come, goes to the next attempt."""
    current = decision.state.current
    n = len(current.verifiers)
    approvals = sum(current.votes.values())
    rejections = len(current.votes) - approvals
    if approvals >= quorum(n):
        if decision.state.parameters.opens:
            enter(decision, Phase.OPEN, now)
        else:
            end(decision, Outcome.FINAL, now, current.result)
    elif 3 * rejections > n:
        assert current.leader is not None
        slash(decision, [current.leader], Fault.REJECTED_PROPOSAL)
        elect(decision, current.attempt + 1, now)
    elif len(current.votes) == n:
        elect(decision, current.attempt + 1, now)


def close_opening(decision: Decision, now: int) -> None:
    """Finality at a quorum for one opened model; burned when none can get it any more."""
    votes = decision.state.current.open_votes
    n = len(decision.state.current.available)
    counts: dict[bytes, int] = {}
    for digest in votes.values():
        counts[digest] = counts.get(digest, 0) + 1
    rejections = counts.pop(bytes(32), 0)
    winner = next((d for d, k in counts.items() if k >= quorum(n)), None)
    if winner is not None:
        end(decision, Outcome.FINAL, now, winner)
    elif rejections > n - quorum(n) or len(votes) == n:
        end(decision, Outcome.BURNED, now)
