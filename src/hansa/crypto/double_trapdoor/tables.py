"""Powers of a fixed base from a table, without a squaring (Brickell, Gordon, McCurley, Wilson 1992).

Row i holds the base to d * 2**shift_i for every digit d. A power is the product of one entry a row.

Which entries are read depends on the exponent, so whoever shares the processor's cache could learn of it, as from
any table in Python. These exponents are used once, for one ciphertext or proof; trapdoors never come here.
"""

from __future__ import annotations

from functools import lru_cache

import gmpy2

from hansa.crypto.double_trapdoor.parameters import NONCE_BITS, SHORT_BITS, Parameters

_WIDE, _NARROW = 9, 5
"""Bits of a digit. Wide rows cover the short exponents of ciphertexts, narrow ones everything above."""

_TABLES = 24
"""Tables kept: 14 MB each at 3072 bits."""

_Rows = list[tuple[int, int, list[int]]]


def table_power(parameters: Parameters, base: int, exponent: int) -> int:
    """base**exponent mod N**2 for a base that is used often: the generator, one's own key.

    The first call for a base takes some 20,000 multiplications: a fifth of a second at 3072 bits.
    Raises `ValueError` unless 0 <= exponent < 2**(parameters.exponent_bits + NONCE_BITS).
    """
    if exponent < 0 or exponent.bit_length() > parameters.exponent_bits + NONCE_BITS:
        raise ValueError("exponent does not fit the table")
    square = parameters.square
    result: int = gmpy2.mpz(1)
    for shift, mask, row in _rows(base, square, parameters.exponent_bits):
        digit = exponent >> shift & mask
        if digit:
            result = result * row[digit] % square
    return result


@lru_cache(maxsize=_TABLES)
def _rows(base: int, modulus: int, exponent_bits: int) -> _Rows:
    rows: _Rows = []
    shift = 0
    while shift < exponent_bits + NONCE_BITS:
        window = _WIDE if shift < exponent_bits == SHORT_BITS else _NARROW
        row = [gmpy2.mpz(1), base]
        for _ in range((1 << window) - 1):
            row.append(row[-1] * base % modulus)
        base = row.pop()
        rows.append((shift, (1 << window) - 1, row))
        shift += window
    return rows
