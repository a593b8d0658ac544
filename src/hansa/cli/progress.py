"""A run as it goes: one line a round, and below them, on a terminal, what happens now."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from hansa.cli.console import clock, percent
from hansa.protocol import events as ev
from hansa.protocol.attested import NO_PROTECTION, protection
from hansa.protocol.history import RoundStory
from hansa.records import Outcome, Phase
from hansa.simulation import Simulation

WORDS: dict[Phase, str] = {
    Phase.COMMIT: "training, committing to updates",
    Phase.BEACON: "drawing lots",
    Phase.AVAILABLE: "fetching and judging updates",
    Phase.REVEAL: "opening ballots",
    Phase.AGGREGATE: "aggregating",
    Phase.VERIFY: "verifying the result",
    Phase.OPEN: "opening the sum",
}
ON_SHARES: dict[Phase, str] = WORDS | {
    Phase.COMMIT: "owners share their rows",
    Phase.AVAILABLE: "storing shares",
    Phase.AGGREGATE: "the computing parties train on shares",
    Phase.OPEN: "owners put the model together",
}
"""The same under scheme mpc."""

COUNTED = (ev.Committed, ev.Revealed, ev.Held, ev.BallotOpened, ev.Precommitted, ev.Voted, ev.OpenVoted)
"""Events of which a phase awaits one from each of its parties."""


class Progress:
    """A context manager, and the observer that `Simulation.play` takes.

    Called once an event. What it shows of the present is text of its own, so that the thread that redraws
    the screen touches nothing of the simulation.
    """

    def __init__(self, console: Console, simulation: Simulation, started: float) -> None:
        self._console = console
        self._simulation = simulation
        self._started = started
        self._rounds = simulation.terms.training.rounds
        self._shown = {row["round"] for row in simulation.metrics}
        self._over = 0
        self._unprotected = protection(simulation.terms) == NO_PROTECTION
        self._spinner = Spinner("dots")
        self._now = "starting"
        self._phase = Phase.IDLE
        self._count = 0
        self._told: set[str] = set()
        self._live = Live(get_renderable=self._line, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Progress:
        if self._unprotected:
            self._console.print(Text(NO_PROTECTION, style="bold yellow"))
        unknown = self._simulation.founding.directed is not None and not self._simulation.metrics
        measure = "measure" if unknown else self._metric()
        heading = f"{'round':>7}  {'leader':<6}  {measure:>8}  {'time':>6}  left out"
        self._console.print(Text(heading, style="dim"))
        if self._shown:
            self._console.print(Text(f"going on after {len(self._shown)} finished rounds", style="dim"))
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show_rounds()
        if self._console.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """What happens now."""
        self._show_rounds()
        self._now = text

    def tell(self, party: str, text: str) -> None:
        """What a computing party says. All do the same steps: those of the first one are shown."""
        if text not in self._told and (party == "p0" or not text.startswith("epoch")):
            self._told.add(text)
            self._console.print(Text(f"        {party}  {text}", style="dim"))

    def __call__(self, event: ev.Event, _simulation: Simulation) -> None:
        """Note an event."""
        if isinstance(event, ev.Entered):
            self._phase, self._count = Phase(event.phase), 0
        elif isinstance(event, COUNTED):
            self._count += 1
        self._show_rounds()
        story = self._simulation.story
        if story and self._phase in WORDS:
            self._now = self._describe(story[-1])

    def _describe(self, round: RoundStory) -> str:
        words = WORDS if self._simulation.terms.mpc is None else ON_SHARES
        text = f"round {round.round}/{self._rounds}  {self._phase.name}: {words[self._phase]}"
        if self._count:
            text += f" ({self._count})"
        if round.selected and self._phase in (Phase.AGGREGATE, Phase.VERIFY):
            text += f"  leader {self._simulation.name(round.leaders[-1])}" if round.leaders else ""
            text += f"  selected {self._names(round.selected)}"
        return text

    def _line(self) -> Text:
        frame = self._spinner.render(time.monotonic())
        wheel = frame if isinstance(frame, Text) else Text()
        elapsed = (f" {self._elapsed()}  ", "dim")
        warning = (f"{NO_PROTECTION}  " if self._unprotected else "", "bold yellow")
        return Text.assemble(wheel, elapsed, warning, self._now, no_wrap=True, overflow="ellipsis")

    def _elapsed(self) -> str:
        return clock(time.monotonic() - self._started)

    def _names(self, ids: frozenset[int]) -> str:
        return " ".join(self._simulation.name(id) for id in sorted(ids))

    def _metric(self) -> str:
        rows = self._simulation.metrics
        return "loss" if rows and "accuracy" not in rows[0] else "accuracy"

    def _show_rounds(self) -> None:
        """Print every round that is over and measured, once, in order."""
        story = self._simulation.story
        while self._over < len(story) and (outcome := story[self._over].outcome) is not None:
            round = story[self._over]
            if round.round not in self._shown and not self._show(round, outcome):
                return
            self._over += 1

    def _show(self, round: RoundStory, outcome: Outcome) -> bool:
        """Print a round; says whether it could: a final one waits until it is measured."""
        final = outcome is Outcome.FINAL
        rows = reversed(self._simulation.metrics)
        measured = next((row for row in rows if row["round"] == round.round), None)
        if final and measured is None:
            return False
        name = self._metric()
        value = percent(name, measured.get(name)) if final and measured else "failed"
        leader = self._simulation.name(round.leaders[-1]) if round.leaders else "none"
        out = self._names(round.left_out) if final else outcome.name.lower()
        line = f"{round.round:>4}/{self._rounds:<3} {leader:<6}  {value:>8}  {self._elapsed():>6}  {out}"
        self._console.print(Text(line.rstrip()))
        return True
