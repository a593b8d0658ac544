"""The kernel in numpy: 64-bit integers that may wrap around.

a*w mod p is a*w - q*p, where q is a*w/p cut to an integer by floating point, which may be off by one. Both
products are taken modulo 2**64; their difference is small, so it is exact. Elements stay below 13 primes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.crypto.kahe.kernel import Planes
from hansa.crypto.kahe.parameters import DEGREE, SPREAD
from hansa.crypto.kahe.ring import Ring

DTYPE = np.int64

_Ints = NDArray[np.int64]
_1, _2, _4, _56 = (np.uint64(n) for n in (1, 2, 4, 56))
_PAIRS, _NIBBLES, _BYTES, _ONES = (np.uint64(byte * 0x0101_0101_0101_0101) for byte in (0x55, 0x33, 0x0F, 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Factors:
    """Constant factors and, for the quotient, each divided by the prime."""

    values: _Ints
    ratios: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    prime: int
    roots: _Factors
    inverse_roots: _Factors
    inverse_degree: _Factors


def prepare(ring: Ring) -> _Prepared:
    """See `Kernel`."""
    p = ring.prime
    degree = np.array([ring.inverse_degree], np.int64)
    return _Prepared(p, _factors(ring.roots, p), _factors(ring.inverse_roots, p), _factors(degree, p))


def key(prepared: _Prepared, secret: _Ints, lanes: int) -> _Factors:
    """See `Kernel`."""
    transformed = secret.astype(np.int64)
    forward(prepared, transformed)
    transformed %= prepared.prime
    transformed -= prepared.prime * (transformed > prepared.prime // 2)
    return _factors(np.repeat(transformed, lanes), prepared.prime)


def excess(planes: Planes, prime: int) -> int:
    """See `Kernel`."""
    return int(np.count_nonzero(_join(planes) >= prime))


def encode(values: NDArray[np.int32], bound: int, coins: NDArray[np.uint64], delta: int, out: _Ints) -> int:
    """See `Kernel`."""
    out[:] = ones(coins)
    out -= SPREAD
    out[: values.size] += values.astype(np.int64) * delta
    return int(np.count_nonzero((values > bound) | (values < -bound)))


def ones(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """How many bits of each word are set. Compilers know this form, and may use an instruction for it."""
    words = words - ((words >> _1) & _PAIRS)
    words = (words & _NIBBLES) + ((words >> _2) & _NIBBLES)
    words = (words + (words >> _4)) & _BYTES
    return (words * _ONES) >> _56


def forward(prepared: _Prepared, elements: _Ints) -> None:
    """See `Kernel`."""
    blocks = 1
    while blocks < DEGREE:
        halves = elements.reshape(blocks, 2, -1)
        upper = halves[:, 0].copy()
        lower = _times(halves[:, 1], _block_factors(prepared.roots, blocks), prepared.prime)
        np.add(upper, lower, out=halves[:, 0])
        np.subtract(upper, lower, out=halves[:, 1])
        blocks *= 2


def inverse(prepared: _Prepared, elements: _Ints) -> None:
    """See `Kernel`."""
    p = prepared.prime
    blocks = DEGREE // 2
    while blocks:
        halves = elements.reshape(blocks, 2, -1)
        difference = halves[:, 0] - halves[:, 1]
        np.remainder(halves[:, 0] + halves[:, 1], p, out=halves[:, 0])
        halves[:, 1] = _times(difference, _block_factors(prepared.inverse_roots, blocks), p)
        blocks //= 2
    elements[:] = _times(elements, prepared.inverse_degree, p)


def blind(prepared: _Prepared, elements: _Ints, public: Planes, key: _Factors, out: Planes) -> None:
    """See `Kernel`."""
    _split((elements + _times(_join(public), key, prepared.prime)) % prepared.prime, out)


def unblind(prepared: _Prepared, masked: Planes, public: Planes, key: _Factors, out: _Ints) -> None:
    """See `Kernel`."""
    np.subtract(_join(masked), _times(_join(public), key, prepared.prime), out=out)


def decode(prepared: _Prepared, elements: _Ints, delta: int, out: _Ints) -> tuple[int, int]:
    """See `Kernel`."""
    p, shift = prepared.prime, delta.bit_length() - 1
    elements %= p
    elements -= p * (elements > p // 2)
    np.right_shift(elements + delta // 2, shift, out=out)
    noise = elements - (out << shift)
    return int(np.abs(noise).max()), int(np.abs(out).max())


def accumulate(planes: Planes, prime: int, sums: NDArray[np.uint64]) -> int:
    """See `Kernel`."""
    words = _join(planes)
    sums += words.view(np.uint64)
    return int(np.count_nonzero(words >= prime))


def reduce(sums: NDArray[np.uint64], prime: int, out: Planes) -> None:
    """See `Kernel`."""
    residues = sums.astype(np.int64)
    residues -= (residues * (1 / prime)).astype(np.int64) * prime  # may be off by one prime
    residues += prime * (residues < 0)
    residues -= prime * (residues >= prime)
    _split(residues, out)


def _join(planes: Planes) -> _Ints:
    low, high = planes
    words = low.astype(np.int64)
    if high.size:
        words += high.astype(np.int64) << 32
    return words


def _split(words: _Ints, out: Planes) -> None:
    low, high = out
    low[:] = words & 0xFFFF_FFFF
    if high.size:
        high[:] = words >> 32


def _factors(values: _Ints, prime: int) -> _Factors:
    return _Factors(values, values / prime)


def _block_factors(roots: _Factors, blocks: int) -> _Factors:
    part = slice(blocks, 2 * blocks)
    return _Factors(roots.values[part, None], roots.ratios[part, None])


def _times(elements: _Ints, factors: _Factors, prime: int) -> _Ints:
    """A representative of the product, within about one prime of zero."""
    quotients = (elements * factors.ratios).astype(np.int64)
    quotients *= prime
    return elements * factors.values - quotients
