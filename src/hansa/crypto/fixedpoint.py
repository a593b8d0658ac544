"""Fixed-point vectors: an int32 x stands for x * 2**-scale. All arithmetic is exact or says how it rounds.

Work goes block by block, so that temporaries stay in the processor's cache and memory does not grow with
the vector. Results do not depend on the block size, the machine or the order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hansa import errors

MAX_SCALE = 30
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
BLOCK = 1 << 14
"""Elements a block: an int64 temporary takes 128 KiB."""

_GRAM_CELLS = 1 << 20
"""Cells (rows times columns) of a block of `squared_distances`."""


def blocks(length: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cut a vector of `length` elements into blocks of `size`."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def quantise(array: NDArray[np.floating], scale: int) -> tuple[NDArray[np.int32], int]:
    """Flat int32 vector of `array` in units of 2**-scale, and the number of saturated values.

    Rounds half to even. Float16, float32 and float64 give what exact arithmetic would give.
    Raises `Untrusted` on NaN and infinity.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    out = np.empty(flat.size, np.int32)
    saturated = 0
    for part in blocks(flat.size):
        block = flat[part].astype(np.float64)
        if not np.isfinite(block).all():
            raise errors.Untrusted(
                "a parameter is NaN or infinite", hint="Training diverged: lower the learning rate."
            )
        # A power of two changes the exponent only. 2.0**1023 * 2**30 overflows to infinity, which saturates.
        with np.errstate(over="ignore"):
            np.multiply(block, 2.0**scale, out=block)
        np.rint(block, out=block)
        if block.min() < INT32_MIN or block.max() > INT32_MAX:
            saturated += int(np.count_nonzero((block < INT32_MIN) | (block > INT32_MAX)))
            np.clip(block, INT32_MIN, INT32_MAX, out=block)
        out[part] = block
    return out, saturated


def dequantise(values: NDArray[np.int32], scale: int) -> NDArray[np.float32]:
    """Nearest float32 of every value (half to even)."""
    out = np.empty(values.size, np.float32)
    for part in blocks(values.size):
        np.multiply(values[part], 2.0**-scale, out=out[part], dtype=np.float64, casting="same_kind")
    return out


def saturate(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """Clip int64 to the range of int32."""
    return np.clip(values, INT32_MIN, INT32_MAX).astype(np.int32)


def sum_of_squares(values: NDArray[np.int32]) -> int:
    """Exact squared Euclidean norm, for any int32 input."""
    total = 0
    for part in blocks(values.size):
        block = values[part].astype(np.int64)
        squares = block * block
        # A square has up to 62 bits, so the sum of a block is taken in two halves.
        total += (int((squares >> 32).sum()) << 32) + int((squares & 0xFFFF_FFFF).sum())
    return total


def squared_distances(rows: Sequence[NDArray[np.int32]]) -> list[list[int]]:
    """Exact squared distances between all pairs of vectors of one length.

    |a-b|^2 = |a|^2 + |b|^2 - 2ab. Every value is cut into two signed halves of 16 bits. Products of halves,
    summed over a block, are integers below 2**51, so float64 matrix products are exact in any order: this is
    as fast as BLAS, and its temporaries do not grow with the vectors.
    """
    count, length = len(rows), rows[0].size
    high_high, high_low, low_low = (np.zeros((count, count), object) for _ in range(3))
    for part in blocks(length, max(1, _GRAM_CELLS // count)):
        block = np.stack([row[part] for row in rows]).astype(np.int64)
        low = ((block + 2**15) & 0xFFFF) - 2**15
        high = ((block - low) >> 16).astype(np.float64)
        low = low.astype(np.float64)
        high_high += (high @ high.T).astype(np.int64).astype(object)
        high_low += (high @ low.T).astype(np.int64).astype(object)
        low_low += (low @ low.T).astype(np.int64).astype(object)
    gram = (high_high * 2**32) + ((high_low + high_low.T) * 2**16) + low_low
    return [[int(gram[i, i] + gram[j, j] - 2 * gram[i, j]) for j in range(count)] for i in range(count)]


def divide_half_away(numerator: NDArray[np.int64], denominator: int) -> NDArray[np.int64]:
    """numerator / denominator to the nearest integer, halves away from zero.

    Demands |numerator| <= 2**62 and 0 < denominator <= 2**62.
    """
    shifted = numerator + denominator // 2
    if denominator % 2 == 0:
        # Only an even denominator has halves; -1 for a negative numerator sends them down.
        shifted += numerator >> 63
    np.floor_divide(shifted, denominator, out=shifted)
    return shifted


def divide_wide_half_away(
    whole: NDArray[np.int64], fraction: NDArray[np.int64], denominator: int
) -> NDArray[np.int64]:
    """(whole * 2**16 + fraction) / denominator, rounded as in `divide_half_away`, without overflow.

    Demands 0 < denominator < 2**46, |fraction| < 2**61 and a quotient that fits int64: long division.
    """
    quotient = np.floor_divide(whole, denominator)
    rest = ((whole - quotient * denominator) << 16) + fraction
    carry = np.floor_divide(rest, denominator)
    return _round_half_away((quotient << 16) + carry, rest - carry * denominator, denominator)


def square_roots(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Floor of the square root of every value; 0 <= value <= 2**62."""
    # float64 is off by at most one here; two comparisons make it exact on every machine.
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    root += (root + 1) * (root + 1) <= values
    return root


def _round_half_away(
    floor: NDArray[np.int64], remainder: NDArray[np.int64], denominator: int
) -> NDArray[np.int64]:
    """Nearest integer from a floor quotient; a half goes up for positive values, down for negative ones."""
    twice = 2 * remainder
    floor += (twice > denominator) | ((twice == denominator) & (floor >= 0))
    return floor
