"""AES-CTR streams (NIST SP 800-38A): the public polynomials, noise and secrets.

A public polynomial's coefficients are drawn in the transformed domain, so that it costs no transform. They
are words of the stream, in the planes of a wire; a word that is not below the prime, which is rare, is
replaced by the next good one of a second stretch of the stream. So they are uniform, and each group's are
found without those before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto.kahe import wires
from hansa.crypto.kahe.kernel import Kernel, Planes
from hansa.crypto.kahe.kernel_numpy import ones
from hansa.crypto.kahe.parameters import DEGREE, GROUP, SPREAD, Parameters

Entropy = Callable[[int], bytes]

_COIN_BYTES = 8
_BLOCK_BYTES = 16
_ZEROS = memoryview(bytes(GROUP * _COIN_BYTES))
_SPARE = 1 << 127
"""Counter of the second stretch; a group's part of it starts at its number times 2**32."""
_SECRET_DOMAIN = b"hansa/kahe-secret/1"
_NOISE_DOMAIN = b"hansa/kahe-noise/1"


class Keystream:
    """The bytes of AES-CTR under a key of 16 or 32 bytes, from a multiple of 16 bytes on."""

    def __init__(self, key: bytes, start: int = 0) -> None:
        counter = start // _BLOCK_BYTES
        cipher = Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(_BLOCK_BYTES, "big")))
        self._cipher = cipher.encryptor()

    def fill(self, out: NDArray[Any]) -> None:
        """The next bytes of the stream."""
        self._cipher.update_into(_ZEROS[: out.nbytes], out.view(np.uint8).data)


class Coins:
    """64 coins for the noise of each coefficient, group by group, under a key that nobody else has."""

    def __init__(self, key: bytes, group: int = 0) -> None:
        self._stream = Keystream(key, group * GROUP * _COIN_BYTES)

    def next(self, out: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The coins of the next group: `out`, filled."""
        self._stream.fill(out)
        return out


class Publics:
    """The public polynomials of a round, group by group, transformed."""

    def __init__(self, parameters: Parameters, key: bytes, kernel: Kernel, group: int = 0) -> None:
        self._parameters, self._key, self._kernel, self._group = parameters, key, kernel, group
        self._stream = Keystream(key, group * GROUP * parameters.width)

    def next(self, out: NDArray[np.uint8]) -> Planes:
        """The next group, in [0, p): `out`, filled. It has the bytes of the group on the wire."""
        width, prime = self._parameters.width, self._parameters.prime
        self._stream.fill(out)
        planes = wires.planes(out, width)
        if self._kernel.excess(planes, prime):
            self._replace(planes, prime, width)
        self._group += 1
        return planes

    def _replace(self, planes: Planes, prime: int, width: int) -> None:
        low, high = planes
        words = low.astype(np.int64) + (high.astype(np.int64) << 32 if high.size else 0)
        spare = Keystream(self._key, (_SPARE + (self._group << 32)) * _BLOCK_BYTES)
        drawn = np.empty(width, np.uint8)
        for index in np.flatnonzero(words >= prime):
            word = prime
            while word >= prime:
                spare.fill(drawn)
                word = int.from_bytes(drawn.tobytes(), "little")
            low[index] = word & 0xFFFF_FFFF
            if high.size:
                high[index] = word >> 32


def check_public_key(key: bytes) -> None:
    """Raises `Misconfigured` unless this is a key for AES of 128 or 256 bits. The shorter one is faster."""
    if len(key) not in (16, 32):
        raise errors.Misconfigured("the public key of a mask has 16 or 32 bytes")


def draw_secret(entropy: Entropy) -> NDArray[np.int8]:
    """A fresh secret: 2048 coefficients, each the difference of two times 32 coins. Takes 32 bytes.

    A secret is for one mask: two masks under one secret and one public key show the difference of their
    values to everybody. A retry with other values is another mask.
    """
    coins = Coins(_derive(_SECRET_DOMAIN, entropy)).next(np.empty(DEGREE, np.uint64))
    return (ones(coins).astype(np.int64) - SPREAD).astype(np.int8)


def draw_noise_key(entropy: Entropy) -> bytes:
    """The key of one mask's noise. Takes 32 bytes."""
    return _derive(_NOISE_DOMAIN, entropy)


def _derive(domain: bytes, entropy: Entropy) -> bytes:
    # Two purposes never share a key, even where a simulation's entropy repeats itself.
    return hashlib.sha256(domain + entropy(32)).digest()[:16]
