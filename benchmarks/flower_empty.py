"""What a round costs in Flower's own simulation when the client returns what it got.

For the `--vs-flower` column of round.py. Flower runs in a process of its own: it starts Ray, changes this
process's environment and logs a lot. Only the time of a round counts: plain FedAvg over all clients, no
evaluation, start-up excluded. One CPU a client, so that Ray uses every core. Needs Ray beside Flower: `pip install
'flwr[simulation]==1.41.0'`, in an environment that may have it.
Usage: python benchmarks/flower_empty.py MEMBERS ROUNDS
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import pairwise

import numpy as np

PARAMETERS = 5_000
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def require() -> None:
    """Ends the program when Flower or its simulation engine, Ray, is not installed."""
    if find_spec("flwr") is None or find_spec("ray") is None:
        sys.exit("--vs-flower needs Flower's simulation: run `pip install 'flwr[simulation]==1.41.0'`.")


def milliseconds(members: int, rounds: int) -> float:
    """Milliseconds a client-round: the median of rounds 2 to `rounds`, divided by `members`."""
    require()
    command = [sys.executable, __file__, str(members), str(rounds)]
    done = subprocess.run(command, env=os.environ | QUIET, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"Flower's simulation of {members} clients failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def simulate(members: int, rounds: int) -> list[float]:
    """Seconds of every round of one simulation in this process."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server = ClientApp(), ServerApp()
    ends: list[float] = []

    @client.train()
    def train(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 100})
        content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
        return Message(content, reply_to=message)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=members, min_available_nodes=members)
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord([np.zeros(PARAMETERS, np.float32)]),
            num_rounds=rounds,
            # Flower calls it before the first round and after every round.
            evaluate_fn=lambda version, arrays: ends.append(time.perf_counter()),
        )

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server, client, num_supernodes=members, backend_config=resources)
    return [end - start for start, end in pairwise(ends)]


if __name__ == "__main__":
    members, rounds = map(int, sys.argv[1:])
    print(1e3 * statistics.median(simulate(members, rounds)[1:]) / members)
