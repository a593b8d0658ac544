"""From both halves of an opening to the sums: for the members that open them, and for enclaves that do it for them.

What an enclave opened it hands to the readers of the round as one *package*: each cohort's sum, and the secret that
follows from the opening.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.crypto import double_trapdoor as dt
from hansa.crypto import kahe
from hansa.protocol import cohorts
from hansa.protocol.secagg import Opening
from hansa.records import SecAgg
from hansa.schemes import secagg_blobs as blobs

Answers = list[tuple[tuple[int, ...], dt.Answer]]
"""For each cohort: elements, and the proven answer of one side to them."""

Plaintexts = Sequence[list[int] | errors.Untrusted]
"""For each cohort: what its product of ciphertexts holds, or why that is nothing although both halves are right."""

Total = NDArray[np.int64]

_PACKAGE = "hansa/opened-sums/1"


def masked(options: SecAgg) -> bool:
    """Whether updates are masked, and only keys of masks encrypted."""
    return options.mode == "masked"


def mode(options: SecAgg) -> dt.Mode:
    """Which exponents the terms ask for."""
    return "full" if options.exponents == "full" else "short"


def fields(options: SecAgg, length: int) -> int:
    """Numbers that travel in ciphertexts: a mask's key, or all `length` values."""
    return kahe.DEGREE if masked(options) else length


def mask(options: SecAgg, members: int) -> kahe.Parameters:
    """What the updates of a round with so many members are masked with."""
    return kahe.parameters(members, options.bits)


def packing(options: SecAgg, parameters: dt.Parameters, members: int) -> dt.Packing:
    """How numbers lie in ciphertexts, so that those of so many members add up."""
    bound = kahe.SPREAD if masked(options) else 2 ** (options.bits - 1) - 1
    return dt.choose_packing(parameters, bound, members)


def half_limit(options: SecAgg, length: int, ids: int) -> int:
    """Bytes that no half of an opening reaches: what is longer is not even parsed.

    For each number of a cohort three times the at most 62 bits of its field; keys wrapped for every id.
    """
    most = (32 * fields(options, length) + blobs.REST << cohorts.DOUBLINGS) + options.modulus * ids
    return most + blobs.REST


def read_answers(
    parameters: dt.Parameters, opening: Opening, side: dt.Side, data: bytes, blob: bytes, *, limit: int
) -> Answers:
    """What the opened part `data` of a half `blob` holds, its proofs checked. Raises `Untrusted`."""
    body = encoding.decode(data, limit=limit)
    try:
        read = [(blobs.read_elements(parameters, data), bytes(memoryview(answer))) for data, answer in body]
    except (TypeError, ValueError) as e:
        raise blobs.malformed("half of an opening", blob) from e
    names = [encoding.digest(blobs.write_elements(parameters, elements)) for elements, _ in read]
    if names != [sums.keys for sums in opening.cohorts]:
        raise errors.Untrusted("it answers other products of ciphertexts than the opening's")
    return [
        (elements, _proven(parameters, elements, answer, side, blobs.answer_context(opening, k)))
        for k, (elements, answer) in enumerate(read)
    ]


@lru_cache(maxsize=16)
def _proven(
    parameters: dt.Parameters, elements: tuple[int, ...], data: bytes, side: dt.Side, context: bytes
) -> dt.Answer:
    """One side's answer to elements, its proof checked. Raises `Untrusted`."""
    answer = dt.read_answer(parameters, data, side, len(elements))
    dt.check_half(parameters, elements, answer, context)
    return answer


def plaintexts(parameters: dt.Parameters, right: Mapping[dt.Side, Answers]) -> Plaintexts:
    """What the answers of both sides give together."""
    return [
        _opened(parameters, elements, (answer, other))
        for (elements, answer), (_, other) in zip(*right.values(), strict=True)
    ]


@lru_cache(maxsize=8)
def _opened(
    parameters: dt.Parameters, elements: tuple[int, ...], answers: tuple[dt.Answer, ...]
) -> list[int] | errors.Untrusted:
    try:
        return dt.combine(parameters, elements, answers)
    except errors.Untrusted as e:
        return e


def total(
    options: SecAgg,
    parameters: dt.Parameters,
    numbers: list[int] | errors.Untrusted,
    wire: bytes | memoryview,
    *,
    seed: bytes,
    members: int,
    count: int,
    length: int,
    threads: int = 1,
    kernel: kahe.Kernel | None = None,
) -> Total:
    """The sum of `count` updates out of the round's `members`; `wire`: that of the masked ones. Raises `Untrusted`."""
    if isinstance(numbers, errors.Untrusted):
        raise numbers
    key = dt.unpack_sum(packing(options, parameters, members), numbers, fields(options, length), count)
    if not masked(options):
        return key
    drawn = mask(options, members)
    return kahe.unmask(drawn, seed, key, wire, length, count, threads=threads, kernel=kernel)


def secret(opening: Opening, found: Plaintexts) -> bytes:
    """32 bytes that only those know who know the sums of all keys."""
    numbers = [[] if isinstance(p, errors.Untrusted) else [m.to_bytes(1024, "big") for m in p] for p in found]
    return encoding.digest(
        encoding.encode(["hansa/secagg-release/1", opening.federation, opening.round, numbers])
    )


def encode_package(secret: bytes, sums: Iterable[Total | None], findings: Iterable[str]) -> bytes:
    """Canonical bytes of what an enclave opened; values little-endian, 8 bytes each."""
    written = [b"" if part is None else part.astype("<i8").tobytes() for part in sums]
    return encoding.encode([_PACKAGE, secret, written, list(findings)])


def package_limit(length: int) -> int:
    """Bytes that no package reaches."""
    return (8 * length + 1024 << cohorts.DOUBLINGS) + 1024


def read_package(data: bytes, length: int) -> tuple[tuple[Total | None, ...], bytes, tuple[str, ...]]:
    """Sums, secret and findings out of a package. Raises `Untrusted`."""
    value = encoding.decode(data, limit=package_limit(length))
    try:
        kind, secret, written, findings = value
        sound = kind == _PACKAGE and isinstance(secret, bytes) and len(secret) == 32
        sound = sound and all(len(part) in (0, 8 * length) for part in written)
        sound = sound and all(isinstance(text, str) for text in findings)
        read = tuple(np.frombuffer(part, "<i8").astype(np.int64) if part else None for part in written)
    except (TypeError, ValueError) as e:
        raise blobs.malformed("package of sums", data) from e
    if not sound:
        raise blobs.malformed("package of sums", data)
    return read, secret, tuple(findings)
