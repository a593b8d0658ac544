"""The executable specification of `Federation.vy`.

`decide(state, call, now, sender)` gives the events that a call produces and, for batches, the code of
each item (0 = accepted); it raises `Refused` where the contract reverts. `evolve(state, event)` folds
one event and never fails. The contract is the authority on a chain; stateful tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from hansa import encoding, errors
from hansa.crypto.signatures import recover
from hansa.protocol import election, selection
from hansa.protocol import events as ev
from hansa.protocol import messages as msg
from hansa.protocol.state import (
    MAX_RESOURCES,
    Member,
    RoundState,
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

MAX_ONION_STEPS = 4096
GAIN_SELECTED, GAIN_VOTED, GAIN_REVEALED, GAIN_LED = 400, 300, 200, 100
RUNNING = frozenset(range(Phase.COMMIT, Phase.OPEN + 1))


def found(
    parameters: Parameters, seats: Iterable[bytes], owner: bytes, domain: bytes, model: bytes
) -> State:
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
            _require(sender == state.owner, errors.NotOwner)
            _require(state.phase is Phase.IDLE, errors.WrongPhase)
            _require(len(active_members(state)) >= _least(state), errors.TooFewMembers)
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
            _require(call.round == state.round, errors.WrongRound)
            _advance(fold, now, late=now >= state.deadline)
        case _:
            codes = _batch(fold, call, now)
    return fold.events, codes


def _require(holds: bool, refusal: type[errors.Refused]) -> None:
    if not holds:
        raise refusal


def _signed(state: State, id: int, signature: bytes, name: str, *values: Any) -> bool:
    member = state.members.get(id)
    if member is None:
        return False
    return recover(encoding.message_hash(state.domain, name, *values), signature) == member.address


# membership


def _least(state: State) -> int:
    return max(state.parameters.min_quorum, state.parameters.min_updates)


def _invite(fold: _Fold, call: msg.Invite, sender: bytes) -> None:
    state = fold.state
    _require(sender == state.owner, errors.NotOwner)
    _require(not state.parameters.by_vote or state.phase is Phase.IDLE, errors.NotOwner)
    _require(call.who not in state.excluded, errors.NotInvited)
    fold.emit(ev.Invited(call.who))


def _join(fold: _Fold, call: msg.Join) -> None:
    state = fold.state
    nonce = state.nonces.get(call.who, 0)
    signer = recover(
        encoding.message_hash(state.domain, "Join", nonce, call.key, call.onion, call.resources, call.role),
        call.signature,
    )
    _require(signer == call.who, errors.BadSignature)
    id = state.ids.get(call.who)
    if id is None:
        _require(call.who in state.invited, errors.NotInvited)
        _require(call.role in Role, errors.WrongRole)
        _require(len(state.members) < MAX_MEMBERS, errors.Full)
        id = len(state.members)
    else:
        member = state.members[id]
        _require(call.who not in state.excluded, errors.NotInvited)
        if member.role is Role.MEMBER and not member.member:
            _require(call.who in state.invited, errors.NotInvited)
        _require(call.role == member.role, errors.WrongRole)
        # After the beacon is known, new resources would steer the draw of a leader.
        drawn = Phase.BEACON <= state.phase <= Phase.OPEN and id in state.current.roster
        busy = drawn or (state.phase is Phase.COMMIT and id in state.current.commits)
        _require(not busy, errors.AlreadySent)
    fold.emit(
        ev.Joined(call.who, id, call.key, call.onion, min(call.resources, MAX_RESOURCES), int(call.role))
    )


def _status(fold: _Fold, call: msg.Status) -> None:
    state = fold.state
    member = state.members.get(call.id)
    nonce = state.nonces.get(member.address, 0) if member else 0
    _require(_signed(state, call.id, call.signature, "Status", nonce, call.standing), errors.BadSignature)
    assert member is not None
    _require(call.standing <= Standing.BACK and member.member, errors.NotMember)
    if call.standing == Standing.AWAY:
        _require(member.active, errors.AlreadySent)
        _require(len(active_members(state)) > state.parameters.min_quorum, errors.TooFewMembers)
    elif call.standing == Standing.BACK:
        _require(not member.active, errors.AlreadySent)
    fold.emit(ev.StandingChanged(call.id, int(call.standing)))


def _move(fold: _Fold, call: msg.Move, now: int) -> None:
    state = fold.state
    last = -1
    for id, signature in call.signatures:
        _require(id > last, errors.UnorderedSigners)
        last = id
        _require(id in state.members and state.members[id].member, errors.NotMember)
        _require(
            _signed(state, id, signature, "Motion", state.motions, call.kind, call.who, call.reason),
            errors.BadSignature,
        )
    _require(len(call.signatures) >= quorum(len(active_members(state))), errors.TooFewSigners)
    target = state.ids.get(call.who)
    match call.kind:
        case Motion.INVITE:
            allowed = True
        case Motion.EXCLUDE:
            _require(target is not None and state.members[target].member, errors.NotMember)
            allowed = True
        case Motion.PAUSE:
            allowed = state.phase in RUNNING
        case Motion.RESUME:
            allowed = state.phase is Phase.PAUSED
        case Motion.STOP:
            allowed = state.phase is not Phase.STOPPED
        case _:
            allowed = False
    _require(allowed, errors.WrongPhase)
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
            _require(late or _complete(state), errors.TooEarly)
            if len(state.current.commits) >= state.parameters.min_updates:
                _enter(fold, Phase.BEACON, now)
            elif state.current.extensions < state.parameters.extensions:
                _enter(fold, Phase.COMMIT, now)
            else:
                _end(fold, Outcome.VOID, now)
        case Phase.BEACON:
            _require(late or _complete(state), errors.TooEarly)
            _close_beacon(fold, now)
        case Phase.AVAILABLE:
            _require(late or _complete(state), errors.TooEarly)
            _freeze(fold, now)
        case Phase.REVEAL:
            grace = state.parameters.durations[Phase.REVEAL - 1]
            hopeless = late and not state.current.opened
            _require(hopeless or now >= state.deadline + grace, errors.TooEarly)
            _end(fold, Outcome.VOID, now)
        case Phase.AGGREGATE:
            _require(late, errors.TooEarly)
            assert state.current.leader is not None
            _slash(fold, [state.current.leader], Fault.ABSENT_LEADER)
            _elect(fold, state.current.attempt + 1, now)
        case Phase.VERIFY:
            _require(late, errors.TooEarly)
            _slash(fold, state.current.verifiers - set(state.current.votes), Fault.SILENT_VERIFIER)
            _elect(fold, state.current.attempt + 1, now)
        case Phase.OPEN:
            _require(late, errors.TooEarly)
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
    _require(call.round == state.round, errors.WrongRound)
    _require(state.phase is Phase.REVEAL, errors.WrongPhase)
    everyone = len(state.current.opened) == len(state.current.ballots)
    _require(everyone or now >= state.deadline, errors.TooEarly)
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
    _require(call.attempt == state.current.attempt, errors.WrongAttempt)
    leader = state.current.leader
    assert leader is not None
    fields = (call.round, call.attempt, call.result, call.evidence)
    _require(_signed(state, leader, call.signature, "Proposal", *fields), errors.NotLeader)
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
    _require(round == state.round, errors.WrongRound)
    _require(state.phase is phase, errors.WrongPhase)
    _require(now < state.deadline, errors.DeadlinePassed)


def _batch(fold: _Fold, call: msg.Batch, now: int) -> list[int]:
    handle, phase, closes = _HANDLERS[type(call)]
    _in_time(fold.state, call.round, phase, now)
    p = fold.state.parameters
    if isinstance(call, msg.Ballots):
        _require(p.evaluate, errors.WrongPhase)
    if isinstance(call, msg.Precommits):
        _require(p.precommit, errors.WrongPhase)
    if isinstance(call, msg.Votes):
        _require(call.attempt == fold.state.current.attempt, errors.WrongAttempt)
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


def _commit(state: State, item: msg.Commit) -> ev.Event:
    _require(item.id in state.current.roster, errors.NotMember)
    fields = (state.round, item.base, item.digest, item.meta)
    _require(_signed(state, item.id, item.signature, "Commit", *fields), errors.BadSignature)
    _require(item.id not in state.current.commits, errors.AlreadySent)
    _require(item.base <= state.version, errors.FutureBase)
    _require(state.version - item.base <= state.parameters.max_staleness, errors.StaleBase)
    return ev.Committed(state.round, item.id, item.base, item.digest, item.meta)


def _reveal(state: State, item: msg.Reveal) -> ev.Event:
    _require(item.id in state.current.commits, errors.NotCommitted)
    _require(item.id not in state.current.revealed, errors.AlreadySent)
    member = state.members[item.id]
    steps = state.round - member.onion_round
    _require(1 <= steps <= MAX_ONION_STEPS, errors.WrongPreimage)
    _require(election.hash_forward(item.preimage, steps) == member.onion, errors.WrongPreimage)
    return ev.Revealed(state.round, item.id, item.preimage)


def _availability(state: State, item: msg.Availability) -> ev.Event:
    _require(item.id in state.current.verifiers, errors.NotVerifier)
    words = [(item.held >> (256 * k)) & (2**256 - 1) for k in range(4)]
    _require(
        _signed(state, item.id, item.signature, "Availability", state.round, words), errors.BadSignature
    )
    _require(item.id not in state.current.held, errors.AlreadySent)
    return ev.Held(state.round, item.id, item.held)


def _ballot(state: State, item: msg.Ballot) -> ev.Event:
    _require(item.id in state.current.revealed, errors.NotCommitted)
    _require(
        _signed(state, item.id, item.signature, "Ballot", state.round, item.commitment), errors.BadSignature
    )
    _require(item.id not in state.current.ballots, errors.AlreadySent)
    return ev.Balloted(state.round, item.id, item.commitment)


def _opening(state: State, item: msg.Opening) -> ev.Event:
    now = state.current
    _require(item.id in now.ballots, errors.WrongBallot)
    _require(item.id not in now.opened, errors.AlreadySent)
    _require(item.stop in (False, True), errors.WrongBallot)
    commitment = selection.ballot_commitment(
        state.domain, state.round, item.id, item.ranking, item.stop, item.values, item.salt
    )
    _require(commitment == now.ballots[item.id], errors.WrongBallot)
    selection.unpack_ranking(item.ranking, min(state.parameters.targets, len(now.places) - 1))
    at = now.places[item.place] if item.place < len(now.places) else None
    _require(at == item.id, errors.WrongPlace)
    return ev.BallotOpened(state.round, item.id, item.ranking, item.stop, item.values)


def _precommit(state: State, item: msg.Precommit) -> ev.Event:
    _require(item.id in state.current.verifiers, errors.NotVerifier)
    _require(
        _signed(state, item.id, item.signature, "Precommit", state.round, item.commitment),
        errors.BadSignature,
    )
    _require(item.id not in state.current.precommits, errors.AlreadySent)
    return ev.Precommitted(state.round, item.id, item.commitment)


def _vote(state: State, item: msg.Vote) -> ev.Event:
    now = state.current
    _require(item.id in now.verifiers, errors.NotVerifier)
    _require(item.approve in (False, True), errors.BadSignature)
    fields = (state.round, now.attempt, now.result, item.approve)
    _require(_signed(state, item.id, item.signature, "Vote", *fields), errors.BadSignature)
    _require(item.id not in now.votes, errors.AlreadySent)
    if item.approve and state.parameters.precommit:
        own = selection.precommitment(state.domain, state.round, item.id, now.result, item.salt)
        _require(own == now.precommits.get(item.id), errors.WrongPrecommit)
    return ev.Voted(state.round, now.attempt, item.id, item.approve, item.salt)


def _opening_vote(state: State, item: msg.OpeningVote) -> ev.Event:
    _require(item.id in state.current.available, errors.NotCommitted)
    _require(
        _signed(state, item.id, item.signature, "Opening", state.round, item.digest), errors.BadSignature
    )
    _require(item.id not in state.current.open_votes, errors.AlreadySent)
    return ev.OpenVoted(state.round, item.id, item.digest)


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
    msg.Commits: (_commit, Phase.COMMIT, _close_phase),
    msg.Reveals: (_reveal, Phase.BEACON, _close_phase),
    msg.Availabilities: (_availability, Phase.AVAILABLE, _close_phase),
    msg.Ballots: (_ballot, Phase.AVAILABLE, _close_phase),
    msg.Openings: (_opening, Phase.REVEAL, _close_nothing),
    msg.Precommits: (_precommit, Phase.AGGREGATE, _close_nothing),
    msg.Votes: (_vote, Phase.VERIFY, _close_votes),
    msg.OpeningVotes: (_opening_vote, Phase.OPEN, _close_opening),
}
"""Batch type -> how an item is decided, the phase it belongs to, what the batch may close."""


# records and evidence


def _record(fold: _Fold, call: msg.Record) -> None:
    state = fold.state
    fields = (call.round, call.kind, call.digest)
    _require(_signed(state, call.id, call.signature, "Record", *fields), errors.BadSignature)
    _require(call.round <= state.round, errors.WrongRound)
    _require((call.round, call.kind, call.id) not in state.recorded, errors.AlreadySent)
    fold.emit(ev.Recorded(call.round, call.kind, call.id, call.digest))


_SLOT_TYPES = {Slot.COMMIT: "Commit", Slot.PROPOSAL: "Proposal", Slot.VOTE: "Vote"}


def _accuse(fold: _Fold, call: msg.Accuse) -> None:
    state = fold.state
    _require(1 <= call.round <= state.round, errors.WrongRound)
    a, b = call.a, call.b
    same_slot = call.slot is Slot.COMMIT or a.attempt == b.attempt
    differ = (a.attempt, a.x, a.y) != (b.attempt, b.x, b.y)
    _require(same_slot and differ, errors.NotEquivocation)
    for claim in (a, b):
        last: bytes | int | bool = claim.y
        if call.slot is Slot.COMMIT:
            last = int.from_bytes(claim.y, "big")
        elif call.slot is Slot.VOTE:
            _require(int.from_bytes(claim.y, "big") <= 1, errors.NotEquivocation)
            last = claim.y[-1] == 1
        fields = (call.round, claim.attempt, claim.x, last)
        _require(
            _signed(state, call.id, claim.signature, _SLOT_TYPES[call.slot], *fields), errors.BadSignature
        )
    key = (int(call.slot), call.round, 0 if call.slot is Slot.COMMIT else a.attempt, call.id)
    _require(key not in state.accused, errors.AlreadySent)
    fold.state = replace(state, accused=state.accused | {key})
    _slash(fold, [call.id], Fault.EQUIVOCATION)


# events


def _member(state: State, id: int, **changes: Any) -> State:
    return replace(state, members={**state.members, id: replace(state.members[id], **changes)})


def _now(state: State, **changes: Any) -> State:
    return replace(state, current=replace(state.current, **changes))


def evolve(state: State, event: ev.Event) -> State:
    """Fold one event into the state."""
    current = state.current
    match event:
        case ev.Committed():
            root = encoding.hash_fields(
                ("bytes32", "uint256", "uint256", "bytes32", "uint256"),
                (current.set_root, event.id, event.base, event.digest, event.meta),
            )
            return _now(state, commits={**current.commits, event.id: event}, set_root=root)
        case ev.Revealed(round, id, preimage):
            state = _member(state, id, onion=preimage, onion_round=round)
            acc = current.acc ^ election.layer_hash(preimage, id)
            return _now(state, revealed=current.revealed | {id}, acc=acc)
        case ev.Held(_, id, held):
            return _now(state, held={**current.held, id: held})
        case ev.Balloted(_, id, commitment):
            return _now(state, ballots={**current.ballots, id: commitment})
        case ev.BallotOpened():
            stops = current.stops + event.stop
            return _now(state, opened={**current.opened, event.id: event}, stops=stops)
        case ev.Precommitted(_, id, commitment):
            return _now(state, precommits={**current.precommits, id: commitment})
        case ev.Voted(_, _, id, approve):
            return _now(state, votes={**current.votes, id: approve})
        case ev.OpenVoted(_, id, digest):
            return _now(state, open_votes={**current.open_votes, id: digest})
        case ev.Entered(round, phase, deadline):
            return _entered(state, round, Phase(phase), deadline)
        case ev.BeaconSet(_, beacon):
            places = election.permute(beacon, current.revealed)
            return _now(replace(state, beacon=beacon), places=places)
        case ev.CommitteeDrawn(round, committee):
            ids = from_bitmap(committee)
            state = replace(state, committee=ids, committee_round=round)
            return _now(state, verifiers=ids & current.roster)
        case ev.Frozen(_, available):
            return _now(state, available=from_bitmap(available))
        case ev.Selected(_, selected):
            return _now(state, selected=from_bitmap(selected))
        case ev.Elected(_, attempt, id):
            chosen = election.choose_leader(state, attempt)
            tried = chosen[1] if chosen else current.tried | {id}
            zero = bytes(32)
            return _now(
                state, attempt=attempt, leader=id, tried=tried, result=zero, evidence=zero, votes={}
            )
        case ev.Proposed(_, _, _, result, evidence):
            return _now(state, result=result, evidence=evidence)
        case ev.Slashed(_, id, why):
            r = state.members[id].reputation
            state = _member(state, id, reputation=r - r * state.parameters.penalty // 1000)
            if why == Fault.EQUIVOCATION:
                return state
            return _now(state, slashed=current.slashed | {id})
        case ev.Ended():
            return _ended(state, event)
        case ev.Recorded(round, kind, id):
            return replace(state, recorded=state.recorded | {(round, kind, id)})
        case _:
            return _membership(state, event)


def _membership(
    state: State, event: ev.Invited | ev.Joined | ev.StandingChanged | ev.Carried
) -> State:
    match event:
        case ev.Invited(who):
            return replace(state, invited=state.invited | {who}, excluded=state.excluded - {who})
        case ev.Joined(who, id, key, onion, resources, role):
            old = state.members.get(id)
            member = Member(
                id, who, key, onion, state.round, resources, Role(role), member=role == Role.MEMBER
            )
            if old is not None:
                member = replace(member, reputation=old.reputation, absent=old.absent)
            return replace(
                state,
                members={**state.members, id: member},
                ids={**state.ids, who: id},
                invited=state.invited - {who},
                nonces={**state.nonces, who: state.nonces.get(who, 0) + 1},
            )
        case ev.StandingChanged(id, standing):
            return _standing(state, id, Standing(standing))
        case ev.Carried(nonce, kind):
            voids = 0 if kind == Motion.RESUME else state.voids
            return replace(state, motions=nonce + 1, voids=voids)


def _standing(state: State, id: int, standing: Standing) -> State:
    who = state.members[id].address
    if standing is Standing.EXCLUDED:
        state = replace(state, excluded=state.excluded | {who}, invited=state.invited - {who})
        return _member(state, id, member=False, active=False)
    state = replace(state, nonces={**state.nonces, who: state.nonces.get(who, 0) + 1})
    if standing is Standing.LEFT:
        return _member(state, id, member=False, active=False)
    return _member(state, id, active=standing is Standing.BACK, absent=0)


def _entered(state: State, round: int, phase: Phase, deadline: int) -> State:
    if round != state.round:
        state = _opened(replace(state, round=round))
    elif phase is Phase.COMMIT:
        state = _now(state, extensions=state.current.extensions + 1)
    return replace(state, phase=phase, deadline=deadline)


def _opened(state: State) -> State:
    roster = frozenset(active_members(state))
    match state.parameters.governance:
        case Governance.PEERS | Governance.SERVER:
            verifiers = roster
        case Governance.COMMITTEE:
            verifiers = frozenset(i for i in roster if state.members[i].address in state.seats)
        case Governance.HYBRID:
            verifiers = state.committee & roster
    snapshot: Mapping[int, int] = {i: m.reputation for i, m in state.members.items()}
    readers = {i: m.key for i, m in state.members.items() if i in roster or m.role is Role.SERVER}
    current = RoundState(roster=roster, readers=readers, verifiers=verifiers, snapshot=snapshot)
    return replace(state, current=current)


def _ended(state: State, event: ev.Ended) -> State:
    current = state.current
    final = event.outcome == Outcome.FINAL
    members = dict(state.members)
    for id in current.roster:
        m = members[id]
        reputation = m.reputation
        if final:
            gain = (
                GAIN_SELECTED * (id in current.selected)
                + GAIN_VOTED * current.votes.get(id, False)
                + GAIN_REVEALED * (id in current.revealed)
                + GAIN_LED * (id == current.leader)
            )
            reputation = reputation - reputation // 8 + gain // 8
        present = id in current.commits or id in current.held or id in current.votes
        absent = 0 if present else min(m.absent + 1, 65_535)
        members[id] = replace(m, reputation=reputation, absent=absent)
    state = replace(state, members=members, version=event.version, model=event.model)
    if not final:
        return replace(state, voids=state.voids + 1)
    return replace(
        state,
        voids=0,
        models=(*state.models, event.model),
        model_evidence=current.evidence,
        model_author=current.leader,
        model_readers=current.readers,
    )
