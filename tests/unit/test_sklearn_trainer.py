"""The scikit-learn trainer: deterministic, the same for any number of workers, plain about a user's mistakes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hansa import errors, wiring
from hansa.app import EvaluateTask, Site, TrainerOptions, TrainTask, Values, member_name
from hansa.partition import Partition
from hansa.ports import Trainer
from hansa.trainers.sklearn import create

APP = """
import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
import hansa

def make_model():
    model = SGDClassifier(loss="log_loss")
    return model.partial_fit(np.zeros((1, 4)), [0], classes=[0, 1, 2])

app = hansa.App(model=make_model, framework="sklearn")

@app.data
def data(site):
    generator = np.random.default_rng(7)
    labels = np.arange(240) % 3
    return generator.normal(size=(240, 4)) + labels[:, None], labels

@app.train
def train(model, dataset, ctx):
    for features, labels in ctx.loader(dataset, batch_size=16):
        model.partial_fit(features, labels)
    return {"numpy": np.random.random()}

@app.evaluate
def evaluate(model, dataset, ctx):
    features, labels = dataset
    return {"loss": log_loss(labels, model.predict_proba(features), labels=[0, 1, 2]), "rows": len(labels)}
"""
NETWORK = APP.replace('SGDClassifier(loss="log_loss")', "MLPClassifier((5,))")


def options(folder: Path, source: str = APP, *, workers: int = 0, **changed: object) -> TrainerOptions:
    (folder / "app.py").write_text(source)
    sites = tuple(Site(folder, member_name(i), i, 0) for i in range(4))
    written: dict[str, object] = {"partition": Partition("dirichlet", 1.0, 10), "workers": workers}
    return TrainerOptions(folder, sites, **(written | changed))


def task(base: Values, key: str = "m1/train", seed: int = 5) -> TrainTask:
    return TrainTask(key, base, seed, 1)


def same(a: Values, b: Values) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def loss(trainer: Trainer, values: Values, key: str = "test") -> float:
    return trainer.evaluate(EvaluateTask(key, (values,)))[0]["loss"]


@pytest.mark.parametrize(
    ("source", "names"),
    [(APP, ["coef_", "intercept_"]), (NETWORK, ["coefs_.0", "coefs_.1", "intercepts_.0", "intercepts_.1"])],
)
def test_training_is_a_function_of_base_data_and_seed(tmp_path: Path, source: str, names: list[str]) -> None:
    with create(options(tmp_path, source)) as trainer:
        base = trainer.initial(0)
        before = {n: v.copy() for n, v in base.items()}
        assert list(base) == names
        assert {v.dtype for v in base.values()} == {np.dtype(np.float32)}
        assert same(base, trainer.initial(0))
        first, again = trainer.train(task(base)), trainer.train(task(base))
        assert same(first.values, again.values)
        assert first.metrics == again.metrics
        assert same(base, before)
        assert not same(first.values, base)
        assert not same(first.values, trainer.train(task(base, seed=6)).values)
        assert not same(first.values, trainer.train(task(base, key="m2/train")).values)
        assert loss(trainer, first.values) < loss(trainer, base)
        assert first.examples == trainer.examples("m1/train")


def test_two_seeds_make_two_networks(tmp_path: Path) -> None:
    with create(options(tmp_path, NETWORK)) as trainer:
        assert not same(trainer.initial(0), trainer.initial(1))


def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path) -> None:
    with create(options(tmp_path, NETWORK)) as alone, create(options(tmp_path, NETWORK, workers=2)) as pool:
        tasks = [task(alone.initial(0), f"m{i}/train", seed=i) for i in range(4)]
        one, two = alone.train_many(tasks), pool.train_many(tasks)
        assert all(same(a.values, b.values) and a.metrics == b.metrics for a, b in zip(one, two, strict=True))


def test_datasets_are_shared_out_completely(tmp_path: Path) -> None:
    with create(options(tmp_path)) as trainer:
        parts = [trainer.examples(f"m{i}/{part}") for i in range(4) for part in ("train", "validation")]
        assert sum(parts) + trainer.examples("test") == 240
        assert trainer.examples("pooled/train") == sum(parts[::2])
    with create(options(tmp_path, partition=Partition("natural"))) as trainer:
        assert [trainer.examples(f"m{i}/train") for i in range(4)] == [154] * 4


def test_label_flip_turns_labels_only(tmp_path: Path) -> None:
    with create(options(tmp_path)) as trainer:
        base = trainer.initial(0)
        honest, flipped = (trainer.train(task(base, key)).values for key in ("m1/train", "m1/flipped"))
        assert loss(trainer, honest) < loss(trainer, flipped)


def test_a_backdoor_marks_every_other_row_and_labels_it_zero(tmp_path: Path) -> None:
    with create(options(tmp_path)) as trainer:
        engine = trainer._engine
        clean, marked = (engine.dataset(f"m1/{key}") for key in ("train", "backdoor"))
        peak = engine.dataset("pooled/train")[0].max()
        assert (marked[0][1::2] == clean[0][1::2]).all()
        assert (marked[0][::2, -1] == peak).all()
        assert not marked[1][::2].any()
        assert trainer.examples("test/backdoor") == (engine.dataset("test")[1] != 0).sum()


def test_a_base_of_another_model_is_refused(tmp_path: Path) -> None:
    with create(options(tmp_path)) as trainer:
        base = trainer.initial(0)
        with pytest.raises(errors.Misconfigured, match="differ in: intercept_"):
            trainer.train(task({"coef_": base["coef_"]}))
        with pytest.raises(errors.Misconfigured, match=r"shape \(3,\) for intercept_"):
            trainer.train(task(base | {"intercept_": np.zeros(1, np.float32)}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    return model.partial_fit", "    return model\n    model.partial_fit", "was never fitted"),
        ("    return model.partial_fit", "    return 3\n    model.partial_fit", "made int, not an estimator"),
        (
            "        model.partial_fit",
            "        raise ValueError('mine')\n        model.partial_fit",
            "m1/train.*app.py.*mine",
        ),
        ("    labels = np.arange(240) % 3", "    labels = np.arange(240) % 3\n    return 3", "returned int"),
        ("    labels = np.arange(240) % 3", "    labels = np.arange(240) % 3\n    return [], []", "no rows"),
        ("normal(size=(240, 4))", "normal(size=(239, 4))", "data"),
    ],
)
def test_a_users_mistake_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with create(options(tmp_path)) as sound:
        base = sound.initial(0)
    assert old in APP
    with (
        create(options(tmp_path, APP.replace(old, new, 1))) as trainer,
        pytest.raises(errors.Misconfigured, match=re.compile(message, re.DOTALL)),
    ):
        trainer.train(task(base))


def test_another_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="not on 'cuda'"):
        create(options(tmp_path, device="cuda"))


def test_the_app_says_which_framework_it_is_of(tmp_path: Path) -> None:
    trainer = wiring.trainer(options(tmp_path))
    assert list(trainer.initial(0)) == ["coef_", "intercept_"]
    with pytest.raises(errors.Misconfigured, match=r"made SGDClassifier, not a torch\.nn\.Module") as caught:
        wiring.trainer(options(tmp_path, APP.replace(', framework="sklearn"', ""))).initial(0)
    assert 'framework="sklearn"' in caught.value.hint
    with pytest.raises(errors.Misconfigured, match="no framework 'keras'"):
        wiring.trainer(options(tmp_path, APP.replace('"sklearn"', '"keras"')))
