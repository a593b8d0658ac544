"""The trainer of a Flower app, with a federation that agrees at once: what each part is told, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.flowers import write_app

from hansa import errors
from hansa.app import Agreed, EvaluateTask, Site, TrainerOptions, TrainTask
from hansa.project import read_project
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.aggregation import Contribution
from hansa.protocol.model import from_arrays, to_arrays
from hansa.records import AggregationTerms, Model
from hansa.trainers import flower

MEMBERS, ROUNDS = 4, 3
EVERYBODY = frozenset(range(MEMBERS))
TERMS = AggregationTerms(weight_cap=1000)


class Federation:
    """Members that train in turn; what they return is averaged as the terms say, and agreed on at once."""

    def __init__(self, app: Path, memory: Path) -> None:
        sites = tuple(Site(app, f"m{i}", i, 0) for i in range(MEMBERS))
        self.trainer = flower.create(TrainerOptions(app, sites, params=read_project(app).config))
        self.scale = self.trainer.asked().scale
        self.trainer.fix(self.scale)
        self.agreed: list[Agreed] = []
        self.trainer.follow(lambda: self.agreed, memory)
        self.model, _ = from_arrays(self.trainer.initial(0), self.scale)

    def play(self, selected: frozenset[int] = EVERYBODY) -> None:
        """One round, in which these members' updates count."""
        number = len(self.agreed) + 1
        contributions = []
        for i in range(MEMBERS):
            task = TrainTask(f"m{i}/train", to_arrays(self.model), 100 * number + i, number)
            result = self.trainer.train(task)
            delta = ckpt.difference(self.model, result.values)
            contributions.append(Contribution(i, result.examples, delta))
            if self.trainer.wants(number, i):
                self.trainer.keep(number, i, ckpt.shifted(self.model, delta).values)
        chosen = [c for c in contributions if c.member in selected]
        model = ckpt.advance(TERMS, ckpt.initial(TERMS, self.model), chosen).model
        self.agreed.append(Agreed(number, selected, lambda: model))
        self.model = model

    def told(self) -> dict[str, float]:
        """What the ServerApp makes of the last round."""
        return self.trainer.evaluate(EvaluateTask("test", ({},)))[0]


def played(app: Path, memory: Path, rounds: int = ROUNDS) -> Federation:
    made = Federation(app, memory)
    for _ in range(rounds):
        made.play()
    return made


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_members_have_places_contexts_and_settings_of_their_own(tmp_path: Path) -> None:
    made = played(write_app(tmp_path / "app"), tmp_path / "memory")
    rows = [made.trainer.examples(f"m{i}/train") for i in range(MEMBERS)]
    assert rows == [20, 25, 30, 35]
    assert made.told()["seen"] == pytest.approx(2.0)
    assert made.told().keys() == {"train_loss", "seen", "eval_loss", "loss"}
    made.trainer.close()


def test_fedavg_has_the_arrays_that_were_agreed_on(tmp_path: Path) -> None:
    made = played(write_app(tmp_path / "app"), tmp_path / "memory")
    arrays = made.trainer.arrays()
    for name, values in to_arrays(made.model).items():
        np.testing.assert_allclose(arrays[name], values, atol=1e-7)
    made.trainer.close()


@pytest.mark.parametrize("strategy", ["strategies.FedAdam()", "strategies.Bulyan(num_malicious_nodes=0)"])
def test_another_process_comes_to_the_same_arrays(tmp_path: Path, strategy: str) -> None:
    app, memory = write_app(tmp_path / "app", strategy=strategy), tmp_path / "memory"
    made = played(app, memory)
    again = Federation(app, memory)
    again.agreed = made.agreed
    assert_same(again.trainer.arrays(), made.trainer.arrays())
    assert again.told() == made.told()
    for federation in (made, again):
        federation.trainer.close()


def test_a_task_that_is_done_again_gives_the_same(tmp_path: Path) -> None:
    app, memory = write_app(tmp_path / "app"), tmp_path / "memory"
    made = played(app, memory, rounds=2)
    task = TrainTask("m1/train", {}, 7, 3)
    first = made.trainer.train(task)
    again = Federation(app, memory)
    again.agreed = made.agreed
    second = again.trainer.train(task)
    assert_same(first.values, second.values)
    assert (first.examples, first.metrics) == (second.examples, second.metrics)
    assert first.metrics["seen"] == 2
    for federation in (made, again):
        federation.trainer.close()


def test_what_does_not_count_is_not_told(tmp_path: Path) -> None:
    counting = """
    class Counting(strategies.Bulyan):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            print("COUNTED", sorted((m.metadata.src_node_id, m.has_error()) for m in replies), flush=True)
            return FedAvg.aggregate_train(self, server_round, replies)
    """
    made = Federation(
        write_app(tmp_path / "app", before=counting, strategy="Counting()"), tmp_path / "memory"
    )
    made.play(frozenset({0, 2}))
    assert made.told()["train_loss"] > 0
    arrays = made.trainer.arrays()
    for name, values in to_arrays(made.model).items():
        np.testing.assert_allclose(arrays[name], values, atol=1e-6)
    made.trainer.close()


def test_members_that_were_not_drawn_have_nothing_to_do(tmp_path: Path) -> None:
    made = Federation(write_app(tmp_path / "app", strategy="FedAvg(fraction_train=0.5)"), tmp_path / "memory")
    busy = 0
    for i in range(MEMBERS):
        try:
            made.trainer.train(TrainTask(f"m{i}/train", {}, i, 1))
            busy += 1
        except errors.NotAsked:
            continue
    assert busy == 2
    made.trainer.close()


