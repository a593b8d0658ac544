"""The simulated maker of processors: root, authorities, TCB info, identities and revocations, all signed.

Everything has the form that Intel gives it, so that the verifier runs unchanged; only the root is another. All
keys follow from a seed, and the seed of `simulation` stands below: everybody can make any quote under it. That
is meant: a simulation protects nothing, and should not look as if it did.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hansa.attestation import signatures
from hansa.attestation.policy import DAY

SEED = b"hansa/simulation/1"
LIFETIME = 30 * DAY
"""How long collateral holds: Intel's thirty days."""

EVALUATION = 17
QE_SVN = 8
PCE_SVN = 13
CPU_SVN = bytes([11, 11, 2, 2, 3, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0])
TDX_SVN = bytes([5, 0, 6, *bytes(13)])
MODEL = bytes.fromhex("51ab00000000")
"""FMSPC of the only model that is simulated."""

_VALID = (datetime(1970, 1, 2, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC))
_LEVEL_DATE = "1970-01-02T00:00:00Z"
_SGX_OID = "1.2.840.113741.1.13.1"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the simulated maker says of its processors. `issued`: when, None for the day of the quote;
    `revoked`: serial numbers of processors' certificates."""

    status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    evaluation: int = EVALUATION
    issued: int | None = None
    revoked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Certified:
    """A private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Maker:
    """A simulated maker: its root, the authority that certifies processors, who signs TCB info."""

    root: Certified
    authority: Certified
    signer: Certified


def derive_key(seed: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key that follows from a seed."""
    drawn = hashlib.sha512(seed + b"/" + label.encode()).digest()
    return ec.derive_private_key(int.from_bytes(drawn, "big") % (signatures.ORDER - 1) + 1, ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Deterministic raw signature (RFC 6979) of 64 bytes, with the lower s."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256(), deterministic_signing=True)))
    return signatures.lower(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Public key as x || y, 64 bytes."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


@cache
def maker(seed: bytes) -> Maker:
    """The maker that follows from a seed: the same keys and certificates each time."""
    keys = {name: derive_key(seed, name) for name in ("root", "authority", "signer")}
    root = Certified(keys["root"], _certificate("Root CA", keys["root"], "Root CA", keys["root"], 1))
    return Maker(
        root,
        Certified(
            keys["authority"], _certificate("PCK Processor CA", keys["authority"], "Root CA", root.key, 0)
        ),
        Certified(keys["signer"], _certificate("TCB Signing", keys["signer"], "Root CA", root.key, None)),
    )


def simulation() -> Maker:
    """The one maker of all simulations, unless a caller wants its own."""
    return maker(SEED)


def root_of(made: Maker) -> bytes:
    """DER of a maker's root certificate: what a policy names."""
    return signatures.der(made.root.certificate)


def processor(made: Maker, seed: bytes) -> Certified:
    """A processor's key and certificate; its identity (PPID) and its serial number follow from the seed."""
    key = derive_key(seed, "processor")
    extension = _sgx_extension(hashlib.sha256(seed + b"/ppid").digest()[:16])
    issuer, name = made.authority.key, "PCK Processor CA"
    return Certified(key, _certificate("PCK Certificate", key, name, issuer, None, extension))


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"SIMULATION SGX {common}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SIMULATION: NO HARDWARE PROTECTION"),
        ]
    )


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    below: int | None,
    extension: bytes = b"",
) -> x509.Certificate:
    """`below`: how many authorities may follow; None for whoever certifies nobody."""
    public, authority = key.public_key(), below is not None
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(int.from_bytes(hashlib.sha256(point(key)).digest()[:16], "big") | 1)
        .not_valid_before(_VALID[0])
        .not_valid_after(_VALID[1])
        .add_extension(issuer_id, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(authority, below), critical=True)
    )
    if extension:
        oid = x509.ObjectIdentifier(_SGX_OID)
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, extension), critical=False)
    return builder.sign(issuer_key, SHA256(), ecdsa_deterministic=True)


