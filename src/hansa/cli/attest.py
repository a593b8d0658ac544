"""`hansa attest`: look into a quote, and judge it by hand as members do."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hansa import errors
from hansa.cli.console import console, grid, print_json

if TYPE_CHECKING:
    from hansa.attestation import Examination, Facts, Measurement, Policy, Quote

Source = Annotated[Path, typer.Argument(metavar="QUOTE", help="File with a quote of SGX or TDX, as it came.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

ACCEPTED, REFUSED = 0, 1

app = typer.Typer(no_args_is_help=True, help="Look into a quote of SGX or TDX, and judge it by hand.")


@app.command("verify", short_help="Say what a quote proves, and why it is or is not accepted.")
def verify(
    file: Source,
    collateral: Annotated[
        Path,
        typer.Option(
            "--collateral",
            metavar="FILE",
            help="What the processor's maker says of it: JSON, as dcap-qvl has it.",
        ),
    ],
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="TIME", help="Judge at this time, ISO 8601 or Unix seconds. Default: now."
        ),
    ] = "",
    policy_file: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="FILE", help="What is accepted. Default: Intel's root, and no program."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a quote proves, and why it is or is not accepted. Needs no network.

    Exits with 0 if the policy accepts it, with 1 if not. What the quote binds in its report data, keys and a nonce,
    is shown and not judged: only who asked for the quote knows what it has to be.
    """
    from hansa.attestation import Policy, examine, intel_root, normalise
    from hansa.attestation import collateral as collaterals
    from hansa.policyfile import load_policy
    from hansa.records import Evidence

    moment = _moment(at)
    policy = Policy(intel_root()) if policy_file is None else load_policy(policy_file)
    raw, document = _quote_in(file), _bytes_of(collateral, collaterals.LIMIT)
    examined: Examination | None = None
    try:
        examined = examine(Evidence(normalise(raw), document), policy, moment)
        refusals = examined.refusals
    except errors.Untrusted as e:
        refusals = (e,)
    if as_json:
        print_json(_verdict(examined, refusals, policy, moment))
    else:
        _show_verdict(file, examined, refusals, policy, moment)
    raise typer.Exit(REFUSED if refusals else ACCEPTED)


@app.command("show", short_help="Print what stands in a quote, without verifying anything.")
def show(file: Source, as_json: Json = False) -> None:
    """Print what stands in a quote. Nothing is verified: anybody can write such a file."""
    from hansa.attestation import normalise, quotes

    raw = _quote_in(file)
    canonical = normalise(raw)
    fields = _fields(quotes.read(canonical)) | {"bytes": len(raw), "canonical": canonical == raw}
    if as_json:
        print_json(fields)
        return
    out = console()
    table = grid()
    for label, value in fields.items():
        table.add_row(label.replace("_", " "), plain(value))
    out.print(table)
    out.print("\nNothing of this is verified: `hansa attest verify` does that.", soft_wrap=True)


def _moment(text: str) -> int:
    """Unix seconds of a time as a user writes it; UTC where it names no zone. Raises `Misconfigured`."""
    if not text:
        return int(time.time())
    try:
        if text.isdecimal():
            return int(datetime.fromtimestamp(int(text), UTC).timestamp())
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError) as e:
        raise errors.Misconfigured(
            f"{text[:40]!r} is no time", hint="Write 2025-07-19T10:01:17Z or seconds since 1970: 1752919277."
        ) from e


def _quote_in(file: Path) -> bytes:
    from hansa.attestation import quotes

    return _bytes_of(file, quotes.LIMIT)


