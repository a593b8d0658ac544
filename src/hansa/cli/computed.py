"""`hansa mpc report`: what training on shares was, as the computing parties recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa import errors
from hansa.cli.console import console, print_json
from hansa.cli.keys import Json

if TYPE_CHECKING:
    from hansa.protocol.mpc import Report
    from hansa.records import Terms


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder that `hansa run` wrote.")],
    as_json: Json = False,
) -> None:
    """Print what training on shares took: layer by layer, and what was opened to whom, how often.

    Each computing party recorded its own; all must name the reveals of the terms, which owners and audit check.
    """
    terms, reports = _reports(run)
    if as_json:
        print_json(
            {"network": list(_agreed(terms).network), "parties": {n: _plain(r) for n, r in reports.items()}}
        )
        return
    _show(terms, reports)


def _agreed(terms: Terms) -> Any:
    assert terms.mpc is not None
    return terms.mpc


def _reports(run: str) -> tuple[Terms, dict[str, Report]]:
    from hansa import wiring
    from hansa.cli.reading import run_folder
    from hansa.cli.runs import read_run
    from hansa.protocol import mpc
    from hansa.records import Limits, RecordKind

    folder = run_folder(run)
    reading = read_run(folder)
    if reading.terms.mpc is None:
        raise errors.Misconfigured(
            f"{run} trained under scheme {reading.terms.scheme}, and not on shares",
            hint="`hansa report` says what that run was.",
        )
    state, store = reading.view.state, wiring.store(str(folder / "store"))

    def fetch(digest: bytes) -> bytes:
        return store.get(digest, limit=Limits().blob)

    said = mpc.recorded(state, RecordKind.OUTPUT)
    if not said:
        raise errors.Misconfigured(
            f"no computing party of {run} has delivered yet", hint="Let it run: add --resume to its command."
        )
    owners = mpc.accepted(state, fetch)
    found = {}
    for party, digest in said.items():
        delivery = mpc.read_delivery(fetch(digest), state, party, owners)
        found[reading.name(party)] = mpc.read_report(fetch(delivery.report))
    return reading.terms, found


def _plain(report: Report) -> dict[str, Any]:
    return {
        "steps": report.steps,
        "epochs": report.epochs,
        "attempts": report.attempts,
        "reveals": [{"boundary": r.boundary, "to": r.to, "times": r.times} for r in report.reveals],
        "costs": [
            {"layer": c.layer, "seconds": c.seconds, "bytes": c.bytes, "sends": c.sends} for c in report.costs
        ],
    }


def _show(terms: Terms, reports: dict[str, Report]) -> None:
    from rich.table import Table
    from rich.text import Text

    out, first = console(), next(iter(reports.values()))
    for line in _agreed(terms).network:
        out.print(Text(line))
    out.print(f"{first.steps} steps in {first.epochs} epochs, protocol {_agreed(terms).protocol}")
    for name, found in reports.items():
        if found.attempts > 1:
            out.print(Text(f"{name} went on from a checkpoint {found.attempts - 1} times"))
    table = Table(
        "what", "party", "seconds", "MB sent", "sends", "ms a step", "kB a step", "sends a step", box=None
    )
    for name, found in reports.items():
        for cost in found.costs:
            each = max(1, found.steps)
            table.add_row(
                cost.layer,
                name,
                f"{cost.seconds:.1f}",
                f"{cost.bytes / 1e6:.2f}",
                f"{cost.sends:,}",
                f"{1000 * cost.seconds / each:.1f}",
                f"{cost.bytes / 1e3 / each:.1f}",
                f"{cost.sends / each:.1f}",
            )
    out.print(table)
    if not first.reveals:
        out.print("Nothing was opened while training.")
    for r in first.reveals:
        who = "every party" if r.to < 0 else f"party {r.to}"
        out.print(Text(f"opened: {r.boundary} to {who}, {r.times:,} times"))
