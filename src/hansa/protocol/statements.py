"""What an enclave says of itself, and how a quote binds it.

An enclave draws its keys when it starts, and has the processor sign a digest of them: whoever checks the quote
knows that these keys live in the program that was measured. The verifier's nonce goes into the same digest, and
behind it in the clear: a quote answers one question only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

from hansa import encoding, errors

NONCE_BYTES = 32
_DOMAIN = b"hansa/statement/1"
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Statement:
    """Keys and context of an enclave.

    `seal_key`: X25519 public key to which members seal (32 bytes). `signing_key`: public key of its results.
    `federation`, `terms`, `roster`: 32 bytes each; the roster is the one that it knows to be current.
    `program`: name and version of the program, for people; what runs is the measurement.
    """

    federation: bytes
    terms: bytes
    roster: bytes
    seal_key: bytes
    signing_key: bytes
    program: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the statement in canonical form."""
        return encoding.digest(encoding.encode(self))


def read_statement(data: bytes) -> Statement:
    """A statement from its canonical bytes. Raises `Untrusted`."""
    value = encoding.decode(data, limit=_LIMIT)
    types = {f.name: str if f.name == "program" else bytes for f in fields(Statement)}
    if not isinstance(value, dict) or value.keys() != types.keys():
        raise _malformed(data)
    if any(type(value[name]) is not kind for name, kind in types.items()):
        raise _malformed(data)
    statement = Statement(**value)
    if {len(v) for v in (statement.federation, statement.terms, statement.roster, statement.seal_key)} != {
        32
    }:
        raise _malformed(data)
    return statement


def _malformed(data: bytes) -> errors.Untrusted:
    return errors.Untrusted(
        "not an enclave's statement: keys or sizes are wrong",
        hint="Its enclave runs another version of Hansa, or whoever passed it on changed it.",
        digest=encoding.digest(data),
    )


def report_data(statement: Statement, nonce: bytes) -> bytes:
    """The 64 bytes that an enclave has quoted: SHA-256(domain | statement | nonce) | nonce.

    Raises `Misconfigured` when the nonce has not 32 bytes.
    """
    if len(nonce) != NONCE_BYTES:
        raise errors.Misconfigured(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    said = _DOMAIN + encoding.encode(statement) + nonce
    return hashlib.sha256(said).digest() + nonce
