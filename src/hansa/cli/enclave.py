"""`hansa enclave`: would this machine's enclave be accepted, and what does it measure?"""

from __future__ import annotations

import shlex
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hansa import errors
from hansa.cli.connection import own_file
from hansa.cli.console import console, grid, print_json

if TYPE_CHECKING:
    from hansa.attestation import Measurement, Policy
    from hansa.loading import Loader, Trial
    from hansa.memberfile import EnclaveTable

ACCEPTED, REFUSED = 0, 1

HOW = {
    "gramine": (
        "The processor measures what Gramine loads: MRENCLAVE follows from manifest and files alone.",
        "Build and sign the enclave as docs/enclaves.md says; then: gramine-sgx-sigstruct-view hansa-enclave.sig",
        "On a machine with SGX, `hansa enclave --provider gramine` shows what its quote says.",
    ),
    "tdx": (
        "The processor measures the guest: firmware in MRTD, kernel and disk in the four RTMRs.",
        "In the guest, `hansa enclave --provider tdx` shows what its quote says; docs/enclaves.md says more.",
    ),
}
"""Provider -> how to find out what its enclave measures."""


class Provider(StrEnum):
    """What an enclave can run in."""

    SIMULATED = "simulated"
    GRAMINE = "gramine"
    TDX = "tdx"


def enclave(
    provider: Annotated[
        Provider | None,
        typer.Option(
            "--provider", help="What it runs in. Default: as [enclave] of member.toml says; simulated."
        ),
    ] = None,
    loader: Annotated[
        str,
        typer.Option(
            "--command",
            metavar="WORDS",
            help="What starts it under gramine: 'gramine-sgx /path/hansa-enclave'.",
        ),
    ] = "",
    collateral: Annotated[
        str | None,
        typer.Option(
            "--collateral", metavar="URL", help="Intel's service or a cache of it. Default: Intel's."
        ),
    ] = None,
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="What is accepted. Default: what runs here, on a sound processor.",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Start nothing: print what an enclave of this version measures.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Start an enclave of scheme tee on this machine, have it quoted, and judge the quote as members would.

    The nodes of members with a seat start theirs by themselves; this says beforehand whether they could. Exits with
    0 if the quote is accepted, with 1 if not, with 2 if there is no such processor here, with 3 if the quoting
    service of this machine or the collateral service does not answer.
    """
    from hansa.loading import loader_of, tried
    from hansa.memberfile import EnclaveTable

    table = _table(own_file().enclave or EnclaveTable(), provider, loader, collateral)
    if show:
        _show(table.provider, as_json=as_json)
        return
    now = int(time.time())
    found = loader_of(table, lambda: now)
    trial = tried(found)
    from hansa.policyfile import load_policy

    policy = _own_policy(found, trial) if policy_file is None else load_policy(policy_file)
    raise typer.Exit(_judged(found, trial, policy, now, as_json=as_json))


def _table(own: EnclaveTable, provider: Provider | None, loader: str, collateral: str | None) -> EnclaveTable:
    """The `[enclave]` table of member.toml, with what the command line says in place of it."""
    named = own.provider if provider is None else provider.value
    written: dict[str, Any] = {"provider": named}
    words = tuple(shlex.split(loader)) or (own.command if named == own.provider else ())
    service = collateral or (own.collateral if named == own.provider else None)
    written |= {"command": list(words)} if words else {}
    return type(own).model_validate(written | ({} if service is None else {"collateral": service}))


def _show(provider: str, *, as_json: bool) -> None:
    from hansa.attestation import NO_PROTECTION
    from hansa.cli.attest import measured, plain
    from hansa.enclave.program import PROGRAM
    from hansa.enclave.providers import simulated_measurement

    simulated = provider == "simulated"
    fields = measured(simulated_measurement()) if simulated else None
    how = () if simulated else HOW[provider]
    mode = NO_PROTECTION if simulated else "hardware"
    if as_json:
        print_json(
            {"provider": provider, "mode": mode, "program": PROGRAM, "measurement": fields, "how": list(how)}
        )
        return
    table = grid()
    table.add_row("provider", provider)
    table.add_row("mode", Text(mode, style="bold yellow" if simulated else ""))
    table.add_row("program", PROGRAM)
    for label, value in (fields or {}).items():
        table.add_row(label, plain(value))
    if simulated:
        table.add_row("", "mrenclave is the SHA-256 of this version's sources of the enclave")
    for line in how:
        table.add_row("", line)
    console().print(table)


def _own_policy(found: Loader, trial: Trial) -> Policy:
    """Exactly what was started, and for the rest the defaults."""
    from hansa.attestation import Policy, SgxMeasurement, intel_root, quotes
    from hansa.attestation.simulated_pki import root_of, simulation

    runs = quotes.read(trial.evidence.quote).measurement
    root = root_of(simulation()) if found.mode == "simulated" else intel_root()
    if isinstance(runs, SgxMeasurement):
        return Policy(root, enclaves=(runs.mrenclave,))
    return Policy(root, domains=(runs,))


def _judged(found: Loader, trial: Trial, policy: Policy, now: int, *, as_json: bool) -> int:
    """Print what the enclave of a trial is, and whether a policy accepts it; gives the exit code."""
    from hansa.attestation import NO_PROTECTION, examine
    from hansa.cli.attest import measured, plain, proven

    refusals: tuple[errors.Untrusted, ...]
    try:
        examined = examine(trial.evidence, policy, now)
        refusals = examined.refusals
        if not refusals:
            trial.record(policy, now)
    except errors.Untrusted as e:
        examined, refusals = None, (e,)
    facts = None if examined is None else examined.facts
    runs = None if examined is None else examined.quote.measurement
    mode = NO_PROTECTION if found.mode == "simulated" else "hardware"
    if as_json:
        print_json(
            {
                "provider": found.provider,
                "mode": mode,
                "program": trial.program,
                "measurement": None if runs is None else measured(runs),
                "proven": None if facts is None else proven(facts),
                "policy": policy.digest.hex(),
                "accepted": not refusals,
                "refusals": [{"what": str(each), "hint": each.hint} for each in refusals],
            }
        )
        return REFUSED if refusals else ACCEPTED
    out, table = console(), grid()
    table.add_row("provider", found.provider)
    table.add_row("mode", Text(mode, style="bold yellow" if found.mode == "simulated" else ""))
    table.add_row("program", trial.program)
    fields = {} if runs is None else measured(runs)
    for label, value in (fields | ({} if facts is None else proven(facts))).items():
        table.add_row(label, plain(value) or "none")
    if runs is not None:
        table.add_row("to pin it", f"[tee.accept] {_pin(runs)}")
    out.print(table)
    out.print()
    if not refusals:
        out.print(Text("Accepted: an enclave starts here, and its quote is good.", style="bold green"))
        return ACCEPTED
    out.print(Text("Not accepted:", style="bold red"))
    for each in refusals:
        out.print(Text(f"- {each}", style="red").append(f"\n  {each.hint}", style="default"), soft_wrap=True)
    return REFUSED


def _pin(runs: Measurement) -> str:
    """What a federation.toml says to accept exactly this."""
    from hansa.attestation import SgxMeasurement

    if isinstance(runs, SgxMeasurement):
        return f'enclaves = ["{runs.mrenclave.hex()}"]'
    registers = ", ".join(f'"{value.hex()}"' for value in (runs.mrtd, *runs.rtmrs))
    return f"domains = [[{registers}]]"
