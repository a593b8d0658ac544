"""Enclaves for scheme `tee`: what this machine could run, and whether the one that is configured runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from hansa import errors, loading
from hansa.attestation import NO_PROTECTION
from hansa.doctor.findings import Finding, printable
from hansa.memberfile import EnclaveTable

PROCESSORS = {"SGX": "sgx_enclave", "TDX": "tdx_guest"}
"""Processor -> its device, by which programs reach it."""

LOADER = "gramine-sgx"


def examine_enclaves(table: EnclaveTable | None, devices: Path = Path("/dev")) -> Iterator[Finding]:
    """What this machine has for enclaves; with the `[enclave]` table of a member.toml, one is started and ended."""
    found = [name for name, device in PROCESSORS.items() if (devices / device).exists()]
    lacks = found == ["SGX"] and shutil.which(LOADER) is None
    yield Finding(
        "processor",
        "warn" if lacks else "ok",
        f"{' and '.join(found)} here"
        if found
        else "none for enclaves; simulated ones run, and protect nothing",
        f"Install Gramine: {LOADER} is not found." if lacks else "",
        (("found", ", ".join(found)),),
    )
    if table is not None:
        yield _trial(table)


def _trial(table: EnclaveTable) -> Finding:
    """Start the configured enclave, have it quoted, end it. What it measures is for `hansa enclave` to show."""
    try:
        made = loading.loader_of(table, lambda: int(time.time()))
        tried = loading.tried(made)
    except errors.HansaError as e:
        later = isinstance(e, errors.Unavailable)
        return Finding("enclave", "fail", printable(str(e)), e.hint, unreachable=later)
    simulated = made.mode == "simulated"
    return Finding(
        "enclave",
        "warn" if simulated else "ok",
        f"provider {made.provider}: {tried.program} starts and is quoted",
        f"{NO_PROTECTION}: for real data use a processor, provider gramine or tdx." if simulated else "",
        (("mode", made.mode),),
    )
