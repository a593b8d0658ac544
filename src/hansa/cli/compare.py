"""`hansa compare`: published systems beside each other on one app, under attack, over many seeds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hansa import errors
from hansa.cli.console import clock, columns, command, console, percent, print_json
from hansa.cli.run import INTERRUPTED, holding

if TYPE_CHECKING:
    from rich.console import Console

    from hansa.comparison.plan import Cell, Sweep
    from hansa.comparison.results import Row
    from hansa.comparison.sweep import Record

ATTACKS = "sign-flip,noise,label-flip,backdoor,copycat,free-rider,alie,ipm"


def compare(
    app: Annotated[Path, typer.Argument(metavar="APP", help="Folder with federation.toml and app.py.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where results go; one that has some is gone on with.")
    ],
    presets: Annotated[
        str, typer.Option(metavar="A,B,...", help="Systems; C-published is C as it was published.")
    ] = "A,B,C,D,E",
    attacks: Annotated[
        str,
        typer.Option(metavar="NAME[:STRENGTH],...", help="What hostile members do; none comes by itself."),
    ] = ATTACKS,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Seeds 0, 1, ... of data, keys and model.")
    ] = 10,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Final rounds, in place of [training] rounds.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes that run cells.")] = 2,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Change one key of federation.toml; one of [secagg] or [tee] counts under that scheme only.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Run every preset under every attack with every seed, and write tables with intervals and a plot.

    A cell is one whole run, audit left out. Stopped and started again, it goes on; a cell that fails is recorded, and
    tried again then. Hostile are the members that federation.toml names, or the last quarter. Beside the presets stand
    plain FedAvg under the same attack, one model on all data, and each member alone.
    """
    from hansa.comparison import plan as planning

    changed = [*(settings or ()), *([f"{planning.ROUNDS}={rounds}"] if rounds else [])]
    plan = planning.sweep(app, _list(presets), _list(attacks), seeds, changed)
    with holding(out, resume=True):
        interrupted = _run(out, plan, jobs, console(stderr=True))
        made = _write(out, plan)
    if interrupted:
        console(stderr=True).print("\nInterrupted; nothing is lost. Go on with the same command.")
        raise typer.Exit(INTERRUPTED)
    if as_json:
        from hansa.comparison.results import to_json

        print_json(to_json(plan, made))
    else:
        _show(console(), out, plan, made)
    if any(row.failed for row in made):
        raise typer.Exit(1)


def _list(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise errors.Misconfigured(
            f"{text!r} names nothing", hint="Write names with commas between them: A,B,C."
        )
    return names


def _run(out: Path, plan: Sweep, jobs: int, screen: Console) -> bool:
    """Run what waits; whether it was interrupted."""
    from hansa.comparison import plan as planning
    from hansa.comparison import sweep

    sweep.open_folder(out, plan)
    for name, why in plan.skipped:
        screen.print(Text(f"{name} is left out: {why}", style="yellow"), soft_wrap=True)
    total, left = len(planning.cells(plan)), len(sweep.waiting(out, plan))
    screen.print(
        f"{total} cells, {left} to run, {plan.rounds} rounds each, in {jobs} processes; results in {out}"
    )
    began = time.monotonic()
    try:
        for count, (cell, record) in enumerate(sweep.run(out, plan, jobs), 1):
            rest = (time.monotonic() - began) / count * (left - count)
            screen.print(_line(cell, record, f"{total - left + count}/{total}", clock(rest)), soft_wrap=True)
    except KeyboardInterrupt:
        return True
    return False


def _line(cell: Cell, record: Record, count: str, rest: str) -> Text:
    text = Text(f"{count:>9}  {cell.system:<12} {cell.attack:<14} seed {cell.seed:<3}")
    if record["status"] != "done":
        return text.append(f" FAILED: {record['error']}", style="red")
    text.append(f" {percent('accuracy', record['accuracy']):>7}  {record['cpu_seconds']:6.1f} s")
    return text.append(f"  {rest} to go", style="dim")


def _write(out: Path, plan: Sweep) -> list[Row]:
    """Tables and plot of what there is."""
    from hansa import runfolder
    from hansa.comparison import plot, results, sweep

    records = sweep.done(out, plan)
    made = results.rows(plan, records)
    files = {
        "cells.csv": results.cells_csv(records.values()),
        "systems.csv": results.rows_csv(made),
        "systems.md": results.markdown(plan, made),
        "accuracy.svg": plot.accuracy(plan, made),
    }
    for name, text in files.items():
        runfolder.write_atomically(out / name, text.encode())
    return made


def _show(out: Console, folder: Path, plan: Sweep, made: list[Row]) -> None:
    from hansa.comparison.plan import REFERENCES
    from hansa.comparison.results import WORDS

    systems = [s for s in (*plan.systems, *REFERENCES) if any(row.system == s for row in made)]
    found = {(row.system, row.attack): row.accuracy for row in made}
    out.print(Text(f"Accuracy after {plan.rounds} rounds, mean of {plan.seeds} seeds", style="bold"))
    table = columns(("attack", "left"), *((WORDS.get(s, s), "right") for s in systems))
    for attack in plan.attacks:
        values = [found.get((s, attack)) for s in systems]
        table.add_row(attack, *("" if v is None else percent("accuracy", v.mean) for v in values))
    out.print(table)
    failed = sum(row.failed for row in made)
    if failed:
        again = "the same command tries them again"
        out.print(
            Text(f"{failed} cells failed: their errors are in cells.csv, and {again}.", style="bold red")
        )
    out.print(f"\nfiles  {command(folder)}: systems.md, systems.csv, cells.csv, accuracy.svg")
