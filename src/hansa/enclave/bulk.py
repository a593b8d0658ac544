"""Bytes that follow a message, read once, in order, and hashed on the way."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from hansa.enclave.messages import Code, Refusal

_PIECE = 256 * 1024
_START = 256


class Bulk:
    """The next `size` bytes of `source`. `start` keeps the first of them. Raises `Refusal` if the source ends early."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source, self._left = source, size
        self._hash = hashlib.sha256()
        self.start = b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, all that are left if it is negative; empty at the end."""
        wanted = self._left if size < 0 else min(size, self._left)
        if not wanted:
            return b""
        data = self._source.read(wanted)
        if not data:
            raise Refusal(Code.MALFORMED)
        self._left -= len(data)
        self._hash.update(data)
        self.start += data[: _START - len(self.start)]
        return data

    def drain(self) -> bytes:
        """Read what is left, in constant memory; gives the digest of everything."""
        while self.read(_PIECE):
            pass
        return self._hash.digest()
