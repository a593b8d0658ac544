"""The aggregation rules of `protocol.aggregation` without a branch or an index that depends on the data.

A host sees which memory its enclave touches, and when. So each routine here makes the same calls on arrays, with the
same shapes and slices, whatever the numbers are: what is public is the rule, the sizes, the weights, and which
payloads were valid. The results are those of `protocol.aggregation`, bit for bit. `protocol.aggregation.WeightedSum`
needs no twin: it is a fixed sequence of multiplications and additions.

Sorting is Batcher's merge exchange (Knuth, "The Art of Computer Programming", volume 3, 5.2.2, algorithm M), whose
comparisons depend on the number of rows only. Selection is by rank: every value is compared with every other, and
what is wanted is summed under a mask. Squared distances are kept in three limbs, since they exceed 64 bits.

What stays: the norm of an update and the factor it is clipped by are single Python integers, whose arithmetic takes
a time that depends on their magnitude, and dividers of older processors are quicker for small numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hansa.crypto import fixedpoint
from hansa.protocol.aggregation import neighbours, trimmed
from hansa.records import AggregationTerms

Rows = Sequence[NDArray[np.int32]]
"""Dense updates of one length, by ascending id of their members."""

_CLIP_BITS: Final = 31
_CELLS: Final = 1 << 17
"""Cells (rows times columns) of a block: what is sorted at a time stays in the processor's cache."""

_LIMB: Final = 32
_LIMB_MASK: Final = (1 << _LIMB) - 1


