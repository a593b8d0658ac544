"""One proof that the sender of a list of ciphertexts knows what is in all of them.

Weights rho_j, hashed from key, context and all ciphertexts, make one ciphertext of many: X1 = prod T1_j**(2 rho_j),
X2 = prod T2_j**(2 rho_j) with exponent R = 2 sum rho_j r_j and plaintext M = 2 sum rho_j m_j. Of that one Schnorr's
proof shows R and M: commitment (h**a (1 + bN), g**a), response z = a + eR over the integers, y = b + eM mod N.

Why it holds in a group of unknown order. Squares have order N p'q', without a factor below 2**128 but 1, so a wrong
ciphertext survives the weights with a chance of 2**-128; and what rewinding divides by is prime to that order. The
plaintexts can be extracted mod N, so a copied ciphertext of another member cannot be proven, re-randomised or not.
The factor 2 matters: -T1 would pass every second weight. That a proven T1 may still carry a factor of order 2 is
harmless: every opening works on squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hansa import errors
from hansa.crypto.double_trapdoor.ciphertexts import Ciphertext, check_units, encrypt
from hansa.crypto.double_trapdoor.integers import (
    CHALLENGE_BITS,
    SLACK_BITS,
    Entropy,
    hashed,
    inverse,
    power,
    product_of_powers,
)
from hansa.crypto.double_trapdoor.keys import hedged
from hansa.crypto.double_trapdoor.parameters import NONCE_BITS, Parameters
from hansa.crypto.double_trapdoor.tables import table_power


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Challenge e, response z (an integer) for the exponents, response y (mod N) for the plaintexts."""

    challenge: int
    exponent: int
    plaintext: int


def encrypt_and_prove(
    parameters: Parameters, public: int, plaintexts: Sequence[int], context: bytes, entropy: Entropy
) -> tuple[list[Ciphertext], Knowledge]:
    """Encrypt numbers below N under one's own key, with one proof that one knows them.

    `context` must name all that the proof must not be moved to: federation, round, attempt, member.
    """
    n = parameters.modulus
    bits = parameters.exponent_bits
    exponents = [hedged(bits, b"exponent", m, context, index, entropy) for index, m in enumerate(plaintexts)]
    ciphertexts = [encrypt(parameters, public, m, r) for m, r in zip(plaintexts, exponents, strict=True)]
    seed, weights = _weights(parameters, public, ciphertexts, context)
    r = 2 * sum(w * r for w, r in zip(weights, exponents, strict=True))
    m = 2 * sum(w * m for w, m in zip(weights, plaintexts, strict=True))
    a = hedged(bits + NONCE_BITS, b"knowledge", r, context, seed, entropy)
    b = hedged(n.bit_length() + SLACK_BITS, b"knowledge/plaintext", m, context, seed, entropy) % n
    commitment = encrypt(parameters, public, b, a)
    challenge = _challenge(seed, commitment)
    return ciphertexts, Knowledge(challenge, a + challenge * r, (b + challenge * m) % n)


def check_knowledge(
    parameters: Parameters,
    public: int,
    ciphertexts: Sequence[Ciphertext],
    proof: Knowledge,
    context: bytes,
) -> None:
    """Refuse ciphertexts whose sender does not know what is in them, or that are not under h = `public`.

    That the key itself is proven (`check_possession`) is up to the caller. Raises `Untrusted`.
    """
    n, square = parameters.modulus, parameters.square
    check_units(parameters, [t for c in ciphertexts for t in (c.t1, c.t2)])
    if _in_range(parameters, proof) and ciphertexts:
        seed, weights = _weights(parameters, public, ciphertexts, context)
        powers = [2 * w for w in weights]
        x1 = product_of_powers([c.t1 for c in ciphertexts], powers, square)
        x2 = product_of_powers([c.t2 for c in ciphertexts], powers, square)
        z, e = proof.exponent, proof.challenge
        masked = power(public, z, square) * (1 + proof.plaintext * n) % square
        commitment = Ciphertext(
            masked * inverse(power(x1, e, square), square) % square,
            table_power(parameters, parameters.generator, z) * inverse(power(x2, e, square), square) % square,
        )
        if e == _challenge(seed, commitment):
            return
    raise errors.Untrusted(
        "the proof of knowledge of ciphertexts is wrong",
        hint="They are another's, altered, or made for something else. Their sender is at fault.",
    )


def _in_range(parameters: Parameters, proof: Knowledge) -> bool:
    return (
        0 <= proof.challenge < 1 << CHALLENGE_BITS
        and 0 <= proof.exponent < 1 << parameters.exponent_bits + NONCE_BITS
        and 0 <= proof.plaintext < parameters.modulus
    )


def _weights(
    parameters: Parameters, public: int, ciphertexts: Sequence[Ciphertext], context: bytes
) -> tuple[int, list[int]]:
    """Hash of the statement, and one weight a ciphertext that follows from it."""
    elements = [t for c in ciphertexts for t in (c.t1, c.t2)]
    seed = hashed(
        2 * CHALLENGE_BITS,
        b"knowledge",
        context,
        parameters.modulus,
        parameters.generator,
        public,
        *elements,
    )
    return seed, [hashed(CHALLENGE_BITS, b"weight", seed, j) for j in range(len(ciphertexts))]


def _challenge(seed: int, commitment: Ciphertext) -> int:
    return hashed(CHALLENGE_BITS, b"knowledge/challenge", seed, commitment.t1, commitment.t2)
