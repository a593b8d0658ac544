"""`hansa audit`: replay a run folder, and say what was checked and what was not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from hansa.cli.console import columns, console, print_json

if TYPE_CHECKING:
    from hansa.audit import Report

STYLES = {"verified": "green", "attested": "cyan", "unavailable": "yellow", "failed": "bold red"}
WORDS = {"unavailable": "NOT CHECKED", "failed": "FAILED"}


def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    trust: Annotated[
        Path | None, typer.Option(metavar="anchors.toml", help="What you know of this run from elsewhere.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay all transactions, recompute every result, and compare. Needs nothing but the run folder."""
    from hansa.audit import audit as check
    from hansa.audit import exit_code, read_anchors
    from hansa.runfolder import as_json as plain

    anchors = None if trust is None else read_anchors(trust)
    out = console(stderr=as_json)
    if out.is_terminal:
        with out.status("auditing") as spinner:
            report = check(run, anchors, lambda name, n: spinner.update(f"auditing: {name} {n:,}"))
    else:
        report = check(run, anchors)
    if as_json:
        print_json({"run": str(run), "exit_code": exit_code(report)} | plain(report))
    else:
        show_report(out, run, report)
    raise typer.Exit(exit_code(report))


def show_report(out: Console, run: Path, report: Report) -> None:
    """Checks with verdicts and counts, findings with their evidence, and what rests on nothing."""
    out.print(Text(f"Audit of {run}", style="bold"))
    table = columns(("check", "left"), ("verdict", "left"), ("count", "right"), ("", "left"))
    for check in report.checks:
        verdict = Text(WORDS.get(check.verdict, check.verdict), style=STYLES[check.verdict])
        table.add_row(check.name, verdict, f"{check.count:,}", check.note)
    out.print(table)
    for finding in report.findings:
        line = Text(f"\n{finding.check}, {finding.subject}: ", style="bold red").append(
            finding.message, "red"
        )
        if finding.evidence:
            line.append(f"\n  evidence {finding.evidence.hex()}", style="dim")
        out.print(line, soft_wrap=True)
    if report.notes:
        out.print()
    for note in report.notes:
        out.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    out.print()
    out.print(_verdict(report), soft_wrap=True)


def _verdict(report: Report) -> Text:
    gaps = [check.name for check in report.checks if check.verdict == "unavailable"]
    failed = [check.name for check in report.checks if check.verdict == "failed"]
    if report.findings or failed:
        return Text(f"FAILED: {len(report.findings)} findings in {', '.join(failed)}.", style="bold red")
    text = Text("Every check holds.", style="bold green")
    if gaps:
        text = Text(f"Nothing wrong was found, but not checked: {', '.join(gaps)}.", style="bold yellow")
    if not report.anchored:
        text.append(
            "\nNot checked: whether this is the run that you think it is. The folder agrees with itself; "
            "whoever made it may have made all of it up. Anchors from elsewhere settle that: --trust FILE.",
            style="not bold yellow",
        )
    return text
