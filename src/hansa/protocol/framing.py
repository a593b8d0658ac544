"""Blobs of one shape: length of the header (4 bytes), canonical CBOR header, then raw numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hansa import encoding, errors

_LENGTH_BYTES = 4


def pack(kind: str, header: Mapping[str, Any], *body: bytes | memoryview) -> bytes:
    """One blob of `kind` with a header and the parts of its body."""
    head = encoding.encode({"kind": kind, **header})
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, *body))


def unpack(
    data: bytes | memoryview, kind: str, fields: Mapping[str, type], *, limit: int
) -> tuple[dict[str, Any], memoryview]:
    """Header and body of a blob; the header has at most `limit` bytes and exactly `fields`, of these types.

    Raises `Untrusted` for anything else.
    """
    head_end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    if head_end > len(data):
        raise errors.Untrusted(f"{kind} of {len(data)} bytes is too short for its header")
    header = encoding.decode(bytes(data[_LENGTH_BYTES:head_end]), limit=limit)
    if not isinstance(header, dict) or header.pop("kind", None) != kind:
        raise errors.Untrusted(f"blob is not of kind {kind!r}")
    if header.keys() != fields.keys():
        raise errors.Untrusted(f"{kind} has other fields than {', '.join(fields)}")
    for name, expected in fields.items():
        # An exact comparison: True is an int to isinstance.
        if type(header[name]) is not expected:
            raise errors.Untrusted(f"field {name!r} of {kind} is not of type {expected.__name__}")
    return header, memoryview(data)[head_end:]


@contextmanager
def evidence(data: bytes) -> Iterator[None]:
    """Any `Untrusted` raised within names the digest of `data`, hashed only then."""
    try:
        yield
    except errors.Untrusted as e:
        e.digest = encoding.digest(data)
        raise
