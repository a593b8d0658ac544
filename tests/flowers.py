"""Small Flower apps written into a folder: numpy only, on float64, with what may be wrong."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

PROJECT = """
[project]
name = "tiny-app"
version = "1.0.0"

[tool.flwr.app.components]
serverapp = "tinyapp.server_app:app"
clientapp = "tinyapp.client_app:app"

[tool.flwr.app.config]
num-server-rounds = 3
lr = 0.5

[tool.flwr.federations]
default = "local"

[tool.flwr.federations.local]
options.num-supernodes = 5
"""

CLIENT = """
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def rows(context):
    place = context.node_config
    made = np.random.default_rng(place["partition-id"])
    inputs = made.normal(size=(20 + 5 * place["partition-id"], 6))
    return inputs, np.tanh(inputs @ np.arange(6.0)) + 0.1 * made.normal(size=len(inputs))


def loss_of(weights, inputs, targets):
    return float(np.mean((np.tanh(inputs @ weights[0]) * weights[1] - targets) ** 2))


@app.train()
def train(msg: Message, context: Context) -> Message:
    weights = msg.content["arrays"].to_numpy_ndarrays()
    inputs, targets = rows(context)
    config = msg.content["config"]
    seen = context.state["seen"]["rounds"] if "seen" in context.state else 0
    context.state["seen"] = ConfigRecord({"rounds": seen + 1})
    start = [a.copy() for a in weights]
    for _ in range(5):
        hidden = np.tanh(inputs @ weights[0])
        error = hidden * weights[1] - targets
        pull = config.get("proximal-mu", 0.0)
        slope = inputs.T @ (error * weights[1] * (1 - hidden**2)) / len(inputs)
        weights[0] = weights[0] - context.run_config["lr"] * (slope + pull * (weights[0] - start[0]))
        weights[1] = weights[1] - context.run_config["lr"] * np.mean(error * hidden)
    metrics = {"train_loss": loss_of(weights, inputs, targets), "seen": seen, "num-examples": len(inputs)}
    FAULT
    content = RecordDict({"arrays": ArrayRecord(weights), "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    loss = loss_of(msg.content["arrays"].to_numpy_ndarrays(), *rows(context))
    return Message(RecordDict({"metrics": MetricRecord({"eval_loss": loss, "num-examples": 7})}), reply_to=msg)
"""

SERVER = """
import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import FedAvg

app = ServerApp()
BEFORE


@app.main()
def main(grid: Grid, context: Context) -> None:
    first = [np.linspace(-0.2, 0.3, 6), np.array([0.5])]
    strategy = STRATEGY
    strategy.start(grid=grid, initial_arrays=ArrayRecord(first), num_rounds=context.run_config["num-server-rounds"])
"""

FEDAVG = "FedAvg()"


def write_app(
    folder: Path,
    *,
    strategy: str = FEDAVG,
    before: str = "",
    fault: str = "pass",
    project: str = PROJECT,
    client: str = CLIENT,
    server: str = SERVER,
) -> Path:
    """An app with this strategy; `before` is code above it, `fault` spoils a reply before it is sent."""
    package = folder / "tinyapp"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(project)
    (package / "__init__.py").write_text("")
    (package / "client_app.py").write_text(client.replace("FAULT", fault))
    server = server.replace("STRATEGY", strategy).replace("BEFORE", dedent(before))
    (package / "server_app.py").write_text(server)
    return folder
