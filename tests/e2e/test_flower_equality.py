"""Flower's strategies over a whole federation, held against themselves over a grid that does nothing but pass on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file
from tests.flowers import write_app

from hansa import runfolder, simulation, summary
from hansa.config import load_federation
from hansa.project import read_project
from hansa.trainers.flower.apps import Apps, load_apps

pytestmark = pytest.mark.slow

MEMBERS = 5
MEANS = (
    "FedAvg()",
    "FedAvgM(server_momentum=0.9)",
    "FedAdam()",
    "FedYogi()",
    "FedAdagrad()",
    "FedProx(proximal_mu=0.1)",
)
OTHERS = (
    "FedMedian()",
    "FedTrimmedAvg(beta=0.2)",
    "Krum(num_malicious_nodes=1)",
    "MultiKrum(num_malicious_nodes=1, num_nodes_to_select=3)",
    "Bulyan(num_malicious_nodes=0)",
    "QFedAvg(client_learning_rate=0.1, q=0.2)",
)


class Plain(Grid):
    """Hands each message to the ClientApp, and its answer back."""

    def __init__(self, apps: Apps) -> None:
        config = dict(apps.project.config)
        self._client = apps.client
        self.contexts = {
            i + 1: Context(1, i + 1, {"partition-id": i, "num-partitions": MEMBERS}, RecordDict(), config)
            for i in range(MEMBERS)
        }

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *_: Any, **__: Any) -> Any: ...

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Any: ...

    def pull_messages(self, message_ids: Iterable[str]) -> Any: ...

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return [self._client(m, self.contexts[m.metadata.dst_node_id]) for m in messages]


def under_flower(app: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The final arrays of an app, by Flower's own code alone."""
    apps, results = load_apps(app), []
    original = Strategy.start
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    with monkeypatch.context() as patch:
        patch.setattr(Strategy, "start", lambda *args, **kwargs: results.append(original(*args, **kwargs)))
        config = dict(read_project(app).config)
        apps.server(Plain(apps), Context(1, 0, {}, RecordDict(), config))
    arrays = results[0].arrays
    assert isinstance(arrays, ArrayRecord)
    return {name: array.numpy() for name, array in arrays.items()}


def under_hansa(app: Path, folder: Path, *changes: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same by a federation of real nodes on the contract: the strategy's arrays, and the agreed ones."""
    made = simulation.start(load_federation(app, ["federation.scheme=plaintext", *changes]), folder)
    try:
        made.play()
        told = summary.finish(made, seconds=0)
    finally:
        made.close()
    assert (told.finished, told.rounds, told.failed_rounds) == (True, 3, 0)
    return load_file(folder / summary.ARRAYS), load_file(folder / summary.MODEL)


@pytest.mark.parametrize("strategy", [*MEANS, *OTHERS])
def test_a_strategy_gives_what_it_gives_under_flower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    app = write_app(tmp_path / "app", strategy=f"strategies.{strategy}")
    expected = under_flower(app, monkeypatch)
    found, _ = under_hansa(app, tmp_path / "run")
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("strategy", ["FedAdam()", "FedMedian()"])
def test_an_enclave_gives_what_flower_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    app = write_app(tmp_path / "app", strategy=f"strategies.{strategy}")
    expected = under_flower(app, monkeypatch)
    found, _ = under_hansa(app, tmp_path / "run", "federation.scheme=tee")
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6)


def test_secagg_gives_what_flower_gives_where_all_count_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = "metrics['num-examples'] = 10"
    app = write_app(tmp_path / "app", strategy="strategies.FedAvgM(server_momentum=0.5)", fault=alike)
    expected = under_flower(app, monkeypatch)
    found, _ = under_hansa(app, tmp_path / "run", "federation.scheme=secagg")
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)


def test_members_that_lie_are_left_out_of_what_a_strategy_is_told(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app")
    chosen = ("selection.rule=median-rank", "selection.keep=4", "training.min_members=4")
    _, alone = under_hansa(app, tmp_path / "alone", *chosen, "simulation.malicious={}")
    _, attacked = under_hansa(
        app, tmp_path / "attacked", *chosen, "simulation.malicious={m1 = 'sign-flip:5'}"
    )
    rows = runfolder.read_metrics(tmp_path / "attacked")
    assert [row["left_out"] for row in rows] == [["m1"]] * 3
    assert alone.keys() == attacked.keys()
    assert rows[-1]["loss"] < 0.2
