"""Bytes of everything that travels: lengths follow from the parameters, and each value has one encoding.

All readers raise `Untrusted`, with the digest of the bytes, for another length, a number out of range, or an element
that shares a factor with N; so values of another modulus's size are refused everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from hansa import encoding, errors
from hansa.crypto.double_trapdoor.ciphertexts import Ciphertext
from hansa.crypto.double_trapdoor.halves import Answer
from hansa.crypto.double_trapdoor.integers import CHALLENGE_BITS, from_bytes, to_bytes, units
from hansa.crypto.double_trapdoor.keys import Possession
from hansa.crypto.double_trapdoor.knowledge import Knowledge
from hansa.crypto.double_trapdoor.parameters import NONCE_BITS, ROOTS, SIZES, Parameters
from hansa.crypto.double_trapdoor.setup import Half, Side

_CHALLENGE = CHALLENGE_BITS // 8
_VERSION = 1


def write_parameters(parameters: Parameters) -> bytes:
    """Canonical CBOR; numbers mod N have the size of N, numbers mod N**2 twice that."""
    p, size = parameters, parameters.size
    small = [to_bytes(x, size) for x in (p.modulus, p.base, p.key_centre, p.server)]
    roots = [to_bytes(x, size) for x in p.roots]
    return encoding.encode([_VERSION, p.exponent_bits, *small, to_bytes(p.generator, 2 * size), roots])


def read_parameters(data: bytes) -> Parameters:
    """Parameters as they were written; `check_parameters` says whether they may be used."""
    limit = (6 + ROOTS) * max(SIZES) // 8 + 128
    match encoding.decode(data, limit=limit):
        case [
            1,
            int(exponent_bits),
            bytes(modulus),
            bytes(base),
            bytes(key_centre),
            bytes(server),
            bytes(generator),
            [*roots],
        ] if (
            0 < exponent_bits <= 2 * max(SIZES)
            and len(roots) == ROOTS
            and modulus[:1] > b"\0"
            and {len(modulus)}
            == {len(x) if isinstance(x, bytes) else 0 for x in (base, key_centre, server, *roots)}
            and len(generator) == 2 * len(modulus)
        ):
            return Parameters(
                modulus=from_bytes(modulus),
                generator=from_bytes(generator),
                base=from_bytes(base),
                key_centre=from_bytes(key_centre),
                server=from_bytes(server),
                exponent_bits=exponent_bits,
                roots=tuple(from_bytes(root) for root in roots),
            )
    raise _refused("parameters", data)


def write_public(parameters: Parameters, public: int) -> bytes:
    """A member's h."""
    return to_bytes(public, 2 * parameters.size)


def read_public(parameters: Parameters, data: bytes) -> int:
    """A member's h; `check_possession` says whether it may be used."""
    return _elements(parameters, data, 1, "public key")[0]


def write_possession(parameters: Parameters, proof: Possession) -> bytes:
    """Challenge and response."""
    return to_bytes(proof.challenge, _CHALLENGE) + to_bytes(proof.response, _exponent(parameters))


def read_possession(parameters: Parameters, data: bytes) -> Possession:
    """Challenge and response."""
    challenge, response = _cut(data, "proof of possession", _CHALLENGE, _exponent(parameters))
    return Possession(challenge, response)


def write_ciphertexts(parameters: Parameters, ciphertexts: Sequence[Ciphertext]) -> bytes:
    """T1 and T2 of each in turn."""
    size = 2 * parameters.size
    return b"".join(to_bytes(c.t1, size) + to_bytes(c.t2, size) for c in ciphertexts)


def read_ciphertexts(parameters: Parameters, data: bytes, count: int) -> list[Ciphertext]:
    """Exactly `count` ciphertexts."""
    elements = _elements(parameters, data, 2 * count, "ciphertexts")
    return [Ciphertext(t1, t2) for t1, t2 in zip(elements[::2], elements[1::2], strict=True)]


def write_knowledge(parameters: Parameters, proof: Knowledge) -> bytes:
    """Challenge and both responses."""
    return (
        to_bytes(proof.challenge, _CHALLENGE)
        + to_bytes(proof.exponent, _exponent(parameters))
        + to_bytes(proof.plaintext, parameters.size)
    )


def read_knowledge(parameters: Parameters, data: bytes) -> Knowledge:
    """Challenge and both responses."""
    challenge, exponent, plaintext = _cut(
        data, "proof of knowledge", _CHALLENGE, _exponent(parameters), parameters.size
    )
    if plaintext >= parameters.modulus:
        raise _refused("proof of knowledge", data)
    return Knowledge(challenge, exponent, plaintext)


def write_answer(parameters: Parameters, answer: Answer) -> bytes:
    """Powers, challenge and response; whose they are, the reader must know."""
    return (
        b"".join(to_bytes(y, parameters.size) for y in answer.powers)
        + to_bytes(answer.challenge, _CHALLENGE)
        + to_bytes(answer.response, _response(parameters))
    )


def read_answer(parameters: Parameters, data: bytes, side: Side, count: int) -> Answer:
    """The answer of one side to exactly `count` elements."""
    widths = (*[parameters.size] * count, _CHALLENGE, _response(parameters))
    *powers, challenge, response = _cut(data, "half of an opening", *widths)
    if not units(powers, parameters.modulus, parameters.modulus):
        raise _refused("half of an opening", data)
    return Answer(side, tuple(powers), challenge, response)


def write_half(parameters: Parameters, half: Half) -> bytes:
    """A holder's half for its key file: secret."""
    return to_bytes(half.side, 1) + to_bytes(half.exponent, parameters.size)


def read_half(parameters: Parameters, data: bytes) -> Half:
    """A half from one's own key file. Raises `Misconfigured` where it is none of these parameters."""
    exponent = from_bytes(data[1:])
    if len(data) != 1 + parameters.size or data[0] not in set(Side) or not 0 < exponent < parameters.modulus:
        raise errors.Misconfigured(
            "the half of the strong trapdoor cannot be read",
            hint="Restore the key file, or use the parameters that it was made with.",
        )
    return Half(Side(data[0]), exponent)


def _exponent(parameters: Parameters) -> int:
    """Bytes of a response that hides an exponent."""
    return -(-(parameters.exponent_bits + NONCE_BITS) // 8)


def _response(parameters: Parameters) -> int:
    """Bytes of a response that hides a half."""
    return -(-(parameters.modulus.bit_length() + NONCE_BITS) // 8)


def _elements(parameters: Parameters, data: bytes, count: int, what: str) -> list[int]:
    elements = _cut(data, what, *[2 * parameters.size] * count)
    if not units(elements, parameters.square, parameters.modulus):
        raise _refused(what, data)
    return elements


def _cut(data: bytes, what: str, *widths: int) -> list[int]:
    """Numbers of so many bytes each, and nothing behind them."""
    if len(data) != sum(widths):
        raise _refused(what, data)
    numbers, at = [], 0
    for width in widths:
        numbers.append(from_bytes(data[at : at + width]))
        at += width
    return numbers


def _refused(what: str, data: bytes) -> errors.Untrusted:
    return errors.Untrusted(
        f"{what} of the double trapdoor: malformed",
        hint="Its sender is at fault, or uses other parameters.",
        digest=encoding.digest(data),
    )
