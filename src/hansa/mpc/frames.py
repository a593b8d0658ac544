"""How a party speaks with its child and with other parties' supervisors: canonical CBOR behind its length.

A frame of no length is a beat: it says only that the sender lives.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from hansa import encoding, errors

CHILD_LIMIT = 1 << 30
"""Bytes of a frame between a party and its own child, which carries shares."""

PEER_LIMIT = 64 * 1024
"""Bytes of a frame from another party's supervisor, which carries words and numbers only."""

BEAT: Final = b"\x00\x00\x00\x00"
_LENGTH = 4


def frame(value: Any) -> bytes:
    """A value as it is sent."""
    data = encoding.encode(value)
    if len(data) > CHILD_LIMIT:
        raise errors.Misconfigured(f"a variable of {len(data)} bytes is too large for a party's child")
    return len(data).to_bytes(_LENGTH, "big") + data


async def receive(source: asyncio.StreamReader, limit: int, silence: float) -> Any:
    """The next value that is no beat.

    Raises `TimeoutError` when nothing at all came for `silence` seconds, `EOFError` or `OSError` when the other end is
    gone, `Untrusted` when what it sent is no frame or larger than `limit`.
    """
    while True:
        async with asyncio.timeout(silence):
            length = _checked(await source.readexactly(_LENGTH), limit)
        if length:
            async with asyncio.timeout(silence):
                data = await source.readexactly(length)
            return encoding.decode(data, limit=limit)


def receive_blocking(source: socket.socket, limit: int) -> Any:
    """The next value that is no beat, at the child's end. Raises `EOFError`, `OSError` or `Untrusted`."""
    while not (length := _checked(_exactly(source, _LENGTH), limit)):
        pass
    return encoding.decode(_exactly(source, length), limit=limit)


def _checked(head: bytes, limit: int) -> int:
    length = int.from_bytes(head, "big")
    if length > limit:
        raise errors.Untrusted(f"a frame of {length} bytes is announced, limit {limit}")
    return length


def _exactly(source: socket.socket, count: int) -> bytes:
    room = bytearray(count)
    view, at = memoryview(room), 0
    while at < count:
        got = source.recv_into(view[at:])
        if not got:
            raise EOFError
        at += got
    return bytes(room)
