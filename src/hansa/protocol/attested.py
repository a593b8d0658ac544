"""Scheme `tee` on the ledger: who runs an attested enclave, and what enclaves are told.

A member with a seat that may lead runs an enclave (with `tee.inner` a server with a seat), and has it quoted over a
nonce that the ledger gives: the chain's beacon, the round, the host. It records the digest of what was verified
(ATTESTATION). Members verify it too, and record that digest (VOUCHER, about that host). With a quorum of them an
enclave is a *candidate* from the next round on, for as many rounds as the terms say: members seal their updates to all
candidates of a round, so that each of them can finish what another one began. Who the candidates of a round are does
not change while it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from hansa import encoding, errors
from hansa.protocol import phases, secagg, tee, typed
from hansa.protocol.state import Seats, State, active_members, quorum, seats_of
from hansa.protocol.statements import Statement, read_statement
from hansa.protocol.tee import Entry, Manifest, Result, Roster, Seat, Signatures, Summed
from hansa.protocol.timing import unpack_meta
from hansa.protocol.typed import Bytes20, Bytes32, Bytes64
from hansa.records import MAX_MEMBERS, SUBJECTS, RecordKind, Role, Tee, Terms

ATTESTATION_LIMIT = 32 * 1024
"""Bytes of an attestation."""

DELIVERY_LIMIT = 1024 * 1024
"""Bytes of a delivery; of a thousand members it has a third of that."""

CLOCKS = 300
"""Seconds by which the clocks of two nodes may differ."""

NO_PROTECTION = "simulated: NO HARDWARE PROTECTION"
"""What a person reads wherever a simulation stands in for a processor."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an ATTESTATION record names: the attestation's record and the enclave's statement, both canonical."""

    record: bytes
    statement: bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """An attested enclave: its host, the digest of its attestation, its X25519 key, the address of its results."""

    host: Annotated[int, typed.Below(MAX_MEMBERS)]
    attestation: Bytes32
    seal_key: Bytes32
    signing_key: Bytes20


def tee_of(terms: Terms) -> Tee:
    """[tee] of terms whose scheme it is."""
    assert terms.tee is not None
    return terms.tee


def protection(terms: Terms) -> str | None:
    """What protects updates in enclaves, for people: nothing, where the terms accept simulated ones. None without."""
    if terms.tee is None:
        return None
    return NO_PROTECTION if terms.tee.accept.root == "simulation" else "processors under Intel's root"


def read_attestation(data: bytes) -> Attestation:
    """An attestation from its canonical bytes. Raises `Untrusted`."""
    return typed.decode(Attestation, data, limit=ATTESTATION_LIMIT)


def candidate(host: int, data: bytes) -> tuple[Candidate, Statement]:
    """A candidate out of its attestation; nothing is verified. Raises `Untrusted`."""
    statement = read_statement(read_attestation(data).statement)
    if len(statement.signing_key) != 20:
        raise errors.Untrusted("an enclave's results are signed by an address of 20 bytes")
    return Candidate(host, encoding.digest(data), statement.seal_key, statement.signing_key), statement


# the roster


@lru_cache(maxsize=8)
def _chain(domain: bytes, versions: tuple[Seats, ...]) -> tuple[Roster, ...]:
    chain: list[Roster] = []
    for number, seats in enumerate(versions):
        previous = chain[-1].digest if chain else bytes(32)
        chain.append(Roster(domain, number, previous, tuple(Seat(*seat) for seat in seats)))
    return tuple(chain)


def rosters(state: State) -> tuple[Roster, ...]:
    """All versions of the roster; before the first round the one with which it would open now."""
    versions = tuple(seats for _, seats in state.rosters)
    return _chain(state.domain, versions or (seats_of(state, active_members(state)),))


def _voters(state: State, round: int) -> frozenset[int]:
    """Who vouched in a round: its roster; those with whom the first one opened vouched before it."""
    version = next(seats for since, seats in reversed(state.rosters) if since <= max(round, 1))
    return frozenset(id for id, _, _ in version)


# attestations


@lru_cache(maxsize=8)
def _batch(founding: Roster) -> int:
    return int.from_bytes(founding.digest[:8], "big")


def counted(state: State, kind: RecordKind, id: int, round: int) -> int:
    """The number of a round's records of this kind about an id.

    Before the first round members may still come and go, and each enclave that was attested for others is attested
    again: each roster with which the federation could open has records of its own.
    """
    batch = 0 if round else _batch(rosters(state)[0])
    return kind + SUBJECTS * (id + MAX_MEMBERS * batch + 1)


def about(state: State, kind: RecordKind, id: int) -> int:
    """The number of the running round's records."""
    return counted(state, kind, id, state.round)


def nonce(state: State, id: int) -> bytes:
    """What the enclave of an id is to be quoted over in this round: no one knew it before the last beacon."""
    number = about(state, RecordKind.ATTESTATION, id)
    return nonce_of(state.domain, state.round, number, state.current.seed)


