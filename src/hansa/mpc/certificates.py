"""Certificates of a job: each party makes its own key and self-signed certificate; nobody is an authority.

Every party's certificate stands on the ledger by its digest. What a party trusts is the bundle of exactly these.
None of them may sign another, so no party can vouch for a stranger.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hansa import encoding, errors

CERTIFICATE_LIMIT = 4096
LIFETIME = timedelta(days=365)
_SKEW = timedelta(days=1)
"""Clocks of parties may differ by this much."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A party's own certificate (DER), and where it and its key lie (PEM)."""

    certificate: bytes
    certificate_path: Path
    key_path: Path


def own_identity(home: Path, job: bytes) -> Identity:
    """A party's identity in a job (32 bytes): made once, kept in its home, the key for its user only.

    Raises `Misconfigured` when the home cannot be written, or holds a broken certificate.
    """
    folder = home / job.hex()[:16]
    key_path, path = folder / "link.key", folder / "link.crt"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            # A name of its own: with one name for all, OpenSSL looks for each in the wrong certificate of the bundle.
            _make(key_path, path, f"{job.hex()[:16]} {secrets.token_hex(8)}")
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as e:
        raise errors.Misconfigured(
            f"the certificate in {folder} cannot be made or read: {e}", hint="Check the party's home folder."
        ) from e
    return Identity(certificate.public_bytes(Encoding.DER), path, key_path)


def _make(key_path: Path, path: Path, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usages, critical=False)
        .sign(key, SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    # The certificate is written last: where it is, the key is whole.
    for target, data in ((key_path, secret), (path, certificate.public_bytes(Encoding.PEM))):
        target.unlink(missing_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)


def recorded(certificate: bytes, digest: bytes, whose: str) -> bytes:
    """A certificate (DER), if it is the one that the ledger names by its digest. Raises `Untrusted`."""
    if len(certificate) > CERTIFICATE_LIMIT or encoding.digest(certificate) != digest:
        raise errors.Untrusted(
            f"the certificate of {whose} is not the one on the ledger", digest=encoding.digest(certificate)
        )
    try:
        x509.load_der_x509_certificate(certificate)
    except ValueError as e:
        raise errors.Untrusted(f"what {whose} put on the ledger is no certificate", digest=digest) from e
    return certificate


def bundle(certificates: Sequence[bytes]) -> str:
    """The trust store of a job: all parties' certificates (DER) as PEM."""
    parts = [x509.load_der_x509_certificate(c).public_bytes(Encoding.PEM).decode() for c in certificates]
    return "".join(parts)
