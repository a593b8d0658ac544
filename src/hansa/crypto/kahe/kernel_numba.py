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
from hansa.crypto.kahe.kernel import High, Planes
from hansa.crypto.kahe.parameters import DEGREE, SPREAD
from hansa.crypto.kahe.ring import Ring

DTYPE = np.float64

_Doubles = NDArray[np.float64]
_Prepared = tuple[float, _Doubles, _Doubles, _Doubles, _Doubles, float]
"""Prime; roots and roots / prime; inverse roots likewise; inverse of the degree."""
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


def key(prepared: _Prepared, secret: NDArray[np.int64], lanes: int) -> _Doubles:
    """See `Kernel`."""
    p = prepared[0]
    transformed = secret.astype(np.float64)
    forward(prepared, transformed)
    transformed = np.remainder(transformed, p)  # exact, as in every `fmod`
    transformed -= p * (transformed > p / 2)
    return np.repeat(transformed, lanes)


@_compiled
def _word(low: NDArray[np.uint32], high: High, i: int) -> Any:
    if high.size:
        return np.int64(low[i]) | (np.int64(high[i]) << 32)
    return np.int64(low[i])


@_compiled
def _residue(low: NDArray[np.uint32], high: High, i: int) -> Any:
    if high.size:
        return float(high[i]) * _TWO_32 + float(low[i])
    return float(low[i])


@_compiled
def _excess(low: NDArray[np.uint32], high: High, prime: int) -> Any:
    excess = 0
    for i in range(low.size):
        excess += int(_word(low, high, i) >= prime)
    return excess


def excess(planes: Planes, prime: int) -> int:
    """See `Kernel`."""
    return _excess(*planes, prime)  # type: ignore[no-any-return]


_ones = _compiled(kernel_numpy.ones)


@_compiled
def _encode(
    values: NDArray[np.int32], bound: int, coins: NDArray[np.uint64], delta: float, out: _Doubles
) -> Any:
    beyond = 0
    for i in range(values.size):
        noise = np.int32(_ones(coins[i])) - SPREAD
        out[i] = float(values[i]) * delta + float(noise)
        beyond += int((values[i] > bound) | (values[i] < -bound))
    for i in range(values.size, out.size):
        out[i] = float(np.int32(_ones(coins[i])) - SPREAD)
    return beyond


def encode(
    values: NDArray[np.int32], bound: int, coins: NDArray[np.uint64], delta: int, out: _Doubles
) -> int:
    """See `Kernel`."""
    return _encode(values, bound, coins, float(delta), out)  # type: ignore[no-any-return]


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
    # Two stages at once: sums double at each, and are brought back every second time.
    one_ratio = 1 / p
    quarter = elements.size // DEGREE
    blocks = DEGREE // 4
    while blocks > 1:
        for block in range(blocks):
            start, root = 4 * quarter * block, blocks + block
            x0 = elements[start : start + quarter]
            x1 = elements[start + quarter : start + 2 * quarter]
            x2 = elements[start + 2 * quarter : start + 3 * quarter]
            x3 = elements[start + 3 * quarter : start + 4 * quarter]
            w, ratio = roots[root], ratios[root]
            w0, ratio0, w1, ratio1 = (
                roots[2 * root],
                ratios[2 * root],
                roots[2 * root + 1],
                ratios[2 * root + 1],
            )
            for i in range(quarter):
                a, b = x0[i] + x1[i], x2[i] + x3[i]
                c, d = _times(x0[i] - x1[i], w0, ratio0, p), _times(x2[i] - x3[i], w1, ratio1, p)
                x0[i], x2[i] = _nearest(a + b, one_ratio, p), _times(a - b, w, ratio, p)
                x1[i], x3[i] = c + d, _times(c - d, w, ratio, p)
        quarter *= 4
        blocks //= 4
    # The last stage, and the division by the degree.
    half = elements.size // 2
    w = _times(roots[1], degree, degree / p, p)
    degree_ratio, ratio = degree / p, w / p
    upper, lower = elements[:half], elements[half:]
    for i in range(half):
        a, b = upper[i], lower[i]
        upper[i] = _times(a + b, degree, degree_ratio, p)
        lower[i] = _times(a - b, w, ratio, p)


def inverse(prepared: _Prepared, elements: _Doubles) -> None:
    """See `Kernel`."""
    p, _, _, roots, ratios, degree = prepared
    _inverse(p, roots, ratios, degree, elements)


@_compiled
def _blind(
    p: float,
    elements: _Doubles,
    public_low: NDArray[np.uint32],
    public_high: High,
    key: _Doubles,
    low: NDArray[np.uint32],
    high: High,
) -> None:
    one_ratio = 1 / p
    for i in range(elements.size):
        w = key[i]
        product = _times(_residue(public_low, public_high, i), w, w * one_ratio, p)
        word = np.int64(_nearest(elements[i] + product, one_ratio, p))
        word += np.int64(p) if word < 0 else 0
        low[i] = np.uint32(word)
        if high.size:
            high[i] = word >> 32


def blind(prepared: _Prepared, elements: _Doubles, public: Planes, key: _Doubles, out: Planes) -> None:
    """See `Kernel`."""
    _blind(prepared[0], elements, *public, key, *out)


@_compiled
def _unblind(
    p: float,
    low: NDArray[np.uint32],
    high: High,
    public_low: NDArray[np.uint32],
    public_high: High,
    key: _Doubles,
    out: _Doubles,
) -> None:
    one_ratio = 1 / p
    for i in range(out.size):
        w = key[i]
        product = _times(_residue(public_low, public_high, i), w, w * one_ratio, p)
        out[i] = _residue(low, high, i) - product


def unblind(prepared: _Prepared, masked: Planes, public: Planes, key: _Doubles, out: _Doubles) -> None:
    """See `Kernel`."""
    _unblind(prepared[0], *masked, *public, key, out)


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
def _accumulate(low: NDArray[np.uint32], high: High, prime: int, sums: NDArray[np.uint64]) -> Any:
    excess = 0
    for i in range(sums.size):
        word = _word(low, high, i)
        sums[i] += np.uint64(word)
        excess += int(word >= prime)
    return excess


def accumulate(planes: Planes, prime: int, sums: NDArray[np.uint64]) -> int:
    """See `Kernel`."""
    return _accumulate(*planes, prime, sums)  # type: ignore[no-any-return]


@_compiled
def _reduce(sums: NDArray[np.uint64], prime: int, low: NDArray[np.uint32], high: High) -> None:
    one_ratio = 1 / prime
    for i in range(sums.size):
        residue = np.int64(sums[i])
        residue -= np.int64(float(residue) * one_ratio) * prime  # may be off by one prime
        residue += prime if residue < 0 else 0
        residue -= prime if residue >= prime else 0
        low[i] = np.uint32(residue)
        if high.size:
            high[i] = residue >> 32


def reduce(sums: NDArray[np.uint64], prime: int, out: Planes) -> None:
    """See `Kernel`."""
    _reduce(sums, prime, *out)
