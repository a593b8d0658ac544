"""Collateral: what a processor's maker says about its processors, signed: states, identities, revocations.

One JSON object of nine strings, as Intel's service and the PyPI package `dcap-qvl` have it: PEM chains, JSON
texts as they were signed, signatures and revocation lists in hexadecimal. The processor's own certificates come
from the quote alone; collateral that brings some is refused.

Every certificate is parsed here and written anew for the library that verifies: both then see the same chain,
whatever else a text holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from hansa import encoding, errors
from hansa.attestation import signatures

LIMIT = 256 * 1024
"""Bytes of collateral at most; Intel's has about 25 thousand."""

_TEXTS = (
    "pck_crl_issuer_chain",
    "tcb_info_issuer_chain",
    "tcb_info",
    "qe_identity_issuer_chain",
    "qe_identity",
)
_HEX = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
FIELDS = frozenset((*_TEXTS, *_HEX))


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a part: its name, its certificate's chain as PEM, and the DER of all but the first in it."""

    name: str
    chain: str
    above: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Collateral:
    """Collateral in its parts; nothing in it is verified yet.

    `issued` is when the oldest of TCB info, QE identity and the list of revoked processors was signed, `newest`
    when the newest was, `expires` when the first of them ends; Unix seconds.
    """

    crl_chain: str
    root_crl: bytes
    pck_crl: bytes
    tcb_signer: Signer
    tcb_info: str
    tcb_signature: bytes
    qe_signer: Signer
    qe_identity: str
    qe_signature: bytes
    issued: int
    newest: int
    expires: int


class _Wrong(ValueError):
    """What is wrong with it, as the end of a sentence about collateral."""


def read(data: bytes) -> Collateral:
    """Parse collateral of at most `LIMIT` bytes. Raises `Untrusted`."""
    if len(data) > LIMIT:
        raise _refused(data, f"has {len(data)} bytes, limit {LIMIT}")
    try:
        parts = json.loads(data, object_pairs_hook=_unique)
        if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
            raise _Wrong("is not one JSON object of texts")
        if "pck_certificate_chain" in parts:
            raise _Wrong("brings processor certificates of its own, and only the quote's count")
        if parts.keys() != FIELDS:
            raise _Wrong(f"has other keys than it should: {sorted(parts.keys() ^ FIELDS)!r:.200}")
        return _read(parts)
    except (*signatures.MALFORMED, KeyError, RecursionError, OverflowError) as e:
        raise _refused(data, str(e) if isinstance(e, _Wrong) else "cannot be read") from e
    except errors.Untrusted as e:
        e.digest = encoding.digest(data)
        raise


def _refused(data: bytes, why: str) -> errors.Untrusted:
    return errors.Untrusted(
        f"the collateral {why}",
        hint="Whoever sent it is at fault: it must be what the processor maker's service gives for this quote.",
        digest=encoding.digest(data),
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Wrong("names a key twice")
    return found


def _read(parts: Mapping[str, str]) -> Collateral:
    raw = {name: bytes.fromhex(parts[name]) for name in _HEX}
    tcb, identity = json.loads(parts["tcb_info"]), json.loads(parts["qe_identity"])
    crl = x509.load_der_x509_crl(raw["pck_crl"])
    root_crl = x509.load_der_x509_crl(raw["root_ca_crl"])
    if crl.next_update_utc is None or root_crl.next_update_utc is None:
        raise _Wrong("has a list of revocations that never ends")
    issued = [
        _seconds(tcb["issueDate"]),
        _seconds(identity["issueDate"]),
        int(crl.last_update_utc.timestamp()),
    ]
    ends = [_seconds(tcb["nextUpdate"]), _seconds(identity["nextUpdate"])]
    ends += [int(each.timestamp()) for each in (crl.next_update_utc, root_crl.next_update_utc)]
    return Collateral(
        crl_chain=parts["pck_crl_issuer_chain"],
        root_crl=raw["root_ca_crl"],
        pck_crl=raw["pck_crl"],
        tcb_signer=_signer(parts["tcb_info_issuer_chain"]),
        tcb_info=parts["tcb_info"],
        tcb_signature=raw["tcb_info_signature"],
        qe_signer=_signer(parts["qe_identity_issuer_chain"]),
        qe_identity=parts["qe_identity"],
        qe_signature=raw["qe_identity_signature"],
        issued=min(issued),
        newest=max(*issued, int(root_crl.last_update_utc.timestamp())),
        expires=min(ends),
    )


def _seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise _Wrong("has a time without a zone")
    return int(moment.timestamp())


def _signer(text: str) -> Signer:
    chain = signatures.certificates(text.encode())
    above = tuple(signatures.der(certificate) for certificate in chain[1:])
    return Signer(_name(chain[0]), signatures.pem(chain).decode(), above)


def check_signers(collateral: Collateral, root: bytes) -> None:
    """Refuse TCB info or QE identity that any other than the root's own TCB signer signed.

    The root certifies processors too, through an authority: a processor's key must not speak for its maker. So
    a chain is the signer and the root, with nothing between, and the signer carries the name that belongs to
    the root's. Raises `Untrusted`; that the signatures hold is the verifier's business.
    """
    expected = _signer_name(root)
    for what, signer in (("TCB info", collateral.tcb_signer), ("QE identity", collateral.qe_signer)):
        if signer.above != (root,) or signer.name != expected:
            raise errors.Untrusted(
                f"the {what} is not signed by {expected}, certified by the root itself",
                hint="Whoever sent the collateral is at fault: only the processor's maker may say this.",
            )


@lru_cache(maxsize=16)
def _signer_name(root: bytes) -> str:
    return _name(x509.load_der_x509_certificate(root)).replace("Root CA", "TCB Signing")


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""
