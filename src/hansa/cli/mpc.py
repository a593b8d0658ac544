"""`hansa mpc`: what a training script will do, before anything runs; and what training was."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hansa.cli import computed
from hansa.cli.console import columns, console, grid, print_json
from hansa.cli.keys import Json

if TYPE_CHECKING:
    from hansa.mpc.costs import Cost
    from hansa.mpc.plan import Plan

app = typer.Typer(no_args_is_help=True, help="Look into training on shares, scheme mpc.")


app.command("report", short_help="Say what each layer took, and what was opened.")(computed.report)


@app.command("plan", short_help="Say what a training script opens to whom, and what a step costs.")
def plan(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="Training script.")],
    rows: Annotated[
        int,
        typer.Option("--rows", min=0, metavar="N", help="Rows of all owners; 0 counts one step an epoch."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Print the layers of a training script, what is ciphertext, what is revealed to whom and how often, the epsilon
    where noise is added, and the cost expected of a step. Reads the script alone: no data, no parties, no SPU.
    """
    from hansa.mpc import leakage
    from hansa.mpc.plan import plan as planned
    from hansa.mpc.training import load_training, script_digest

    training = load_training(script)
    found = planned(training, rows)
    if as_json:
        print_json(_plain(found, script_digest(script).hex()))
        return
    table = grid()
    table.add_row("script", f"sha256 {script_digest(script).hex()}")
    table.add_row("arrangement", found.arrangement.value)
    table.add_row("protocol", f"{found.protocol} over {found.field}")
    table.add_row(
        "training", f"{found.epochs} epochs, {found.steps} steps" + ("" if rows else " (--rows unknown)")
    )
    console().print(table)
    console().print(_layers(found))
    console().print(_reveals(found, leakage.bottom_words(training)))
    console().print(_cost(found.cost), soft_wrap=True)


def _layers(found: Plan) -> object:
    table = columns(
        ("layer", "left"),
        ("a row", "left"),
        ("sends", "right"),
        ("kB", "right"),
        ("ms", "right"),
        ("where", "left"),
    )
    for line in found.lines:
        cost = line.cost
        figures = (
            ("?", "?", "?")
            if cost is None
            else tuple(f"{v:,.0f}" if v else "" for v in (cost.sends, cost.bytes / 1e3, cost.millis))
        )
        table.add_row(line.name, "x".join(map(str, line.shape)), *figures, line.place)
    return table


def _reveals(found: Plan, bottom: str) -> object:
    from hansa.mpc.plan import to_whom

    table = grid()
    if bottom:
        table.add_row("bottom", bottom)
    if not found.boundaries:
        table.add_row("revealed", Text("nothing, to no party; owners get the trained model", style="green"))
    for b in found.boundaries:
        said = f"{b.variable} {'x'.join(map(str, b.shape))} to {to_whom(b.to)}, {b.times:,} times: {b.words}"
        table.add_row("revealed", Text(said, style="" if b.protected else "yellow"))
    if found.epsilon is not None:
        known = (
            "needs dp-accounting: pip install 'hansa[mpc]'"
            if math.isnan(found.epsilon)
            else f"{found.epsilon:.1f}"
        )
        table.add_row(
            "epsilon", f"{known}, at delta {found.delta:g}, for one row exchanged; see hansa.mpc.privacy"
        )
    return table


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "Cost of a step: not tabulated for this protocol and field; known for ABY3 over FM64."
    return (
        f"Expected of a step: {cost.sends:,.0f} sends a party, {cost.bytes / 1e6:,.2f} MB, {cost.millis:,.0f} ms on "
        f"loopback, {(cost.millis + 20 * cost.sends) / 1e3:,.1f} s with 20 ms one way; see hansa.mpc.costs."
    )


def _plain(found: Plan, digest: str) -> dict[str, object]:
    epsilon = found.epsilon
    return {
        "script": digest,
        "arrangement": found.arrangement.value,
        "protocol": found.protocol,
        "field": found.field,
        "epochs": found.epochs,
        "steps": found.steps,
        "layers": [dataclasses.asdict(line) for line in found.lines],
        "reveals": [dataclasses.asdict(b) for b in found.boundaries],
        "epsilon": None if epsilon is None or math.isnan(epsilon) else epsilon,
        "delta": found.delta,
        "step": None if found.cost is None else dataclasses.asdict(found.cost),
    }
