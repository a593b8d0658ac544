"""The PyTorch trainer: deterministic, the same for any number of workers, plain about a user's mistakes."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hansa import errors
from hansa.app import EvaluateTask, Site, TrainerOptions, TrainTask, Values, app_digest, member_name
from hansa.partition import Partition
from hansa.trainers.engine import AppTrainer
from hansa.trainers.torch import create

APP = """
import os
import random
import numpy as np
import torch
from torch import nn
import hansa

def make_model():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))

app = hansa.App(model=make_model)

@app.data
def data(site):
    generator = np.random.default_rng(7)
    labels = np.arange(240) % 3
    return (generator.normal(size=(240, 4)) + labels[:, None]).astype(np.float32), labels

@app.train
def train(model, dataset, ctx):
    optimizer = torch.optim.SGD(model.parameters(), lr=ctx.params.lr)
    for features, labels in ctx.loader(dataset, batch_size=16):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features), labels).backward()
        optimizer.step()
    return {"python": random.random(), "numpy": np.random.random(), "threads": torch.get_num_threads()}

@app.evaluate
def evaluate(model, dataset, ctx):
    features, labels = dataset[:]
    return {"loss": nn.functional.cross_entropy(model(features), labels), "rows": len(dataset)}
"""
PARAMS = (("lr", 0.1),)


def options(folder: Path, source: str = APP, *, workers: int = 0, **changed: object) -> TrainerOptions:
    (folder / "app.py").write_text(source)
    sites = tuple(Site(folder, member_name(i), i, 0) for i in range(4))
    written: dict[str, object] = {"partition": Partition("dirichlet", 1.0, 10), "workers": workers}
    return TrainerOptions(folder, sites, **(written | changed))


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[AppTrainer]:
    with create(options(tmp_path)) as made:
        yield made


def task(base: Values, key: str = "m1/train", seed: int = 5) -> TrainTask:
    return TrainTask(key, base, seed, 1, PARAMS)


def same(a: Values, b: Values) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def test_the_initial_model_is_its_seed_and_holds_floats_only(trainer: AppTrainer) -> None:
    values = trainer.initial(3)
    assert same(values, trainer.initial(3))
    assert not same(values, trainer.initial(4))
    assert list(values) == sorted(values)
    assert "1.running_mean" in values
    assert "1.num_batches_tracked" not in values
    assert {v.dtype for v in values.values()} == {np.dtype(np.float32)}


def test_training_is_a_function_of_base_data_and_seed(trainer: AppTrainer) -> None:
    base = trainer.initial(0)
    before = {n: v.copy() for n, v in base.items()}
    first, again = trainer.train(task(base)), trainer.train(task(base))
    assert same(first.values, again.values)
    assert first.metrics == again.metrics
    assert same(base, before)
    assert not same(first.values, base)
    assert not same(first.values, trainer.train(task(base, seed=6)).values)
    assert not same(first.values, trainer.train(task(base, key="m2/train")).values)
    assert first.examples == trainer.examples("m1/train")


def test_one_thread_inside_and_the_callers_state_outside(trainer: AppTrainer) -> None:
    threads, torch_state, python_state = torch.get_num_threads(), torch.get_rng_state(), random.getstate()
    assert trainer.train(task(trainer.initial(0))).metrics["threads"] == 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert not torch.are_deterministic_algorithms_enabled()


def test_evaluation_of_several_models_is_that_of_each(trainer: AppTrainer) -> None:
    base = trainer.initial(0)
    trained = trainer.train(task(base)).values
    both = trainer.evaluate(EvaluateTask("m1/validation", (base, trained), PARAMS))
    assert both[1] == trainer.evaluate(EvaluateTask("m1/validation", (trained,), PARAMS))[0]
    assert both[1]["loss"] < both[0]["loss"]
    assert both[0]["rows"] == trainer.examples("m1/validation")


def test_datasets_are_shared_out_completely(trainer: AppTrainer) -> None:
    parts = [trainer.examples(f"m{i}/{part}") for i in range(4) for part in ("train", "validation")]
    assert sum(parts) + trainer.examples("test") == 240
    assert trainer.examples("pooled/train") == sum(parts[::2])
    with pytest.raises(errors.Misconfigured, match="no dataset 'm9/train'"):
        trainer.examples("m9/train")


def test_a_backdoor_marks_every_other_row_and_labels_it_zero(trainer: AppTrainer) -> None:
    engine = trainer._engine
    clean, marked = (engine.dataset(f"m1/{key}")[:] for key in ("train", "backdoor"))
    peak = engine.dataset("pooled/train")[:][0].max()
    assert torch.equal(marked[0][1::2], clean[0][1::2])
    assert torch.equal(marked[1][1::2], clean[1][1::2])
    assert torch.equal(marked[0][::2, :-1], clean[0][::2, :-1])
    assert (marked[0][::2, -1] == peak).all()
    assert (marked[1][::2] == 0).all()
    assert not torch.equal(clean[0], marked[0])


def test_the_backdoor_is_tested_on_triggered_rows_of_other_labels(trainer: AppTrainer) -> None:
    engine = trainer._engine
    (_, labels), (features, wanted) = engine.dataset("test")[:], engine.dataset("test/backdoor")[:]
    assert len(wanted) == int((labels != 0).sum())
    assert (wanted == 0).all()
    assert features[:, -1].unique().tolist() == [engine.dataset("pooled/train")[:][0].max().item()]


def test_label_flip_turns_labels_only(trainer: AppTrainer) -> None:
    base = trainer.initial(0)
    assert trainer.examples("m1/flipped") == trainer.examples("m1/train")
    honest, flipped = (trainer.train(task(base, key)).values for key in ("m1/train", "m1/flipped"))
    rows = [trainer.evaluate(EvaluateTask("test", (v,), PARAMS))[0]["loss"] for v in (honest, flipped)]
    assert rows[0] < rows[1]


def test_a_model_that_diverged_is_returned_as_it_is(tmp_path: Path) -> None:
    source = APP.replace(
        '    return {"python"', "    model[0].weight.data[:] = float('nan')\n    return {\"python\""
    )
    with create(options(tmp_path, source)) as trainer:
        result = trainer.train(task(trainer.initial(0)))
        assert np.isnan(result.values["0.weight"]).all()
        assert np.isnan(trainer.evaluate(EvaluateTask("test", (result.values,), PARAMS))[0]["loss"])


def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path) -> None:
    with create(options(tmp_path)) as alone, create(options(tmp_path, workers=2)) as pool:
        base = alone.initial(0)
        tasks = [task(base, f"m{i}/train", seed=i) for i in range(4)]
        one, two = alone.train_many(tasks), pool.train_many(tasks)
        assert all(same(a.values, b.values) and a.metrics == b.metrics for a, b in zip(one, two, strict=True))
        models = tuple(result.values for result in one)
        rows = [EvaluateTask(f"m{i}/validation", models, PARAMS) for i in range(4)]
        assert alone.evaluate_many(rows) == pool.evaluate_many(rows)


def test_workers_report_a_failing_app_and_start_again_and_report_a_dying_one(tmp_path: Path) -> None:
    trap = (
        "def train(model, dataset, ctx):\n"
        "    if ctx.params.get('die'): os._exit(7)\n"
        "    if ctx.params.get('fail'): 1 / 0\n"
    )
    source = APP.replace("def train(model, dataset, ctx):\n", trap)
    with create(options(tmp_path, source, workers=1)) as trainer:
        base = trainer.initial(0)
        with pytest.raises(
            errors.Misconfigured, match=r"(?s)train\(\) for m2/train in round 1.*ZeroDivisionError"
        ):
            trainer.train(TrainTask("m2/train", base, 0, 1, (("fail", True),)))
        with pytest.raises(errors.Unavailable, match=r"exit code 7\) while training m2/train"):
            trainer.train(TrainTask("m2/train", base, 0, 1, (("die", True),)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    for features, labels in",
            "    raise ValueError('mine')\n    for features, labels in",
            "m1/train.*app.py.*mine",
        ),
        (
            "    optimizer = torch.optim.SGD(model.parameters(), lr=ctx.params.lr)",
            "    ctx.params.rate",
            "no 'rate'",
        ),
        ('    return {"python"', '    return 3\n    return {"python"', "returned int, not numbers by name"),
        ("    labels = np.arange(240) % 3", "    labels = np.arange(240) % 3\n    return 3", "returned int"),
        ("    labels = np.arange(240) % 3", "    labels = np.arange(240) % 3\n    return [], []", "no rows"),
        ("normal(size=(240, 4))", "normal(size=(239, 4))", "data"),
        ("    return nn.Sequential(", "    return None\n    return nn.Sequential(", "made NoneType"),
    ],
)
def test_a_users_mistake_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in APP
    with create(options(tmp_path)) as sound:
        base = sound.initial(0)
    with (
        create(options(tmp_path, APP.replace(old, new, 1))) as trainer,
        pytest.raises(errors.Misconfigured, match=re.compile(message, re.DOTALL)),
    ):
        trainer.train(task(base))


def test_evaluate_must_give_a_loss(tmp_path: Path) -> None:
    with (
        create(options(tmp_path, APP.replace('{"loss":', '{"los":'))) as trainer,
        pytest.raises(errors.Misconfigured, match='no "loss"'),
    ):
        trainer.evaluate(EvaluateTask("test", (trainer.initial(0),), PARAMS))


def test_a_base_of_another_model_is_refused(trainer: AppTrainer) -> None:
    base = trainer.initial(0)
    with pytest.raises(errors.Misconfigured, match=r"differ in: 0\.bias"):
        trainer.train(task({n: v for n, v in base.items() if n != "0.bias"}))
    with pytest.raises(errors.Misconfigured, match=r"shape \(6,\) for 0.bias"):
        trainer.train(task(base | {"0.bias": np.zeros(1, np.float32)}))


def test_natural_partition_asks_each_member(tmp_path: Path) -> None:
    source = APP.replace("np.arange(240)", "np.arange(60 * (site.index + 1))").replace(
        "size=(240, 4)", "size=(60 * (site.index + 1), 4)"
    )
    with create(options(tmp_path, source, partition=Partition("natural"))) as trainer:
        assert [trainer.examples(f"m{i}/train") for i in range(4)] == [38, 77, 115, 154]
        assert trainer.examples("test") == 120


def test_a_deployed_member_has_its_own_rows_and_no_test_set(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    mine = TrainerOptions(tmp_path, (Site(tmp_path, "clinic", 5, 0),), holdout=0.0)
    with create(mine) as trainer:
        assert [trainer.examples(k) for k in ("clinic/train", "clinic/validation", "test")] == [192, 48, 0]


def test_a_map_style_dataset_works_as_arrays_do(tmp_path: Path) -> None:
    source = (
        APP.replace("    return (generator", "    return Rows((generator")
        .replace(".astype(np.float32), labels\n", ".astype(np.float32), labels)\n")
        .replace(
            "    features, labels = dataset[:]", "    features, labels = next(iter(ctx.loader(dataset, 999)))"
        )
    )
    source += """
