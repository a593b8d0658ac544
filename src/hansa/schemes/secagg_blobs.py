"""Blobs of scheme `secagg`, read strictly: set-up, public keys, uploads, halves, admissions; and what each is bound to.

All readers raise `Untrusted` for anything but what an honest sender writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hansa import encoding, errors
from hansa.crypto import double_trapdoor as dt
from hansa.protocol.secagg import Opening, name_of
from hansa.protocol.state import State

SETUP, KEY, UPLOAD = "hansa/secagg-setup/1", "hansa/secagg-key/1", "hansa/secagg-upload/1"
HALF, ADMISSION = "hansa/secagg-half/1", "hansa/secagg-admission/1"
REST = 4096
"""Bytes of an upload beside its ciphertexts, and more: what is longer is not even parsed."""

NONE = bytes(32)
"""Digest of the masked sum in direct mode, where there is none."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The parameters, and where the sealed halves lie: digests of grant and blob, by side."""

    parameters: dt.Parameters
    halves: Mapping[dt.Side, tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Upload:
    """A member's upload: its key, the digest of its masked update, ciphertexts and proof."""

    key: bytes
    wire: bytes
    ciphertexts: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class SealedHalf:
    """A half as it lies in the store: what it answers, keys wrapped by reader, the sealed answer."""

    round: int
    opening: bytes
    grant: bytes
    wraps: Mapping[int, bytes]
    sealed: bytes


@lru_cache(maxsize=8)
def read_setup(data: bytes, domain: bytes, modulus: int, mode: dt.Mode) -> Setup:
    """The key centre's parameters, checked."""
    _, said, parameters, _ = fields_of(data, SETUP, 4, limit=256 * 1024)
    found = dealt(data)
    if said != domain or not isinstance(parameters, bytes):
        raise malformed("set-up", data)
    read = dt.read_parameters(parameters)
    dt.check_parameters(read, modulus)
    if read.exponent_bits != dt.exponent_bits(read.modulus, mode):
        raise errors.Untrusted(
            f"parameters with exponents of {read.exponent_bits} bits, while the terms say {mode}",
            digest=encoding.digest(data),
        )
    return Setup(read, found)


def dealt(data: bytes) -> dict[dt.Side, tuple[bytes, bytes]]:
    """Digests of grant and blob of each half."""
    _, _, _, halves = fields_of(data, SETUP, 4, limit=256 * 1024)
    try:
        found = {dt.Side(side): (grant, blob) for side, grant, blob in halves}
    except (TypeError, ValueError) as e:
        raise malformed("set-up", data) from e
    digests = [digest for pair in found.values() for digest in pair]
    if found.keys() != set(dt.Side) or not all(isinstance(d, bytes) and len(d) == 32 for d in digests):
        raise malformed("set-up", data)
    return found


@lru_cache(maxsize=2048)
def read_key(parameters: dt.Parameters, domain: bytes, member: int, blob: bytes) -> int:
    """A member's public key whose possession is proven."""
    _, said, id, public, proof = fields_of(blob, KEY, 5, limit=64 * 1024)
    if (said, id) != (domain, member) or not isinstance(public, bytes) or not isinstance(proof, bytes):
        raise malformed(f"public key of member {member}", blob)
    h = dt.read_public(parameters, public)
    dt.check_possession(parameters, h, dt.read_possession(parameters, proof), key_context(domain, member))
    return h


def references(blob: bytes, *, limit: int) -> tuple[bytes, ...]:
    """The masked update that an upload names; the sealed halves that a set-up does."""
    value = encoding.decode(blob, limit=limit)
    if isinstance(value, list) and value[:1] == [SETUP]:
        return tuple(digest for pair in dealt(blob).values() for digest in pair)
    wire = fields_of(blob, UPLOAD, 8, limit=limit)[5]
    return (wire,) if isinstance(wire, bytes) and wire != NONE else ()


def read_upload(blob: bytes, said: list[Any], *, masked: bool, limit: int) -> Upload:
    """An upload that begins with these fields: federation, round, member, key."""
    fields = fields_of(blob, UPLOAD, 8, limit=limit)
    if fields[1:5] != said or not all(isinstance(f, bytes) for f in fields[4:]):
        raise errors.Untrusted(
            "is not the upload of this member for this round, under its certified key",
            digest=encoding.digest(blob),
        )
    upload = Upload(*fields[4:])
    if len(upload.wire) != 32 or (upload.wire == NONE) is masked:
        raise malformed("upload", blob)
    return upload


def read_half(blob: bytes, domain: bytes, side: dt.Side, *, limit: int) -> SealedHalf:
    """A half as it lies in the store."""
    _, federation, round, said, *rest = fields_of(blob, HALF, 8, limit=limit)
    opening, grant, wraps, sealed = rest
    pairs: list[Any] = wraps if isinstance(wraps, list) else [None]
    sound = (federation, said) == (domain, int(side)) and isinstance(round, int)
    sound = sound and all(isinstance(field, bytes) for field in (opening, grant, sealed))
    if not sound or not all(
        isinstance(p, list) and len(p) == 2 and isinstance(p[0], int) and isinstance(p[1], bytes)
        for p in pairs
    ):
        raise malformed("half of an opening", blob)
    return SealedHalf(round, opening, grant, dict(pairs), sealed)


def read_admission(blob: bytes, domain: bytes, half: bytes, member: int, *, limit: int) -> bytes:
    """The key of a half, of which the blob is given, as it was wrapped to a member afterwards."""
    *_, wrapped = fields = fields_of(blob, ADMISSION, 5, limit=limit)
    if fields[1:4] != [domain, encoding.digest(half), member] or not isinstance(wrapped, bytes):
        raise errors.Untrusted("lets another member in, or into another half", digest=encoding.digest(blob))
    return wrapped


def write_elements(parameters: dt.Parameters, elements: Iterable[int]) -> bytes:
    """Elements mod N**2, side by side."""
    return b"".join(int(t).to_bytes(2 * parameters.size, "big") for t in elements)


def read_elements(parameters: dt.Parameters, data: bytes) -> tuple[int, ...]:
    """The reverse. Raises `ValueError` where they have another size."""
    size = 2 * parameters.size
    if not isinstance(data, bytes) or len(data) % size:
        raise ValueError("elements have another size")
    return tuple(int.from_bytes(data[at : at + size], "big") for at in range(0, len(data), size))


def fields_of(data: bytes, kind: str, count: int, *, limit: int) -> list[Any]:
    """The fields of a blob of this kind, so many with its name."""
    value = encoding.decode(data, limit=limit)
    if not isinstance(value, list) or len(value) != count or value[0] != kind:
        raise malformed(kind, data)
    return value


def malformed(what: str, data: bytes) -> errors.Untrusted:
    """What is raised for bytes that no honest sender writes."""
    return errors.Untrusted(f"{what} is malformed", digest=encoding.digest(data))


def half_context(domain: bytes, side: dt.Side) -> bytes:
    """What a dealt half of the strong trapdoor is bound to."""
    return encoding.encode([domain, "half", int(side)])


def key_context(domain: bytes, member: int) -> bytes:
    """What a public key's proof is bound to."""
    return encoding.encode([domain, "key", member])


def upload_context(state: State, member: int, version: int, key: bytes, wire: bytes) -> bytes:
    """What an upload's proof is bound to; `wire`: digest of the masked update."""
    return encoding.encode([state.domain, "upload", state.round, member, version, key, wire])


def answer_context(opening: Opening, cohort: int) -> bytes:
    """What the proof of an answer to one cohort is bound to."""
    return encoding.encode([opening.federation, "answer", name_of(opening), cohort])


def sealed_context(domain: bytes, round: int, side: dt.Side, opening: bytes) -> bytes:
    """What a sealed half of an opening is bound to."""
    return encoding.encode([domain, "sealed-half", round, int(side), opening])


def model_context(state: State) -> bytes:
    """What a released model is bound to."""
    return encoding.encode([state.domain, "released", state.version, state.model])
