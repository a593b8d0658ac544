"""What a node should do next for the enclaves of scheme `tee`; a part of `protocol.plan`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hansa.protocol import attested, secagg
from hansa.protocol.opening_plan import PATIENCE
from hansa.protocol.state import State, quorum, record_of
from hansa.records import Phase, RecordKind, Terms


@dataclass(frozen=True, slots=True)
class Attest:
    """Have the own enclave quoted over the ledger's nonce, and record what was verified."""


@dataclass(frozen=True, slots=True)
class Vouch:
    """Verify the attestations of these hosts, and record those that are good."""

    hosts: frozenset[int]


@dataclass(frozen=True, slots=True)
class NameRosters:
    """Sign each roster for enclaves that know the one before, and leave the signatures in the store."""


@dataclass(frozen=True, slots=True)
class NameSet:
    """Sign the manifest of the running round, and leave the signature in the store; look once in this quarter of the
    phase whether it lies there."""

    quarter: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """Have the own enclave open the sums of the round, and record what it gave."""


Step = Attest | Vouch | NameRosters | NameSet | Deliver


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one node knows beyond the chain.

    `runs`: it can run an enclave. `attested`: digests of the attestations of the one that runs. `refused`: digests of
    attestations that are bad for good. `trusted`: it has verified every candidate of the round; `fresh`: and none of
    their collateral has expired. `ending`: that of the own enclave is soon to expire. `named`: newest roster
    to whose signature it has seen in this round. `signed`: phase and quarter in which it last saw to that of the
    manifest. `signers`: how many members signed that, as far as it looked.
    """

    id: int
    terms: Terms
    runs: bool = False
    attested: frozenset[bytes] = frozenset()
    refused: frozenset[bytes] = frozenset()
    trusted: bool = False
    fresh: bool = True
    ending: bool = False
    named: int = 0
    signed: tuple[Phase, int] | None = None
    signers: int = 0


def steps(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    """Steps that are possible now; `done`: how much of the phase is over."""
    if state.phase in (Phase.STOPPED, Phase.PAUSED):
        return
    chain, me = attested.rosters(state), know.id
    if len(chain) > 1 + know.named:
        yield NameRosters()
    if know.runs and attested.due(know.terms, state, me, know.attested, ending=know.ending):
        yield Attest()
    waiting = attested.unvouched(state, me).items()
    good = frozenset(host for host, digest in waiting if digest not in know.refused)
    if good:
        yield Vouch(good)
    # Where sums are opened the set is that of the accepted opening.
    naming = (Phase.OPEN,) if state.parameters.opens else (Phase.AGGREGATE, Phase.VERIFY)
    frozen, quarter = state.phase in naming, int(4 * done)
    if frozen and know.signed != (state.phase, quarter) and know.trusted and me in state.current.roster:
        yield NameSet(quarter)
    if state.parameters.opens and state.phase is Phase.OPEN and _delivers(state, know, done):
        yield Deliver()


def _delivers(state: State, know: Knowledge, done: float) -> bool:
    """Whether it is this host's turn: the first server's at once, that of the others after a part of the phase."""
    found = secagg.parties(know.terms, state)
    if record_of(state, state.round, RecordKind.DELIVERY, know.id) is not None or not leads(state, know):
        return False
    given = all(secagg.halves(state, state.round, group) for group in (found.centres, found.servers))
    return given and (know.id == found.servers[0] or done >= PATIENCE)


def ready(state: State, know: Knowledge) -> bool:
    """Whether a member can train in this round: there are candidates, and it has verified each of them."""
    return know.trusted and know.fresh and bool(attested.candidates(know.terms, state))


def leads(state: State, know: Knowledge) -> bool:
    """Whether the own enclave can make the result of this round: a candidate, with a manifest that a quorum signed."""
    own = attested.candidates(know.terms, state).get(know.id)
    return own in know.attested and know.signers >= quorum(len(state.current.roster))
