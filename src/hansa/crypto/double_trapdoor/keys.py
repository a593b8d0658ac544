"""Members' own key pairs. The key centre never holds a weak trapdoor."""

from __future__ import annotations

from dataclasses import dataclass, field

from hansa import errors
from hansa.crypto.double_trapdoor.integers import (
    CHALLENGE_BITS,
    Entropy,
    hashed,
    inverse,
    power,
    secret_power,
    units,
)
from hansa.crypto.double_trapdoor.parameters import NONCE_BITS, Parameters
from hansa.crypto.double_trapdoor.tables import table_power


@dataclass(frozen=True, slots=True)
class WeakKey:
    """A member's pair: public h = g**theta mod N**2, and the weak trapdoor theta."""

    public: int
    trapdoor: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Possession:
    """Schnorr's proof of knowledge of theta: challenge and response, an integer."""

    challenge: int
    response: int


def derive_key(parameters: Parameters, secret: bytes) -> WeakKey:
    """The pair that follows from at least 32 secret bytes; with other parameters it is another one."""
    if len(secret) < 32:
        raise errors.Misconfigured("a key's secret is shorter than 32 bytes", hint="Draw 32 random bytes.")
    trapdoor = hashed(parameters.exponent_bits, b"trapdoor", parameters.modulus, secret)
    return WeakKey(secret_power(parameters.generator, trapdoor, parameters.square), trapdoor)


def hedged(bits: int, label: bytes, secret: int, context: bytes, statement: int, entropy: Entropy) -> int:
    """A nonce of `bits` bits from entropy, the secret that it hides, and what it is for.

    Two proofs with one nonce give their secret away. So it does no harm if entropy repeats, as it does after a
    restart from a copy of a machine.
    """
    return hashed(bits, b"nonce/" + label, entropy(32), secret, context, statement)


def prove_possession(parameters: Parameters, key: WeakKey, context: bytes, entropy: Entropy) -> Possession:
    """Show that one knows the trapdoor of a key; `context` says for whom and where."""
    bits = parameters.exponent_bits + NONCE_BITS
    k = hedged(bits, b"possession", key.trapdoor, context, key.public, entropy)
    commitment = table_power(parameters, parameters.generator, k)
    challenge = _challenge(parameters, key.public, commitment * commitment % parameters.square, context)
    return Possession(challenge, k + challenge * key.trapdoor)


def check_possession(parameters: Parameters, public: int, proof: Possession, context: bytes) -> None:
    """Refuse a key whose owner does not know its trapdoor, or that is not a power of the generator up to sign.

    Both sides are squared: in the squares only 1 has a small order, so that a challenge divides out.
    Raises `Untrusted`.
    """
    square = parameters.square
    small = public * public % square == 1 or not units([public], square, parameters.modulus)
    if not small and _in_range(parameters, proof):
        squared = power(
            table_power(parameters, parameters.generator, proof.response)
            * inverse(power(public, proof.challenge, square), square),
            2,
            square,
        )
        if proof.challenge == _challenge(parameters, public, squared, context):
            return
    raise errors.Untrusted(
        "the proof of possession of a double-trapdoor key is wrong",
        hint="Its owner must make the key and the proof itself.",
    )


def _in_range(parameters: Parameters, proof: Possession) -> bool:
    bits = parameters.exponent_bits + NONCE_BITS
    return 0 <= proof.challenge < 1 << CHALLENGE_BITS and 0 <= proof.response < 1 << bits


def _challenge(parameters: Parameters, public: int, commitment: int, context: bytes) -> int:
    n, g = parameters.modulus, parameters.generator
    return hashed(CHALLENGE_BITS, b"possession", context, n, g, public, commitment)
