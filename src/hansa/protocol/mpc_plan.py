"""What a node should do next under scheme `mpc`; a part of `protocol.plan`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hansa.protocol import mpc
from hansa.protocol.state import State, record_of
from hansa.records import Phase, RecordKind, Terms


@dataclass(frozen=True, slots=True)
class Certify:
    """Publish and record the certificate of the own links. A party's step, as all but the last."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Open the packages that are sealed to this party, and record whose shares are good."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Train with the other parties, or see how far it is; deliver when it is over."""


@dataclass(frozen=True, slots=True)
class Reconstruct:
    """Put the parties' shares together: an owner's step."""


Step = Certify | Accept | Compute | Reconstruct


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one node knows beyond the chain.

    `certificate`: digest of the own one, None for an owner.
    `decided`: it knows what to vote for the model.
    """

    id: int
    terms: Terms
    certificate: bytes | None = None
    decided: bool = False


def steps(state: State, know: Knowledge) -> Iterator[Step]:
    """Steps that are possible now."""
    if know.id in mpc.parties(state):
        yield from _computing(state, know)
    elif state.phase is Phase.OPEN and know.id in state.current.available and not know.decided:
        yield Reconstruct()


def _computing(state: State, know: Knowledge) -> Iterator[Step]:
    me = know.id
    stale = mpc.certificate(state, me) != know.certificate
    free = record_of(state, state.round, RecordKind.KEY, me) is None
    if stale and free and state.phase is not Phase.STOPPED:
        yield Certify()
    if state.phase is not Phase.AGGREGATE:
        return
    if record_of(state, state.round, RecordKind.INPUT, me) is None:
        yield Accept()
    elif (
        mpc.everybody(state, RecordKind.INPUT)
        and record_of(state, state.round, RecordKind.OUTPUT, me) is None
    ):
        yield Compute()


def ready(state: State, know: Knowledge) -> bool:
    """Whether an owner can share in this round: all parties of the terms are there."""
    return mpc.complete(know.terms, state)


def settled(state: State) -> bool:
    """Whether all parties have delivered, so that the leader can propose."""
    return mpc.everybody(state, RecordKind.OUTPUT)
