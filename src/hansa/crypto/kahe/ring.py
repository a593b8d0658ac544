"""Roots of unity of the three primes, as tables for the transform.

The transform evaluates a polynomial at the 2048 roots of X**2048 + 1, which are the odd powers of `psi`. It
is the one of Longa and Naehrig ("Speeding up the Number Theoretic Transform for Faster Ideal Lattice-Based
Cryptography", CANS 2016): output i is the value at psi**(2 * reversed(i) + 1), and no step permutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hansa.crypto.kahe.parameters import DEGREE

_BITS = DEGREE.bit_length() - 1


@dataclass(frozen=True, slots=True, eq=False)
class Ring:
    """Powers of psi and of its inverse in bit-reversed order, int64, within half a prime of zero."""

    prime: int
    psi: int
    roots: NDArray[np.int64]
    inverse_roots: NDArray[np.int64]
    inverse_degree: int


@lru_cache
def ring(prime: int) -> Ring:
    """Tables for a prime = 1 mod 4096."""
    psi = next(
        root
        for root in (pow(base, (prime - 1) // (2 * DEGREE), prime) for base in range(2, prime))
        if pow(root, DEGREE, prime) == prime - 1
    )
    return Ring(
        prime,
        psi,
        _powers(psi, prime),
        _powers(pow(psi, -1, prime), prime),
        centred(pow(DEGREE, -1, prime), prime),
    )


def reversed_bits(index: int) -> int:
    """The 11 bits of an index in reverse order."""
    return int(f"{index:0{_BITS}b}"[::-1], 2)


def centred(residue: int, prime: int) -> int:
    """The representative of a residue that lies nearest to zero."""
    return residue - prime if residue > prime // 2 else residue


def _powers(root: int, prime: int) -> NDArray[np.int64]:
    return np.array([centred(pow(root, reversed_bits(i), prime), prime) for i in range(DEGREE)], np.int64)
