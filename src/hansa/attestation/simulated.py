"""A software quoting module: what it signs has every byte of a genuine quote, and protects nothing.

Quotes are of version 3 (SGX) and 4 (TDX). They pass the one verifier under the root of `simulated_pki`, and a
policy for hardware refuses them.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable

from hansa import errors
from hansa.attestation import quotes, signatures, simulated_pki
from hansa.attestation.quotes import Measurement, Quote, SgxMeasurement, TdxMeasurement
from hansa.attestation.simulated_pki import Conditions, Maker
from hansa.records import Evidence

QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""Vendor of quoting enclaves: Intel's number, the only one that verifiers know."""

_SGX_DEBUG, _SGX_FLAGS, _XFRM = 0x02, 0x05, 0xE7
_TD_DEBUG, _TD_ATTRIBUTES, _XFAM = 0x01, 0x1000_0000, 0x0602E7


class Simulated:
    """An `Attestor` without a processor. `measurement` is what it claims to run.

    Keys and the processor's identity come from 32 bytes of `entropy`; the same bytes give the same quotes.
    `clock`: Unix seconds, for the collateral. `conditions`: what the simulated maker says of this processor.
    """

    def __init__(
        self,
        measurement: Measurement,
        clock: Callable[[], int],
        *,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        made: Maker | None = None,
        conditions: Conditions | None = None,
        debug: bool = False,
    ) -> None:
        self.measurement = measurement
        self.conditions = conditions or Conditions()
        self.debug = debug
        self.tee = "sgx" if isinstance(measurement, SgxMeasurement) else "tdx"
        self._clock = clock
        self._made = made or simulated_pki.simulation()
        seed = entropy(32)
        self._processor = simulated_pki.processor(self._made, seed)
        self._key = simulated_pki.derive_key(seed, f"attestation/{self.tee}")
        self._qe_data = hashlib.sha256(seed + b"/authentication").digest()
        self._user_data = hashlib.sha256(seed + b"/quoting enclave").digest()[:16] + bytes(4)

    @property
    def serial(self) -> int:
        """Serial number of the processor's certificate, by which it can be revoked."""
        return self._processor.certificate.serial_number

    def quote(self, report_data: bytes) -> Evidence:
        """A simulated quote over 64 bytes, with simulated collateral of now."""
        if len(report_data) != quotes.REPORT_DATA_BYTES:
            raise errors.Misconfigured(
                f"a quote is over {quotes.REPORT_DATA_BYTES} bytes, not {len(report_data)}"
            )
        document = simulated_pki.collateral(self._made, self.tee, self._clock(), self.conditions)
        return Evidence(quotes.normalise(quotes.encode(self._signed(report_data))), document)

    def _signed(self, report_data: bytes) -> Quote:
        if isinstance(self.measurement, SgxMeasurement):
            version, kind, svns = 3, 0x00, (simulated_pki.QE_SVN, simulated_pki.PCE_SVN)
            report = sgx_report(self.measurement, report_data, debug=self.debug)
        else:
            version, kind, svns = 4, 0x81, (0, 0)
            report = td_report(self.measurement, report_data, debug=self.debug)
        signed = struct.pack("<HHIHH", version, 2, kind, *svns) + QE_VENDOR + self._user_data + report
        attestation_key = simulated_pki.point(self._key)
        certified = hashlib.sha256(attestation_key + self._qe_data).digest() + bytes(32)
        product = simulated_pki.qe_product(self.tee)
        qe = SgxMeasurement(
            hashlib.sha256(b"SIMULATION quoting enclave").digest(),
            simulated_pki.qe_signer(self.tee),
            product,
            simulated_pki.QE_SVN,
        )
        qe_report = sgx_report(qe, certified, flags=0x11)
        chain = [self._processor, self._made.authority, self._made.root]
        return Quote(
            signed=signed,
            signature=simulated_pki.sign(self._key, signed),
            attestation_key=attestation_key,
            qe_report=qe_report,
            qe_signature=simulated_pki.sign(self._processor.key, qe_report),
            qe_data=self._qe_data,
            chain=signatures.pem([each.certificate for each in chain]) + b"\x00",
        )


def collected(clock: Callable[[], int], conditions: Conditions | None = None) -> Callable[[bytes], bytes]:
    """What fetches simulated collateral for quotes, as `service.from_service` does genuine; `clock`: Unix seconds."""

    def fetch(quote: bytes) -> bytes:
        tee = quotes.read(quote).tee
        made = simulated_pki.simulation()
        return simulated_pki.collateral(made, tee, clock(), conditions or Conditions())

    return fetch


def sgx_report(
    measured: SgxMeasurement, report_data: bytes, *, debug: bool = False, flags: int = _SGX_FLAGS
) -> bytes:
    """Report of an enclave, 384 bytes (Intel SDM volume 3D, table 39-21)."""
    return b"".join(
        (
            simulated_pki.CPU_SVN,
            bytes(32),
            struct.pack("<QQ", flags | (_SGX_DEBUG if debug else 0), _XFRM),
            measured.mrenclave,
            bytes(32),
            measured.mrsigner,
            bytes(96),
            struct.pack("<HH", measured.product, measured.svn),
            bytes(60),
            report_data,
        )
    )


def td_report(measured: TdxMeasurement, report_data: bytes, *, debug: bool = False) -> bytes:
    """Report of a trust domain of TDX 1.0, 584 bytes (Intel, "TDX DCAP Quoting Library API", appendix A.3.2)."""
    return b"".join(
        (
            simulated_pki.TDX_SVN,
            bytes(48 + 48 + 8),
            struct.pack("<QQ", _TD_ATTRIBUTES | (_TD_DEBUG if debug else 0), _XFAM),
            measured.mrtd,
            bytes(3 * 48),
            *measured.rtmrs,
            report_data,
        )
    )
