"""Arithmetic on large integers, draws of secrets and challenges of proofs.

Numbers are gmpy2's `mpz` throughout, which behave like `int` and are typed so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import gmpy2

Entropy = Callable[[int], bytes]
"""Gives as many random bytes as asked for."""

CHALLENGE_BITS = 128
"""Of a proof's challenge, and of the weights that make one statement of many."""

SLACK_BITS = 128
"""A nonce is so much longer than what it hides: a statistical distance of 2**-128."""

_WINDOW = 4
_DOMAIN = b"hansa/double-trapdoor/1"


def from_bytes(data: bytes) -> int:
    """Big-endian bytes as a number."""
    number: int = gmpy2.mpz(int.from_bytes(data, "big"))
    return number


def power(base: int, exponent: int, modulus: int) -> int:
    """base**exponent mod modulus, for public exponents: its time depends on them."""
    result: int = gmpy2.powmod(base, exponent, modulus)
    return result


def secret_power(base: int, exponent: int, modulus: int) -> int:
    """base**exponent mod an odd modulus, in time and with memory accesses that depend on lengths only.

    Demands a positive exponent. A third slower than `power`.
    """
    result: int = gmpy2.powmod_sec(base, exponent, modulus)
    return result


def inverse(number: int, modulus: int) -> int:
    """Demands a number prime to the modulus."""
    result: int = gmpy2.invert(number, modulus)
    return result


def units(numbers: Iterable[int], bound: int, modulus: int) -> bool:
    """Whether all numbers lie in [1, bound) and are prime to the modulus: one gcd for all of them."""
    product = gmpy2.mpz(1)
    for number in numbers:
        if not 0 < number < bound:
            return False
        product = product * number % modulus
    return bool(gmpy2.gcd(product, modulus) == 1)


def product_of_powers(bases: Sequence[int], exponents: Sequence[int], modulus: int) -> int:
    """Product of bases[j]**exponents[j], all squarings shared (Straus 1964). For public exponents."""
    tables = []
    for base in bases:
        row = [gmpy2.mpz(1)]
        for _ in range((1 << _WINDOW) - 1):
            row.append(row[-1] * base % modulus)
        tables.append(row)
    longest = max((e.bit_length() for e in exponents), default=0)
    result: int = gmpy2.mpz(1)
    for shift in reversed(range(0, longest, _WINDOW)):
        for _ in range(_WINDOW):
            result = result * result % modulus
        for row, exponent in zip(tables, exponents, strict=True):
            digit = exponent >> shift & (1 << _WINDOW) - 1
            if digit:
                result = result * row[digit] % modulus
    return result


def hashed(bits: int, label: bytes, *parts: int | bytes) -> int:
    """A number of `bits` bits from SHAKE-256 over the label and all parts, each behind its length."""
    state = hashlib.shake_256(_DOMAIN)
    for part in (label, *parts):
        data = part if isinstance(part, bytes) else to_bytes(part)
        state.update(len(data).to_bytes(8, "big") + data)
    size = -(-bits // 8)
    return from_bytes(state.digest(size)) >> 8 * size - bits


def to_bytes(number: int, size: int | None = None) -> bytes:
    """Big-endian bytes, as few as needed unless told."""
    return int(number).to_bytes(-(-number.bit_length() // 8) if size is None else size, "big")


def draw_bits(bits: int, entropy: Entropy) -> int:
    """Uniform below 2**bits."""
    size = -(-bits // 8)
    return from_bytes(entropy(size)) >> 8 * size - bits


def draw_below(bound: int, entropy: Entropy) -> int:
    """Uniform below `bound`, within a statistical distance of 2**-128."""
    return draw_bits(bound.bit_length() + SLACK_BITS, entropy) % bound
