"""The kernel in compiled loops, on doubles that hold integers exactly.

a*w mod p with fused multiply-add, which rounds once: h = round(a*w) and l = fma(a, w, -h) give a*w = h + l
without error, and with q near a*w/p, fma(-q, p, h) + l is a*w - q*p without error, since it is an integer of
less than 53 bits. For this |a| stays below 2**51 (8 primes) and |w| below half a prime.

A processor without the instruction calls the C library's `fma`, which rounds as the standard demands: slow,
with the same bits. Nothing else here depends on rounding, and the compiler may not contract or reorder: no
`fastmath`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hansa.crypto.kahe import kernel_numpy
from hansa.crypto.kahe.kernel import High
from hansa.crypto.kahe.parameters import DEGREE, SPREAD
from hansa.crypto.kahe.ring import Ring

DTYPE = np.float64

_Doubles = NDArray[np.float64]
_Prepared = tuple[float, _Doubles, _Doubles, _Doubles, _Doubles, float]
"""Prime; roots and roots / prime; inverse roots likewise; inverse of the degree."""
_Key = tuple[_Doubles, _Doubles]
"""Transformed secret; the same / prime."""
_F = TypeVar("_F", bound=Callable[..., Any])

_TO_INTEGER = 1.5 * 2.0**52
"""Added and taken away again it rounds a double below 2**51 to the nearest integer."""
_TWO_32 = 2.0**32


def _compiled(function: _F) -> _F:
    try:
        return cast(_F, njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder to keep compiled code in
        return cast(_F, njit(nogil=True)(function))


def _typed_fma(_context: Any, _x: Any, _y: Any, _z: Any) -> Any:
    """x * y + z, rounded once: the one instruction that numba does not offer."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), generate


_fma: Any = intrinsic(_typed_fma)


@_compiled
def _times(a: float, w: float, ratio: float, p: float) -> Any:
    """a * w modulo p, within 0.63 p of zero; ratio = w / p."""
    q = _fma(a, ratio, _TO_INTEGER) - _TO_INTEGER
    h = a * w
    return _fma(-q, p, h) + _fma(a, w, -h)


@_compiled
def _nearest(a: float, one_ratio: float, p: float) -> Any:
    """a modulo p, within half a prime (and a little) of zero; one_ratio = 1 / p."""
    q = _fma(a, one_ratio, _TO_INTEGER) - _TO_INTEGER
    return _fma(-q, p, a)


def prepare(ring: Ring) -> _Prepared:
    """See `Kernel`."""
    roots, inverse_roots = ring.roots.astype(np.float64), ring.inverse_roots.astype(np.float64)
    p = float(ring.prime)
    return p, roots, roots / p, inverse_roots, inverse_roots / p, float(ring.inverse_degree)


def key(prepared: _Prepared, secret: NDArray[np.int64]) -> _Key:
    """See `Kernel`."""
    p = prepared[0]
    transformed = secret.astype(np.float64)
    forward(prepared, transformed)
    transformed = np.remainder(transformed, p)  # exact, as in every `fmod`
    transformed -= p * (transformed > p / 2)
    return transformed, transformed / p


@_compiled
def join(low: NDArray[np.uint32], high: High, prime: int, out: _Doubles) -> int:
    """See `Kernel`."""
    p, excess = float(prime), 0
    if high.size == 0:
        for i in range(out.size):
            word = float(low[i])
            out[i] = word
            excess += int(word >= p)
    else:
        for i in range(out.size):
            word = float(high[i]) * _TWO_32 + float(low[i])
            out[i] = word
            excess += int(word >= p)
    return excess


@_compiled
def split(elements: _Doubles, low: NDArray[np.uint32], high: High) -> None:
    """See `Kernel`."""
    if high.size == 0:
        for i in range(elements.size):
            low[i] = np.uint32(elements[i])
    else:
        for i in range(elements.size):
            upper = np.uint32(elements[i] * (1 / _TWO_32))
            low[i] = np.uint32(elements[i] - float(upper) * _TWO_32)
            high[i] = upper


_ones = _compiled(kernel_numpy.ones)


@_compiled
def encode(values: NDArray[np.int32], coins: NDArray[np.uint64], delta: int, out: _Doubles) -> None:
    """See `Kernel`."""
    for i in range(values.size):
        noise = np.int32(_ones(coins[i])) - SPREAD
        out[i] = float(values[i]) * float(delta) + float(noise)
    for i in range(values.size, out.size):
        out[i] = float(np.int32(_ones(coins[i])) - SPREAD)


@_compiled
def _forward(p: float, roots: _Doubles, ratios: _Doubles, elements: _Doubles) -> None:
    half = elements.size // 2
    blocks = 1
    while blocks < DEGREE:
        for block in range(blocks):
            start = 2 * half * block
            upper = elements[start : start + half]
            lower = elements[start + half : start + 2 * half]
            w, ratio = roots[blocks + block], ratios[blocks + block]
            for i in range(half):
                a, b = upper[i], _times(lower[i], w, ratio, p)
                upper[i] = a + b
                lower[i] = a - b
        half //= 2
        blocks *= 2


