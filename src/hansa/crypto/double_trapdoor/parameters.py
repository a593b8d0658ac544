"""Public values of a double-trapdoor cryptosystem, and what can be checked about them.

N = pq with safe primes p = 2p' + 1 and q = 2q' + 1. The squares mod N are cyclic of order p'q', those mod N**2 of
order N p'q'. Two elements are fixed by hashing N, so that nobody chose them:

- the generator g = a**(2N) mod N**2 of ciphertexts: an N-th power, of order p'q'. With -a**(2N) a key would leak
  the parity of its trapdoor, with 1 + N every key would be public;
- the base w = b**2 mod N of verification keys. It generates all squares mod N but for a chance of about
  2 / sqrt(N), and p'q' has no factor below 2**128: so equality of discrete logarithms to w, shown for squares,
  holds for every square (Shoup, "Practical Threshold Signatures", EUROCRYPT 2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import gmpy2

from hansa import errors
from hansa.crypto.double_trapdoor.integers import CHALLENGE_BITS, SLACK_BITS, hashed, power, units

Mode = Literal["short", "full"]
"""Exponents of 256 bits, or of the size of N. Short ones are seven times as fast and need one assumption more:
that discrete logarithms of 256 bits are as hard to find in this group as long ones."""

SIZES = (2048, 3072)
"""Bits of N that a key centre makes. 2048 is for tests."""

SHORT_BITS = 256
NONCE_BITS = 2 * CHALLENGE_BITS + SLACK_BITS + 16
"""Bits that a nonce has more than the exponents it hides: weights, challenge, slack and up to 2**16 terms."""

ROOTS = 8
_TRIAL_LIMIT = 1 << 16
"""ROOTS * 16 bits of soundness: see `check_parameters`."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """N, g (mod N**2), w and the verification keys w**c of both halves (mod N), and N-th roots as a proof."""

    modulus: int
    generator: int
    base: int
    key_centre: int
    server: int
    exponent_bits: int
    roots: tuple[int, ...]

    @property
    def square(self) -> int:
        """N**2."""
        return self.modulus * self.modulus

    @property
    def size(self) -> int:
        """Bytes of a number below N; one below N**2 takes twice as many."""
        return -(-self.modulus.bit_length() // 8)


def exponent_bits(modulus: int, mode: Mode) -> int:
    """Bits of trapdoors and of ciphertexts' exponents. Long ones are uniform mod p'q' within 2**-128."""
    return SHORT_BITS if mode == "short" else modulus.bit_length() + SLACK_BITS


def generator(modulus: int) -> int:
    """g: a hashed number to the 2N, mod N**2."""
    return power(_hashed_below(modulus, b"generator"), 2 * modulus, modulus * modulus)


def base(modulus: int) -> int:
    """w: the square of a hashed number, mod N."""
    return power(_hashed_below(modulus, b"base"), 2, modulus)


def root_challenges(modulus: int) -> list[int]:
    """Hashed numbers whose N-th roots mod N show that gcd(N, phi(N)) = 1."""
    return [_hashed_below(modulus, b"root", index) for index in range(ROOTS)]


def _hashed_below(modulus: int, label: bytes, *parts: int) -> int:
    return hashed(modulus.bit_length() + SLACK_BITS, label, modulus, *parts) % modulus


def check_parameters(parameters: Parameters, bits: int) -> None:
    """Refuse parameters that are not those of a set-up for an N of `bits` bits. A fifth of a second at 3072 bits.

    Where gcd(N, phi(N)) = 1 every number has an N-th root mod N. Otherwise at most one in r has, r the least prime
    factor of N; without factors below 2**16, eight roots leave a chance of 2**-128 (Goldberg, Reyzin, Sagga,
    Baldimtsi: "Efficient Noninteractive Certification of RSA Moduli and Beyond", ASIACRYPT 2019).

    The halves c_K and c_S must add up to -1/N in the exponent: (v_K v_S)**N w = 1. That N has two prime factors,
    and safe ones, and that nobody kept them, is the key centre's word.

    Raises `Untrusted` if anything else is wrong.
    """
    fault = _fault(parameters, bits)
    if fault:
        raise errors.Untrusted(
            f"parameters of the double trapdoor: {fault}",
            hint="They are not those of an honest set-up; do not join with them.",
        )


def _fault(parameters: Parameters, bits: int) -> str:
    n, verifiers = parameters.modulus, (parameters.key_centre, parameters.server)
    if n.bit_length() != bits:
        return f"N has {n.bit_length()} bits, not {bits}"
    if gmpy2.gcd(n, gmpy2.primorial(_TRIAL_LIMIT)) != 1:
        return "N has a small factor"
    if gmpy2.is_prime(n) or gmpy2.is_power(n):
        return "N is a prime or a power"
    if parameters.exponent_bits not in (exponent_bits(n, "short"), exponent_bits(n, "full")):
        return f"exponents of {parameters.exponent_bits} bits"
    if parameters.generator != generator(n) or parameters.base != base(n):
        return "generator or base is not the one that follows from N"
    if not units((*verifiers, parameters.generator, *parameters.roots), parameters.square, n):
        return "a value is not a unit"
    if max(*verifiers, *parameters.roots, 0) >= n:
        return "a value is not below N"
    if power(verifiers[0] * verifiers[1], n, n) * parameters.base % n != 1:
        return "the verification keys do not belong to halves of one trapdoor"
    challenges = root_challenges(n)
    if len(parameters.roots) != ROOTS or any(
        power(root, n, n) != c for root, c in zip(parameters.roots, challenges, strict=True)
    ):
        return "the proof of gcd(N, phi(N)) = 1 is wrong"
    return ""
