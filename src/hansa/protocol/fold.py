"""How events change the state. No event fails: what may not happen was refused before it became one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hansa import encoding
from hansa.protocol import cohorts, election
from hansa.protocol import events as ev
from hansa.protocol.state import Member, RoundState, State, active_members, from_bitmap, replaced_id, seats_of
from hansa.records import SUBJECTS, Fault, Governance, Motion, Outcome, Phase, RecordKind, Role, Standing

GAIN_SELECTED, GAIN_VOTED, GAIN_REVEALED, GAIN_LED = 400, 300, 200, 100
_TIMELY = frozenset({RecordKind.KEY, RecordKind.CERTIFICATE, RecordKind.ATTESTATION, RecordKind.VOUCHER})
"""Records that count by the round that they name; one that names a past round would change what was agreed."""


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
            return _now(state, attempt=attempt, leader=id, tried=tried, votes={})
        case ev.Proposed(_, _, _, result, evidence):
            return _now(state, result=result, evidence=evidence)
        case ev.Slashed(_, id, why):
            r = state.members[id].reputation
            state = _member(state, id, reputation=r - r * state.parameters.penalty // 1000)
            if why == Fault.EQUIVOCATION:
                return state
            return _now(state, slashed=current.slashed | {id})
        case ev.Accused():
            key = (event.slot, event.round, event.attempt, event.id)
            return replace(state, accused=state.accused | {key})
        case ev.Ended():
            return _ended(state, event)
        case ev.Recorded(round, kind, id, digest):
            before = state.recorded.get((kind, id), ())
            late = {(kind, id, round)} if round < state.round and kind % SUBJECTS in _TIMELY else set()
            recorded = {**state.recorded, (kind, id): (*before, (round, digest))}
            return replace(state, recorded=recorded, belated=state.belated | late)
        case _:
            return _membership(state, event)


def _membership(state: State, event: ev.Invited | ev.Joined | ev.StandingChanged | ev.Carried) -> State:
    match event:
        case ev.Invited(who):
            return replace(state, invited=state.invited | {who}, excluded=state.excluded - {who})
        case ev.Joined(who, id, key, onion, resources, role):
            old = state.members.get(id)
            member = Member(
                id, who, key, onion, state.round, resources, Role(role), member=role == Role.MEMBER
            )
            if old is None:
                member = replace(member, seated=who in state.seats)
            else:
                member = replace(member, reputation=old.reputation, absent=old.absent, seated=old.seated)
            return replace(
                state,
                members={**state.members, id: member},
                ids={**state.ids, who: id},
                invited=state.invited - {who},
                nonces={**state.nonces, who: state.nonces.get(who, 0) + 1},
            )
        case ev.StandingChanged(id, standing):
            return _standing(state, id, Standing(standing))
        case ev.Carried(nonce, kind, who, reason):
            voids = 0 if kind == Motion.RESUME else state.voids
            state = replace(state, motions=nonce + 1, voids=voids)
            if kind == Motion.EXCLUDE:
                return _barred(state, who)
            return _replaced(state, replaced_id(reason), who) if kind == Motion.REPLACE else state


def _barred(state: State, who: bytes) -> State:
    return replace(state, excluded=state.excluded | {who}, invited=state.invited - {who})


def _replaced(state: State, id: int, who: bytes) -> State:
    """The id belongs to another address; the old one is nobody's."""
    old = state.members[id].address
    ids = {address: i for address, i in state.ids.items() if address != old}
    state = replace(_barred(state, old), ids={**ids, who: id}, seats=state.seats - {old})
    return _member(state, id, address=who)


def _standing(state: State, id: int, standing: Standing) -> State:
    if standing is Standing.EXCLUDED:
        return _member(state, id, member=False, active=False)
    who = state.members[id].address
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
            verifiers = frozenset(i for i in roster if state.members[i].seated)
        case Governance.HYBRID:
            verifiers = state.committee & roster
    snapshot: Mapping[int, int] = {i: m.reputation for i, m in state.members.items()}
    reads = (m for m in state.members.values() if m.id in roster or (m.role is Role.SERVER and m.active))
    readers = {m.id: m.key for m in reads}
    last, seats, rosters = state.current, seats_of(state, roster), state.rosters
    return replace(
        state,
        rosters=rosters if rosters and rosters[-1][1] == seats else (*rosters, (state.round, seats)),
        current=RoundState(
            seed=state.beacon,
            roster=roster,
            readers=readers,
            verifiers=verifiers,
            snapshot=snapshot,
            set_root=last.set_root,
            result=last.result,
            evidence=last.evidence,
        ),
    )


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
    state = replace(state, members=members, suspicion=cohorts.suspicions(state))
    state = replace(state, version=event.version, model=event.model)
    if not final:
        burned = (event.round,) if event.outcome == Outcome.BURNED else ()
        return replace(state, voids=state.voids + 1, burned=state.burned + burned)
    took_part = {id: (state.contributed.get(id, (0, 0))[0] + 1, event.round) for id in current.selected}
    return replace(
        state,
        voids=0,
        model_round=event.round,
        model_set=current.selected,
        contributed={**state.contributed, **took_part},
        models=(*state.models, event.model),
        model_evidence=current.evidence,
        model_author=current.leader,
        model_readers=current.readers,
    )
