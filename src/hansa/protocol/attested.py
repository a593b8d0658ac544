"""Scheme `tee` on the ledger: who runs an attested enclave, and what enclaves are told.

A member with a seat that may lead runs an enclave, and has it quoted over a nonce that the ledger gives: the chain's
beacon, the round, the member. It records the digest of what was verified (ATTESTATION). Members verify it too, and
record that digest (VOUCHER, about that member). With a quorum of them an enclave is a *candidate* from the next round
on, for as many rounds as the terms say: members seal their updates to all candidates of a round, so that each of them
can finish what another one began.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from hansa import encoding, errors
from hansa.protocol import tee, typed
from hansa.protocol.state import Seats, State, active_members, quorum, seats_of
from hansa.protocol.statements import Statement, read_statement
from hansa.protocol.tee import Entry, Manifest, Result, Roster, Seat, Signatures
from hansa.protocol.timing import unpack_meta
from hansa.protocol.typed import Bytes20, Bytes32, Bytes64
from hansa.records import MAX_MEMBERS, SUBJECTS, RecordKind, Tee, Terms


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


def read_attestation(data: bytes) -> Attestation:
    """An attestation from its canonical bytes. Raises `Untrusted`."""
    return typed.decode(Attestation, data)


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
    versions = state.rosters or (seats_of(state, active_members(state)),)
    return _chain(state.domain, versions)


# attestations


def about(state: State, kind: RecordKind, id: int) -> int:
    """The number of a record of this kind about an id.

    Before the first round members may still join, and enclaves that were attested for fewer are attested again: each
    number of members has records of its own.
    """
    batch = 0 if state.round else len(active_members(state))
    return kind + SUBJECTS * (id + MAX_MEMBERS * batch + 1)


def _first(state: State) -> int:
    """The batch of the members with which the first round opened."""
    return len(state.rosters[0]) if state.rosters else 0


def nonce(state: State, id: int) -> bytes:
    """What the enclave of an id is to be quoted over in this round: no one knew it before the last beacon."""
    seed = state.current.seed if state.round else state.beacon
    number = about(state, RecordKind.ATTESTATION, id)
    return encoding.digest(encoding.encode([state.domain, "nonce", state.round, number, seed]))


def _recorded(state: State, kind: int, id: int, round: int) -> bytes | None:
    if (kind, id, round) in state.belated:
        return None
    return dict(state.recorded.get((kind, id), ())).get(round)


def attested_now(state: State, id: int) -> bytes | None:
    """Digest of the attestation that an id recorded in the running round."""
    return _recorded(state, about(state, RecordKind.ATTESTATION, id), id, state.round)


def _numbers(state: State, kind: RecordKind, id: int, round: int) -> int:
    batch = 0 if round else _first(state)
    return kind + SUBJECTS * (id + MAX_MEMBERS * batch + 1)


def latest(state: State, id: int, before: int) -> tuple[int, bytes] | None:
    """Round and digest of an id's newest attestation of the rounds before `before`."""
    rounds = {0} | {
        round
        for number in {_numbers(state, RecordKind.ATTESTATION, id, 1)}
        for round, _ in state.recorded.get((number, id), ())
    }
    for round in sorted((r for r in rounds if r < before), reverse=True):
        digest = _recorded(state, _numbers(state, RecordKind.ATTESTATION, id, round), id, round)
        if digest is not None:
            return round, digest
    return None


def candidates(terms: Terms, state: State) -> Mapping[int, bytes]:
    """Hosts of the running round's candidates, each with the digest of its attestation."""
    found: dict[int, bytes] = {}
    roster = state.current.roster
    for host in sorted(hosts(state) & roster):
        newest = latest(state, host, state.round)
        if newest is None or state.round - newest[0] > tee_of(terms).epoch:
            continue
        round, digest = newest
        number = _numbers(state, RecordKind.VOUCHER, host, round)
        vouchers = [id for id in roster if _recorded(state, number, id, round) == digest]
        if len(vouchers) >= quorum(len(roster)):
            found[host] = digest
    return dict(list(found.items())[: tee_of(terms).max_candidates])


def hosts(state: State) -> frozenset[int]:
    """Members that run enclaves: those who may lead."""
    return frozenset(i for i, m in state.members.items() if m.member and m.active and m.seated)


def unvouched(state: State, id: int) -> Mapping[int, bytes]:
    """Attestations of the running round that a member has not vouched for: host -> digest."""
    if id not in active_members(state):
        return {}
    made = {host: attested_now(state, host) for host in hosts(state)}
    return {
        host: digest
        for host, digest in sorted(made.items())
        if digest is not None
        and _recorded(state, about(state, RecordKind.VOUCHER, host), id, state.round) is None
    }


def due(terms: Terms, state: State, id: int, current: Set[bytes]) -> bool:
    """Whether an id should have its enclave attested now.

    `current`: digests of the attestations of the enclave that runs.
    """
    if id not in hosts(state) or attested_now(state, id) is not None:
        return False
    if not state.round:
        return True
    newest = latest(state, id, state.round)
    if newest is None or newest[1] not in current or id not in candidates(terms, state):
        return True
    # A round early, so that there is no round without it.
    return state.round - newest[0] >= tee_of(terms).epoch


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


# the set of a round


def manifest(state: State, known: Mapping[int, Candidate]) -> Manifest:
    """What the enclaves of this round are to aggregate, once the updates are selected; `known`: its candidates."""
    entries = []
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
        readers=tuple(sorted(state.current.readers.items())),
    )


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
    found = typed.decode(Delivery, data)
    tee.check_manifest(found.manifest)
    return found


def check_delivery(
    terms: Terms, state: State, delivery: Delivery, known: Mapping[int, Candidate], leader: int, result: bytes
) -> None:
    """That a result is what the leader's attested enclave made of this round's set. Raises `Untrusted`.

    `known`: the round's candidates, verified.
    """
    made = delivery.manifest
    if made != manifest(state, known):
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
