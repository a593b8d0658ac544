"""What TensorBoard and MLflow are told, and that a resumed run tells them nothing twice."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from hansa import errors, wiring
from hansa.cli.tracking import tracking
from hansa.ports import Tracked, Tracker
from hansa.records import AggregationTerms, Governance, SelectionTerms, Training
from hansa.trackers.scalars import rounds


def lines(*numbers: int) -> list[dict[str, Any]]:
    return [
        line
        for n in numbers
        for line in (
            {"kind": "member", "round": n, "member": "m0", "rows": 90 + n, "selected": n > 1, "slashed": []},
            {"kind": "round", "round": n, "version": n, "outcome": "final", "leader": "m0", "loss": 1 / n,
             "accuracy": None, "selected": ["m0"], "left_out": [], "gas": 1000 * n},
        )
    ]  # fmt: skip


def test_figures_are_numbers_and_lengths_of_lists() -> None:
    assert list(rounds(lines(1, 2))) == [
        (1, {"m0/rows": 91, "m0/selected": 0, "loss": 1.0, "selected": 1, "left_out": 0, "gas": 1000}),
        (2, {"m0/rows": 92, "m0/selected": 1, "loss": 0.5, "selected": 1, "left_out": 0, "gas": 2000}),
    ]


def run(folder: Path) -> Tracked:
    return Tracked("digits", folder, {"scheme": "plaintext", "params.lr": "0.3"})


def test_tensorboard_begins_anew_after_a_kill(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = wiring.tracker("tensorboard")(run(tmp_path))
    killed.tell(lines(1))
    resumed = wiring.tracker("tensorboard")(run(tmp_path))
    assert resumed.told == 0
    resumed.tell(lines(1, 2))
    assert resumed.told == 2
    resumed.close(finished=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.tensor_proto.float_val[0]) for e in events.Tensors("loss")] == [(1, 1.0), (2, 0.5)]
    assert [e.step for e in events.Tensors("m0/rows")] == [1, 2]


def test_tensorboard_writes_where_it_is_told(tmp_path: Path) -> None:
    wiring.tracker(f"tensorboard:{tmp_path / 'elsewhere'}")(run(tmp_path)).close(finished=True)
    assert list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.Misconfigured, match="cannot write into"):
        wiring.tracker(f"tensorboard:{tmp_path / 'file'}")(run(tmp_path))


@pytest.mark.slow
def test_mlflow_goes_on_where_it_was(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    killed = wiring.tracker(f"mlflow:{uri}")(run(tmp_path))
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert killed.told == 0
    killed.tell(lines(1))
    resumed = wiring.tracker(f"mlflow:{uri}")(run(tmp_path))
    assert resumed.told == 1
    resumed.tell(lines(2))
    resumed.close(finished=True)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    name = json.loads((tmp_path / "mlflow.json").read_text())["run"]
    found = client.get_run(name)
    assert (found.info.status, found.info.run_name) == ("FINISHED", tmp_path.name)
    assert client.get_experiment(found.info.experiment_id).name == "digits"
    assert found.data.params == {"scheme": "plaintext", "params.lr": "0.3"}
    assert [(m.step, m.value) for m in client.get_metric_history(name, "loss")] == [(1, 1.0), (2, 0.5)]
    other: Tracker = wiring.tracker(f"mlflow:sqlite:///{tmp_path / 'other.db'}")(run(tmp_path))
    assert other.told == 0


def test_an_mlflow_that_is_away_is_said(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(errors.Unavailable, match=r"MLflow at 127\.0\.0\.1"):
        wiring.tracker(f"mlflow:http://127.0.0.1:{port}")(run(tmp_path))
    with pytest.raises(errors.Misconfigured, match="must not hold credentials") as caught:
        wiring.tracker("mlflow:https://me:secret@mlflow.example")(run(tmp_path))
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "mlflow.json").exists()


class Flaky:
    """A tracker that is away while it is told of round 1."""

    told = 0
    ended = ""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def tell(self, lines: list[dict[str, Any]]) -> None:
        if [line["round"] for line in lines] == [1, 1]:
            raise errors.Unavailable("nobody answers")
        self.told = lines[-1]["round"] if lines else self.told
        self.heard += [line["round"] for line in lines if line["kind"] == "round"]

    def close(self, *, finished: bool) -> None:
        self.ended = "finished" if finished else "stopped"


def simulation(folder: Path) -> Any:
    terms = SimpleNamespace(
        name="digits", scheme="plaintext", governance=Governance.PEERS, initial=b"", training=Training(),
        selection=SelectionTerms(), aggregation=AggregationTerms(),
    )  # fmt: skip
    file = SimpleNamespace(simulation=SimpleNamespace(members=2, seed=0))
    return SimpleNamespace(
        terms=terms, folder=folder, founding=SimpleNamespace(file=file), rounds=SimpleNamespace(lines=[])
    )


def test_a_tracker_that_is_away_stops_no_run_and_is_told_later(tmp_path: Path, capsys: Any) -> None:
    made, flaky = simulation(tmp_path), Flaky()
    with tracking(made, [lambda _run: flaky], Console()) as tell:
        for n in (1, 2):
            made.rounds.lines += lines(n)
            tell(lines(n))
    assert (flaky.heard, flaky.ended) == ([1, 2], "finished")
    assert capsys.readouterr().out.count("nobody answers") == 1
    with pytest.raises(KeyboardInterrupt), tracking(made, [lambda _run: flaky], Console()):
        raise KeyboardInterrupt
    assert flaky.ended == "stopped"


def test_a_tracker_that_is_none_is_named(hansa: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digits = Path(__file__).parents[2] / "examples" / "digits"
    code, _, err = hansa("run", digits, "--track", "wandb", "--out", "run")
    assert code == 2
    assert "there is no adapter 'wandb'" in err
    assert "tensorboard, mlflow" in err
    assert not (tmp_path / "run").exists()
