"""The record of a verified quote: what goes on the ledger, and what an audit has to find again.

Quote and collateral go to the store under their digests. Without archived collateral nobody can verify a quote
later: the maker's service gives only the newest.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from hansa import encoding, errors
from hansa.attestation import collateral, quotes
from hansa.attestation.quotes import Measurement, SgxMeasurement, TdxMeasurement
from hansa.records import Evidence

if TYPE_CHECKING:
    from hansa.ports import Store

LIMIT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """What was verified, under what, and when.

    Digests are SHA-256: of the root certificate, of the part of the quote that is signed, of the attestation key,
    of the whole quote, of collateral, statement and policy, of the processor's identity (PPID). `issued` and
    `expires` bound the collateral, `verified` is when it was judged; Unix seconds. `mode` is "hardware" or
    "simulated".
    """

    mode: str
    tee: str
    root: bytes
    measurement: Measurement
    signed: bytes
    attestation_key: bytes
    quote: bytes
    collateral: bytes
    statement: bytes
    policy: bytes
    nonce: bytes
    status: str
    advisories: tuple[str, ...]
    evaluation: int
    model: bytes
    platform: bytes
    issued: int
    expires: int
    verified: int
    verifier: str

    @property
    def encoded(self) -> bytes:
        """The record in canonical form."""
        return encoding.encode(self)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the record in canonical form: what a ledger names."""
        return encoding.digest(self.encoded)


def read_record(data: bytes) -> Record:
    """A record from its canonical bytes. Raises `Untrusted`."""
    value = encoding.decode(data, limit=LIMIT)
    try:
        measured = value["measurement"]
        kinds = (SgxMeasurement, TdxMeasurement)
        kind = next(k for k in kinds if measured.keys() == {f.name for f in fields(k)})
        if kind is TdxMeasurement:
            measured = {**measured, "rtmrs": tuple(measured["rtmrs"])}
        record = Record(
            **{**value, "measurement": kind(**measured), "advisories": tuple(value["advisories"])}
        )
    except (TypeError, KeyError, AttributeError, StopIteration) as e:
        raise _malformed(data) from e
    if not _well_typed(record):
        raise _malformed(data)
    return record


def archive(store: Store, evidence: Evidence) -> None:
    """Keep quote and collateral, so that they can be verified again. Raises `Unavailable`."""
    store.put(evidence.quote)
    store.put(evidence.collateral)


def archived(store: Store, record: Record) -> Evidence:
    """What a record was made from. Raises `Unavailable` when it is gone, `Untrusted` when it is not that."""
    quote = store.get(record.quote, limit=quotes.LIMIT)
    return Evidence(quote, store.get(record.collateral, limit=collateral.LIMIT))


def _well_typed(record: Record) -> bool:
    types = {"bytes": bytes, "str": str, "int": int}
    plain = all(
        type(getattr(record, f.name)) is types[str(f.type)] for f in fields(Record) if str(f.type) in types
    )
    match record.measurement:
        case SgxMeasurement(mrenclave, mrsigner, product, svn):
            measured = type(mrenclave) is type(mrsigner) is bytes and type(product) is type(svn) is int
        case TdxMeasurement(mrtd, rtmrs):
            measured = len(rtmrs) == 4 and all(type(value) is bytes for value in (mrtd, *rtmrs))
    return plain and measured and all(type(name) is str for name in record.advisories)


def _malformed(data: bytes) -> errors.Untrusted:
    return errors.Untrusted(
        "not a record of an attestation: keys or types are wrong",
        hint="Whoever wrote it runs another version of Hansa, or changed it.",
        digest=encoding.digest(data),
    )
