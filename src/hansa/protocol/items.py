"""How each item of a batch is decided: pure functions of the state, giving an event or raising `Refused`."""

from __future__ import annotations

from typing import Any

from hansa import encoding, errors
from hansa.crypto.signatures import recover
from hansa.protocol import election, selection
from hansa.protocol import events as ev
from hansa.protocol import messages as msg
from hansa.protocol.state import State

MAX_ONION_STEPS = 4096


def require(holds: bool, refusal: type[errors.Refused]) -> None:
    """Raise a refusal unless `holds`."""
    if not holds:
        raise refusal


def signed(state: State, id: int, signature: bytes, name: str, *values: Any) -> bool:
    """Whether the member of this id signed the message `name` with these fields."""
    member = state.members.get(id)
    if member is None:
        return False
    return recover(encoding.message_hash(state.domain, name, *values), signature) == member.address


def commit(state: State, item: msg.Commit) -> ev.Event:
    """A commitment, by somebody on the roster, on a base that is neither unknown nor too old."""
    require(item.id in state.current.roster, errors.NotMember)
    fields = (state.round, item.base, item.digest, item.meta)
    require(signed(state, item.id, item.signature, "Commit", *fields), errors.BadSignature)
    require(item.id not in state.current.commits, errors.AlreadySent)
    require(item.base <= state.version, errors.FutureBase)
    require(state.version - item.base <= state.parameters.max_staleness, errors.StaleBase)
    return ev.Committed(state.round, item.id, item.base, item.digest, item.meta)


def reveal(state: State, item: msg.Reveal) -> ev.Event:
    """A beacon layer of a committer, hashed forward over the rounds that it missed."""
    require(item.id in state.current.commits, errors.NotCommitted)
    require(item.id not in state.current.revealed, errors.AlreadySent)
    member = state.members[item.id]
    steps = state.round - member.onion_round
    require(1 <= steps <= MAX_ONION_STEPS, errors.WrongPreimage)
    require(election.hash_forward(item.preimage, steps) == member.onion, errors.WrongPreimage)
    return ev.Revealed(state.round, item.id, item.preimage)


def availability(state: State, item: msg.Availability) -> ev.Event:
    """A verifier's bitmap."""
    require(item.id in state.current.verifiers, errors.NotVerifier)
    words = [(item.held >> (256 * k)) & (2**256 - 1) for k in range(4)]
    require(signed(state, item.id, item.signature, "Availability", state.round, words), errors.BadSignature)
    require(item.id not in state.current.held, errors.AlreadySent)
    return ev.Held(state.round, item.id, item.held)


def ballot(state: State, item: msg.Ballot) -> ev.Event:
    """A ranking's commitment, by an evaluator."""
    require(item.id in state.current.revealed, errors.NotCommitted)
    require(
        signed(state, item.id, item.signature, "Ballot", state.round, item.commitment), errors.BadSignature
    )
    require(item.id not in state.current.ballots, errors.AlreadySent)
    return ev.Balloted(state.round, item.id, item.commitment)


def opening(state: State, item: msg.Opening) -> ev.Event:
    """An opened ballot that is the committed one, well-formed, and stands at its place of the ring."""
    now = state.current
    require(item.id in now.ballots, errors.WrongBallot)
    require(item.id not in now.opened, errors.AlreadySent)
    require(item.stop in (False, True), errors.WrongBallot)
    commitment = selection.ballot_commitment(
        state.domain, state.round, item.id, item.ranking, item.stop, item.values, item.salt
    )
    require(commitment == now.ballots[item.id], errors.WrongBallot)
    selection.unpack_ranking(item.ranking, min(state.parameters.targets, len(now.places) - 1))
    at = now.places[item.place] if item.place < len(now.places) else None
    require(at == item.id, errors.WrongPlace)
    return ev.BallotOpened(state.round, item.id, item.ranking, item.stop, item.values)


def precommit(state: State, item: msg.Precommit) -> ev.Event:
    """A verifier's digest of its own result."""
    require(item.id in state.current.verifiers, errors.NotVerifier)
    require(
        signed(state, item.id, item.signature, "Precommit", state.round, item.commitment),
        errors.BadSignature,
    )
    require(item.id not in state.current.precommits, errors.AlreadySent)
    return ev.Precommitted(state.round, item.id, item.commitment)


def vote(state: State, item: msg.Vote) -> ev.Event:
    """A verifier's judgement; an approval must open its precommitment."""
    now = state.current
    require(item.id in now.verifiers, errors.NotVerifier)
    require(item.approve in (False, True), errors.BadSignature)
    fields = (state.round, now.attempt, now.result, item.approve)
    require(signed(state, item.id, item.signature, "Vote", *fields), errors.BadSignature)
    require(item.id not in now.votes, errors.AlreadySent)
    if item.approve and state.parameters.precommit:
        own = selection.precommitment(state.domain, state.round, item.id, now.result, item.salt)
        require(own == now.precommits.get(item.id), errors.WrongPrecommit)
    return ev.Voted(state.round, now.attempt, item.id, item.approve, item.salt)


def opening_vote(state: State, item: msg.OpeningVote) -> ev.Event:
    """A contributor's digest of the opened sum."""
    require(item.id in state.current.available, errors.NotCommitted)
    require(signed(state, item.id, item.signature, "Opening", state.round, item.digest), errors.BadSignature)
    require(item.id not in state.current.open_votes, errors.AlreadySent)
    return ev.OpenVoted(state.round, item.id, item.digest)
