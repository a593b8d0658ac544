"""The key generation centre's set-up: primes, parameters, two halves of the strong trapdoor.

The strong trapdoor is d with d = 0 mod 2p'q' and d = 1 mod N: T1**d = 1 + mN for T1 = h**r (1 + mN), under any key,
and for -T1 as well. Such a d is 1 + cN with c = -1/N mod 2p'q', and T1**d = T1 (T1**c mod N)**N mod N**2. So only c
has to be split, c = c_K + c_S mod 2p'q', and a half's answer is a power mod N instead of N**2: a seventh of the
time and half of the bytes. c is the private key of RSA with the public exponent N, and this its additive sharing.

c_S is uniform below N/2, and 2p'q' = (N - p - q + 1) / 2: each half alone is uniform within 2 / sqrt(N), whatever
the primes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import gmpy2

from hansa import errors
from hansa.crypto.double_trapdoor import parameters as public
from hansa.crypto.double_trapdoor.integers import Entropy, draw_below, inverse, secret_power
from hansa.crypto.double_trapdoor.parameters import SIZES, Mode, Parameters
from hansa.crypto.double_trapdoor.primes import is_safe_prime, safe_prime


class Side(IntEnum):
    """Who holds a half."""

    KEY_CENTRE = 1
    SERVER = 2


@dataclass(frozen=True, slots=True)
class Half:
    """One half of the strong trapdoor: an exponent below N. Worthless without the other."""

    side: Side
    exponent: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class SetUp:
    """What a set-up leaves: the halves go to their holders, the primes are gone."""

    parameters: Parameters
    key_centre: Half
    server: Half


def set_up(bits: int, entropy: Entropy, mode: Mode = "short") -> SetUp:
    """Make parameters with an N of `bits` bits, one of `SIZES`.

    The primes stand in no value that is returned. What Python leaves of them in memory ends with the process.
    Raises `Misconfigured` for another size.
    """
    if bits not in SIZES:
        raise errors.Misconfigured(
            f"a modulus of {bits} bits is not offered", hint=f"Choose one of {', '.join(map(str, SIZES))}."
        )
    return split(safe_prime(bits // 2, entropy), safe_prime(bits // 2, entropy), entropy, mode)


def split(p: int, q: int, entropy: Entropy, mode: Mode = "short") -> SetUp:
    """Parameters and halves for given primes.

    Raises `Misconfigured` unless they are two different safe primes of one size.
    """
    p, q = gmpy2.mpz(p), gmpy2.mpz(q)
    if p == q or p.bit_length() != q.bit_length() or not (is_safe_prime(p) and is_safe_prime(q)):
        raise errors.Misconfigured(
            "the primes are not two different safe primes of one size", hint="Let `set_up` draw them."
        )
    n, order = p * q, (p - 1) * (q - 1) // 2
    root = inverse(n, order)
    server = draw_below(n // 2, entropy)
    key_centre = (-root - server) % order
    w = public.base(n)
    parameters = Parameters(
        modulus=n,
        generator=public.generator(n),
        base=w,
        key_centre=secret_power(w, key_centre, n),
        server=secret_power(w, server, n),
        exponent_bits=public.exponent_bits(n, mode),
        roots=tuple(secret_power(c, root, n) for c in public.root_challenges(n)),
    )
    return SetUp(parameters, Half(Side.KEY_CENTRE, key_centre), Half(Side.SERVER, server))


def strong_decrypt(p: int, q: int, element: int) -> int:
    """Plaintext of T1 from the primes, by the Chinese remainder theorem. For comparison: a set-up keeps no primes.

    mod p**2 the (p - 1)-th power of h**r (1 + mN) is 1 + (p - 1) m q p = 1 - mqp.
    """
    p, q = gmpy2.mpz(p), gmpy2.mpz(q)

    def half(p: int, q: int) -> int:
        return (secret_power(element, p - 1, p * p) - 1) // p * inverse(-q, p) % p

    low, high = half(p, q), half(q, p)
    plaintext: int = low + p * ((high - low) * inverse(p, q) % q)
    return plaintext
