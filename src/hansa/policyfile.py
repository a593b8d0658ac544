"""Attestation policies that people write: strict TOML, to `attestation.Policy`.

[accept]
root = "intel"                 # or "simulation", which protects nothing
statuses = ["UpToDate", "SWHardeningNeeded"]
advisories = []                # known weaknesses that are accepted
max_age_days = 7               # since the collateral was signed
min_evaluation = 17            # of the maker's TCB evaluation
platforms = []                 # PPIDs or FMSPCs, if only these processors may serve

[[enclave]]                    # SGX: exactly this program
mrenclave = "64 hexadecimal digits"

[[product]]                    # SGX: any program of a signer's product from a version on
mrsigner = "64 hexadecimal digits"
product = 7
min_svn = 3

[[domain]]                     # TDX: exactly this image
mrtd = "96 hexadecimal digits"
rtmr = ["96 hexadecimal digits", "...", "...", "..."]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hansa import attestation
from hansa.attestation.policy import DAY, FMSPC_BYTES, PPID_BYTES, STATUSES
from hansa.attestation.simulated_pki import root_of, simulation
from hansa.tomlfile import Table, checked, not_one_of, read_toml

FILE = "policy.toml"


def _hex(*sizes: int) -> BeforeValidator:
    def read(value: Any) -> bytes:
        try:
            data = bytes.fromhex(value)
        except (TypeError, ValueError):
            raise ValueError("must be hexadecimal") from None
        if len(data) not in sizes:
            raise ValueError(f"must have {' or '.join(str(size) for size in sizes)} bytes")
        return data

    return BeforeValidator(read)


def _status(value: Any) -> Any:
    if isinstance(value, str) and value not in STATUSES:
        raise ValueError(not_one_of(value, STATUSES))
    return value


Digest = Annotated[bytes, _hex(32)]
Register = Annotated[bytes, _hex(48)]
Platform = Annotated[bytes, _hex(FMSPC_BYTES, PPID_BYTES)]
Count = Annotated[int, Field(ge=0)]


class AcceptTable(Table):
    """[accept]: root, states of processors, age of collateral."""

    root: Literal["intel", "simulation"] = "intel"
    statuses: list[Annotated[str, BeforeValidator(_status)]] = Field(
        default=["UpToDate", "SWHardeningNeeded"]
    )
    advisories: list[str] = Field(default=[])
    max_age_days: Annotated[int, Field(gt=0)] = 7
    min_evaluation: Count = 0
    platforms: list[Platform] = Field(default=[])


class EnclaveTable(Table):
    """[[enclave]]: one program, by its measurement."""

    mrenclave: Digest


class ProductTable(Table):
    """[[product]]: programs of one signer."""

    mrsigner: Digest
    product: Annotated[int, Field(ge=0, le=0xFFFF)]
    min_svn: Annotated[int, Field(ge=0, le=0xFFFF)]


class DomainTable(Table):
    """[[domain]]: one image of a trust domain, by its measurements."""

    mrtd: Register
    rtmr: Annotated[list[Register], Field(min_length=4, max_length=4)]


class PolicyFile(Table):
    """A whole file."""

    accept: AcceptTable = AcceptTable()
    enclave: list[EnclaveTable] = Field(default=[])
    product: list[ProductTable] = Field(default=[])
    domain: list[DomainTable] = Field(default=[])


def load_policy(path: Path) -> attestation.Policy:
    """Read a policy. Raises `Misconfigured`."""
    file = checked(PolicyFile, read_toml(path, "Name a file with [accept] and what may run."), path)
    accept = file.accept
    return attestation.Policy(
        root=attestation.intel_root() if accept.root == "intel" else root_of(simulation()),
        enclaves=tuple(e.mrenclave for e in file.enclave),
        products=tuple(attestation.Product(p.mrsigner, p.product, p.min_svn) for p in file.product),
        domains=tuple(_domain(d) for d in file.domain),
        statuses=tuple(accept.statuses),
        advisories=tuple(accept.advisories),
        max_age=accept.max_age_days * DAY,
        min_evaluation=accept.min_evaluation,
        platforms=tuple(accept.platforms),
    )


def _domain(table: DomainTable) -> attestation.TdxMeasurement:
    r0, r1, r2, r3 = table.rtmr
    return attestation.TdxMeasurement(table.mrtd, (r0, r1, r2, r3))
