"""The federation on the terminal: a line a round, below it what is going on now and a line a member."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from types import TracebackType

from examples.cluster.watch import Watch
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hansa.cli.console import clock
from hansa.ports import View
from hansa.protocol.state import State
from hansa.records import Outcome


class Screen:
    """A context manager. Without a terminal there is only the line a round."""

    def __init__(self, out: Console, seen: Watch, nodes: Sequence[ForkServerProcess]) -> None:
        self._out = out
        self._seen = seen
        self._nodes = nodes
        self._began = time.monotonic()
        self._printed = 0
        self._live = Live(console=out, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        self._out.print(Text(f"{'round':>7}  {'leader':<6}  {'accuracy':>8}  {'time':>6}  left out", "dim"))
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out.is_terminal:
            self._live.stop()

    def show(self, view: View) -> None:
        """Print the rounds that are over, and draw the present."""
        self._rounds()
        if self._out.is_terminal:
            self._live.update(Group(*self._now(view)), refresh=True)

    def _rounds(self) -> None:
        rounds = self._seen.terms.training.rounds
        for story in self._seen.story[self._printed :]:
            if story.outcome is None:
                return
            self._printed += 1
            leader = self._seen.names(story.leaders[-1:]) if story.leaders else "none"
            if story.outcome is Outcome.FINAL:
                measured = self._seen.accuracy.get(story.version)
                value = "" if measured is None else f"{100 * measured:.1f} %"
                rest = self._seen.names(story.left_out)
            else:
                value, rest = "failed", story.outcome.name.lower()
            line = f"{story.version:>4}/{rounds:<3} {leader:<6}  {value:>8}  {self._elapsed():>6}  {rest}"
            self._out.print(Text(line.rstrip()))

    def _now(self, view: View) -> list[Text]:
        state = view.state
        waits = self._seen.awaited(state)
        left = max(0, state.deadline - view.now)
        head = f"{self._elapsed():>6}  round {state.round}  {state.phase.name}"
        lines = [Text(f"{head}  waits {left} s at most for {waits}" if waits else head, "bold")]
        return lines + [self._member(state, i) for i in range(len(self._nodes))]

    def _member(self, state: State, place: int) -> Text:
        node, current, id = self._nodes[place], state.current, self._seen.ids[place]
        doing = "at work" if node.is_alive() else f"ended ({node.exitcode})"
        part = [
            word
            for word, ids in (
                ("committed", current.commits),
                ("judged", current.ballots),
                ("in", current.selected),
                ("voted", current.votes),
            )
            if id in ids
        ]
        part += ["leads"] if id == current.leader else []
        return Text(
            f"        m{place:<3} pid {node.pid:<8} {doing:<10} reputation {state.members[id].reputation:>4}  "
            f"{' '.join(part)}",
            no_wrap=True,
            overflow="ellipsis",
        )

    def _elapsed(self) -> str:
        return clock(time.monotonic() - self._began)
