"""A content key under a member's key: key encapsulation that validates what it opens.

A random m < N is the plaintext, and its exponent r follows from m and the context; whoever opens m encrypts it again
and compares (Fujisaki, Okamoto, CRYPTO 1999). So a receiver answers nothing but what an honest sender made, and a
crafted (T1, T2) tells its sender nothing of the trapdoor. The content key travels under AES-256-GCM with a key that
is hashed from m and the ciphertext and used once.

Both strong halves together open T1 as well: an escrow, and intended.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hansa import encoding, errors
from hansa.crypto.double_trapdoor.ciphertexts import Ciphertext, weak_decrypt
from hansa.crypto.double_trapdoor.integers import Entropy, draw_below, hashed, secret_power, to_bytes
from hansa.crypto.double_trapdoor.keys import WeakKey
from hansa.crypto.double_trapdoor.parameters import Parameters
from hansa.crypto.double_trapdoor.tables import table_power
from hansa.crypto.double_trapdoor.wire import read_ciphertexts, write_ciphertexts

KEY_BYTES = 32
_TAG_BYTES = 16
_NONCE = bytes(12)


def wrapped_bytes(parameters: Parameters) -> int:
    """Length of a wrapped key."""
    return 4 * parameters.size + KEY_BYTES + _TAG_BYTES


def wrap_key(
    parameters: Parameters, public: int, content_key: bytes, context: bytes, entropy: Entropy
) -> bytes:
    """Wrap a content key of 32 bytes to the owner of h = `public`, bound to `context`."""
    if len(content_key) != KEY_BYTES:
        raise errors.Misconfigured(f"a content key has {KEY_BYTES} bytes", hint="Draw it anew.")
    m = draw_below(parameters.modulus, entropy)
    header = write_ciphertexts(parameters, [_encapsulate(parameters, public, m, context)])
    return header + _cipher(public, m, header, context).encrypt(_NONCE, content_key, context)


def unwrap_key(parameters: Parameters, key: WeakKey, wrapped: bytes, context: bytes) -> bytes:
    """The content key of 32 bytes. Raises `Untrusted` for anything but what `wrap_key` makes for this key."""
    digest = encoding.digest(wrapped)
    if len(wrapped) == wrapped_bytes(parameters):
        header = wrapped[: 4 * parameters.size]
        try:
            [ciphertext] = read_ciphertexts(parameters, header, 1)
            m = weak_decrypt(parameters, key, ciphertext)
            if _encapsulate(parameters, key.public, m, context) == ciphertext:
                cipher = _cipher(key.public, m, header, context)
                return cipher.decrypt(_NONCE, wrapped[len(header) :], context)
        except (errors.Untrusted, InvalidTag):
            pass
    raise errors.Untrusted(
        "a wrapped key does not open",
        hint="It is not for this key or this round, or its sender is at fault.",
        digest=digest,
    )


def _encapsulate(parameters: Parameters, public: int, m: int, context: bytes) -> Ciphertext:
    n, square = parameters.modulus, parameters.square
    r = hashed(parameters.exponent_bits, b"wrap/exponent", context, n, public, m)
    # No table of h: a sender seals to many keys, once each.
    t1 = secret_power(public, r, square) * (1 + m * n) % square
    return Ciphertext(t1, table_power(parameters, parameters.generator, r))


def _cipher(public: int, m: int, header: bytes, context: bytes) -> AESGCM:
    return AESGCM(to_bytes(hashed(8 * KEY_BYTES, b"wrap/key", context, public, m, header), KEY_BYTES))
