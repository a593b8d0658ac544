"""What the server runs. It writes down when each round ended, and how well the model does."""

import json
import os
import time

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits.task import accuracy, data, first

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Federated averaging over all nodes; evaluation by the server alone."""
    count = len(list(grid.get_node_ids()))

    def told(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        found = accuracy(arrays.to_numpy_ndarrays(), *data()[1])
        with open(os.environ["FLOWER_BENCHMARK"], "a") as file:
            file.write(json.dumps([server_round, time.time(), found]) + "\n")
        return MetricRecord({"accuracy": found})

    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=count, min_available_nodes=count)
    rounds = context.run_config["num-server-rounds"]
    strategy.start(grid=grid, initial_arrays=ArrayRecord(first()), num_rounds=rounds, evaluate_fn=told)
