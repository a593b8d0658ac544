"""The executable specification of `Federation.vy`.

`decide(state, call, now, sender)` gives the events that a call produces and, for batches, the code of
each item (0 = accepted); it raises `Refused` where the contract reverts. `evolve(state, event)` folds
one event and never fails. The contract is the authority on a chain; stateful tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from hansa import encoding, errors
from hansa.crypto.signatures import recover
from hansa.protocol import election, items, selection
from hansa.protocol import events as ev
from hansa.protocol import messages as msg
from hansa.protocol.fold import evolve
from hansa.protocol.items import require, signed
from hansa.protocol.state import (
    MAX_RESOURCES,
    State,
    active_members,
    from_bitmap,
    quorum,
    to_bitmap,
)
from hansa.records import (
    MAX_MEMBERS,
    Fault,
    Governance,
    Motion,
    Outcome,
    Parameters,
    Phase,
    Role,
    Slot,
    Standing,
)

RUNNING = frozenset(range(Phase.COMMIT, Phase.OPEN + 1))


def found(parameters: Parameters, seats: Iterable[bytes], owner: bytes, domain: bytes, model: bytes) -> State:
    """A newly deployed federation. Raises `BadTerms` where the constructor reverts."""
    p, seats = parameters, frozenset(seats)
    sound = (
        1 <= p.targets <= 16
        and p.min_updates >= (4 if p.evaluate else 1)
        and p.min_quorum >= 1
        and p.attempts >= 1
        and p.rounds >= 1
        and p.penalty <= 1000
        and (p.keep > 0 or 1 <= p.keep_permille <= 1000)
        and p.weight_cap >= 1
        and p.max_voids >= 1
        and p.max_absent >= 1
        and all(d > 0 for d in p.durations)
        and (p.governance not in (Governance.SERVER, Governance.COMMITTEE) or seats)
        and (p.governance is not Governance.HYBRID or (1 <= p.committee <= 64 and p.epoch >= 1))
    )
    if not sound:
        raise errors.BadTerms
    return State(p, seats, owner, domain, model, models=(model,))


class _Fold:
    """The state as it stands after the events decided so far."""

    __slots__ = ("events", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.events: list[ev.Event] = []

    def emit(self, event: ev.Event) -> None:
        self.state = evolve(self.state, event)
        self.events.append(event)


def decide(state: State, call: msg.Call, now: int, sender: bytes = b"") -> tuple[list[ev.Event], list[int]]:
    """Events and item codes of a call made at time `now` by transaction sender `sender`."""
    fold = _Fold(state)
    codes: list[int] = []
    match call:
        case msg.Invite():
            _invite(fold, call, sender)
        case msg.Join():
            _join(fold, call)
        case msg.Status():
            _status(fold, call)
        case msg.Move():
            _move(fold, call, now)
        case msg.Start():
            require(sender == state.owner, errors.NotOwner)
            require(state.phase is Phase.IDLE, errors.WrongPhase)
            require(len(active_members(state)) >= _least(state), errors.TooFewMembers)
            _open_round(fold, now)
        case msg.Select():
            _select(fold, call, now)
        case msg.Propose():
            _propose(fold, call, now)
        case msg.Record():
            _record(fold, call)
        case msg.Accuse():
            _accuse(fold, call)
        case msg.Advance():
            require(call.round == state.round, errors.WrongRound)
            _advance(fold, now, late=now >= state.deadline)
        case _:
            codes = _batch(fold, call, now)
    return fold.events, codes


# membership


def _least(state: State) -> int:
    return max(state.parameters.min_quorum, state.parameters.min_updates)


def _invite(fold: _Fold, call: msg.Invite, sender: bytes) -> None:
    state = fold.state
    require(sender == state.owner, errors.NotOwner)
    require(not state.parameters.by_vote or state.phase is Phase.IDLE, errors.NotOwner)
    require(call.who not in state.excluded, errors.NotInvited)
    fold.emit(ev.Invited(call.who))


def _join(fold: _Fold, call: msg.Join) -> None:
    state = fold.state
    nonce = state.nonces.get(call.who, 0)
    signer = recover(
        encoding.message_hash(state.domain, "Join", nonce, call.key, call.onion, call.resources, call.role),
        call.signature,
    )
    require(signer == call.who, errors.BadSignature)
    id = state.ids.get(call.who)
    if id is None:
        require(call.who in state.invited, errors.NotInvited)
        require(call.role in list(Role), errors.WrongRole)
        require(len(state.members) < MAX_MEMBERS, errors.Full)
        id = len(state.members)
    else:
        member = state.members[id]
        require(call.who not in state.excluded, errors.NotInvited)
        if member.role is Role.MEMBER and not member.member:
            require(call.who in state.invited, errors.NotInvited)
        require(call.role == member.role, errors.WrongRole)
        # After the beacon is known, new resources would steer the draw of a leader.
        drawn = Phase.BEACON <= state.phase <= Phase.OPEN and id in state.current.roster
        busy = drawn or (state.phase is Phase.COMMIT and id in state.current.commits)
        require(not busy, errors.AlreadySent)
    fold.emit(
        ev.Joined(call.who, id, call.key, call.onion, min(call.resources, MAX_RESOURCES), int(call.role))
    )


def _status(fold: _Fold, call: msg.Status) -> None:
    state = fold.state
    member = state.members.get(call.id)
    nonce = state.nonces.get(member.address, 0) if member else 0
    require(signed(state, call.id, call.signature, "Status", nonce, call.standing), errors.BadSignature)
    assert member is not None
    require(call.standing <= Standing.BACK and member.member, errors.NotMember)
    if call.standing == Standing.AWAY:
        require(member.active, errors.AlreadySent)
        require(len(active_members(state)) > state.parameters.min_quorum, errors.TooFewMembers)
    elif call.standing == Standing.BACK:
        require(not member.active, errors.AlreadySent)
    fold.emit(ev.StandingChanged(call.id, int(call.standing)))


def _move(fold: _Fold, call: msg.Move, now: int) -> None:
    state = fold.state
    last = -1
    for id, signature in call.signatures:
        require(id > last, errors.UnorderedSigners)
        last = id
        require(id in state.members and state.members[id].member, errors.NotMember)
        require(
            signed(state, id, signature, "Motion", state.motions, call.kind, call.who, call.reason),
            errors.BadSignature,
        )
    require(len(call.signatures) >= quorum(len(active_members(state))), errors.TooFewSigners)
    target = state.ids.get(call.who)
    match call.kind:
        case Motion.INVITE:
            allowed = True
        case Motion.EXCLUDE:
            require(target is not None and state.members[target].member, errors.NotMember)
            allowed = True
        case Motion.PAUSE:
            allowed = state.phase in RUNNING
        case Motion.RESUME:
            allowed = state.phase is Phase.PAUSED
        case Motion.STOP:
            allowed = state.phase is not Phase.STOPPED
        case _:
            allowed = False
    require(allowed, errors.WrongPhase)
    fold.emit(ev.Carried(state.motions, int(call.kind), call.who, call.reason))
    match call.kind:
        case Motion.INVITE:
            fold.emit(ev.Invited(call.who))
        case Motion.EXCLUDE:
            assert target is not None
            fold.emit(ev.StandingChanged(target, int(Standing.EXCLUDED)))
        case Motion.PAUSE:
            fold.emit(ev.Entered(state.round, Phase.PAUSED, 0))
        case Motion.RESUME:
            _open_round(fold, now)
        case Motion.STOP:
            fold.emit(ev.Entered(state.round, Phase.STOPPED, 0))


# phases


def _enter(fold: _Fold, phase: Phase, now: int, round: int | None = None) -> None:
    duration = fold.state.parameters.durations[phase - 1]
    fold.emit(ev.Entered(round or fold.state.round, phase, now + duration))


def _open_round(fold: _Fold, now: int) -> None:
    round = fold.state.round + 1
    if len(active_members(fold.state)) < _least(fold.state):
        fold.emit(ev.Entered(round, Phase.PAUSED, 0))
    else:
        _enter(fold, Phase.COMMIT, now, round)


def _slash(fold: _Fold, ids: Iterable[int], why: Fault) -> None:
    for id in sorted(ids):
        if why is Fault.EQUIVOCATION or id not in fold.state.current.slashed:
            fold.emit(ev.Slashed(fold.state.round, id, int(why)))


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


def _advance(fold: _Fold, now: int, *, late: bool) -> None:
    state = fold.state
    match state.phase:
        case Phase.COMMIT:
            require(late or _complete(state), errors.TooEarly)
            if len(state.current.commits) >= state.parameters.min_updates:
                _enter(fold, Phase.BEACON, now)
            elif state.current.extensions < state.parameters.extensions:
                _enter(fold, Phase.COMMIT, now)
            else:
                _end(fold, Outcome.VOID, now)
        case Phase.BEACON:
            require(late or _complete(state), errors.TooEarly)
            _close_beacon(fold, now)
        case Phase.AVAILABLE:
            require(late or _complete(state), errors.TooEarly)
            _freeze(fold, now)
        case Phase.REVEAL:
            grace = state.parameters.durations[Phase.REVEAL - 1]
            hopeless = late and not state.current.opened
            require(hopeless or now >= state.deadline + grace, errors.TooEarly)
            _end(fold, Outcome.VOID, now)
        case Phase.AGGREGATE:
            require(late, errors.TooEarly)
            assert state.current.leader is not None
            _slash(fold, [state.current.leader], Fault.ABSENT_LEADER)
            _elect(fold, state.current.attempt + 1, now)
        case Phase.VERIFY:
            require(late, errors.TooEarly)
            _slash(fold, state.current.verifiers - set(state.current.votes), Fault.SILENT_VERIFIER)
            _elect(fold, state.current.attempt + 1, now)
        case Phase.OPEN:
            require(late, errors.TooEarly)
            _end(fold, Outcome.BURNED, now)
        case _:
            raise errors.WrongPhase


def _close_beacon(fold: _Fold, now: int) -> None:
    state = fold.state
    beacon = election.next_beacon(state.beacon, state.round, state.current.acc)
    fold.emit(ev.BeaconSet(state.round, beacon))
    _slash(fold, set(state.current.commits) - state.current.revealed, Fault.WITHHELD_BEACON)
    if len(state.current.revealed) < state.parameters.min_updates:
        _end(fold, Outcome.VOID, now)
        return
    p = state.parameters
    due = state.committee_round == 0 or state.round >= state.committee_round + p.epoch
    if p.governance is Governance.HYBRID and due:
        committee = election.draw_committee(fold.state, beacon)
        fold.emit(ev.CommitteeDrawn(state.round, to_bitmap(committee)))
    if not fold.state.current.verifiers:
        _end(fold, Outcome.VOID, now)
    else:
        _enter(fold, Phase.AVAILABLE, now)


def _freeze(fold: _Fold, now: int) -> None:
    current = fold.state.current
    need = quorum(len(current.verifiers))
    counts = dict.fromkeys(current.revealed, 0)
    for held in current.held.values():
        for id in from_bitmap(held) & current.revealed:
            counts[id] += 1
    available = frozenset(i for i, n in counts.items() if n >= need)
    fold.emit(ev.Frozen(fold.state.round, to_bitmap(available)))
    if len(available) < fold.state.parameters.min_updates:
        _end(fold, Outcome.VOID, now)
        return
    _slash(fold, current.revealed - available, Fault.WITHHELD_BLOB)
    if fold.state.parameters.evaluate:
        _enter(fold, Phase.REVEAL, now)
    else:
        fold.emit(ev.Selected(fold.state.round, to_bitmap(available)))
        _elect(fold, 0, now)


def _select(fold: _Fold, call: msg.Select, now: int) -> None:
    state = fold.state
    require(call.round == state.round, errors.WrongRound)
    require(state.phase is Phase.REVEAL, errors.WrongPhase)
    everyone = len(state.current.opened) == len(state.current.ballots)
    require(everyone or now >= state.deadline, errors.TooEarly)
    chosen = selection.select(state, call.threshold, call.cut)
    _slash(fold, set(state.current.ballots) - set(state.current.opened), Fault.WITHHELD_BALLOT)
    fold.emit(ev.Selected(state.round, to_bitmap(chosen)))
    _elect(fold, 0, now)


def _elect(fold: _Fold, attempt: int, now: int) -> None:
    state = fold.state
    chosen = election.choose_leader(state, attempt) if attempt < state.parameters.attempts else None
    if chosen is None:
        _end(fold, Outcome.VOID, now)
        return
    fold.emit(ev.Elected(state.round, attempt, chosen[0]))
    _enter(fold, Phase.AGGREGATE, now)


def _propose(fold: _Fold, call: msg.Propose, now: int) -> None:
    state = fold.state
    _in_time(state, call.round, Phase.AGGREGATE, now)
    require(call.attempt == state.current.attempt, errors.WrongAttempt)
    leader = state.current.leader
    assert leader is not None
    fields = (call.round, call.attempt, call.result, call.evidence)
    require(signed(state, leader, call.signature, "Proposal", *fields), errors.NotLeader)
    fold.emit(ev.Proposed(call.round, call.attempt, leader, call.result, call.evidence))
    _enter(fold, Phase.VERIFY, now)


def _end(fold: _Fold, outcome: Outcome, now: int, model: bytes | None = None) -> None:
    state = fold.state
    final = outcome is Outcome.FINAL
    fold.emit(ev.Ended(state.round, outcome, state.version + final, model if model else state.model))
    p = state.parameters
    for id in sorted(state.current.roster):
        member = fold.state.members[id]
        gone = member.active and member.member and member.absent >= p.max_absent
        if gone and len(active_members(fold.state)) > p.min_quorum:
            fold.emit(ev.StandingChanged(id, int(Standing.AWAY)))
    after = fold.state
    if final and (after.version == p.rounds or 2 * state.current.stops > len(state.current.opened)):
        fold.emit(ev.Entered(state.round, Phase.STOPPED, 0))
    elif after.voids == p.max_voids:
        fold.emit(ev.Entered(state.round, Phase.PAUSED, 0))
    else:
        _open_round(fold, now)


# batches


def _in_time(state: State, round: int, phase: Phase, now: int) -> None:
    require(round == state.round, errors.WrongRound)
    require(state.phase is phase, errors.WrongPhase)
    require(now < state.deadline, errors.DeadlinePassed)


def _batch(fold: _Fold, call: msg.Batch, now: int) -> list[int]:
    handle, phase, closes = _HANDLERS[type(call)]
    _in_time(fold.state, call.round, phase, now)
    p = fold.state.parameters
    if isinstance(call, msg.Ballots):
        require(p.evaluate, errors.WrongPhase)
    if isinstance(call, msg.Precommits):
        require(p.precommit, errors.WrongPhase)
    if isinstance(call, msg.Votes):
        require(call.attempt == fold.state.current.attempt, errors.WrongAttempt)
    codes = []
    for item in call.items:
        try:
            fold.emit(handle(fold.state, item))
            codes.append(0)
        except errors.Refused as refusal:
            codes.append(refusal.code)
    if not any(code == 0 for code in codes):
        raise errors.REFUSALS[codes[0]] if codes else errors.AlreadySent
    closes(fold, now)
    return codes


def _close_phase(fold: _Fold, now: int) -> None:
    if _complete(fold.state):
        _advance(fold, now, late=False)


def _close_nothing(fold: _Fold, now: int) -> None:
    """Openings wait for `Select`, precommitments for the proposal."""


def _close_votes(fold: _Fold, now: int) -> None:
    current = fold.state.current
    n = len(current.verifiers)
    approvals = sum(current.votes.values())
    rejections = len(current.votes) - approvals
    if approvals >= quorum(n):
        if fold.state.parameters.opens:
            _enter(fold, Phase.OPEN, now)
        else:
            _end(fold, Outcome.FINAL, now, current.result)
    elif 3 * rejections > n:
        assert current.leader is not None
        _slash(fold, [current.leader], Fault.REJECTED_PROPOSAL)
        _elect(fold, current.attempt + 1, now)
    elif len(current.votes) == n:
        _elect(fold, current.attempt + 1, now)


def _close_opening(fold: _Fold, now: int) -> None:
    votes = fold.state.current.open_votes
    n = len(fold.state.current.available)
    counts: dict[bytes, int] = {}
    for digest in votes.values():
        counts[digest] = counts.get(digest, 0) + 1
    rejections = counts.pop(bytes(32), 0)
    winner = next((d for d, k in counts.items() if k >= quorum(n)), None)
    if winner is not None:
        _end(fold, Outcome.FINAL, now, winner)
    elif rejections > n - quorum(n) or len(votes) == n:
        _end(fold, Outcome.BURNED, now)


_HANDLERS: dict[type, tuple[Callable[[State, Any], ev.Event], Phase, Callable[[_Fold, int], None]]] = {
    msg.Commits: (items.commit, Phase.COMMIT, _close_phase),
    msg.Reveals: (items.reveal, Phase.BEACON, _close_phase),
    msg.Availabilities: (items.availability, Phase.AVAILABLE, _close_phase),
    msg.Ballots: (items.ballot, Phase.AVAILABLE, _close_phase),
    msg.Openings: (items.opening, Phase.REVEAL, _close_nothing),
    msg.Precommits: (items.precommit, Phase.AGGREGATE, _close_nothing),
    msg.Votes: (items.vote, Phase.VERIFY, _close_votes),
    msg.OpeningVotes: (items.opening_vote, Phase.OPEN, _close_opening),
}
"""Batch type -> how an item is decided, the phase it belongs to, what the batch may close."""


# records and evidence


def _record(fold: _Fold, call: msg.Record) -> None:
    state = fold.state
    fields = (call.round, call.kind, call.digest)
    require(signed(state, call.id, call.signature, "Record", *fields), errors.BadSignature)
    require(call.round <= state.round, errors.WrongRound)
    require((call.round, call.kind, call.id) not in state.recorded, errors.AlreadySent)
    fold.emit(ev.Recorded(call.round, call.kind, call.id, call.digest))


_SLOT_TYPES = {Slot.COMMIT: "Commit", Slot.PROPOSAL: "Proposal", Slot.VOTE: "Vote"}


def _accuse(fold: _Fold, call: msg.Accuse) -> None:
    state = fold.state
    require(1 <= call.round <= state.round, errors.WrongRound)
    a, b = call.a, call.b
    require(call.slot in list(Slot), errors.NotEquivocation)
    same_slot = call.slot == Slot.COMMIT or a.attempt == b.attempt
    differ = (a.attempt, a.x, a.y) != (b.attempt, b.x, b.y)
    require(same_slot and differ, errors.NotEquivocation)
    for claim in (a, b):
        last: bytes | int | bool = claim.y
        if call.slot == Slot.COMMIT:
            last = int.from_bytes(claim.y, "big")
        elif call.slot == Slot.VOTE:
            require(int.from_bytes(claim.y, "big") <= 1, errors.NotEquivocation)
            last = claim.y[-1] == 1
        fields = (call.round, claim.attempt, claim.x, last)
        require(signed(state, call.id, claim.signature, _SLOT_TYPES[call.slot], *fields), errors.BadSignature)
    key = (int(call.slot), call.round, 0 if call.slot == Slot.COMMIT else a.attempt, call.id)
    require(key not in state.accused, errors.AlreadySent)
    fold.state = replace(state, accused=state.accused | {key})
    _slash(fold, [call.id], Fault.EQUIVOCATION)


__all__ = ["RUNNING", "decide", "evolve", "found"]
