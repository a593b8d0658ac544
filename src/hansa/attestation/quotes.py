"""Quotes of SGX (version 3) and TDX (versions 4 and 5): their parts, their fields, and their one canonical form.

A quote is a header and a report, signed by an attestation key; then that signature, the key, the report of the
quoting enclave (QE) which vouches for the key, its signature by the processor's key (PCK), and the PCK's
certificates. Layout: Intel, "SGX ECDSA Quote Library Reference DCAP API" and "TDX DCAP Quoting Library API",
appendix A. Numbers are little-endian.

What is around the signatures is not signed: of 4,600 flips of a genuine quote, one in each byte, 872 still pass a
verifier that looks at signatures only. Here all lengths must add up to the byte, and signatures and certificates
must stand in one form (`signatures`), so that a quote has one digest. `normalise` brings a quote as the processor
gives it into that form; a verifier takes no other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from hansa import encoding, errors
from hansa.attestation import signatures

LIMIT = 32 * 1024
"""Bytes of a quote at most; genuine ones have about five thousand."""

HEADER_BYTES = 48
REPORT_BYTES = 384
REPORT_DATA_BYTES = 64

_TEES = {0x00: "sgx", 0x81: "tdx"}
_TD_REPORTS = {2: 584, 3: 648, 4: 885}
"""Bytes of a TD report by its type in a quote of version 5: TDX 1.0, 1.5 and 1.5 with extensions."""

_ECDSA_P256 = 2
_PCK_CHAIN = 5
_QE_REPORT = 6


@dataclass(frozen=True, slots=True)
class SgxMeasurement:
    """What an enclave is: digest of its initial memory, digest of its signer's key, product, security version."""

    mrenclave: bytes
    mrsigner: bytes
    product: int
    svn: int


@dataclass(frozen=True, slots=True)
class TdxMeasurement:
    """What a trust domain is: digest of its initial memory, and the four registers that it extends at run time."""

    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]


Measurement = SgxMeasurement | TdxMeasurement


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote in its parts.

    `signed` is header and report, with the report's type and size in version 5: what the attestation key signs.
    Signatures are r || s, keys x || y, each of 64 bytes; `chain` is PEM and a zero byte.
    """

    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_signature: bytes
    qe_data: bytes
    chain: bytes

    @property
    def version(self) -> int:
        """3, 4 or 5."""
        return int.from_bytes(self.signed[:2], "little")

    @property
    def tee(self) -> str:
        """ "sgx" or "tdx"."""
        return _TEES[int.from_bytes(self.signed[4:8], "little")]

    @property
    def report(self) -> bytes:
        """The report of the enclave or of the trust domain."""
        return self.signed[HEADER_BYTES + (6 if self.version == 5 else 0) :]

    @property
    def measurement(self) -> Measurement:
        """What the report says was started."""
        report = self.report
        if self.tee == "sgx":
            product, svn = struct.unpack_from("<HH", report, 256)
            return SgxMeasurement(report[64:96], report[128:160], product, svn)
        r0, r1, r2, r3 = (report[at : at + 48] for at in range(328, 520, 48))
        return TdxMeasurement(report[136:184], (r0, r1, r2, r3))

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that whoever was measured asked to have signed."""
        start = 320 if self.tee == "sgx" else 520
        return self.report[start : start + REPORT_DATA_BYTES]

    @property
    def attributes(self) -> bytes:
        """Flags of enclave (16 bytes) or trust domain (8 bytes)."""
        return self.report[48:64] if self.tee == "sgx" else self.report[120:128]

    @property
    def debug(self) -> bool:
        """Whether the host can read its memory: SGX bit 1, TDX any of the lowest eight bits."""
        return bool(self.attributes[0] & (0x02 if self.tee == "sgx" else 0xFF))


def parse(data: bytes) -> Quote:
    """The parts of a quote whose lengths all add up. Raises `Untrusted`."""
    if len(data) > LIMIT:
        raise errors.Untrusted(
            f"the quote has {len(data)} bytes, and genuine ones stay below {LIMIT}",
            hint="This is no quote; ask its maker for it.",
        )
    try:
        return _parse(data)
    except (struct.error, ValueError) as e:
        reason = str(e) if isinstance(e, ValueError) else "it is cut short"
        raise errors.Untrusted(
            f"not a quote of SGX or TDX that can be read: {reason}",
            hint="Only quotes v3 (SGX), v4 and v5 (TDX) with ECDSA and their certificates in them are read.",
            digest=encoding.digest(data),
        ) from e


