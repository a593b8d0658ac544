"""Scheme `tee`: what members and enclaves tell each other. All of it passes through hosts that nobody trusts.

An enclave has no chain and no clock. It knows a *roster*: who the members are, each version signed by a quorum of
the one before; its digest covers all earlier ones and stands in the enclave's statement, which members compare with
the ledger. For each round it takes one *manifest*, signed by a quorum of its roster: the set of commitments that the
ledger froze. It gives one *result*, signed with the key of its statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from hansa import encoding, errors
from hansa.crypto.signatures import recover
from hansa.protocol.state import quorum
from hansa.protocol.typed import Below, Bytes20, Bytes32, Bytes64, Count, Id
from hansa.records import MAX_MEMBERS

Signatures = tuple[tuple[Annotated[int, Below(MAX_MEMBERS)], Bytes64], ...]
"""Ids in ascending order, each with its signature."""


class Flaw(IntEnum):
    """Why a payload counts as nothing. Every enclave finds the same one."""

    GRANT = 1
    """Its key is not wrapped to every candidate, the one right way."""
    SEAL = 2
    """It is no sealed blob, or a byte of it is wrong."""
    CONTENT = 3
    """What was sealed is no update of this model."""
    SIGNATURE = 4
    """The update is not signed by its member."""
    CONTEXT = 5
    """The update is for another federation, round, member or base, or says otherwise than its commitment."""
    NORM = 6
    """Its norm exceeds that of the terms."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A member: its id, the address that it signs with (20 bytes), its X25519 key (32 bytes)."""

    id: Id
    address: Bytes20
    key: Bytes32


