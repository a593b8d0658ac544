"""ECDSA over P-256 in one form: of the two signatures (r, s) and (r, n - s), the one with the lower s counts.

Both verify under the same key, and anybody can make one from the other: without this rule the bytes of a quote,
and of the certificates in it, could change without a word of it being another.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from hansa import errors

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order n of the curve P-256 (FIPS 186-5)."""

CHAIN = 3
"""Certificates in a quote: that of the processor's key (PCK), its authority, the root."""

MALFORMED = (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm)
"""What reading a foreign certificate or list of revocations may raise."""

_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
"""DER of ecdsa-with-SHA256, the only algorithm in Intel's certificates."""


def lower(signature: bytes) -> bytes:
    """A raw signature r || s of 64 bytes with the lower of its two s."""
    return signature[:32] + _lower(int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def _lower(s: int) -> int:
    return min(s, ORDER - s) if 0 < s < ORDER else s


def certificates(pem: bytes) -> list[x509.Certificate]:
    """Certificates of a PEM text, in order. Raises `Untrusted`."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except MALFORMED as e:
        raise errors.Untrusted(
            "what should be certificates in PEM is none",
            hint="Whoever made the evidence is at fault; ask for it again.",
        ) from e


def der(certificate: x509.Certificate) -> bytes:
    """A certificate's bytes."""
    return certificate.public_bytes(Encoding.DER)


def pem(chain: list[x509.Certificate]) -> bytes:
    """Certificates as one PEM text, lines of 64 characters."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def _lowered(certificate: x509.Certificate) -> x509.Certificate:
    """The certificate with the lower s. Raises `ValueError` if anything else in it would change.

    Its maker signed what lies within; algorithm, signature and lengths around that are written anew.
    """
    r, s = decode_dss_signature(certificate.signature)
    if _enclosed(certificate, r, s) != der(certificate):
        raise ValueError("something around the signed part has another form")
    return x509.load_der_x509_certificate(_enclosed(certificate, r, _lower(s)))


def _enclosed(certificate: x509.Certificate, r: int, s: int) -> bytes:
    signature = tlv(0x03, b"\x00" + encode_dss_signature(r, s))
    return tlv(0x30, certificate.tbs_certificate_bytes + _ALGORITHM + signature)


def tlv(tag: int, body: bytes) -> bytes:
    """Tag, length and value, as DER has them."""
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    width = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + size.to_bytes(width, "big") + body


@lru_cache(maxsize=256)
def canonical_chain(text: bytes) -> tuple[bytes, bytes]:
    """The canonical form of the chain in a quote, and the root's DER that it ends in.

    The form is PEM as Intel writes it, with one closing zero byte; leaf and authority carry the lower s. The
    root stays as it is, since it is compared with an anchor byte by byte. Only signatures are changed: a text
    that is PEM in another way is refused, not mended. Raises `Untrusted`.
    """
    chain = certificates(text.removesuffix(b"\x00"))
    if len(chain) != CHAIN or text != pem(chain) + b"\x00":
        raise errors.Untrusted(
            "the certificates in the quote are not written in the one form that is accepted",
            hint="Whoever handed the quote on changed it; ask for it again.",
        )
    try:
        rebuilt = [*map(_lowered, chain[:-1]), chain[-1]]
    except MALFORMED as e:
        raise errors.Untrusted(
            "a certificate in the quote is not written in the one form of a certificate signed with ECDSA",
            hint="Whoever handed the quote on changed it; ask for it again.",
        ) from e
    return pem(rebuilt) + b"\x00", der(chain[-1])
