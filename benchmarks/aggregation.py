"""Streaming weighted mean beside a plain numpy sum of integers: `python benchmarks/aggregation.py`.

Both run in this process, in turns, on the same updates. The plain sum adds int32 vectors into an int64 one
and does not weigh, divide or check anything. Extra memory is what the mean holds at its peak beside the
updates.
"""

from __future__ import annotations

import argparse
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hansa.protocol.aggregation import Contribution, mean_delta
from hansa.records import AggregationTerms

TERMS = AggregationTerms(rule="weighted-mean")
SCALE = 16


def contributions(
    pool: list[NDArray[np.int32]], count: int, *, stale: bool = False
) -> Iterator[Contribution]:
    """`count` updates of members with different weights, drawn from a small pool of vectors."""
    for i in range(count):
        yield Contribution(i, 100 + 37 * i, pool[i % len(pool)], staleness=i % 3 if stale else 0)


def plain_sum(pool: list[NDArray[np.int32]], count: int) -> NDArray[np.int64]:
    total = np.zeros(pool[0].size, np.int64)
    for i in range(count):
        np.add(total, pool[i % len(pool)], out=total)
    return total


def weighted_mean(pool: list[NDArray[np.int32]], count: int, *, stale: bool = False) -> NDArray[np.int32]:
    return mean_delta(TERMS, contributions(pool, count, stale=stale), pool[0].size, SCALE)


def best_times(runs: int, *calls: Callable[[], object]) -> list[float]:
    """The shortest time of each call over `runs` turns."""
    best = [float("inf")] * len(calls)
    for _ in range(runs):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def peak_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    pool = [rng.integers(-(2**20), 2**20, options.parameters, dtype=np.int32) for _ in range(10)]

    table = Table(title=f"Mean of updates of {options.parameters:,} parameters, best of {options.runs}")
    for heading in ("updates", "plain sum Mparam/s", "mean Mparam/s", "of plain", "stale mean", "extra MB"):
        table.add_column(heading, justify="right")
    for count in (2, 10, 40):
        plain, mean, stale = best_times(
            options.runs,
            lambda n=count: plain_sum(pool, n),
            lambda n=count: weighted_mean(pool, n),
            lambda n=count: weighted_mean(pool, n, stale=True),
        )
        work = count * options.parameters / 1e6
        extra = peak_bytes(lambda n=count: weighted_mean(pool, n))
        table.add_row(
            str(count),
            f"{work / plain:,.0f}",
            f"{work / mean:,.0f}",
            f"{plain / mean:.0%}",
            f"{work / stale:,.0f}",
            f"{extra / 1e6:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(f"numpy {np.__version__}, {platform.machine()}, one thread")


if __name__ == "__main__":
    main()