@dataclass(frozen=True, slots=True)
class Roster:
    """The members at one time, by ascending id. `previous`: digest of the version before, zeros for version 0."""

    federation: Bytes32
    version: Count
    previous: Bytes32
    seats: tuple[Seat, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return encoding.digest(encoding.encode(self))


@dataclass(frozen=True, slots=True)
class Entry:
    """A commitment of the frozen set, as the ledger has it.

    `digest`: of the sealed blob. `version` and `base`: number and digest of the model that was trained.
    """

    member: Id
    digest: Bytes32
    version: Count
    base: Bytes32
    examples: Count
    millis: Count
    timestamp: Count


@dataclass(frozen=True, slots=True)
class Summed:
    """What is to be opened where updates are masked (`tee.inner`).

    `opening`: digest of the accepted one (`protocol.secagg.Opening`). `setup`: of the key centre's parameters.
    `seed`: keys the public part of the masks. `members`: of the round's roster; masks and fields have room for them.
    """

    opening: Bytes32
    setup: Bytes32
    seed: Bytes32
    members: Annotated[int, Below(MAX_MEMBERS + 1)]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an enclave is to aggregate in a round.

    `roster`: digest. `version` and `base`: number and digest of the checkpoint that the result builds on.
    `candidates`: the attested enclaves to which members sealed: id of the host, X25519 key. `entries`: the set,
    by ascending id. `readers`: ids and X25519 keys of those to whom the result is sealed. `summed`: what is opened,
    where the enclave opens sums.
    """

    federation: Bytes32
    round: Count
    roster: Bytes32
    version: Count
    base: Bytes32
    candidates: tuple[tuple[Annotated[int, Below(MAX_MEMBERS)], Bytes32], ...]
    entries: tuple[Entry, ...]
    readers: tuple[tuple[Annotated[int, Below(MAX_MEMBERS)], Bytes32], ...]
    summed: Summed | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form: the set root of the round."""
        return encoding.digest(encoding.encode(self))


@dataclass(frozen=True, slots=True)
class Result:
    """What an enclave signs, once a round.

    `manifest`: its digest. `result`: digest of the new checkpoint, or of the package of opened sums, the same from
    every enclave. `sealed`: digest of the blob that holds it for the readers. `invalid`: members whose payloads count
    as nothing, and why.
    """

    federation: Bytes32
    round: Count
    roster: Bytes32
    manifest: Bytes32
    base: Bytes32
    result: Bytes32
    sealed: Bytes32
    rule: str
    invalid: tuple[tuple[Id, Flaw], ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return encoding.digest(encoding.encode(self))


def reader_id(host: int) -> int:
    """The number under which a grant names the enclave of a host; smaller ones are members."""
    return MAX_MEMBERS + host


def sealed_to(candidates: tuple[tuple[int, bytes], ...]) -> dict[int, bytes]:
    """Whom members wrap the key of a payload to; see `sealing.make_grant`."""
    return {reader_id(host): key for host, key in candidates}


def check_roster(roster: Roster) -> Roster:
    """The roster, if it has seats and their ids ascend. Raises `Untrusted`."""
    _check_ascending([seat.id for seat in roster.seats], "seats of the roster")
    if len({seat.address for seat in roster.seats}) != len(roster.seats):
        raise errors.Untrusted("two seats of the roster have one address", digest=roster.digest)
    return roster


def check_manifest(manifest: Manifest) -> Manifest:
    """The manifest, if it lists somebody everywhere and all ids ascend. Raises `Untrusted`."""
    _check_ascending([entry.member for entry in manifest.entries], "entries of the manifest")
    _check_ascending([host for host, _ in manifest.candidates], "candidates of the manifest")
    _check_ascending([id for id, _ in manifest.readers], "readers of the manifest")
    return manifest


def check_successor(roster: Roster, following: Roster, signatures: Signatures) -> None:
    """That a roster comes right after another, and that a quorum of that one wants it. Raises `Untrusted`."""
    expected = (roster.federation, roster.version + 1, roster.digest)
    if (following.federation, following.version, following.previous) != expected:
        raise errors.Untrusted(
            f"roster {following.version} does not follow on roster {roster.version}",
            hint="Give an enclave every version in its order.",
            digest=following.digest,
        )
    check_quorum(roster, "Roster", following.version, following.digest, signatures)


def check_quorum(roster: Roster, name: str, number: int, digest: bytes, signatures: Signatures) -> None:
    """That floor(2n/3)+1 members of the roster signed message `name` (see `encoding.TYPES`). Raises `Untrusted`."""
    needed = quorum(len(roster.seats))
    if len(signatures) < needed:
        raise errors.Untrusted(f"{len(signatures)} members signed, {needed} are needed", digest=digest)
    _check_ascending([id for id, _ in signatures], "signers")
    addresses = {seat.id: seat.address for seat in roster.seats}
    signed = encoding.message_hash(roster.federation, name, number, digest)
    for id, signature in signatures:
        if id not in addresses or recover(signed, signature) != addresses[id]:
            raise errors.Untrusted(
                f"{name} {number}: the signature of member {id} is not its own", digest=digest
            )


def check_result(result: Result, signature: bytes, signing_key: bytes, manifest: Manifest) -> None:
    """That an enclave's result is about this manifest and signed with the key of its statement.

    Raises `Untrusted`. Whether the enclave is one is for `attestation.verify` to say.
    """
    expected = (manifest.federation, manifest.round, manifest.roster, manifest.digest, manifest.base)
    if (result.federation, result.round, result.roster, result.manifest, result.base) != expected:
        raise errors.Untrusted("the result is about another round, set or model", digest=result.digest)
    members = [entry.member for entry in manifest.entries]
    invalid = [id for id, _ in result.invalid]
    if invalid != sorted(set(invalid) & set(members)):
        raise errors.Untrusted("the result reports members that are not in the set", digest=result.digest)
    signed = encoding.message_hash(result.federation, "Result", result.round, result.digest)
    if recover(signed, signature) != signing_key:
        raise errors.Untrusted(
            "the result is not signed by the enclave that was attested", digest=result.digest
        )


def readers_of(manifest: Manifest) -> Mapping[int, bytes]:
    """Ids and keys of those who read the result."""
    return dict(manifest.readers)


def _check_ascending(ids: list[int], what: str) -> None:
    if not ids or ids != sorted(set(ids)):
        raise errors.Untrusted(f"{what}: none, or not in ascending order")