FAULTS: Sequence[tuple[str, str]] = [
    ("raise ValueError('boom')", "boom"),
    ("weights[0] = weights[0] * np.nan", "NaN or infinity"),
    ("weights[0] = weights[0][:3]", r"came back with shape \(3,\), and was sent with \(6,\)"),
    ("weights.append(weights[0])", "not those that were sent: 2"),
    ("weights[0] = weights[0] + 9.0", "beyond 8"),
    ("del metrics['num-examples']", "has no 'num-examples'"),
    ("metrics['num-examples'] = 0", "whole number of examples"),
    ("metrics['num-examples'] = 0.5", "whole number of examples"),
    ("return Message(RecordDict({'arrays': ArrayRecord(weights)}), reply_to=msg)", "0 MetricRecords"),
    ("return Message(RecordDict({'metrics': MetricRecord(metrics)}), reply_to=msg)", "0 ArrayRecords"),
    ("return None", "no answer with content"),
]


@pytest.mark.parametrize(("fault", "said"), FAULTS, ids=[fault for fault, _ in FAULTS])
def test_a_reply_that_cannot_be_taken(tmp_path: Path, fault: str, said: str) -> None:
    made = Federation(write_app(tmp_path / "app", fault=fault), tmp_path / "memory")
    with pytest.raises(errors.AppFailed, match=said) as e:
        made.trainer.train(TrainTask("m0/train", {}, 1, 1))
    assert e.value.hint
    made.trainer.close()


def test_integer_arrays_are_averaged_too(tmp_path: Path) -> None:
    fault = "weights = [start[0], start[1] + context.node_config['partition-id']]"
    counting = write_app(tmp_path / "app", fault=fault)
    server = counting / "tinyapp" / "server_app.py"
    server.write_text(server.read_text().replace("np.array([0.5])", "np.array([300])"))
    made = played(counting, tmp_path / "memory", rounds=1)
    expected = 300 + np.average(range(MEMBERS), weights=[20, 25, 30, 35])
    np.testing.assert_allclose(made.trainer.arrays()["1"], [expected], atol=2**-8)
    made.trainer.close()


def test_a_server_that_fails_or_has_nobody_train(tmp_path: Path) -> None:
    with pytest.raises(errors.AppFailed, match=r"its ServerApp(.|\n)*ZeroDivisionError"):
        Federation(
            write_app(tmp_path / "one", strategy="FedAvg(min_train_nodes=1 // 0)"), tmp_path / "memory"
        )
    with pytest.raises(errors.Misconfigured, match="without asking anybody to train"):
        Federation(write_app(tmp_path / "two", strategy="FedAvg(fraction_train=0.0)"), tmp_path / "memory")


LOOP = """
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
import numpy as np

app = ServerApp()


@app.main()
def main(grid, context):
    arrays = ArrayRecord([np.linspace(-0.2, 0.3, 6), np.array([0.5])])
    for number in (1, 2):
        config = ConfigRecord({"server-round": number})
        content = RecordDict({"arrays": arrays, "config": config})
        ids = grid.push_messages(
            grid.create_message(content, "train", node, str(number)) for node in grid.get_node_ids()
        )
        replies = [m.content["arrays"].to_numpy_ndarrays() for m in grid.pull_messages(ids)]
        arrays = ArrayRecord([np.mean([r[k] for r in replies], axis=0) for k in range(2)])
"""


def test_a_loop_of_the_apps_own_is_told_single_updates(tmp_path: Path) -> None:
    made = Federation(write_app(tmp_path / "app", server=LOOP), tmp_path / "memory")
    asked = made.trainer.asked()
    assert (asked.strategy, asked.rounds, asked.single) == ("the app's own loop", None, True)
    made.play()
    made.play()
    for name, values in to_arrays(made.model).items():
        np.testing.assert_allclose(made.trainer.arrays()[name], values, atol=1e-6)
    with pytest.raises(errors.AppFailed, match="ended after 2 rounds"):
        made.trainer.train(TrainTask("m0/train", {}, 1, 3))
    made.trainer.close()


def test_judging_a_model_leaves_no_trace(tmp_path: Path) -> None:
    made = played(write_app(tmp_path / "app"), tmp_path / "memory", rounds=1)
    first = to_arrays(made.model)
    worse = {name: values * 0 for name, values in first.items()}
    good, bad = made.trainer.evaluate(EvaluateTask("m1/validation", (first, worse), round=2))
    assert good["loss"] == good["eval_loss"] < bad["loss"]
    made.trainer.close()


def test_an_app_prints_to_stderr_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = write_app(tmp_path / "app", before="print('server')", fault="print('client')")
    played(app, tmp_path / "memory", rounds=1).trainer.close()
    found = capsys.readouterr()
    assert found.out == ""
    assert "client" in found.err


def test_types_of_arrays_are_those_that_clients_return(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", fault="weights = [a.astype(np.float32) for a in weights]")
    made = played(app, tmp_path / "memory", rounds=1)
    assert {array.dtype for array in made.trainer.arrays().values()} == {np.dtype(np.float32)}
    made.trainer.close()


def test_the_model_is_a_model(tmp_path: Path) -> None:
    made = Federation(write_app(tmp_path / "app"), tmp_path / "memory")
    assert isinstance(made.model, Model)
    assert (made.scale, made.model.layout.names, made.model.layout.shapes) == (28, ("0", "1"), ((6,), (1,)))
    made.trainer.close()