def _sgx_extension(ppid: bytes) -> bytes:
    """What a PCK certificate says of its processor (Intel, "PCK Certificate and CRL Profile", 1.3.5), in DER."""
    levels = [_item(f"2.{i + 1}", _integer(svn)) for i, svn in enumerate(CPU_SVN)]
    levels += [_item("2.17", _integer(PCE_SVN)), _item("2.18", signatures.tlv(0x04, CPU_SVN))]
    items = (
        _item("1", signatures.tlv(0x04, ppid)),
        _item("2", signatures.tlv(0x30, b"".join(levels))),
        _item("3", signatures.tlv(0x04, bytes(2))),
        _item("4", signatures.tlv(0x04, MODEL)),
        _item("5", signatures.tlv(0x0A, b"\x00")),
    )
    return signatures.tlv(0x30, b"".join(items))


def _item(number: str, value: bytes) -> bytes:
    return signatures.tlv(0x30, _oid(f"{_SGX_OID}.{number}") + value)


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(number) for number in dotted.split("."))
    body = bytes([40 * first + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | (number & 0x7F))
        body += bytes(reversed(digits))
    return signatures.tlv(0x06, body)


def _integer(value: int) -> bytes:
    return signatures.tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def collateral(made: Maker, tee: str, now: int, conditions: Conditions) -> bytes:
    """What the maker's service would give at `now`: JSON, the same all day long."""
    issued = now - now % DAY if conditions.issued is None else conditions.issued
    info = _text(_tcb_info(tee, issued, conditions))
    identity = _text(_qe_identity(tee, issued, conditions.evaluation))
    signers = signatures.pem([made.signer.certificate, made.root.certificate]).decode()
    return _text(
        {
            "pck_crl_issuer_chain": signatures.pem(
                [made.authority.certificate, made.root.certificate]
            ).decode(),
            "root_ca_crl": _revocations(made.root, issued, ()).hex(),
            "pck_crl": _revocations(made.authority, issued, conditions.revoked).hex(),
            "tcb_info_issuer_chain": signers,
            "tcb_info": info,
            "tcb_info_signature": sign(made.signer.key, info.encode()).hex(),
            "qe_identity_issuer_chain": signers,
            "qe_identity": identity,
            "qe_identity_signature": sign(made.signer.key, identity.encode()).hex(),
        }
    ).encode()


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _revocations(issuer: Certified, issued: int, serials: Sequence[int]) -> bytes:
    start = datetime.fromtimestamp(issued, UTC)
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(start + timedelta(seconds=LIFETIME))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(key_id, critical=False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def _tcb_info(tee: str, issued: int, conditions: Conditions) -> dict[str, Any]:
    level: dict[str, Any] = {"sgxtcbcomponents": [{"svn": svn} for svn in CPU_SVN], "pcesvn": PCE_SVN}
    info: dict[str, Any] = {
        "id": tee.upper(),
        "version": 3,
        "issueDate": _time(issued),
        "nextUpdate": _time(issued + LIFETIME),
        "fmspc": MODEL.hex().upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": conditions.evaluation,
    }
    if tee == "tdx":
        level["tdxtcbcomponents"] = [{"svn": svn} for svn in TDX_SVN]
        info["tdxModule"] = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    info["tcbLevels"] = [
        {
            "tcb": level,
            "tcbDate": _LEVEL_DATE,
            "tcbStatus": conditions.status,
            "advisoryIDs": list(conditions.advisories),
        }
    ]
    return info


def qe_signer(tee: str) -> bytes:
    """MRSIGNER of the simulated quoting enclave."""
    return hashlib.sha256(f"SIMULATION quoting enclave {tee}".encode()).digest()


def qe_product(tee: str) -> int:
    """Product number of the simulated quoting enclave: Intel's."""
    return 1 if tee == "sgx" else 2


def _qe_identity(tee: str, issued: int, evaluation: int) -> dict[str, Any]:
    return {
        "id": "QE" if tee == "sgx" else "TD_QE",
        "version": 2,
        "issueDate": _time(issued),
        "nextUpdate": _time(issued + LIFETIME),
        "tcbEvaluationDataNumber": evaluation,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11" + "00" * 15,
        "attributesMask": "FBFFFFFFFFFFFFFF" + "00" * 8,
        "mrsigner": qe_signer(tee).hex().upper(),
        "isvprodid": qe_product(tee),
        "tcbLevels": [{"tcb": {"isvsvn": QE_SVN}, "tcbDate": _LEVEL_DATE, "tcbStatus": "UpToDate"}],
    }
