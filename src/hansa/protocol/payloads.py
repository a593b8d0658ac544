"""An update as members seal it to enclaves: the member's signature, a header, then plain numbers.

Nothing is packed: the length of a sealed update must not tell what is in it, and unpacking would touch memory as
the data have it.

The signature is over the header, and shows that the member itself sealed for this round: nobody else can have it, since
it is never outside of a seal. That the numbers are the member's is the seal's to show, whose key only the member and
the enclaves know, and the ledger's, where the member committed to the sealed bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from eth_hash.auto import keccak

from hansa import encoding, errors
from hansa.crypto.signatures import SIGNATURE_BYTES
from hansa.protocol import framing
from hansa.records import Update

_KIND = "hansa/payload/1"
_FIELDS = {
    f.name: {"int": int, "bytes": bytes}[str(f.type)]
    for f in fields(Update)
    if str(f.type) in ("int", "bytes")
}
_HEADER_LIMIT = 1024


def payload_limit(length: int) -> int:
    """The most bytes that a payload for a model of `length` values can need; see also `sealing.sealed_size`."""
    return SIGNATURE_BYTES + 4 + _HEADER_LIMIT + 4 * length


def encode_payload(update: Update, sign: Callable[[bytes], bytes]) -> bytes:
    """Bytes of a dense update; `sign` is `ports.Signer.sign` of its member."""
    header: dict[str, Any] = {name: getattr(update, name) for name in _FIELDS}
    head = framing.pack(_KIND, header)
    values = update.values.astype("<i4", copy=False).data.cast("B")
    return b"".join((sign(_signed_bytes(update, head)), head, values))


def decode_payload(data: bytes | memoryview, length: int) -> tuple[Update, bytes, bytes]:
    """Update, signature, and the hash that was signed, for a model of `length` values.

    The update's values are a view of `data`. Raises `Untrusted` when sizes or types are wrong; whether the update
    is the right one is not looked at.
    """
    if len(data) > payload_limit(length):
        raise errors.Untrusted(f"payload of {len(data)} bytes for a model of {length} values")
    said = memoryview(data)[SIGNATURE_BYTES:]
    header, body = framing.unpack(said, _KIND, _FIELDS, limit=_HEADER_LIMIT)
    if header["length"] != length or len(body) != 4 * length:
        raise errors.Untrusted(f"payload has {len(body)} bytes of values for a model of {length}")
    if len(header["federation"]) != 32 or len(header["base"]) != 32:
        raise errors.Untrusted("federation and base of a payload have 32 bytes each")
    if not all(0 <= header[name] < 2**63 for name, kind in _FIELDS.items() if kind is int):
        raise errors.Untrusted("a number of the payload is negative or too large")
    update = Update(**header, values=np.frombuffer(body, "<i4").astype(np.int32, copy=False))
    signed = keccak(_signed_bytes(update, said[: len(said) - len(body)]))
    return update, bytes(data[:SIGNATURE_BYTES]), signed


def _signed_bytes(update: Update, head: bytes | memoryview) -> bytes:
    return encoding.message_bytes(update.federation, "Payload", update.round, encoding.digest(head))
