"""Payloads and checkpoints out of their seals, and who is to blame when they do not open.

A payload whose bytes are not those that the manifest names is the host's doing: it is refused, and the right bytes
may still come. A payload that is the committed one and does not hold what it should is its member's doing. Every
candidate must find the same, so all look at things in one order.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.crypto.signatures import recover
from hansa.enclave import messages as msg
from hansa.enclave.bulk import Bulk
from hansa.enclave.messages import Code, Refusal
from hansa.protocol import tee
from hansa.protocol.contexts import model_context, readers_digest, update_context
from hansa.protocol.payloads import decode_payload, payload_limit
from hansa.protocol.tee import Entry, Flaw, Manifest
from hansa.protocol.updates import check_update
from hansa.records import Update


@dataclass(frozen=True, slots=True)
class Reader:
    """An enclave as a reader of seals: id of its host, and its X25519 private key."""

    host: int
    private_key: bytes

    def secret(self, grant: bytes, federation: bytes, readers: bytes, author: int) -> bytes:
        """The secret of a grant that `author` made for readers of this digest. Raises `Untrusted`."""
        context = sealing.grant_context(federation, readers, author)
        return sealing.open_grant(grant, tee.reader_id(self.host), self.private_key, context)


def open_base(reader: Reader, manifest: Manifest, message: msg.Base, bulk: Bulk, limit: int) -> bytes:
    """The checkpoint that follows a message. Raises `Untrusted`."""
    if not message.grant:
        data = bulk.read()
    else:
        secret = reader.secret(message.grant, manifest.federation, message.readers, message.author)
        sink = BytesIO()
        context = model_context(manifest.federation, manifest.version, message.author)
        sealing.open_stream(bulk, sink, secret, context, limit=limit)
        data = sink.getvalue()
    if encoding.digest(data) != manifest.base:
        raise errors.Untrusted("another model than the manifest names")
    return data


def open_payload(
    reader: Reader, manifest: Manifest, entry: Entry, address: bytes, grant: bytes, bulk: Bulk, length: int
) -> Update | Flaw:
    """The update of an entry, whose member signs with `address`, or what is wrong with it.

    Raises `Refusal` when the host brought other bytes than those of the commitment, or another grant.
    """
    sink = BytesIO()
    flaw = _unseal(reader, manifest, entry, grant, bulk, sink, length)
    if bulk.drain() != entry.digest:
        raise Refusal(Code.DIGEST)
    try:
        named = sealing.read_header(bulk.start).grant
    except errors.Untrusted:
        return Flaw.SEAL
    if named != encoding.digest(grant):
        raise Refusal(Code.DIGEST)
    return _judged(manifest, entry, address, sink.getbuffer(), length) if flaw is None else flaw


def _unseal(
    reader: Reader, manifest: Manifest, entry: Entry, grant: bytes, bulk: Bulk, sink: BytesIO, length: int
) -> Flaw | None:
    federation, readers = manifest.federation, tee.sealed_to(manifest.candidates)
    digest = readers_digest(readers)
    try:
        secret = reader.secret(grant, federation, digest, entry.member)
        if not sealing.serves(
            grant, secret, readers, sealing.grant_context(federation, digest, entry.member)
        ):
            return Flaw.GRANT
    except errors.Untrusted:
        return Flaw.GRANT
    context = update_context(federation, manifest.round, entry.member, entry.version)
    try:
        sealing.open_stream(bulk, sink, secret, context, limit=payload_limit(length))
    except errors.Untrusted:
        return Flaw.SEAL
    return None


def _judged(manifest: Manifest, entry: Entry, address: bytes, data: memoryview, length: int) -> Update | Flaw:
    try:
        update, signature, signed = decode_payload(data, length)
    except errors.Untrusted:
        return Flaw.CONTENT
    if recover(signed, signature) != address:
        return Flaw.SIGNATURE
    try:
        check_update(
            update,
            federation=manifest.federation,
            round=manifest.round,
            member=entry.member,
            version=entry.version,
            base=entry.base,
            length=length,
            examples=entry.examples,
            millis=entry.millis,
            timestamp=entry.timestamp,
        )
    except errors.Untrusted:
        return Flaw.CONTEXT
    return update if update.examples else Flaw.CONTEXT
