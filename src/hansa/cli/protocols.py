"""`hansa protocols`: the five published systems, and where each of their steps is in Hansa."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hansa import errors
from hansa.cli.console import columns, console, grid, print_json

if TYPE_CHECKING:
    from hansa.published.presets import Preset
    from hansa.published.systems import Step, System


def protocols(
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[A..E]", help="Systems to show; all of them by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the published systems that Hansa joins: source step, phase, what the ledger keeps of it, and the code.

    Below each stand its known faults with Hansa's answer, and what runs only in part. `hansa run APP --preset B` runs
    one hardened, `--as-published` with those faults that can be imitated.
    """
    from hansa.published.listing import SYSTEMS

    chosen = [_system(letter) for letter in letters or [s.letter for s in SYSTEMS]]
    if as_json:
        print_json({s.letter: _json(s) for s in chosen})
        return
    for k, system in enumerate(chosen):
        if k:
            console().print()
        _show(system)


def _system(letter: str) -> System:
    from hansa.published.listing import SYSTEMS

    for system in SYSTEMS:
        if system.letter == letter.upper():
            return system
    raise errors.Misconfigured(
        f"there is no published system {letter!r}",
        hint=f"They are called {', '.join(s.letter for s in SYSTEMS)}.",
    )


def _show(system: System) -> None:
    from hansa.published.presets import PRESETS, PUBLISHED

    out = console()
    out.print(Text.assemble((f"{system.letter}  {system.title}", "bold"), f"  ({system.source})"))
    out.print()
    table = columns(("step", "left"), ("what the source does, and how Hansa does it", "left"))
    for step in system.steps:
        table.add_row(step.number, _step(step))
    out.print(table)
    out.print()
    table = columns(("as published", "left"), ("fault, and Hansa's answer", "left"))
    for fault in system.faults:
        text = Text(fault.fault).append(f"\n-> {fault.answer}", style="green")
        if fault.imitated:
            text.append("\n--as-published brings it back", style="yellow")
        table.add_row(Text(fault.published, overflow="fold"), text)
    table.columns[0].no_wrap, table.columns[0].width = False, 34
    out.print(table)
    out.print()
    rest = grid()
    rest.add_row("hardened", _terms(PRESETS[system.letter]))
    rest.add_row("published", _terms(PRESETS[system.letter + PUBLISHED]))
    for caveat in system.caveats:
        rest.add_row("caveat", caveat)
    out.print(rest)


def _step(step: Step) -> Text:
    text = Text(step.does)
    if step.note:
        text.append(f"; {step.note}", style="dim")
    phases = ", ".join(step.phases) or "outside rounds"
    text.append(f"\n{phases}: {', '.join(step.evidence) or 'nothing on the ledger'}")
    for place in step.code:
        text.append(f"\n{place}", style="cyan")
    return text


def _terms(preset: Preset) -> Text:
    said = [f"{key} = {_values(allowed)}" for key, allowed in preset.fixed.items()]
    text = Text(", ".join(said))
    if preset.defaults:
        text.append("; if the app says nothing: ").append(
            ", ".join(f"{key} = {_value(value)}" for key, value in preset.defaults.items())
        )
    for danger in preset.unsafe:
        text.append(f"\nUNSAFE: {danger}", style="yellow")
    return text


def _values(allowed: tuple[Any, ...]) -> str:
    return " or ".join(_value(value) for value in allowed)


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _json(system: System) -> dict[str, Any]:
    from hansa.published.presets import PRESETS, PUBLISHED

    made = asdict(system)
    for name, key in ((system.letter, "hardened"), (system.letter + PUBLISHED, "published")):
        preset = PRESETS[name]
        made[key] = {
            "fixed": {key: list(allowed) for key, allowed in preset.fixed.items()},
            "defaults": dict(preset.defaults),
            "unsafe": list(preset.unsafe),
        }
    return made
