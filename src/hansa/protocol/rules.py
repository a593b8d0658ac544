"""The executable specification of `Federation.vy`.

`decide(state, call, now, sender)` gives the events that a call produces and, for batches, the code of
each item (0 = accepted); it raises `Refused` where the contract reverts. `evolve(state, event)` folds
one event and never fails. The contract is the authority on a chain; stateful tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hansa import errors
from hansa.protocol import events as ev
from hansa.protocol import items, membership, phases, selection
from hansa.protocol import messages as msg
from hansa.protocol.fold import evolve
from hansa.protocol.items import require, signed
from hansa.protocol.phases import Decision
from hansa.protocol.state import State, active_members, record_of, to_bitmap
from hansa.records import Fault, Governance, Parameters, Phase, Slot


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


def decide(state: State, call: msg.Call, now: int, sender: bytes = b"") -> tuple[list[ev.Event], list[int]]:
    """Events and item codes of a call made at time `now` by transaction sender `sender`."""
    decision = Decision(state)
    codes: list[int] = []
    match call:
        case msg.Invite():
            membership.invite(decision, call, sender)
        case msg.Join():
            membership.join(decision, call)
        case msg.Status():
            membership.status(decision, call)
        case msg.Move():
            membership.move(decision, call, now)
        case msg.Start():
            require(sender == state.owner, errors.NotOwner)
            require(state.phase is Phase.IDLE, errors.WrongPhase)
            require(len(active_members(state)) >= phases.least(state), errors.TooFewMembers)
            phases.open_round(decision, now)
        case msg.Select():
            _select(decision, call, now)
        case msg.Propose():
            _propose(decision, call, now)
        case msg.Record():
            _record(decision, call)
        case msg.Accuse():
            _accuse(decision, call)
        case msg.Advance():
            require(call.round == state.round, errors.WrongRound)
            phases.advance(decision, now, late=now >= state.deadline)
        case _:
            codes = _batch(decision, call, now)
    return decision.events, codes


def _batch(decision: Decision, call: msg.Batch, now: int) -> list[int]:
    handle, phase, closes = _HANDLERS[type(call)]
    phases.in_time(decision.state, call.round, phase, now)
    p = decision.state.parameters
    if isinstance(call, msg.Ballots):
        require(p.evaluate, errors.WrongPhase)
    if isinstance(call, msg.Precommits):
        require(p.precommit, errors.WrongPhase)
    if isinstance(call, msg.Votes):
        require(call.attempt == decision.state.current.attempt, errors.WrongAttempt)
    codes = []
    for item in call.items:
        try:
            decision.emit(handle(decision.state, item))
            codes.append(0)
        except errors.Refused as refusal:
            codes.append(refusal.code)
    if not any(code == 0 for code in codes):
        raise errors.REFUSALS[codes[0]] if codes else errors.AlreadySent
    closes(decision, now)
    return codes


_HANDLERS: dict[type, tuple[Callable[[State, Any], ev.Event], Phase, Callable[[Decision, int], None]]] = {
    msg.Commits: (items.commit, Phase.COMMIT, phases.close_phase),
    msg.Reveals: (items.reveal, Phase.BEACON, phases.close_phase),
    msg.Availabilities: (items.availability, Phase.AVAILABLE, phases.close_phase),
    msg.Ballots: (items.ballot, Phase.AVAILABLE, phases.close_phase),
    msg.Openings: (items.opening, Phase.REVEAL, phases.close_nothing),
    msg.Precommits: (items.precommit, Phase.AGGREGATE, phases.close_nothing),
    msg.Votes: (items.vote, Phase.VERIFY, phases.close_votes),
    msg.OpeningVotes: (items.opening_vote, Phase.OPEN, phases.close_opening),
}
"""Batch type -> how an item is decided, the phase it belongs to, what the batch may close."""


def _select(decision: Decision, call: msg.Select, now: int) -> None:
    state = decision.state
    require(call.round == state.round, errors.WrongRound)
    require(state.phase is Phase.REVEAL, errors.WrongPhase)
    everyone = len(state.current.opened) == len(state.current.ballots)
    require(everyone or now >= state.deadline, errors.TooEarly)
    chosen = selection.select(state, call.threshold, call.cut)
    phases.slash(decision, set(state.current.ballots) - set(state.current.opened), Fault.WITHHELD_BALLOT)
    decision.emit(ev.Selected(state.round, to_bitmap(chosen)))
    phases.elect(decision, 0, now)


def _propose(decision: Decision, call: msg.Propose, now: int) -> None:
    state = decision.state
    phases.in_time(state, call.round, Phase.AGGREGATE, now)
    require(call.attempt == state.current.attempt, errors.WrongAttempt)
    require(phases.bound(state), errors.TooEarly)
    leader = state.current.leader
    assert leader is not None
    fields = (call.round, call.attempt, call.result, call.evidence)
    require(signed(state, leader, call.signature, "Proposal", *fields), errors.NotLeader)
    decision.emit(ev.Proposed(call.round, call.attempt, leader, call.result, call.evidence))
    phases.enter(decision, Phase.VERIFY, now)


def _record(decision: Decision, call: msg.Record) -> None:
    state = decision.state
    fields = (call.round, call.kind, call.digest)
    require(signed(state, call.id, call.signature, "Record", *fields), errors.BadSignature)
    require(call.round <= state.round, errors.WrongRound)
    require(record_of(state, call.round, call.kind, call.id) is None, errors.AlreadySent)
    decision.emit(ev.Recorded(call.round, call.kind, call.id, call.digest))


_SLOT_TYPES = {Slot.COMMIT: "Commit", Slot.PROPOSAL: "Proposal", Slot.VOTE: "Vote"}


def _accuse(decision: Decision, call: msg.Accuse) -> None:
    state = decision.state
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
    attempt = 0 if call.slot == Slot.COMMIT else a.attempt
    require((call.slot, call.round, attempt, call.id) not in state.accused, errors.AlreadySent)
    decision.emit(ev.Accused(call.round, call.id, int(call.slot), attempt))
    phases.slash(decision, [call.id], Fault.EQUIVOCATION)


__all__ = ["decide", "evolve", "found"]