def nonce_of(domain: bytes, round: int, number: int, seed: bytes) -> bytes:
    """The nonce of an ATTESTATION record: of its round, its number, and the beacon before that round."""
    return encoding.digest(encoding.encode([domain, "nonce", round, number, seed]))


def _recorded(state: State, kind: int, id: int, round: int) -> bytes | None:
    if (kind, id, round) in state.belated:
        return None
    # From the newest on: a federation may run for years.
    return next((digest for r, digest in reversed(state.recorded.get((kind, id), ())) if r == round), None)


def attested_in(state: State, id: int, round: int) -> bytes | None:
    """Digest of the attestation that an id recorded in a round."""
    return _recorded(state, counted(state, RecordKind.ATTESTATION, id, round), id, round)


def _attested_lately(terms: Terms, state: State, id: int) -> Iterator[tuple[int, bytes]]:
    """Round and digest of an id's attestations of earlier rounds that are not too old, the newest first."""
    oldest = max(state.round - tee_of(terms).epoch, 0)
    for round in range(state.round - 1, oldest - 1, -1):
        digest = attested_in(state, id, round)
        if digest is not None:
            yield round, digest


def _is_vouched_for(state: State, id: int, round: int, digest: bytes) -> bool:
    about_it = counted(state, RecordKind.VOUCHER, id, round)
    those = _voters(state, round)
    count = sum(_recorded(state, about_it, voter, round) == digest for voter in those)
    return count >= quorum(len(those))


def candidates(terms: Terms, state: State) -> Mapping[int, bytes]:
    """Hosts of the running round's candidates, each with the digest of its attestation."""
    return {host: digest for host, (_, digest) in candidacies(terms, state).items()}


def candidacies(terms: Terms, state: State) -> Mapping[int, tuple[int, bytes]]:
    """The same with the round of each attestation: the newest that has a quorum of vouchers."""
    memo = state.current.memo
    # Who checks a thousand updates asks a thousand times, and would count a thousand vouchers each time.
    if terms.tee not in memo:
        memo[terms.tee] = _candidacies(terms, state)
    found: Mapping[int, tuple[int, bytes]] = memo[terms.tee]
    return found


def _candidacies(terms: Terms, state: State) -> Mapping[int, tuple[int, bytes]]:
    found: dict[int, tuple[int, bytes]] = {}
    # Not the hosts of now: somebody may be excluded, or leave, after members have sealed their updates.
    for host in sorted(_may_host(state)):
        vouched = (
            (round, digest)
            for round, digest in _attested_lately(terms, state, host)
            if _is_vouched_for(state, host, round, digest)
        )
        newest = next(vouched, None)
        if newest is not None:
            found[host] = newest
    return dict(list(found.items())[: tee_of(terms).max_candidates])


def vouched(state: State) -> Mapping[int, bytes]:
    """Hosts whose attestation of the running round a quorum has vouched for so far, with its digest.

    Each of them is a candidate from the next round on.
    """
    made = {host: attested_in(state, host, state.round) for host in sorted(hosts(state))}
    return {
        host: digest
        for host, digest in made.items()
        if digest is not None and len(vouchers(state, host)) >= quorum(len(voters(state)))
    }


def vouchers(state: State, host: int) -> frozenset[int]:
    """Members that have vouched for the attestation that a host recorded in the running round."""
    made, number = attested_in(state, host, state.round), about(state, RecordKind.VOUCHER, host)
    if made is None:
        return frozenset()
    return frozenset(id for id in voters(state) if _recorded(state, number, id, state.round) == made)


def voters(state: State) -> frozenset[int]:
    """Who may vouch in the running round: its roster, before the first one all members that would stand on it."""
    return state.current.roster if state.round else frozenset(active_members(state))


def _may_host(state: State) -> frozenset[int]:
    """Whose enclaves can be candidates of the running round."""
    if not state.parameters.opens:
        return state.current.verifiers
    # Whether one has its seat still may change while the round runs; only those with a seat were vouched for.
    return frozenset(i for i, m in state.members.items() if m.role is Role.SERVER)


def hosts(state: State) -> frozenset[int]:
    """Who runs enclaves: those who may lead; servers with a seat where sums are opened."""
    if state.parameters.opens:
        return frozenset(i for i in _may_host(state) if state.members[i].seated)
    return frozenset(i for i, m in state.members.items() if m.member and m.active and m.seated)


def unvouched(state: State, id: int) -> Mapping[int, bytes]:
    """Attestations of the running round that a member has not vouched for, and could: host -> digest."""
    if id not in voters(state):
        return {}
    made = {host: attested_in(state, host, state.round) for host in hosts(state)}
    return {
        host: digest
        for host, digest in sorted(made.items())
        if digest is not None
        and _recorded(state, about(state, RecordKind.VOUCHER, host), id, state.round) is None
    }