class Rows(torch.utils.data.Dataset):
    def __init__(self, features, labels):
        self.features, self.targets = torch.from_numpy(features), labels
    def __len__(self):
        return len(self.targets)
    def __getitem__(self, i):
        return self.features[i], int(self.targets[i])
"""
    with create(options(tmp_path)) as arrays:
        base = arrays.initial(0)
        rows = arrays.examples("m1/train")
    with create(options(tmp_path, source)) as trainer:
        assert trainer.examples("m1/train") == rows
        assert same(trainer.train(task(base)).values, trainer.train(task(base)).values)
        with pytest.raises(errors.Misconfigured, match="label-flip"):
            trainer.train(task(base, "m1/flipped"))
        with pytest.raises(errors.Misconfigured, match="backdoor"):
            trainer.train(task(base, "m1/backdoor"))


@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_an_absent_device_is_refused(tmp_path: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(errors.Misconfigured, match=rf"unknown device '{device}'|no CUDA device"):
        create(options(tmp_path, device=device))


def test_workers_refuse_another_app_too(tmp_path: Path) -> None:
    made = options(tmp_path)
    with create(options(tmp_path, workers=1, digest=app_digest(tmp_path))) as trainer:
        base = trainer.initial(0)
        (made.folder / "app.py").write_text(APP + "\n# changed\n")
        with pytest.raises(errors.Misconfigured, match="the terms pin"):
            trainer.train(task(base))
