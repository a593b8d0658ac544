"""Updates: top-gamma selection with error feedback, canonical bytes, and checks on those of others.

The body holds, for a sparse update, the gaps between indices, then the values. Both are arrays of uint32,
the values in zigzag form (0, -1, 1, -2, ...), written as four planes of bytes from the lowest to the highest:
small numbers then leave planes of zeros, and a quick zstandard pass (RFC 8878) halves a typical update. It is
used where it makes the body smaller. One release of zstandard gives one update one encoding; another may pack
differently, which is harmless, since members sign the digest of the bytes that they made.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto import fixedpoint
from hansa.protocol import framing
from hansa.records import Limits, Update

_KIND = "hansa/update/1"
_SAID = {
    "federation": bytes,
    "round": int,
    "member": int,
    "version": int,
    "base": bytes,
    "examples": int,
    "millis": int,
    "timestamp": int,
    "length": int,
}
"""Fields of `records.Update` that the header carries."""

_FIELDS = {**_SAID, "count": int, "sparse": bool, "packed": bool}
_HEADER_LIMIT = 1024
_LEVEL = 1
_CELL = 4


def top_gamma(
    delta: NDArray[np.int32], residual: NDArray[np.int32] | None, gamma: float
) -> tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.int32]]:
    """Keep the ceil(gamma * d) largest magnitudes of delta + residual; ties go to the lowest index.

    Gives ascending indices, their values, and the rest, which is the next residual (error feedback: Stich,
    Cordonnier, Jaggi, "Sparsified SGD with Memory", 2018). Sums saturate at int32. Takes O(d).
    Raises `Misconfigured` unless 0 < gamma <= 1 and both vectors have one length.
    """
    if not 0 < gamma <= 1:
        raise errors.Misconfigured(f"gamma = {gamma} is not in (0, 1]", hint="Use 1.0 to send every value.")
    if residual is not None and residual.shape != delta.shape:
        raise errors.Misconfigured(f"residual of {residual.size} values for a delta of {delta.size}")
    total = delta.copy()
    if residual is not None:
        for part in fixedpoint.blocks(delta.size):
            total[part] = fixedpoint.saturate(np.add(delta[part], residual[part], dtype=np.int64))
    keep = _share(gamma, delta.size)
    indices = _largest(total, keep).astype(np.uint32)
    values = total[indices]
    total[indices] = 0
    return indices, values, total


def _largest(values: NDArray[np.int32], keep: int) -> NDArray[np.intp]:
    """Ascending positions of the `keep` largest magnitudes. Only the threshold comes from the partition."""
    if keep == values.size:
        return np.arange(keep)
    # As uint32, the wrapped magnitude of -2**31 is 2**31.
    magnitudes = np.abs(values).view(np.uint32)
    threshold = np.partition(magnitudes, values.size - keep)[values.size - keep]
    chosen = magnitudes > threshold
    ties = np.flatnonzero(magnitudes == threshold)
    chosen[ties[: keep - int(np.count_nonzero(chosen))]] = True
    return np.flatnonzero(chosen)


def encode_update(update: Update) -> bytes:
    """Canonical bytes of an update."""
    sparse = update.indices is not None
    plain = _to_planes(_zigzag(update.values))
    if update.indices is not None:
        plain = _to_planes(_gaps(update.indices)) + plain
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
    smaller = len(packed) < len(plain)
    header: dict[str, Any] = {name: getattr(update, name) for name in _SAID}
    header |= {"count": update.values.size, "sparse": sparse, "packed": smaller}
    return framing.pack(_KIND, header, packed if smaller else plain)


def decode_update(data: bytes, *, limits: Limits, length: int) -> Update:
    """Read an update for a model of `length` values.

    Raises `Untrusted` (with the digest) when the bytes exceed the limits or what an update of this length can
    need, when header, counts or sizes do not fit each other, and when indices leave the model. A packed body
    must announce exactly the size that its header demands; that is checked before it is unpacked.
    """
    with framing.evidence(data):
        bound = min(limits.blob, _HEADER_LIMIT + 2 * _CELL * length + _CELL)
        if len(data) > bound:
            raise errors.Untrusted(f"update of {len(data)} bytes exceeds the limit of {bound}")
        header, body = framing.unpack(data, _KIND, _FIELDS, limit=_HEADER_LIMIT)
        count, sparse, packed = header.pop("count"), header.pop("sparse"), header.pop("packed")
        if header["length"] != length:
            raise errors.Untrusted(f"update for a model of {header['length']} values, not {length}")
        if len(header["federation"]) != 32 or len(header["base"]) != 32:
            raise errors.Untrusted("federation and base of an update have 32 bytes each")
        if not all(0 <= header[name] < 2**63 for name, kind in _SAID.items() if kind is int):
            raise errors.Untrusted("a number of the update is negative or too large")
        if not 0 <= count <= length or (not sparse and count != length):
            raise errors.Untrusted(f"update has {count} values for a model of {length}")
        plain = _unpack_body(body, count * _CELL * (1 + sparse), packed)
        values = _unzigzag(_from_planes(plain[-count * _CELL :] if count else b""))
        indices = _indices(_from_planes(plain[: count * _CELL]), length) if sparse else None
        return Update(**header, values=values, indices=indices)


def check_update(
    update: Update,
    *,
    federation: bytes,
    round: int,
    member: int,
    version: int,
    base: bytes,
    length: int,
    examples: int,
    millis: int,
    timestamp: int,
) -> None:
    """Hold an update against what its member committed to on the chain.

    Raises `Untrusted` naming the first field that differs, and when the values do not fit `length`.
    """
    committed = {
        "federation": federation,
        "round": round,
        "member": member,
        "version": version,
        "base": base,
        "length": length,
        "examples": examples,
        "millis": millis,
        "timestamp": timestamp,
    }
    for name, expected in committed.items():
        found = getattr(update, name)
        if found != expected:
            shown = (v.hex()[:16] if isinstance(v, bytes) else v for v in (found, expected))
            raise errors.Untrusted(
                "the update says {} = {}, its commitment {}".format(name, *shown),
                hint="Its author sent a stale, copied or altered update.",
            )
    if update.values.size != (length if update.indices is None else update.indices.size):
        raise errors.Untrusted(f"update of {update.values.size} values does not fit a model of {length}")


def check_usable(update: Update, gamma: float) -> None:
    """Refuse an update that the terms' aggregation could not take, whatever its author signed.

    Raises `Untrusted` when it claims no examples, is sparse where the terms want it dense or the other way
    round, or holds more than the top-gamma share.
    """
    if update.examples < 1:
        raise errors.Untrusted("the update claims to come from no examples")
    if (update.indices is None) != (gamma == 1):
        kind = "dense" if update.indices is None else "sparse"
        raise errors.Untrusted(f"the update is {kind} where gamma is {gamma}")
    if update.values.size > _share(gamma, update.length):
        raise errors.Untrusted(f"the update holds {update.values.size} values, too many for gamma = {gamma}")


@lru_cache(maxsize=8)
def _share(gamma: float, length: int) -> int:
    # The decimal fraction that the terms state, so that 0.07 of 100 is 7 and not 8.
    return math.ceil(Fraction(str(gamma)) * length)


def _unpack_body(body: memoryview, size: int, packed: bool) -> bytes | memoryview:
    if not packed:
        if len(body) != size:
            raise errors.Untrusted(f"body of {len(body)} bytes where {size} are due")
        return body
    if len(body) >= size:
        raise errors.Untrusted("packed body is not smaller than the plain one")
    try:
        announced = zstandard.get_frame_parameters(body).content_size
        if announced != size:
            raise errors.Untrusted(f"packed body announces {announced} bytes where {size} are due")
        plain = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise errors.Untrusted(f"packed body cannot be read: {e}") from e
    if len(plain) != size:
        raise errors.Untrusted(f"packed body holds {len(plain)} bytes where {size} are due")
    return plain


def _to_planes(numbers: NDArray[np.uint32]) -> bytes:
    cells = numbers.astype("<u4", copy=False).view(np.uint8).reshape(-1, _CELL)
    planes = np.empty((_CELL, numbers.size), np.uint8)
    for k in range(_CELL):  # Three times as fast as numpy's own transposition.
        planes[k] = cells[:, k]
    return planes.tobytes()


def _from_planes(data: bytes | memoryview) -> NDArray[np.uint32]:
    planes = np.frombuffer(data, np.uint8).reshape(_CELL, -1)
    cells = np.empty((planes.shape[1], _CELL), np.uint8)
    for k in range(_CELL):
        cells[:, k] = planes[k]
    return cells.reshape(-1).view("<u4").astype(np.uint32, copy=False)


def _zigzag(values: NDArray[np.int32]) -> NDArray[np.uint32]:
    return (values.view(np.uint32) << np.uint32(1)) ^ (values >> np.int32(31)).view(np.uint32)


def _unzigzag(numbers: NDArray[np.uint32]) -> NDArray[np.int32]:
    # 0 - 1 wraps to all ones in uint32, which flips every bit of a negative number's magnitude.
    return ((numbers >> np.uint32(1)) ^ (np.uint32(0) - (numbers & np.uint32(1)))).view(np.int32)


def _gaps(indices: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Distances between ascending indices, less one: every sequence of gaps stands for ascending indices."""
    gaps = indices.copy()
    gaps[1:] -= indices[:-1] + np.uint32(1)
    return gaps


def _indices(gaps: NDArray[np.uint32], length: int) -> NDArray[np.uint32]:
    indices = np.cumsum(gaps, dtype=np.uint64) + np.arange(gaps.size, dtype=np.uint64)
    if indices.size and int(indices[-1]) >= length:
        raise errors.Untrusted(f"index {int(indices[-1])} lies outside a model of {length} values")
    return indices.astype(np.uint32)