def _parse(data: bytes) -> Quote:
    version, key_type, kind = struct.unpack_from("<HHI", data)
    if (version, _TEES.get(kind)) not in ((3, "sgx"), (4, "tdx"), (5, "tdx")):
        raise ValueError(f"version {version} for processor feature {kind:#x} is not known")
    if key_type != _ECDSA_P256:
        raise ValueError(f"its key is of type {key_type}, not ECDSA over P-256")
    end = HEADER_BYTES + (REPORT_BYTES if version == 3 else _TD_REPORTS[2])
    if version == 5:
        report_type, size = struct.unpack_from("<HI", data, HEADER_BYTES)
        if _TD_REPORTS.get(report_type) != size:
            raise ValueError(f"a TD report of type {report_type} with {size} bytes is not known")
        end = HEADER_BYTES + 6 + size
    if len(data) < end:
        raise ValueError("it is cut short")
    rest = _counted(data, end, "signature data")
    certified = rest[128:]
    if version > 3:
        certified = _typed(certified, 0, _QE_REPORT, "certification data")
    (size,) = struct.unpack_from("<H", certified, 448)
    chain = _typed(certified, 450 + size, _PCK_CHAIN, "certificates")
    return Quote(
        signed=data[:end],
        signature=rest[:64],
        attestation_key=rest[64:128],
        qe_report=certified[:384],
        qe_signature=certified[384:448],
        qe_data=certified[450 : 450 + size],
        chain=chain,
    )


def _counted(data: bytes, at: int, name: str) -> bytes:
    """What follows its own length, and is the last."""
    (size,) = struct.unpack_from("<I", data, at)
    found = len(data) - at - 4
    if size > found:
        raise ValueError(f"its {name} are said to have {size} bytes, and {found} are there")
    if size < found:
        raise ValueError(f"{found - size} bytes follow its {name}")
    return data[at + 4 :]


def _typed(data: bytes, at: int, wanted: int, name: str) -> bytes:
    (found,) = struct.unpack_from("<H", data, at)
    if found != wanted:
        raise ValueError(f"its {name} are of type {found}, and only type {wanted} is accepted")
    return _counted(data, at + 2, name)


def encode(quote: Quote) -> bytes:
    """The bytes of a quote from its parts."""
    certified = b"".join(
        (
            quote.qe_report,
            quote.qe_signature,
            struct.pack("<H", len(quote.qe_data)) + quote.qe_data,
            struct.pack("<HI", _PCK_CHAIN, len(quote.chain)) + quote.chain,
        )
    )
    if quote.version > 3:
        certified = struct.pack("<HI", _QE_REPORT, len(certified)) + certified
    rest = quote.signature + quote.attestation_key + certified
    return quote.signed + struct.pack("<I", len(rest)) + rest


def _canonical(quote: Quote) -> Quote:
    return replace(
        quote,
        signature=signatures.lower(quote.signature),
        qe_signature=signatures.lower(quote.qe_signature),
        chain=signatures.canonical_chain(quote.chain)[0],
    )


def normalise(data: bytes) -> bytes:
    """The canonical form of a quote as a processor's driver gives it.

    Cuts the zero bytes that fill the driver's buffer, and puts the lower s into signatures. Mends nothing: what
    is malformed otherwise is refused. Raises `Untrusted`.
    """
    return encode(_canonical(parse(_unpadded(data))))


def _unpadded(data: bytes) -> bytes:
    """Without the zeros behind the length that the quote announces, where it can be told."""
    tdx = data[4:8] == b"\x81\0\0\0"
    at = HEADER_BYTES + (_TD_REPORTS[2] if tdx else REPORT_BYTES)
    if data[:2] == b"\x05\0":
        at = HEADER_BYTES + 6 + int.from_bytes(data[50:54], "little")
    end = at + 4 + int.from_bytes(data[at : at + 4], "little")
    return data[:end] if not any(data[end:]) else data


def read(data: bytes) -> Quote:
    """The parts of a quote in canonical form. Raises `Untrusted` for any other."""
    quote = parse(data)
    if _canonical(quote) != quote:
        raise errors.Untrusted(
            "the quote is not in canonical form: a signature in it has the higher of two equal values of s",
            hint="Its maker has to normalise it before sending; whoever passed it on may have changed it.",
            digest=encoding.digest(data),
        )
    return quote
