"""Who may invite, join, leave, go away, come back and be voted out; what a majority may decide."""

from __future__ import annotations

from hansa import encoding, errors
from hansa.crypto.signatures import recover
from hansa.protocol import events as ev
from hansa.protocol import messages as msg
from hansa.protocol.items import require, signed
from hansa.protocol.phases import RUNNING, Decision, open_round
from hansa.protocol.state import MAX_RESOURCES, State, active_members, quorum, replaced_id
from hansa.records import MAX_MEMBERS, Motion, Phase, Role, Standing


def invite(decision: Decision, call: msg.Invite, sender: bytes) -> None:
    """The owner invites, until members vote on it or voted the owner out. Raises `Refused`."""
    state = decision.state
    require(sender == state.owner and state.owner not in state.excluded, errors.NotOwner)
    require(not state.parameters.by_vote or state.phase is Phase.IDLE, errors.NotOwner)
    require(call.who not in state.excluded, errors.NotInvited)
    decision.emit(ev.Invited(call.who))


def join(decision: Decision, call: msg.Join) -> None:
    """Enter on an invitation, or change one's keys. Raises `Refused`."""
    state = decision.state
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
    decision.emit(
        ev.Joined(call.who, id, call.key, call.onion, min(call.resources, MAX_RESOURCES), int(call.role))
    )


def status(decision: Decision, call: msg.Status) -> None:
    """Leave, go away or come back. Raises `Refused`."""
    state = decision.state
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
    decision.emit(ev.StandingChanged(call.id, int(call.standing)))


def feasible(state: State, kind: Motion, who: bytes, reason: bytes) -> None:
    """Whether a motion can take effect as things stand, if a quorum signs it. Raises `Refused`."""
    match kind:
        case Motion.INVITE | Motion.EXCLUDE:
            possible = True
        case Motion.REPLACE:
            require(replaced_id(reason) in state.members and who not in state.ids, errors.NotMember)
            possible = True
        case Motion.PAUSE:
            possible = state.phase in RUNNING
        case Motion.RESUME:
            possible = state.phase is Phase.PAUSED
        case Motion.STOP:
            possible = state.phase is not Phase.STOPPED
        case _:
            possible = False
    require(possible, errors.WrongPhase)


def move(decision: Decision, call: msg.Move, now: int) -> None:
    """What a quorum of members signed. Raises `Refused`."""
    state = decision.state
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
    feasible(state, call.kind, call.who, call.reason)
    decision.emit(ev.Carried(state.motions, int(call.kind), call.who, call.reason))
    match call.kind:
        case Motion.INVITE:
            decision.emit(ev.Invited(call.who))
        case Motion.EXCLUDE:
            if call.who in state.ids:
                decision.emit(ev.StandingChanged(state.ids[call.who], int(Standing.EXCLUDED)))
        case Motion.REPLACE:
            decision.emit(ev.StandingChanged(replaced_id(call.reason), int(Standing.EXCLUDED)))
            decision.emit(ev.Invited(call.who))
        case Motion.PAUSE:
            decision.emit(ev.Entered(state.round, Phase.PAUSED, 0))
        case Motion.RESUME:
            open_round(decision, now)
        case Motion.STOP:
            decision.emit(ev.Entered(state.round, Phase.STOPPED, 0))
