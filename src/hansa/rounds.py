"""What each round of a run came to: lines of `metrics.jsonl`, appended as it ends.

A round has a line for each member, and then its own, which counts the others as written: a run that was killed goes
on where its lines end, without one twice and without one lost. Bytes (put into the store) and seconds are this
process's own: those of a round in which a run was killed count from there on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa import runfolder
from hansa.ledger.rpc import Rpc, number
from hansa.node.meter import Meter
from hansa.protocol import events as ev
from hansa.protocol.history import RoundStory
from hansa.protocol.timing import unpack_meta
from hansa.records import Outcome, Phase

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A round that is over; its transactions lie in the blocks above `first` and up to `last`."""

    story: RoundStory
    first: int
    last: int


class Rounds:
    """The lines of a run folder, and what is counted on the way to the next ones. `final`: those of final rounds."""

    def __init__(self, folder: Path, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines: list[Line] = runfolder.whole_metrics(folder)
        self.final: list[Line] = [line for line in self.lines if runfolder.is_final(line)]
        self.ended: list[Ended] = []
        self._folder = folder
        self._meter = meter
        self._clock = clock
        self._written = {line["round"] for line in self.lines if line["kind"] == "round"}
        self._since = 0
        self._claims: dict[tuple[int, int], tuple[int, int]] = {}
        self._mark = (clock(), meter.up)

    def observe(self, event: ev.Event, story: RoundStory | None, block: int) -> None:
        """Note an event of this block; `story` is that of its round."""
        match event:
            case ev.Entered(round, phase) if not self._since and (round, phase) == (1, Phase.COMMIT):
                self._since = block
            case ev.Committed():
                _, millis, rows = unpack_meta(event.meta)
                self._claims[event.round, event.id] = millis, rows
            case ev.Ended() if story is not None:
                self.ended.append(Ended(story, self._since, block))
                self._since = block

    def due(self) -> list[Ended]:
        """Rounds that ended since this was asked last, and have no lines yet."""
        found = [each for each in self.ended if each.story.round not in self._written]
        self.ended.clear()
        return found

    def write(
        self,
        each: Ended,
        rpc: Rpc,
        moment: int,
        names: Sequence[str],
        members: int,
        metrics: Mapping[str, float],
    ) -> list[Line]:
        """Append the lines of a round; `metrics` are those of its model, `moment` the run's time in seconds.

        `names` of all parties by id, the first `members` of which train.

        Raises `Unavailable` when they cannot be written.
        """
        story, (then, up) = each.story, self._mark
        now = self._clock()
        self._mark = now, self._meter.up
        parts = [self._member(story, id, names[id]) for id in range(members)]
        own: Line = {
            **{name: value if math.isfinite(value) else None for name, value in metrics.items()},
            "kind": "round",
            "round": story.round,
            "outcome": Outcome(story.outcome or 0).name.lower(),
            "version": story.version,
            "time": moment,
            "leader": names[story.leaders[-1]] if story.leaders else None,
            "selected": [names[i] for i in sorted(story.selected)],
            "left_out": [names[i] for i in sorted(story.left_out)],
            "gas": gas_of(rpc, each.first, each.last),
            "bytes": self._meter.up - up,
            "seconds": round(now - then, 3),
        }
        lines = [*parts, own]
        runfolder.append_metrics(self._folder, lines)
        self.lines += lines
        self.final += [own] if runfolder.is_final(own) else []
        self._written.add(story.round)
        return lines

    def _member(self, story: RoundStory, id: int, name: str) -> Line:
        millis, rows = self._claims.get((story.round, id), (None, None))
        return {
            "kind": "member",
            "round": story.round,
            "member": name,
            "rows": rows,
            "training_ms": millis,
            "committed": id in story.committed,
            "selected": id in story.selected,
            "led": id in story.leaders[-1:],
            "slashed": [fault.name.lower() for who, fault in story.slashed if who == id],
        }


def gas_of(rpc: Rpc, above: int, last: int) -> int:
    """Gas of the transactions in these blocks. Raises `Unavailable`, `Untrusted`."""
    spent = 0
    for block in range(above + 1, last + 1):
        sent = rpc.request("eth_getBlockByNumber", (hex(block), True))["transactions"]
        spent += sum(number(rpc.request("eth_getTransactionReceipt", (t["hash"],))["gasUsed"]) for t in sent)
    return spent
