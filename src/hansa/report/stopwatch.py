"""How long the phases of a run took on this machine: the chain's clock of a simulation is not of this world."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hansa.protocol import events as ev
from hansa.records import Phase
from hansa.report.folder import SECONDS


class Stopwatch:
    """An observer of a simulation's events; passes them on. A line is written when a round has ended."""

    def __init__(
        self,
        folder: Path,
        then: Callable[[ev.Event, Any], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._path = folder / SECONDS
        self._then = then
        self._clock = clock
        self._at: tuple[int, Phase, float] | None = None
        self._seconds: dict[str, float] = {}

    def __call__(self, event: ev.Event, simulation: Any) -> None:
        """Take the time of a phase that ends, and tell whoever else wants to know."""
        if isinstance(event, ev.Entered):
            now = self._clock()
            if self._at is not None:
                round, phase, since = self._at
                self._seconds[phase.name] = self._seconds.get(phase.name, 0.0) + now - since
                if event.round != round or Phase(event.phase) >= Phase.PAUSED:
                    self._write(round)
            self._at = event.round, Phase(event.phase), now
        self._then(event, simulation)

    def _write(self, round: int) -> None:
        seconds = {phase: round_to(value) for phase, value in self._seconds.items()}
        self._seconds = {}
        # A full disk stops the run elsewhere, where more depends on it.
        with self._path.open("a") as file:
            file.write(json.dumps({"round": round, "seconds": seconds}) + "\n")


def round_to(seconds: float) -> float:
    """Milliseconds are enough."""
    return round(seconds, 3)
