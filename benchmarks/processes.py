"""A hundred `hansa node` processes on this machine: do they complete rounds, how fast, and what do they hold?

The app of `examples/cluster` with a few rows a member, over anvil and a folder. Processes are forked from one that
has imported torch, so that they share its pages: printed is what they hold together, each shared page counted
once (the sum of their proportional set sizes). Every member verifies; members judge sixteen others each.
Usage: python benchmarks/processes.py [--members 100] [--rounds 2] [--look 3]
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples.cluster import place as places
from examples.cluster import processes
from examples.cluster.watch import watch

from hansa.records import Phase


def held(pid: int | None) -> float:
    """Proportional set size of a process, in MB; 0 once it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Pss: +([0-9]+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--look", type=float, default=3.0, help="seconds between a node's looks at the chain")
    given = parser.parse_args()
    changes = {"rounds": str(given.rounds), "deadline": '"1h"', "partition": '{ kind = "iid" }'}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "place"
        began = time.monotonic()
        place = places.make(folder, given.members, changes)
        chain = processes.Anvil(folder / "anvil.log")
        nodes = []
        try:
            chain.start()
            federation = places.found(place, chain.url)
            print(f"{given.members} members have joined after {time.monotonic() - began:.0f} s", flush=True)
            nodes += (place.node(federation, i, chain.url, given.look) for i in range(given.members))
            seen, version, began = watch(place, federation, chain.url), 0, time.monotonic()
            while (view := seen.look()).state.phase is not Phase.STOPPED or version < view.state.version:
                if view.state.version > version:
                    version = view.state.version
                    total = sum(held(node.pid) for node in nodes)
                    print(
                        f"round {version} final after {time.monotonic() - began:.0f} s, {total:,.0f} MB",
                        flush=True,
                    )
                time.sleep(1)
            processes.finish(nodes, 300)
            ended = sum(node.exitcode == 0 for node in nodes)
            print(
                f"all {version} rounds final after {time.monotonic() - began:.0f} s, {ended} processes ended well"
            )
            return 0 if ended == given.members else 1
        finally:
            processes.stop(nodes)
            chain.kill()


if __name__ == "__main__":
    sys.exit(main())