def forward(prepared: _Prepared, elements: _Doubles) -> None:
    """See `Kernel`."""
    p, roots, ratios, *_ = prepared
    _forward(p, roots, ratios, elements)


@_compiled
def _inverse(p: float, roots: _Doubles, ratios: _Doubles, degree: float, elements: _Doubles) -> None:
    half = elements.size // DEGREE
    blocks = DEGREE // 2
    one_ratio = 1 / p
    while blocks:
        for block in range(blocks):
            start = 2 * half * block
            upper = elements[start : start + half]
            lower = elements[start + half : start + 2 * half]
            w, ratio = roots[blocks + block], ratios[blocks + block]
            for i in range(half):
                a, b = upper[i], lower[i]
                upper[i] = _nearest(a + b, one_ratio, p)
                lower[i] = _times(a - b, w, ratio, p)
        half *= 2
        blocks //= 2
    degree_ratio = degree / p
    for i in range(elements.size):
        elements[i] = _times(elements[i], degree, degree_ratio, p)


def inverse(prepared: _Prepared, elements: _Doubles) -> None:
    """See `Kernel`."""
    p, _, _, roots, ratios, degree = prepared
    _inverse(p, roots, ratios, degree, elements)


@_compiled
def _blind(p: float, elements: _Doubles, public: _Doubles, key: _Doubles, ratios: _Doubles) -> None:
    lanes = elements.size // DEGREE
    one_ratio = 1 / p
    for row in range(DEGREE):
        w, ratio = key[row], ratios[row]
        here, there = elements[row * lanes : (row + 1) * lanes], public[row * lanes : (row + 1) * lanes]
        for i in range(lanes):
            residue = _nearest(here[i] + _times(there[i], w, ratio, p), one_ratio, p)
            here[i] = residue + p if residue < 0 else residue


def blind(prepared: _Prepared, elements: _Doubles, public: _Doubles, key: _Key) -> None:
    """See `Kernel`."""
    _blind(prepared[0], elements, public, *key)


@_compiled
def _unblind(p: float, elements: _Doubles, public: _Doubles, key: _Doubles, ratios: _Doubles) -> None:
    lanes = elements.size // DEGREE
    for row in range(DEGREE):
        w, ratio = key[row], ratios[row]
        here, there = elements[row * lanes : (row + 1) * lanes], public[row * lanes : (row + 1) * lanes]
        for i in range(lanes):
            here[i] -= _times(there[i], w, ratio, p)


def unblind(prepared: _Prepared, elements: _Doubles, public: _Doubles, key: _Key) -> None:
    """See `Kernel`."""
    _unblind(prepared[0], elements, public, *key)


@_compiled
def _decode(p: float, elements: _Doubles, delta: float, out: NDArray[np.int64]) -> tuple[Any, Any]:
    one_ratio, inverse_delta, half = 1 / p, 1 / delta, delta / 2
    worst_noise, worst_value = np.int64(0), np.int64(0)
    for i in range(elements.size):
        element = _nearest(elements[i], one_ratio, p)
        value = np.floor((element + half) * inverse_delta)  # exact: delta is a power of two
        out[i] = np.int64(value)
        worst_noise = max(worst_noise, abs(np.int64(element - value * delta)))
        worst_value = max(worst_value, abs(np.int64(value)))
    return worst_noise, worst_value


def decode(prepared: _Prepared, elements: _Doubles, delta: int, out: NDArray[np.int64]) -> tuple[int, int]:
    """See `Kernel`."""
    return _decode(prepared[0], elements, float(delta), out)


@_compiled
def accumulate(low: NDArray[np.uint32], high: High, prime: int, sums: NDArray[np.uint64]) -> int:
    """See `Kernel`."""
    p, excess = np.uint64(prime), 0
    if high.size == 0:
        for i in range(sums.size):
            word = np.uint64(low[i])
            sums[i] += word
            excess += int(word >= p)
    else:
        for i in range(sums.size):
            word = np.uint64(low[i]) | (np.uint64(high[i]) << np.uint64(32))
            sums[i] += word
            excess += int(word >= p)
    return excess


@_compiled
def reduce(sums: NDArray[np.uint64], prime: int, low: NDArray[np.uint32], high: High) -> None:
    """See `Kernel`."""
    one_ratio = 1 / prime
    for i in range(sums.size):
        residue = np.int64(sums[i])
        residue -= np.int64(float(residue) * one_ratio) * prime  # may be off by one prime
        residue += prime if residue < 0 else 0
        residue -= prime if residue >= prime else 0
        low[i] = np.uint32(residue & 0xFFFF_FFFF)
        if high.size:
            high[i] = residue >> 32