def due(terms: Terms, state: State, id: int, current: Set[bytes], *, ending: bool) -> bool:
    """Whether an id should have its enclave attested now.

    `current`: digests of the attestations of the enclave that runs. `ending`: the collateral of the newest one is soon
    to expire.
    """
    if id not in hosts(state) or attested_in(state, id, state.round) is not None:
        return False
    if not state.round:
        # Each roster before the first round asks for attestations of its own: none for those too small to begin with.
        return len(active_members(state)) >= phases.least(state)
    newest = next(_attested_lately(terms, state, id), None)
    if newest is None or newest[1] not in current or candidates(terms, state).get(id) != newest[1]:
        return True
    # A round before the last one: one in which too few vouch leaves no round without this enclave.
    return ending or state.round - newest[0] >= max(tee_of(terms).epoch - 1, 1)


def check_statement(terms_digest: bytes, state: State, statement: Statement) -> None:
    """That an enclave is for this federation, these terms and the roster of now. Raises `Untrusted`."""
    roster = rosters(state)[-1].digest
    wanted = {"federation": state.domain, "terms": terms_digest, "roster": roster}
    wrong = [name for name, value in wanted.items() if getattr(statement, name) != value]
    if wrong:
        raise errors.Untrusted(
            f"the enclave is for another {' and '.join(wrong)}",
            hint="Its host started it for something else, or did not tell it of the members of now.",
            digest=statement.digest,
        )


def check_time(verified: int, now: int) -> None:
    """That an attestation was not verified after now; its host said when. Raises `Untrusted`."""
    if verified > now + CLOCKS:
        raise errors.Untrusted(
            f"its record names a time that is yet to come: {verified}, {verified - now} s after now",
            hint="Its host has to set its clock.",
        )


# the set of a round


def manifest(terms: Terms, state: State, known: Mapping[int, Candidate]) -> Manifest:
    """What the enclaves of this round are to aggregate, once the updates are selected; `known`: its candidates.

    Where sums are opened that is fixed when the opening is accepted.
    """
    entries, opens = [], state.parameters.opens
    for id in sorted(state.current.selected):
        commit = state.current.commits[id]
        timestamp, millis, examples = unpack_meta(commit.meta)
        base = state.models[commit.base]
        entries.append(Entry(id, commit.digest, commit.base, base, examples, millis, timestamp))
    return Manifest(
        federation=state.domain,
        round=state.round,
        roster=rosters(state)[-1].digest,
        version=state.version,
        base=state.model,
        candidates=tuple((host, known[host].seal_key) for host in sorted(known)),
        entries=tuple(entries),
        readers=tuple(sorted((secagg.readers(state) if opens else state.current.readers).items())),
        summed=_summed(terms, state) if opens else None,
    )


def _summed(terms: Terms, state: State) -> Summed:
    setup = secagg.setup(state, secagg.parties(terms, state))
    assert setup is not None
    return Summed(state.current.result, setup, secagg.mask_seed(state), len(state.current.roster))


# what is proposed


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a leader proposes with a result: the set, who signed it, what its enclave signed, and who attested that.

    `attestation`: digest of the enclave's.
    """

    manifest: Manifest
    signatures: Signatures
    result: Result
    signature: Bytes64
    attestation: Bytes32


def read_delivery(data: bytes) -> Delivery:
    """A delivery from its canonical bytes. Raises `Untrusted`."""
    found = typed.decode(Delivery, data, limit=DELIVERY_LIMIT)
    tee.check_manifest(found.manifest)
    return found


def sealed_digest(evidence: bytes) -> bytes:
    """Digest of the sealed model that a delivery names. Raises `Untrusted`."""
    return read_delivery(evidence).result.sealed


def check_delivery(
    terms: Terms, state: State, delivery: Delivery, known: Mapping[int, Candidate], leader: int, result: bytes
) -> None:
    """That a result is what the leader's attested enclave made of this round's set. Raises `Untrusted`.

    `known`: the round's candidates, verified.
    """
    made = delivery.manifest
    if made != manifest(terms, state, known):
        raise errors.Untrusted("the manifest is not that of the frozen set", digest=made.digest)
    tee.check_quorum(rosters(state)[-1], "Manifest", made.round, made.digest, delivery.signatures)
    if leader not in known or known[leader].attestation != delivery.attestation:
        raise errors.Untrusted(
            f"the enclave of member {leader} is no candidate of this round", digest=delivery.attestation
        )
    tee.check_result(delivery.result, delivery.signature, known[leader].signing_key, made)
    said = delivery.result.rule, delivery.result.result
    if said != (terms.aggregation.rule, result):
        raise errors.Untrusted(
            "the enclave signed another result or another rule", digest=delivery.result.digest
        )
