"""Synchronous against asynchronous training where one member in five is ten times slower than the others.

Two runs of the digits example in one process, the whole protocol on the embedded chain, ten members of which two are
slow. Time is the simulation's: training takes `--row-time` milliseconds a row and epoch, ten times that for slow
members, who keep training on the model that they began with while rounds go on without them; whatever else
members do takes as long as in every simulation. So the table is a function of the settings, not of this machine.
A round without the slow members brings less, so asynchronous training has twice as many of them.
Prints rounds, time and accuracy on rows that no member has; exits 1 unless asynchronous training ends sooner
and at most half a point of accuracy below.
Usage: python benchmarks/asynchronous.py [--rounds 20] [--row-time 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hansa import simulation
from hansa.config import load_federation
from hansa.protocol.events import Committed, Event

APP = Path(__file__).parents[1] / "examples" / "digits"
MEMBERS, SLOW, BUFFER, STALENESS = 10, ("m1", "m6"), 8, 12
ROUNDS = {"synchronous": 1, "asynchronous": 2}
"""Final rounds, as a multiple of `--rounds`."""
TARGET = 0.9


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. `seconds`: until the last round was final; `reached`: until `TARGET` first was, None if never."""

    rounds: int
    seconds: int
    reached: int | None
    accuracy: float
    loss: float
    late: int


def settings(mode: str, rounds: int, row_time: int, seed: int) -> list[str]:
    """What differs from the example's own settings."""
    common = [
        f"training.rounds={rounds}", "training.deadline=3600", f"training.mode={mode}", "selection.rule=none",
        f"simulation.members={MEMBERS}", f"simulation.seed={seed}", f"simulation.row_time={row_time}",
        "simulation.partition={ kind = 'dirichlet', alpha = 0.5, min_rows = 75 }",
        "simulation.malicious={}", f"simulation.slow={{ {', '.join(f'{name} = 10' for name in SLOW)} }}",
        "governance.committee=5", "selection.keep=0",
    ]  # fmt: skip
    late = [f"training.buffer={BUFFER}", f"training.max_staleness={STALENESS}"]
    return common + (late if mode == "asynchronous" else [])


def play(mode: str, rounds: int, row_time: int, seed: int) -> Outcome:
    """Run one of the two to its end."""
    late: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        run = simulation.start(
            load_federation(APP, settings(mode, rounds, row_time, seed)), Path(name) / "run"
        )

        def watch(event: Event, played: simulation.Simulation) -> None:
            if isinstance(event, Committed) and event.base < len(played.metrics):
                late.append(event.id)

        try:
            run.play(watch)
        finally:
            run.close()
        rows = run.metrics
    reached = next((row["time"] for row in rows if row["accuracy"] >= TARGET), None)
    last = rows[-1]
    return Outcome(len(rows), last["time"], reached, last["accuracy"], last["loss"], len(late))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--row-time", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{MEMBERS} members, {' and '.join(SLOW)} ten times slower, {given.row_time} ms a row and epoch")
    columns = f"{'mode':>13} {'rounds':>7} {'time':>8} {f'to {TARGET:.0%}':>8}"
    print(f"{columns} {'accuracy':>9} {'loss':>7} {'late updates':>13}")
    sides = {}
    for mode in ROUNDS:
        sides[mode] = o = play(mode, given.rounds * ROUNDS[mode], given.row_time, given.seed)
        reached = "-" if o.reached is None else f"{o.reached} s"
        print(
            f"{mode:>13} {o.rounds:>7} {o.seconds:>6} s {reached:>8} {o.accuracy:>8.1%} {o.loss:>7.4f} {o.late:>13}",
            flush=True,
        )
    one, other = sides["synchronous"], sides["asynchronous"]
    print(f"asynchronous ends after {other.seconds / one.seconds:.0%} of the time")
    return 0 if other.seconds < one.seconds and other.accuracy >= one.accuracy - 0.005 else 1


if __name__ == "__main__":
    sys.exit(main())
