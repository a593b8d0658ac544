"""Genuine and simulated evidence, and what forgers make of it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hansa.attestation import (
    Policy,
    SgxMeasurement,
    Statement,
    TdxMeasurement,
    intel_root,
    normalise,
    quotes,
    signatures,
    simulated_pki,
)
from hansa.attestation.simulated import Simulated
from hansa.records import Evidence

VECTORS = Path(__file__).parent / "vectors" / "dcap"
GENUINE = {"sgx_quote": 1752919277, "tdx_quote": 1752919234, "tdx_quote_td15ex": 1791420000}
"""Genuine quotes, and when their collateral holds."""

NOW = 1_750_000_123
NONCE = b"n" * 32
ENCLAVE = SgxMeasurement(b"m" * 32, b"s" * 32, 7, 3)
DOMAIN = TdxMeasurement(b"T" * 48, (b"0" * 48, b"1" * 48, b"2" * 48, b"3" * 48))
STATEMENT = Statement(b"f" * 32, b"t" * 32, b"r" * 32, b"k" * 32, b"v" * 33, "aggregator 1")
SIMULATION = simulated_pki.root_of(simulated_pki.simulation())
SIMULATED = Policy(SIMULATION, enclaves=(ENCLAVE.mrenclave,), domains=(DOMAIN,))


def raw(name: str) -> tuple[bytes, bytes]:
    """A genuine quote as it came, and its collateral."""
    return (VECTORS / name).read_bytes(), (VECTORS / f"{name}_collateral.json").read_bytes()


def genuine(name: str) -> Evidence:
    quote, collateral = raw(name)
    return Evidence(normalise(quote), collateral)


def accepting(name: str) -> Policy:
    """Accepts a genuine quote, whatever it is of."""
    measured = quotes.read(genuine(name).quote).measurement
    sgx = isinstance(measured, SgxMeasurement)
    return Policy(
        intel_root(),
        enclaves=(measured.mrenclave,) if sgx else (),
        domains=() if sgx else (measured,),
        statuses=("UpToDate", "ConfigurationAndSWHardeningNeeded"),
        advisories=("INTEL-SA-00289", "INTEL-SA-00615"),
        max_age=31 * 24 * 3600,
    )


def simulated(measured: Any = ENCLAVE, **how: Any) -> Simulated:
    """An attestor whose bytes are the same each time."""
    return Simulated(measured, lambda: NOW, entropy=lambda n: b"\7" * n, **how)


def with_parts(evidence: Evidence, **parts: str) -> Evidence:
    """The same quote with collateral in which some texts are others."""
    return replace(evidence, collateral=json.dumps(json.loads(evidence.collateral) | parts).encode())


def with_quote(evidence: Evidence, change: Callable[[quotes.Quote], quotes.Quote]) -> Evidence:
    """The same collateral with a quote whose parts are changed; lengths are right."""
    return replace(evidence, quote=quotes.encode(change(quotes.read(evidence.quote))))


def higher(signature: bytes) -> bytes:
    """The other signature that verifies: (r, n - s)."""
    s = signatures.ORDER - int.from_bytes(signature[32:], "big")
    return signature[:32] + s.to_bytes(32, "big")


def resized(quote: bytes, tail: bytes) -> bytes:
    """A quote of version 3 with more bytes at its end, counted by its outer length."""
    at = quotes.HEADER_BYTES + quotes.REPORT_BYTES
    (size,) = struct.unpack_from("<I", quote, at)
    return quote[:at] + struct.pack("<I", size + len(tail)) + quote[at + 4 :] + tail
