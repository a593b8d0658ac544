"""`hansa report`: one page that shows a run, or several beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.console import columns, command, console, percent, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from hansa.report.facts import Facts

COMPARED = Path("report.html")


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to; report.html in the run folder by default, or here for several."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the facts as one JSON object, and write a page only with --out."),
    ] = False,
) -> None:
    """Write a page that shows a run: one file without scripts, styles or fonts from elsewhere, to open offline.

    Several runs come onto one page, with the same charts laid over each other. A run that goes on or was killed
    is shown as far as it came.
    """
    from hansa.cli.reading import run_folder
    from hansa.report.folder import PAGE, RunFacts
    from hansa.report.writing import write_page
    from hansa.runfolder import as_json as plain

    folders = [run_folder(name) for name in runs]
    facts = [RunFacts(folder).read() for folder in folders]
    path = out or (folders[0] / PAGE if len(folders) == 1 else COMPARED)
    if not as_json or out is not None:
        if path.is_dir():
            raise errors.Misconfigured(
                f"{path} is a folder", hint="Name a file by --out, such as report.html."
            )
        write_page(path, facts)
    if as_json:
        print_json({"page": None if out is None else str(out), "runs": plain(tuple(facts))})
        return
    screen = console()
    _show(screen, facts)
    screen.print(f"report  {path}", soft_wrap=True)
    for one in facts:
        if one.audited is None:
            screen.print(
                f"next    {command('hansa', 'audit', one.subject)}: nobody has checked it yet", soft_wrap=True
            )


def _show(out: Console, facts: list[Facts]) -> None:
    """A line a run: what it is, how far it came, and its last value beside what it is compared with."""
    table = columns(
        ("run", "left"), ("scheme", "left"), ("rounds", "right"), (facts[0].metric, "right"), ("alone", "right"),
        ("FedAvg", "right"), ("pooled", "right"), ("", "left"),
    )  # fmt: skip
    for one in facts:
        values = [r.value for r in one.rounds if r.value is not None]
        b = one.baselines
        told = [*values[-1:], *[None] * (not values)]
        told += [curve[-1] if curve else None for curve in (b.alone_mean, b.fedavg_unprotected, b.pooled)]
        shown = ["" if v is None else percent(one.metric, v) for v in told]
        table.add_row(one.subject, one.scheme.upper(), f"{one.final}/{one.planned}", *shown, one.outcome)
    out.print(table)
