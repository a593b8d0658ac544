"""Who signs quotes for this enclave. Collateral is the host's to fetch: an enclave has no network."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from hansa.attestation.hardware import Gramine, TrustDomain
from hansa.attestation.quotes import SgxMeasurement
from hansa.attestation.simulated import Simulated
from hansa.enclave.program import Quoting

_ROOT = Path(__file__).parents[1]
_MEASURED = (
    "abi.py",
    "encoding.py",
    "errors.py",
    "records.py",
    "attestation",
    "crypto",
    "enclave",
    "protocol",
    "schemes/__init__.py",
    "schemes/secagg_blobs.py",
    "schemes/sums.py",
)


def provider(name: str) -> tuple[Quoting, str]:
    """What makes quotes under this name, and its mode. Raises `Misconfigured` where there is none."""
    if name == "simulated":
        simulated = Simulated(simulated_measurement(), lambda: 0)
        return (lambda data: simulated.quote(data).quote), "simulated"
    attestor = Gramine(_no_collateral) if name == "gramine" else TrustDomain(_no_collateral)
    return (lambda data: attestor.quote(data).quote), "hardware"


def simulated_measurement() -> SgxMeasurement:
    """What a simulated quote says: a digest of the program's sources. On hardware the processor measures them."""
    measured = sha256()
    for name in _MEASURED:
        path = _ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            measured.update(file.relative_to(_ROOT).as_posix().encode() + b"\0")
            measured.update(sha256(file.read_bytes()).digest())
    return SgxMeasurement(measured.digest(), sha256(b"SIMULATION enclave signer").digest(), 1, 1)


def _no_collateral(_quote: bytes) -> bytes:
    return b""
