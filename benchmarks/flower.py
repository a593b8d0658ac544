"""One Flower app under Flower's own simulation and under Hansa, in one run: what it costs to start, and a round.

The app (benchmarks/flower_digits) trains little, so that the rest shows. Flower runs in an environment of its own,
with Ray, which Hansa's must not have: `--flower PYTHON` names its interpreter, else one is made and thrown away. Its
telemetry is off, and it gets one CPU a client, so that Ray uses every core. Hansa runs as `hansa run` does: a contract,
signatures, sealed updates, every node recomputing the aggregate; with `ballots` members also judge each other.

Start-up is the time from the command to the end of the first round, less a round. Memory is the greatest sum of
proportional set sizes of all processes. CPU is that of all processes, which on a busy machine says more than the clock;
`a client` is that of a round less the training, which is measured in a bare loop, for each client.

Usage: python benchmarks/flower.py [--flower PYTHON] [--clients 10 100] [--rounds 12] [--repeat 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

APP = Path(__file__).with_name("flower_digits")
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
NEEDED = ("flwr[simulation]==1.41.0", "numpy", "scikit-learn")
BALLOTS = ("--set", "selection.rule=median-rank", "--set", "training.min_members=4")
TICKS = os.sysconf("SC_CLK_TCK")

SIMULATE = """
import importlib, sys
app, members, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, app)
from flwr.simulation import run_simulation
client = importlib.import_module("digits.client_app").app
server = importlib.import_module("digits.server_app").app
main = server._main
def configured(grid, context):
    context.run_config["num-server-rounds"] = rounds
    main(grid, context)
server._main = configured
resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
run_simulation(server, client, num_supernodes=members, backend_config=resources)
"""
"""`run_simulation` gives an app no run config, so the one key that the ServerApp reads is put in."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds to start, seconds a round, CPU seconds of both, bytes at most, accuracy at the end."""

    start: float
    round: float
    cpu_start: float
    cpu_round: float
    memory: int
    accuracy: float


class Watch(threading.Thread):
    """Adds up memory and CPU time of a process and its descendants, ten times a second, until it is `done`."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.memory = 0
        self.done = threading.Event()
        self._ticks: dict[int, int] = {}
        self._seen: list[tuple[float, float]] = [(0.0, 0.0)]

    def cpu(self, when: float) -> float:
        """CPU seconds up to a time of every process that was seen."""
        return max(cpu for seen, cpu in self._seen if seen <= when)

    def run(self) -> None:
        """Look until told to stop."""
        while not self.done.wait(0.1):
            self.memory = max(self.memory, sum(self._look(pid) for pid in _family(self.root)))
            self._seen.append((time.time(), sum(self._ticks.values()) / TICKS))

    def _look(self, pid: int) -> int:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            self._ticks[pid] = int(fields[11]) + int(fields[12])
            found = Path(f"/proc/{pid}/smaps_rollup").read_text()
            return 1024 * int(found.split("\nPss:")[1].split()[0])
        except (OSError, IndexError, ValueError):
            return 0


def _family(root: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def measure(command: list[str], environment: Mapping[str, str], rounds: int) -> Cost:
    """Run a command that has the app write its rounds down."""
    with tempfile.TemporaryDirectory() as folder:
        stamps = Path(folder) / "stamps"
        started = time.time()
        process = subprocess.Popen(
            command,
            env={**os.environ, **QUIET, **environment, "FLOWER_BENCHMARK": str(stamps)},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        watch = Watch(process.pid)
        watch.start()
        _, errors = process.communicate(timeout=1800)
        watch.done.set()
        watch.join()
        lines = [json.loads(line) for line in stamps.read_text().splitlines()] if stamps.exists() else []
        if len(lines) != rounds + 1:
            sys.exit(
                f"{command[0]} ended with {process.returncode} after {len(lines) - 1} rounds:\n{errors[-3000:]}"
            )
    ends = [when for _, when, _ in lines]
    seconds = [b - a for a, b in pairwise(ends[1:])]
    round_ = statistics.median(seconds)
    cpu_round = (watch.cpu(ends[-1]) - watch.cpu(ends[1])) / (rounds - 1)
    cpu_start = watch.cpu(ends[1]) - cpu_round
    return Cost(ends[1] - started - round_, round_, cpu_start, cpu_round, watch.memory, lines[-1][2])


def under_flower(python: str, members: int, rounds: int) -> Cost:
    """Flower's simulation engine on Ray."""
    words = [python, "-c", SIMULATE, str(APP), str(members), str(rounds)]
    return measure(words, {"PYTHONPATH": str(APP)}, rounds)


def under_hansa(members: int, rounds: int, *more: str) -> Cost:
    """`hansa run` with the scheme plaintext."""
    words = [
        "run",
        str(APP),
        "--scheme",
        "plaintext",
        "--members",
        str(members),
        "--rounds",
        str(rounds),
        *more,
    ]
    code = "from hansa.cli.main import main; main()"
    return measure([sys.executable, "-c", code, *words], {}, rounds)


def training(members: int) -> float:
    """CPU seconds that the members' training takes in a bare loop; the least of five rounds."""
    sys.path.insert(0, str(APP))
    from digits import task  # type: ignore[import-not-found]

    task.data()
    found = []
    for _ in range(5):
        begun = time.process_time()
        for i in range(members):
            task.fit(task.first(), *task.own(i, members))
        found.append(time.process_time() - begun)
    return min(found)


def least(costs: list[Cost]) -> Cost:
    """The least of each figure: whatever else the machine did only adds."""
    return Cost(
        min(c.start for c in costs),
        min(c.round for c in costs),
        min(c.cpu_start for c in costs),
        min(c.cpu_round for c in costs),
        min(c.memory for c in costs),
        costs[0].accuracy,
    )


def show(members: int, python: str, rounds: int, repeat: int) -> None:
    """A row for each way to run the app."""
    bare = training(members)
    print(f"\n{members} clients, {rounds} rounds; training alone takes {1e3 * bare:.0f} ms of CPU a round")
    head = (
        f"{'':<20} {'start, s':>9} {'its CPU, s':>10} {'round, ms':>10} {'its CPU, ms':>12} {'a client':>9}"
    )
    print(f"{head} {'memory, MB':>11} {'accuracy':>9}")
    ways = {
        "Flower's simulation": lambda: under_flower(python, members, rounds),
        "Hansa": lambda: under_hansa(members, rounds),
        "Hansa, with ballots": lambda: under_hansa(members, rounds, *BALLOTS),
    }
    for name, run in ways.items():
        cost = least([run() for _ in range(repeat)])
        other = 1e3 * (cost.cpu_round - bare) / members
        line = f"{name:<20} {cost.start:>9.1f} {cost.cpu_start:>10.1f} {1e3 * cost.round:>10.0f}"
        line += f" {1e3 * cost.cpu_round:>12.0f} {other:>9.1f} {cost.memory / 2**20:>11.0f}"
        print(f"{line} {100 * cost.accuracy:>7.1f} %", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--flower", metavar="PYTHON", help="interpreter of an environment with flwr[simulation]"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = given.flower
        if python is None:
            venv.create(folder, with_pip=True)
            python = f"{folder}/bin/python"
            subprocess.run([python, "-m", "pip", "install", "--quiet", *NEEDED], check=True)
        for members in given.clients:
            show(members, python, given.rounds, given.repeat)


if __name__ == "__main__":
    main()
