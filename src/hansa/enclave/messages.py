"""What a host and its enclave say to each other.

A message is four bytes of length and canonical CBOR: the name of its kind and its fields. Bulk bytes follow the
message that announces them by `size`, as they are. The enclave begins with `Hello`; then each message of the host
gets one answer. `Refused` leaves the enclave as it was, but for codes below `FATAL`: with these it ends. No message
carries a time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, BinaryIO

from hansa import encoding, errors
from hansa.protocol import typed
from hansa.protocol.tee import Manifest, Result, Roster, Signatures
from hansa.protocol.typed import Below, Bytes32, Bytes64, Count, Id
from hansa.records import MAX_MEMBERS

LIMIT = 2 * 1024 * 1024
"""Bytes of a message, without what follows it. The terms have up to 1 MiB."""


class Code(IntEnum):
    """Why an enclave refuses. A code says nothing of members' data."""

    MALFORMED = 1
    TOO_LARGE = 2
    ORDER = 3
    FAILED = 4
    TERMS = 16
    ROSTER = 17
    NONCE = 18
    MANIFEST = 19
    ROUND = 20
    BASE = 21
    MEMBER = 22
    DIGEST = 23
    INCOMPLETE = 24
    RULE = 25
    QUOTE = 26
    HALF = 27


FATAL = 16

MEANINGS: Mapping[Code, str] = {
    Code.MALFORMED: "a message was cut short, unknown or not canonical",
    Code.TOO_LARGE: "more bytes were announced than a model of these terms can need",
    Code.ORDER: "a message came when it could not",
    Code.FAILED: "the enclave's program failed",
    Code.TERMS: "the terms are not ones of scheme tee",
    Code.ROSTER: "the roster does not follow on the one before, or too few of its members signed it",
    Code.NONCE: "the nonce was used before",
    Code.MANIFEST: "the manifest is for another federation, roster or enclave, or too few members signed it",
    Code.ROUND: "a manifest was taken for this round or a later one already",
    Code.BASE: "the model is not the one that the manifest names, or does not open",
    Code.MEMBER: "the member is not in the set, or its payload was taken already",
    Code.DIGEST: "the bytes are not those that the manifest or the payload names",
    Code.INCOMPLETE: "the model, or the payload of a member of the set, is missing",
    Code.RULE: "the rule of the terms cannot aggregate what is valid of this set",
    Code.QUOTE: "the processor gave no quote",
    Code.HALF: "the half is none of this opening's, is not sealed to this enclave, or its proof does not hold",
}


class Refusal(Exception):
    """Ends the handling of a message; its `code` is the answer."""

    def __init__(self, code: Code) -> None:
        super().__init__(MEANINGS[code])
        self.code = code


@dataclass(frozen=True, slots=True)
class Hello:
    """First words of the enclave. `program`: name and version. `mode`: "hardware" or "simulated"."""

    program: str
    mode: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Who runs the enclave (an id of the ledger), for what: federation, canonical terms, members of version 0."""

    host: Annotated[int, Below(MAX_MEMBERS)]
    federation: Bytes32
    terms: bytes
    roster: Roster


@dataclass(frozen=True, slots=True)
class Change:
    """The next version of the roster, and who of the current one signed it."""

    roster: Roster
    signatures: Signatures


@dataclass(frozen=True, slots=True)
class Attest:
    """Asks for a quote over the statement as it is now."""

    nonce: Bytes32


@dataclass(frozen=True, slots=True)
class Start:
    """The set of a round, and who of the roster signed it."""

    manifest: Manifest
    signatures: Signatures


@dataclass(frozen=True, slots=True)
class Base:
    """The checkpoint of the manifest's `base` follows, `size` bytes.

    In the clear where `grant` is empty; else sealed by `author` to readers of this digest
    (`contexts.readers_digest`) with this enclave among them, see `tee.reader_id`.
    """

    author: Id
    readers: Bytes32
    grant: bytes
    size: Count


@dataclass(frozen=True, slots=True)
class Payload:
    """The sealed update of a member follows, `size` bytes; `grant` is the one that it names."""

    member: Id
    grant: bytes
    size: Count


@dataclass(frozen=True, slots=True)
class Opening:
    """The opening that the manifest names, and the key centre's parameters."""

    opening: bytes
    setup: bytes


@dataclass(frozen=True, slots=True)
class Half:
    """The key centre's half (side 1) or the server's (2) of the opening follows, `size` bytes."""

    side: Annotated[int, Below(3)]
    size: Count


@dataclass(frozen=True, slots=True)
class Masked:
    """The sum of a cohort's masked updates follows, `size` bytes; none where values themselves are encrypted."""

    cohort: Count
    size: Count


@dataclass(frozen=True, slots=True)
class Finish:
    """Asks for the result. Asked again before the next round starts, the enclave gives the same bytes."""


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""


@dataclass(frozen=True, slots=True)
class Attested:
    """Statement (canonical bytes) and quote. Collateral is signed: the host fetches it."""

    statement: bytes
    quote: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """The result and its signature; the sealed checkpoint follows, `size` bytes, and names `grant`."""

    result: Result
    signature: Bytes64
    grant: bytes
    size: Count


@dataclass(frozen=True, slots=True)
class Refused:
    """The enclave did not do it."""

    code: Code


Request = Begin | Change | Attest | Start | Base | Payload | Opening | Half | Masked | Finish
Answer = Hello | Done | Attested | Finished | Refused
REQUESTS: Mapping[str, type[Any]] = {
    k.__name__: k for k in (Begin, Change, Attest, Start, Base, Payload, Opening, Half, Masked, Finish)
}
ANSWERS: Mapping[str, type[Any]] = {k.__name__: k for k in (Hello, Done, Attested, Finished, Refused)}


def encode(message: Request | Answer) -> bytes:
    """A message as it is sent."""
    data = encoding.encode([type(message).__name__, message])
    return struct.pack(">I", len(data)) + data


def receive(source: BinaryIO, kinds: Mapping[str, type[Any]]) -> Any:
    """The next message, of one of `kinds`; None where the source ends between two.

    Raises `Untrusted` for a length over the limit, before anything is read, and for whatever is no message.
    """
    head = exactly(source, 4, allow_end=True)
    if not head:
        return None
    (size,) = struct.unpack(">I", head)
    if size > LIMIT:
        raise errors.Untrusted(f"a message of {size} bytes, limit {LIMIT}")
    value = encoding.decode(exactly(source, size), limit=LIMIT)
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not isinstance(value[0], str)
        or value[0] not in kinds
    ):
        raise errors.Untrusted("no message of this protocol")
    return typed.read(kinds[value[0]], value[1], value[0])


def exactly(source: BinaryIO, size: int, *, allow_end: bool = False) -> bytes:
    """So many bytes; none if the source ends first and that is allowed. Raises `Untrusted`."""
    parts, left = [], size
    while left:
        part = source.read(left)
        if not part:
            if allow_end and left == size:
                return b""
            raise errors.Untrusted("the bytes end in the middle of a message")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
