"""Which prime, wire and scale a cohort needs.

A sum of n values of b bits, scaled by Delta, with the sum of n noises on top, must stay within half a prime:

    2 * (Delta * n * bound + noise) < p        bound = 2**(b-1) - 1, noise = 10 * 4 * sqrt(n)

The noise of one mask has the standard deviation 4, so `noise` is ten standard deviations of the sum. Delta is
the smallest power of two that leaves four times as much: a wrong key spreads the remainders over all of
Delta, and at most half of each 2048 may then pass by chance. With that Delta the line above implies the
headroom of the design, log2 p >= b + log2 n + log2(80 sqrt n) + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from hansa import errors

DEGREE = 2048
"""Coefficients of a polynomial; arithmetic is modulo X**2048 + 1."""
LANES = 16
"""Polynomials of a group: value i of a group belongs to polynomial i % 16, so that loops run over lanes."""
GROUP = DEGREE * LANES
"""Values of a full group, 32,768. The last group has as many lanes as it needs."""
SPREAD = 32
"""Secrets and noises lie within -32..32: centred binomial, 64 coins."""

PRIMES = {4: 2**32 - 12_287, 5: 2**40 - 36_863, 6: 2**48 - 16_383}
"""Bytes of a wire's coefficient -> the largest prime below that has 4096th roots of unity."""

MAX_COHORT = 1 << 14
"""Sums of so many coefficients of 48 bits stay below 2**62, also where a signed integer holds them."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What all members of a cohort must agree on; made by `parameters`.

    `width`: bytes of a coefficient on the wire. `prime`: the modulus. `delta`: the power of two by which
    values are scaled. `bound`: the largest magnitude of a value.
    """

    cohort: int
    value_bits: int
    width: int
    prime: int
    delta: int

    @property
    def bound(self) -> int:
        """Largest magnitude of one member's value."""
        return max_magnitude(self.value_bits)


def parameters(cohort: int, value_bits: int) -> Parameters:
    """The narrowest wire for sums of up to `cohort` members' signed values of `value_bits` bits.

    Raises `Misconfigured` when even 6 bytes a coefficient are too few.
    """
    if not (1 <= cohort <= MAX_COHORT and 2 <= value_bits <= 32):
        raise errors.Misconfigured(
            f"no mask for {cohort} members and values of {value_bits} bits",
            hint=f"A cohort has 1 to {MAX_COHORT} members, a value 2 to 32 bits.",
        )
    delta = 1 << (4 * noise_limit(cohort) - 1).bit_length()
    reach = delta * cohort * max_magnitude(value_bits) + noise_limit(cohort)
    for width, prime in PRIMES.items():
        if 2 * reach < prime:
            return Parameters(cohort, value_bits, width, prime, delta)
    raise errors.Misconfigured(
        f"sums of {cohort} members' values of {value_bits} bits do not fit a wire of 6 bytes",
        hint="Take fewer bits for a value, or a smaller cohort.",
    )


def max_magnitude(value_bits: int) -> int:
    """Largest magnitude of a value of so many bits, the same for both signs."""
    return (1 << (value_bits - 1)) - 1


def noise_limit(contributions: int) -> int:
    """Ten standard deviations of the summed noise, 40 * sqrt(n), rounded up."""
    return isqrt(1600 * contributions - 1) + 1


def padded(count: int) -> int:
    """Coefficients that carry `count` values: whole polynomials."""
    return -(-count // DEGREE) * DEGREE


def wire_bytes(parameters: Parameters, count: int) -> int:
    """Exact length of a wire of `count` values, and of a sum of wires."""
    return padded(count) * parameters.width
