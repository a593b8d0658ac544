"""Ciphertexts (T1, T2) = (h**r (1 + mN), g**r) mod N**2 and their sums.

Double trapdoor cryptosystem of Bresson, Catalano, Pointcheval (ASIACRYPT 2003), as DT-PKC (Liu, Deng, Choo, Weng:
"An Efficient Privacy-Preserving Outsourced Calculation Toolkit with Multiple Keys", IEEE TIFS 2016) uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import gmpy2

from hansa import errors
from hansa.crypto.double_trapdoor.integers import Entropy, draw_bits, inverse, secret_power, units
from hansa.crypto.double_trapdoor.keys import WeakKey
from hansa.crypto.double_trapdoor.parameters import Parameters
from hansa.crypto.double_trapdoor.tables import table_power


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """T1 carries the plaintext, T2 the exponent for the weak trapdoor; both mod N**2."""

    t1: int
    t2: int


def draw_exponent(parameters: Parameters, entropy: Entropy) -> int:
    """The exponent r of one ciphertext; whoever knows it knows the plaintext."""
    return draw_bits(parameters.exponent_bits, entropy)


def encrypt(parameters: Parameters, public: int, plaintext: int, exponent: int) -> Ciphertext:
    """Ciphertext of a number under the key h = `public`, with tables of h and g.

    Raises `Misconfigured` unless 0 <= plaintext < N.
    """
    n = parameters.modulus
    if not 0 <= plaintext < n:
        raise errors.Misconfigured("a plaintext does not lie in [0, N)", hint="Pack values first.")
    masked = table_power(parameters, public, exponent) * (1 + plaintext * n) % parameters.square
    return Ciphertext(masked, table_power(parameters, parameters.generator, exponent))


def add_under_one_key(parameters: Parameters, rows: Sequence[Sequence[Ciphertext]]) -> list[Ciphertext]:
    """Ciphertexts of the sums mod N, column by column, of rows under one key."""
    square = parameters.square
    return [
        Ciphertext(_product((c.t1 for c in column), square), _product((c.t2 for c in column), square))
        for column in zip(*rows, strict=True)
    ]


def add_across_keys(parameters: Parameters, rows: Sequence[Sequence[Ciphertext]]) -> list[int]:
    """Products of the T1, column by column, of rows under any keys: both halves open them as sums mod N."""
    square = parameters.square
    return [_product((c.t1 for c in column), square) for column in zip(*rows, strict=True)]


def weak_decrypt(parameters: Parameters, key: WeakKey, ciphertext: Ciphertext) -> int:
    """Plaintext of a ciphertext under one's own key.

    Computes on squares, so that an element of order 2, as -g**r, tells nothing of the trapdoor's parity.
    Raises `Untrusted` for a ciphertext under another key, or none.
    """
    n, square = parameters.modulus, parameters.square
    check_units(parameters, [ciphertext.t1, ciphertext.t2])
    mask = secret_power(ciphertext.t2 * ciphertext.t2 % square, key.trapdoor, square)
    return logarithm(ciphertext.t1 * ciphertext.t1 * inverse(mask, square) % square, n) * inverse(2, n) % n


def logarithm(element: int, modulus: int) -> int:
    """L(u) = (u - 1) / N, which is m for u = 1 + mN. Raises `Untrusted` unless u = 1 mod N."""
    quotient, remainder = divmod(element - 1, modulus)
    if remainder:
        raise errors.Untrusted(
            "a ciphertext does not open: wrong key, wrong half or no ciphertext",
            hint="Look who sent the ciphertext and the halves.",
        )
    return quotient


def check_units(parameters: Parameters, elements: Sequence[int]) -> None:
    """Raises `Untrusted` unless all elements are units mod N**2, in [1, N**2)."""
    if not units(elements, parameters.square, parameters.modulus):
        raise errors.Untrusted(
            "a number is out of range or shares a factor with N", hint="Its sender made it on purpose."
        )


def _product(numbers: Iterable[int], modulus: int) -> int:
    result: int = gmpy2.mpz(1)
    for number in numbers:
        result = result * number % modulus
    return result