def _bytes_of(file: Path, limit: int) -> bytes:
    """A file's bytes, one more than the limit if it is longer. Raises `Misconfigured`."""
    try:
        with file.open("rb") as source:
            return source.read(limit + 1)
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot read {file}: {e.strerror}", hint="Name a file that you can read."
        ) from e


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def plain(value: Any) -> str:
    """A value of a quote for people: long digests in lines of 64 digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "\n".join(plain(each) for each in value)
    # Names in certificates are whatever their maker wrote, terminal commands too.
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return text if " " in text else "\n".join(text[k : k + 64] for k in range(0, len(text), 64))


def measured(measurement: Measurement) -> dict[str, Any]:
    """What runs, by name of each register."""
    from hansa.attestation import SgxMeasurement

    if isinstance(measurement, SgxMeasurement):
        return {
            "mrenclave": measurement.mrenclave.hex(),
            "mrsigner": measurement.mrsigner.hex(),
            "product": measurement.product,
            "svn": measurement.svn,
        }
    return {"mrtd": measurement.mrtd.hex(), "rtmr": [register.hex() for register in measurement.rtmrs]}


def _fields(quote: Quote) -> dict[str, Any]:
    from hansa.attestation import signatures

    leaf, *above = signatures.certificates(quote.chain.removesuffix(b"\x00"))
    return {
        "tee": quote.tee,
        "version": quote.version,
        **measured(quote.measurement),
        "attributes": quote.attributes.hex(),
        "debug": quote.debug,
        "report_data": quote.report_data.hex(),
        "attestation_key": quote.attestation_key.hex(),
        "processor": f"certificate {leaf.serial_number:x}, {leaf.subject.rfc4514_string()}",
        "certified_by": [each.subject.rfc4514_string() for each in above],
    }


def proven(facts: Facts) -> dict[str, Any]:
    """What its maker says of a processor."""
    return {
        "status": facts.status,
        "advisories": list(facts.advisories),
        "evaluation": facts.evaluation,
        "fmspc": facts.model.hex(),
        "ppid": facts.platform.hex(),
        "expires": _iso(facts.expires),
    }


def _verdict(
    examined: Examination | None, refusals: tuple[errors.Untrusted, ...], policy: Policy, moment: int
) -> dict[str, Any]:
    from hansa.attestation import NO_PROTECTION

    return {
        "accepted": not refusals,
        "at": _iso(moment),
        "mode": policy.mode if policy.mode == "hardware" else NO_PROTECTION,
        "policy": policy.digest.hex(),
        "quote": None if examined is None else _fields(examined.quote),
        "proven": None if examined is None or examined.facts is None else proven(examined.facts),
        "signed": None if examined is None else _iso(examined.collateral.issued),
        "refusals": [{"what": str(each), "hint": each.hint} for each in refusals],
    }


def _show_verdict(
    file: Path,
    examined: Examination | None,
    refusals: tuple[errors.Untrusted, ...],
    policy: Policy,
    moment: int,
) -> None:
    out = console()
    out.print(Text(f"Quote {file} at {_iso(moment)}", style="bold"))
    if policy.mode == "simulated":
        from hansa.attestation import NO_PROTECTION

        out.print(Text(NO_PROTECTION, style="bold yellow"))
    if examined is not None:
        facts = examined.facts
        table = grid()
        if facts is None:
            table.add_row("proven", Text("nothing: see below", style="red"))
        else:
            root = "Intel's root" if policy.mode == "hardware" else "the root of a simulation"
            table.add_row("proven", f"under {root}, by {facts.verifier}:")
            for label, value in (measured(facts.measurement) | proven(facts)).items():
                table.add_row(f"  {label}", plain(value) or "none")
            table.add_row("  debug", "no")
            table.add_row(
                "  report data",
                f"{plain(facts.report_data.hex())}\nnot judged: who asked for it has to compare it",
            )
        table.add_row("collateral", f"oldest part signed {_iso(examined.collateral.issued)}")
        out.print(table)
    out.print()
    if not refusals:
        out.print(
            Text("Accepted: nothing in the policy speaks against it.", style="bold green"), soft_wrap=True
        )
        return
    out.print(Text("Not accepted:", style="bold red"))
    for each in refusals:
        out.print(Text(f"- {each}", style="red").append(f"\n  {each.hint}", style="default"), soft_wrap=True)
