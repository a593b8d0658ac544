"""Safe primes: p = 2p' + 1 with p' prime."""

from __future__ import annotations

from functools import lru_cache

import gmpy2
import numpy as np
from numpy.typing import NDArray

from hansa.crypto.double_trapdoor.integers import Entropy, draw_bits

_SIEVE = 1 << 18
"""Small primes up to here are sieved out."""

_CANDIDATES = 1 << 17
"""Candidates a window."""

_ROUNDS = 40


@lru_cache(maxsize=1)
def _small_primes() -> list[int]:
    odd = np.ones(_SIEVE // 2, bool)
    odd[0] = False
    for n in range(3, int(_SIEVE**0.5) + 1, 2):
        if odd[n // 2]:
            odd[n * n // 2 :: n] = False
    return [2 * int(i) + 1 for i in np.flatnonzero(odd)]


def _window(start: int) -> NDArray[np.intp]:
    """Indices i for which neither c = start + 2i nor 2c + 1 has a small prime factor."""
    left = np.ones(_CANDIDATES, bool)
    for prime in _small_primes():
        rest, half = int(start % prime), (prime + 1) // 2
        # c = 0 mod prime, and 2c + 1 = 0 mod prime, which is c = (prime - 1) / 2.
        left[-rest * half % prime :: prime] = False
        left[(half - 1 - rest) * half % prime :: prime] = False
    return np.flatnonzero(left)


def is_safe_prime(p: int) -> bool:
    """Whether p and (p - 1) / 2 are primes."""
    return bool(p % 2 == 1 and gmpy2.is_prime(p // 2, _ROUNDS) and gmpy2.is_prime(p, _ROUNDS))


def safe_prime(bits: int, entropy: Entropy) -> int:
    """A safe prime of `bits` bits whose two highest bits are set, so that a product of two has 2 * bits.

    Seconds for 1024 bits, up to a minute for 1536: both numbers are sieved at once, and one Fermat test to base 2
    discards most of what is left.
    """
    while True:
        start = draw_bits(bits - 1, entropy) | gmpy2.mpz(3) << bits - 3 | 1
        for index in _window(start):
            half = start + 2 * int(index)
            if half.bit_length() != bits - 1:
                break
            p: int = 2 * half + 1
            if gmpy2.powmod(2, half - 1, half) == 1 and gmpy2.powmod(2, p - 1, p) == 1 and is_safe_prime(p):
                return p
