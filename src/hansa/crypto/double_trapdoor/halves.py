"""Opening of sums by the two halves of the strong trapdoor.

A holder answers an element T1 with y = (T1**2)**c mod N, c its half, and shows with one proof for all elements that
it used the c of its verification key w**c. Both answers open T1: (T1**4) ((y_K y_S)**2)**N = 1 + 4mN mod N**2,
since c_K + c_S = -1/N mod 2p'q'.

Everything is a square, for three reasons: T1 may be what a member sent, and the parity of c is not to show in the
answer to an element of order 2; the proof holds for squares only, so -y would pass; and the base w generates nothing
but squares. What else the two answers tell stands in docs/adr/0027-halves-mod-n.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hansa import errors
from hansa.crypto.double_trapdoor.ciphertexts import check_units, logarithm
from hansa.crypto.double_trapdoor.integers import (
    CHALLENGE_BITS,
    Entropy,
    hashed,
    inverse,
    power,
    product_of_powers,
    secret_power,
    units,
)
from hansa.crypto.double_trapdoor.keys import hedged
from hansa.crypto.double_trapdoor.parameters import NONCE_BITS, Parameters
from hansa.crypto.double_trapdoor.setup import Half, Side


@dataclass(frozen=True, slots=True)
class Answer:
    """One holder's powers mod N of a list of elements, with challenge and response of its proof."""

    side: Side
    powers: tuple[int, ...]
    challenge: int
    response: int


def raise_to_half(
    parameters: Parameters, elements: Sequence[int], half: Half, context: bytes, entropy: Entropy
) -> Answer:
    """A holder's answer to elements T1 (mod N**2), bound to `context`: federation, round, digests.

    Whoever has both answers to an element has its plaintext: answer only what the ledger says may be opened.
    Raises `Untrusted` for an element that is no unit.
    """
    n = parameters.modulus
    check_units(parameters, elements)
    powers = tuple(secret_power(t * t % n, half.exponent, n) for t in elements)
    seed, x, _ = _statement(parameters, elements, half.side, powers, context)
    k = hedged(n.bit_length() + NONCE_BITS, b"half", half.exponent, context, seed, entropy)
    commitments = secret_power(parameters.base, 2 * k, n), secret_power(x, k, n)
    challenge = _challenge(seed, commitments)
    return Answer(half.side, powers, challenge, k + challenge * half.exponent)


def check_half(parameters: Parameters, elements: Sequence[int], answer: Answer, context: bytes) -> None:
    """Refuse an answer that is not the elements to the half of its side's verification key. Raises `Untrusted`."""
    n = parameters.modulus
    check_units(parameters, elements)
    if (
        len(answer.powers) == len(elements)
        and units(answer.powers, n, n)
        and 0 <= answer.challenge < 1 << CHALLENGE_BITS
        and 0 <= answer.response < 1 << n.bit_length() + NONCE_BITS
    ):
        seed, x, y = _statement(parameters, elements, answer.side, answer.powers, context)
        z, e = answer.response, answer.challenge
        verification_key = _verification_key(parameters, answer.side)
        commitments = (
            power(parameters.base, 2 * z, n) * inverse(power(verification_key, 2 * e, n), n) % n,
            power(x, z, n) * inverse(power(y, e, n), n) % n,
        )
        if e == _challenge(seed, commitments):
            return
    raise errors.Untrusted(
        f"the {_name(answer.side)}'s half of an opening is wrong",
        hint=f"The {_name(answer.side)} is at fault. Its standby may answer.",
    )


def combine(parameters: Parameters, elements: Sequence[int], answers: Sequence[Answer]) -> list[int]:
    """Plaintexts of elements from the answers of both sides.

    Raises `Untrusted` unless there is one answer of each side, for as many elements, and they open every element.
    """
    n, square = parameters.modulus, parameters.square
    if {a.side for a in answers} != set(Side) or any(len(a.powers) != len(elements) for a in answers):
        raise errors.Untrusted(
            "an opening needs one answer from the key centre and one from a server, for all elements",
            hint="Wait for the half that is missing.",
        )
    quarter = inverse(4, n)
    opened = []
    for index, element in enumerate(elements):
        mask = 1
        for answer in answers:
            mask = mask * answer.powers[index] ** 2 % n
        opened.append(logarithm(power(element, 4, square) * power(mask, n, square) % square, n) * quarter % n)
    return opened


def _statement(
    parameters: Parameters, elements: Sequence[int], side: Side, powers: Sequence[int], context: bytes
) -> tuple[int, int, int]:
    """Hash of the statement, and its two sides: Y = X**c for weighted products X of T1**4 and Y of y**2."""
    n, key = parameters.modulus, _verification_key(parameters, side)
    seed = hashed(2 * CHALLENGE_BITS, b"half", context, n, parameters.base, key, *elements, *powers)
    weights = [2 * hashed(CHALLENGE_BITS, b"weight", seed, j) for j in range(len(elements))]
    x = product_of_powers([t * t % n for t in elements], weights, n)
    return seed, x, product_of_powers(powers, weights, n)


def _challenge(seed: int, commitments: tuple[int, int]) -> int:
    return hashed(CHALLENGE_BITS, b"half/challenge", seed, *commitments)


def _verification_key(parameters: Parameters, side: Side) -> int:
    return parameters.key_centre if side is Side.KEY_CENTRE else parameters.server


def _name(side: Side) -> str:
    return "key centre" if side is Side.KEY_CENTRE else "server"
