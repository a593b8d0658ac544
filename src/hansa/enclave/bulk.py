"""Bytes that follow a message, read once, in order, and hashed on the way."""

from __future__ import annotations

import hashlib
from io import BytesIO

from hansa.crypto.sealing import Source
from hansa.enclave.messages import Code, Refusal

_PIECE = 256 * 1024
_START = 256


class Bulk:
    """The next `size` bytes of `source`. `start` keeps the first of them. Raises `Refusal` if the source ends early."""

    def __init__(self, source: Source, size: int) -> None:
        self._source, self._left = source, size
        self._hash = hashlib.sha256()
        self.start = b""

    def readinto(self, room: memoryview, /) -> int:
        """Fill a part of `room` from its start; gives the number of bytes, 0 at the end."""
        wanted = room[: self._left]
        if not wanted:
            return 0
        got = self._source.readinto(wanted)
        if not got:
            raise Refusal(Code.MALFORMED)
        self._left -= got
        self._hash.update(wanted[:got])
        self.start += bytes(wanted[: min(got, _START - len(self.start))])
        return got

    def read(self) -> bytes:
        """Everything that is left."""
        data = BytesIO(bytes(self._left))
        with data.getbuffer() as room:
            at = 0
            while at < len(room):
                at += self.readinto(room[at:])
        return data.getvalue()

    def drain(self) -> bytes:
        """Read what is left, in constant memory; gives the digest of everything."""
        room = memoryview(bytearray(_PIECE))
        while self.readinto(room):
            pass
        return self._hash.digest()
