"""Scheme `mpc` on the ledger: who computes, what owners shared, what parties hold, and what was trained.

Before the start each computing party records the certificate of its links (KEY). In the one round of such a job an
owner's commitment is the digest of its `Offer`: what it shares, as a digest of each party's share, and where the
sealed packages lie. When the set is frozen each party opens the packages that are sealed to it and records whose shares
are good (INPUT, an `Acceptance`); what all of them accept is trained on. When training is over each party seals its
shares of the model to those owners and records what it holds (OUTPUT, a `Delivery`). Parties that hold the same
component of a share must name the same digest for it. The leader, a party too, proposes the `Settlement`, which anybody
can make again out of the records; owners verify it, reconstruct the model, and vote its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

from hansa import encoding, errors
from hansa.protocol import typed
from hansa.protocol.state import State, record_of
from hansa.protocol.timing import unpack_meta
from hansa.protocol.typed import Below, Bytes32, Count, Id
from hansa.records import Mpc, RecordKind, Role, Terms

LIMIT = 4 * 1024 * 1024
"""Bytes of an offer, an acceptance, a delivery or a settlement."""

Extent = Annotated[int, Below(2**31)]


@dataclass(frozen=True, slots=True)
class Part:
    """One array that an owner shares: its name, shape and type, and the digest of each party's share, by rank."""

    name: str
    shape: tuple[Extent, ...]
    dtype: str
    shares: tuple[Bytes32, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What an owner commits to. `ids`: digest of its rows' names, in order. `packages`: sealed shares, by rank."""

    federation: Bytes32
    round: Count
    owner: Id
    rows: Count
    ids: Bytes32
    parts: tuple[Part, ...]
    packages: tuple[Bytes32, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """An owner whose shares a party cannot use, and why."""

    owner: Id
    reason: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Whose shares a party has opened, checked, and found good."""

    federation: Bytes32
    round: Count
    party: Id
    owners: tuple[Id, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a boundary opened: its name in the terms, the rank that saw it (-1: everybody), and how often."""

    boundary: str
    to: int
    times: Count


@dataclass(frozen=True, slots=True)
class Cost:
    """What one layer took at this party, over all steps: seconds, bytes and messages sent."""

    layer: str
    seconds: float
    bytes: Count
    sends: Count


@dataclass(frozen=True, slots=True)
class Report:
    """What training was: steps and epochs done, attempts it took, reveals, costs by layer."""

    steps: Count
    epochs: Count
    attempts: Count
    reveals: tuple[Revealed, ...]
    costs: tuple[Cost, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a party holds of the model, and where each owner finds its share of it.

    `components`: pairs of a component's number and the digest of it over all parameters. `packages`: by owner, digest
    of the party's shares sealed to it. `report`: digest of a `Report`.
    """

    federation: Bytes32
    round: Count
    party: Id
    owners: tuple[Id, ...]
    components: tuple[tuple[Id, Bytes32], ...]
    packages: tuple[tuple[Id, Bytes32], ...]
    report: Bytes32


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the leader proposes: who was trained on, and the deliveries of all parties."""

    federation: Bytes32
    round: Count
    owners: tuple[Id, ...]
    acceptances: tuple[tuple[Id, Bytes32], ...]
    deliveries: tuple[tuple[Id, Bytes32], ...]


Fetch = Callable[[bytes], bytes]


def mpc_of(terms: Terms) -> Mpc:
    """[mpc] of terms whose scheme it is."""
    assert terms.mpc is not None
    return terms.mpc


def parties(state: State) -> tuple[int, ...]:
    """Ids of the computing parties that have joined, ascending: the place of each is its rank."""
    return tuple(sorted(i for i, m in state.members.items() if m.seated and m.role is Role.PARTY))


def complete(terms: Terms, state: State) -> bool:
    """Whether all computing parties of the terms have joined and recorded their certificates."""
    found = parties(state)
    return len(found) == len(terms.govern.seats) and all(certificate(state, p) is not None for p in found)


def certificate(state: State, party: int) -> bytes | None:
    """Digest of the certificate that counts for a party: the last that it recorded."""
    records = state.recorded.get((RecordKind.KEY, party), ())
    return max(records, key=lambda r: r[0])[1] if records else None


def job(state: State) -> bytes:
    """The name of the running round's training, to which every share is bound."""
    return encoding.digest(encoding.encode([state.domain, "mpc", state.round]))


def recorded(state: State, kind: RecordKind) -> dict[int, bytes]:
    """What parties recorded of this kind in the running round, by id."""
    found = {p: record_of(state, state.round, kind, p) for p in parties(state)}
    return {p: digest for p, digest in found.items() if digest is not None}


def everybody(state: State, kind: RecordKind) -> bool:
    """Whether all parties have recorded this kind in the running round."""
    return len(recorded(state, kind)) == len(parties(state))


def read_offer(data: bytes, state: State, member: int) -> Offer:
    """An owner's offer, held against its commitment and the parties. Raises `Untrusted`."""
    offer = typed.decode(Offer, data, limit=LIMIT)
    ranks = len(parties(state))
    commit = state.current.commits[member]
    names = [part.name for part in offer.parts]
    for wrong, what in (
        ((offer.federation, offer.round, offer.owner) != (state.domain, state.round, member), "is another's"),
        (offer.rows != unpack_meta(commit.meta)[2], "counts other rows than its commitment"),
        (offer.rows == 0, "has no rows"),
        (len(offer.packages) != ranks, f"is not for {ranks} parties"),
        (any(len(part.shares) != ranks for part in offer.parts), f"has not {ranks} shares of each array"),
        (names != sorted(set(names)), "names an array twice, or in another order"),
    ):
        if wrong:
            raise errors.Untrusted(f"the offer of member {member} {what}", digest=encoding.digest(data))
    return offer


def packages_of(data: bytes) -> tuple[bytes, ...]:
    """Digests of the packages that an offer names. Raises `Untrusted`."""
    return typed.decode(Offer, data, limit=LIMIT).packages


def read_acceptance(data: bytes, state: State, party: int) -> Acceptance:
    """What a party recorded about the owners' shares. Raises `Untrusted`."""
    found = typed.decode(Acceptance, data, limit=LIMIT)
    named = (*found.owners, *(r.owner for r in found.refused))
    whole = sorted(named) == sorted(state.current.available) and list(found.owners) == sorted(found.owners)
    mine = (found.federation, found.round, found.party) == (state.domain, state.round, party)
    if not (whole and mine):
        raise errors.Untrusted(
            f"what party {party} accepts is not about the owners of round {state.round}",
            digest=encoding.digest(data),
        )
    return found


def accepted(state: State, fetch: Fetch) -> tuple[int, ...]:
    """Owners whose shares every party accepts, ascending. Raises `Unavailable` while one has not said, `Untrusted`."""
    said = recorded(state, RecordKind.INPUT)
    missing = [p for p in parties(state) if p not in said]
    if missing:
        raise errors.Unavailable(f"party {missing[0]} has not said yet whose shares are good")
    found = [set(read_acceptance(fetch(digest), state, p).owners) for p, digest in said.items()]
    return tuple(sorted(set.intersection(*found)))


def enough(terms: Terms, owners: tuple[int, ...]) -> tuple[int, ...]:
    """These owners, if they are as many as the terms ask for. Raises `Untrusted`."""
    if len(owners) < terms.training.min_members:
        raise errors.Untrusted(
            f"all parties accept the shares of {len(owners)} owners, and min_members = {terms.training.min_members}",
            hint="What the parties recorded says whose shares they refused, and why.",
        )
    return owners


def refusals(state: State, fetch: Fetch) -> Mapping[int, tuple[Refused, ...]]:
    """By party, whose shares it refused. Raises as `read_acceptance`."""
    said = recorded(state, RecordKind.INPUT)
    return {p: read_acceptance(fetch(digest), state, p).refused for p, digest in said.items()}


def read_delivery(data: bytes, state: State, party: int, owners: tuple[int, ...]) -> Delivery:
    """What a party says it holds of the model of these owners. Raises `Untrusted`."""
    found = typed.decode(Delivery, data, limit=LIMIT)
    mine = (found.federation, found.round, found.party) == (state.domain, state.round, party)
    if not mine or found.owners != owners or tuple(o for o, _ in found.packages) != owners:
        raise errors.Untrusted(
            f"the delivery of party {party} is not for the owners that were trained on",
            digest=encoding.digest(data),
        )
    return found


def read_report(data: bytes) -> Report:
    """A report. Raises `Untrusted`."""
    return typed.decode(Report, data, limit=LIMIT)


def settle(terms: Terms, state: State, fetch: Fetch) -> Settlement:
    """What comes of all records of the round. Raises `Unavailable` while one is missing, `Untrusted` if they differ.

    Parties that hold the same component must hold the same bytes of it; each report must name exactly the reveals of
    the terms.
    """
    owners = accepted(state, fetch)
    if not owners:
        raise errors.Untrusted(
            "the parties found no owner's shares good", hint="Their INPUT records say why."
        )
    delivered = recorded(state, RecordKind.OUTPUT)
    missing = [p for p in parties(state) if p not in delivered]
    if missing:
        raise errors.Unavailable(f"party {missing[0]} has not delivered yet")
    found = {p: read_delivery(fetch(d), state, p, owners) for p, d in delivered.items()}
    _check_components(found)
    for p, delivery in found.items():
        check_report(terms, p, read_report(fetch(delivery.report)))
    said = recorded(state, RecordKind.INPUT)
    return Settlement(
        state.domain, state.round, owners, tuple(sorted(said.items())), tuple(sorted(delivered.items()))
    )


def _check_components(deliveries: Mapping[int, Delivery]) -> None:
    held = {p: dict(delivery.components) for p, delivery in deliveries.items()}
    pairs = [
        (a, b)
        for a, b in combinations(sorted(held), 2)
        if any(held[a][c] != held[b][c] for c in held[a].keys() & held[b].keys())
    ]
    if pairs:
        raise errors.Untrusted(
            "parties " + ", ".join(f"{a} and {b}" for a, b in pairs) + " hold different shares of the model",
            hint="A party that stands in every pair altered its own; of a single pair either may have.",
        )


def check_report(terms: Terms, party: int, report: Report) -> None:
    """That a party opened what the terms declare, and nothing else. Raises `Untrusted`."""
    often = {"training": 1, "epoch": report.epochs, "step": report.steps}
    declared = {(r.boundary, r.to): often[r.per] for r in mpc_of(terms).reveals}
    done = {(r.boundary, r.to): r.times for r in report.reveals}
    if done != declared or len(report.reveals) != len(done):
        raise errors.Untrusted(
            f"party {party} reports other reveals than the terms declare: {_said(done)} instead of {_said(declared)}",
            hint="Terms and report must agree, or something was opened that nobody consented to.",
        )


def _said(reveals: Mapping[tuple[str, int], int]) -> str:
    found = [f"{name} to {to}, {times} times" for (name, to), times in sorted(reveals.items())]
    return "; ".join(found) or "none"
