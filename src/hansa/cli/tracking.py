"""Trackers of a run: told of each round as it ends, and of what they missed. A run never waits for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from hansa import errors, wiring
from hansa.ports import Tracked, Tracker
from hansa.simulation import Simulation

Line = dict[str, Any]
Tell = Callable[[Sequence[Line]], None]
Make = Callable[[Tracked], Tracker]


@contextmanager
def tracking(made: Simulation, makers: Sequence[Make], out: Console) -> Iterator[Tell]:
    """Open the trackers, tell them of rounds before this process, and close them.

    Raises `Misconfigured` or `Unavailable` when one cannot be opened. One that stops answering later is said
    once, and told again with every round.
    """
    if not makers:
        yield lambda _lines: None
        return
    terms = made.terms
    params = {
        "scheme": terms.scheme,
        "governance": terms.governance.name.lower(),
        "selection": terms.selection.rule,
        "aggregation": terms.aggregation.rule,
        "members": str(made.founding.file.simulation.members),
        "seed": str(made.founding.file.simulation.seed),
        "model": terms.initial.hex(),
        **{f"params.{name}": str(value) for name, value in terms.training.params},
    }
    run = Tracked(terms.name, made.folder.absolute(), params)
    trackers: list[Tracker] = []
    silent: set[int] = set()

    def tell(_lines: Sequence[Line]) -> None:
        for k, tracker in enumerate(trackers):
            try:
                tracker.tell([line for line in made.rounds.lines if line["round"] > tracker.told])
            except errors.Unavailable as e:
                if k not in silent:
                    out.print(Text(f"{e}; it is told again when a round ends", style="yellow"))
                silent.add(k)

    finished = False
    try:
        trackers += [make(run) for make in makers]
        tell([])
        yield tell
        tell([])
        finished = True
    finally:
        for tracker in trackers:
            try:
                tracker.close(finished=finished)
            except errors.Unavailable as e:
                out.print(Text(f"{e}; --resume tells it the rest", style="yellow"))


def makers(specs: Sequence[str]) -> list[Make]:
    """What opens the trackers of these names. Raises `Misconfigured` for one that is not there."""
    return [wiring.tracker(spec) for spec in specs]
