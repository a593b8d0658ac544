"""What a round costs as members become more: time and memory at 10, 100 and 1,000 simulated members.

The whole protocol with an empty trainer on the embedded chain, as in `round.py`; a committee of seven leads and
verifies. Each size runs in a process of its own, so that its peak of memory is its own. Prints seconds of
the second round, seconds until then (founding, joining and the first round), peak memory, gas, and how
each grows: the exponent b of members ** b between neighbouring sizes.
Usage: python benchmarks/scale.py [--members 10,100,1000] [--selection none|median-rank] [--limit 3600]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection

from hansa import errors
from hansa.records import Governance
from round import measure

ROUNDS = 2
COLUMNS = ("round s", "before s", "peak MB", "gas a round")


def side(pipe: Connection, members: int, rule: str) -> None:
    """One size, in a process of its own."""
    began = time.perf_counter()
    try:
        cost = measure("embedded", members, ROUNDS, Governance.COMMITTEE, True, rule=rule)
    except errors.HansaError as e:
        pipe.send(f"{type(e).__name__}: {e}")
        return
    spent = time.perf_counter() - began
    last = cost.round * members / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send((last, spent - last, peak, float(cost.gas * members)))


def run(members: int, rule: str, limit: float) -> tuple[float, ...] | str:
    """The figures of one size, or why there are none."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=side, args=(theirs, members, rule))
    process.start()
    theirs.close()
    try:
        answer: tuple[float, ...] | str = mine.recv() if mine.poll(limit) else f"not over after {limit:g} s"
    except EOFError:
        answer = "its process ended early"
    process.kill()
    process.join()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", default="10,100,1000")
    parser.add_argument("--selection", choices=["none", "median-rank"], default="none")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one size")
    given = parser.parse_args()
    print(f"committee of 7, selection {given.selection}, round {ROUNDS}")
    print(
        f"{'members':>8} "
        + " ".join(f"{name:>14}" for name in COLUMNS)
        + "   grows with members to the power of"
    )
    before: tuple[int, tuple[float, ...]] | None = None
    for members in (int(n) for n in given.members.split(",")):
        found = run(members, given.selection, given.limit)
        if isinstance(found, str):
            print(f"{members:>8} {found}", flush=True)
            continue
        powers = ""
        if before is not None:
            ratio = math.log(members / before[0])
            powers = ", ".join(
                f"{math.log(b / a) / ratio:.2f}" for a, b in zip(before[1], found, strict=True)
            )
        seconds, founding, peak, gas = found
        print(
            f"{members:>8} {seconds:>14.2f} {founding:>14.1f} {peak:>14.0f} {gas:>14,.0f}   {powers}",
            flush=True,
        )
        before = members, found


if __name__ == "__main__":
    main()