def clip(values: NDArray[np.int32], bound: int) -> NDArray[np.int32]:
    """As `aggregation.clip`: at most `bound` long, in the vector's units."""
    square = fixedpoint.sum_of_squares(values)
    # For what is short enough the root is at least 2**31, and a factor of 2**31 changes nothing.
    root = math.isqrt((bound * bound << 2 * _CLIP_BITS) // max(square, 1))
    factor = min(root, 1 << _CLIP_BITS)
    out = np.empty_like(values)
    for part in fixedpoint.blocks(values.size):
        block = values[part].astype(np.int64)
        out[part] = np.sign(block) * ((np.abs(block) * factor) >> _CLIP_BITS)
    return out


@lru_cache(maxsize=8)
def exchanges(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs of rows to compare and exchange, in order, that sort `count` rows."""
    pairs = []
    top = 1 << max(count - 1, 0).bit_length() >> 1
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            q, r, d = q >> 1, p, q - p
        p >>= 1
    return tuple(pairs)


def _sorted_blocks(rows: Rows) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Blocks of columns, each column sorted."""
    count, length = len(rows), rows[0].size
    size = max(1, _CELLS // count)
    low = np.empty(size, np.int32)
    for part in fixedpoint.blocks(length, size):
        block = np.stack([row[part] for row in rows])
        smaller = low[: part.stop - part.start]
        for i, j in exchanges(count):
            np.minimum(block[i], block[j], out=smaller)
            np.maximum(block[i], block[j], out=block[j])
            block[i] = smaller
        yield part, block


def median(_terms: AggregationTerms, rows: Rows) -> NDArray[np.int32]:
    """Median of every coordinate; of an even number, the middle two's mean."""
    low, high = (len(rows) - 1) // 2, len(rows) // 2
    out = np.empty(rows[0].size, np.int32)
    for part, block in _sorted_blocks(rows):
        out[part] = fixedpoint.divide_half_away(np.add(block[low], block[high], dtype=np.int64), 2)
    return out


def trimmed_mean(terms: AggregationTerms, rows: Rows) -> NDArray[np.int32]:
    """Mean of every coordinate without the extremes. Raises `Misconfigured` when none is left."""
    cut, kept = trimmed(terms, len(rows))
    out = np.empty(rows[0].size, np.int32)
    for part, block in _sorted_blocks(rows):
        total = block[cut : cut + kept].sum(axis=0, dtype=np.int64)
        out[part] = fixedpoint.divide_half_away(total, kept)
    return out


def krum(terms: AggregationTerms, rows: Rows) -> NDArray[np.int32]:
    """The row nearest to its neighbours. Raises `Misconfigured` when there are too few rows."""
    return _mean_of(rows, krum_ranks(terms, rows) < 1, 1)


def multi_krum(terms: AggregationTerms, rows: Rows) -> NDArray[np.int32]:
    """The mean of the rows nearest to their neighbours. Raises `Misconfigured` when there are too few rows."""
    kept = neighbours(terms, len(rows))
    return _mean_of(rows, krum_ranks(terms, rows) < kept, kept)


RULES: Final[Mapping[str, Callable[[AggregationTerms, Rows], NDArray[np.int32]]]] = {
    "median": median,
    "trimmed-mean": trimmed_mean,
    "krum": krum,
    "multi-krum": multi_krum,
}
"""Rules that need all updates at once."""


def krum_ranks(terms: AggregationTerms, rows: Rows) -> NDArray[np.int64]:
    """Place of each row by its score: the sum of squared distances to its nearest; ties go to the lower row."""
    near = neighbours(terms, len(rows))
    limbs = squared_distances(rows)
    count = len(rows)
    scores = np.zeros((count, 3), np.int64)
    for i in range(count):
        others = np.delete(limbs[i], i, axis=0)
        nearest = _ranks(others) < near
        scores[i] = _normalised(*(others * nearest[:, None]).sum(axis=0)[:, None])[0]
    return _ranks(scores)


def squared_distances(rows: Rows) -> NDArray[np.int64]:
    """Exact squared distances of all pairs, (rows, rows, 3): limbs of 32 bits from the highest.

    As `fixedpoint.squared_distances`: products of signed halves of 16 bits are exact in float64. For up to 2**28
    values their sums, of differences too, stay below 2**62.
    """
    count, length = len(rows), rows[0].size
    grams = np.zeros((3, count, count), np.int64)
    for part in fixedpoint.blocks(length, max(1, _CELLS // count)):
        block = np.stack([row[part] for row in rows]).astype(np.int64)
        low = ((block + 2**15) & 0xFFFF) - 2**15
        high = ((block - low) >> 16).astype(np.float64)
        low = low.astype(np.float64)
        cross = high @ low.T
        for gram, product in zip(grams, (high @ high.T, cross + cross.T, low @ low.T), strict=True):
            gram += product.astype(np.int64)
    squares = np.diagonal(grams, axis1=1, axis2=2)
    high, middle, low = squares[:, :, None] + squares[:, None, :] - 2 * grams
    # middle counts 2**16: its lower half goes to the lowest limb, the rest to the one above.
    return _normalised(np.zeros_like(high), high + (middle >> 16), low + ((middle & 0xFFFF) << 16))


def _normalised(
    high: NDArray[np.int64], middle: NDArray[np.int64], low: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Limbs stacked on the last axis, the lower two between 0 and 2**32."""
    middle = middle + (low >> _LIMB)
    high = high + (middle >> _LIMB)
    return np.stack([high, middle & _LIMB_MASK, low & _LIMB_MASK], axis=-1)


def _ranks(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of numbers in limbs (count, 3), ascending; of equal ones, the lower position first."""
    position = np.arange(len(numbers))
    before = position[None, :] < position[:, None]
    for limb in numbers.T[::-1]:
        mine, other = limb[:, None], limb[None, :]
        before = (other < mine) | ((other == mine) & before)
    places: NDArray[np.int64] = before.sum(axis=1, dtype=np.int64)
    return places


def _mean_of(rows: Rows, chosen: NDArray[np.bool_], count: int) -> NDArray[np.int32]:
    """Mean of the `count` rows that are chosen; all are read."""
    mask = chosen.astype(np.int64)
    out = np.empty(rows[0].size, np.int32)
    for part in fixedpoint.blocks(out.size):
        total = np.zeros(part.stop - part.start, np.int64)
        for i, row in enumerate(rows):
            total += row[part] * mask[i]
        out[part] = fixedpoint.divide_half_away(total, count)
    return out
