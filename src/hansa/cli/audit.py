"""`hansa audit`: replay a federation, and say what was checked and what was not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from hansa import errors
from hansa.cli.connection import AnyAppFolder, AnyName, AnyRpcUrl, AnyStoreUrl, ReaderKey, own_key, reached
from hansa.cli.console import columns, console, print_json
from hansa.cli.keys import PasswordFile

if TYPE_CHECKING:
    from hansa.audit import Anchors, Report
    from hansa.audit.report import Progress

STYLES = {"verified": "green", "attested": "cyan", "unavailable": "yellow", "failed": "bold red"}
WORDS = {"unavailable": "NOT CHECKED", "failed": "FAILED"}


def audit(
    name: AnyName,
    rpc: AnyRpcUrl = None,
    store: AnyStoreUrl = None,
    key: ReaderKey = None,
    password_file: PasswordFile = None,
    app: AnyAppFolder = None,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", metavar="anchors.toml", help="What you know of it from elsewhere."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--anchors",
            metavar="FILE",
            help="Save a federation's newest block, if nothing is wrong, for the next --trust.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay all transactions, recompute every result, and compare.

    A run folder needs nothing else. A federation is read through a node of its chain, whose answers are hashed
    again, and from its store: --key opens what is sealed to a member, --app makes the initial model again.
    """
    from hansa.audit import audit as check
    from hansa.audit import exit_code, read_anchors
    from hansa.cli.reading import SHARED, required, run_folder
    from hansa.runfolder import as_json as plain

    anchors = None if trust is None else read_anchors(trust)
    out = console(stderr=as_json)
    if name.startswith(SHARED):
        where = required(name, rpc, store)
        with _told(out) as progress:
            report = _shared(name, where, (key, password_file, app), anchors, save, progress)
    else:
        if save is not None:
            raise errors.Misconfigured(
                "--anchors is for a federation on a shared chain",
                hint="`hansa run` saves those of a run, before anybody can have touched its folder.",
            )
        folder = run_folder(name)
        with _told(out) as progress:
            report = check(folder, anchors, progress)
        _keep(out, folder, report)
    if as_json:
        subject = "federation" if name.startswith(SHARED) else "run"
        print_json({subject: name, "exit_code": exit_code(report)} | plain(report))
    else:
        show_report(out, name, report)
    raise typer.Exit(exit_code(report))


def _shared(
    name: str,
    where: tuple[Sequence[str], str],
    own: tuple[Path | None, Path | None, Path | None],
    anchors: Anchors | None,
    save: Path | None,
    progress: Progress | None,
) -> Report:
    """Audit a federation on a shared chain, and save its newest block as an anchor if nothing is wrong."""
    from hansa.audit import write_anchors
    from hansa.audit.report import FOUND, exit_code
    from hansa.audit.shared import Helps, audit_shared

    key, password_file, app = own
    helps = Helps(None if key is None else own_key(key, password_file), app)
    with reached(name, *where) as it:
        report, newest = audit_shared(it.federation, it.rpc, it.store, helps, anchors, progress)
    if save is not None and exit_code(report) != FOUND:
        write_anchors(save, newest)
    return report


def _keep(out: Console, folder: Path, report: Report) -> None:
    """Leave what was found beside the run, and on its page. An auditor may have no right to write there."""
    from hansa.report.folder import PAGE, note_audit
    from hansa.report.writing import leave_page

    try:
        note_audit(folder, report)
    except errors.HansaError as e:
        out.print(f"the report of this run does not show this audit: {e}", style="dim", soft_wrap=True)
        return
    if (folder / PAGE).is_file() and (lacking := leave_page(folder)):
        out.print(f"{folder / PAGE} is as it was: {lacking}", style="dim", soft_wrap=True)


@contextmanager
def _told(out: Console) -> Iterator[Progress | None]:
    """On a terminal, what the audit is at."""
    if not out.is_terminal:
        yield None
        return
    with out.status("auditing") as spinner:
        yield lambda name, n: spinner.update(f"auditing: {name} {n:,}")


def show_report(out: Console, name: str, report: Report) -> None:
    """Checks with verdicts and counts, findings with their evidence, and what rests on nothing."""
    out.print(Text(f"Audit of {name}", style="bold"))
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
    if report.unproven:
        text.append(f"\nNot checked: {report.unproven}", style="not bold yellow")
    return text
