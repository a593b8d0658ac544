"""The JAX trainer, here because SPU brings JAX: deterministic, plain about a user's mistakes, and a whole run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from script import hansa

from hansa import errors, wiring
from hansa.app import EvaluateTask, Site, TrainerOptions, TrainTask, Values, member_name
from hansa.partition import Partition
from hansa.trainers.jax import create

APP = """
import jax
import jax.numpy as jnp
import numpy as np
import hansa

def make_model():
    key = jax.random.PRNGKey(np.random.randint(2**31))
    return {
        "hidden": {"w": 0.5 * jax.random.normal(key, (4, 8)), "b": jnp.zeros(8)},
        "out": {"w": jnp.zeros((8, 3)), "b": jnp.zeros(3)},
        "steps": jnp.zeros((), jnp.int32),
    }

app = hansa.App(model=make_model, framework="jax")

@app.data
def data(site):
    generator = np.random.default_rng(7)
    labels = np.arange(480) % 3
    return (generator.normal(size=(480, 4)) + 2 * labels[:, None]).astype(np.float32), labels

def scores(model, x):
    x = jnp.tanh(x @ model["hidden"]["w"] + model["hidden"]["b"])
    return x @ model["out"]["w"] + model["out"]["b"]

def loss(weights, x, y):
    return -jax.nn.log_softmax(scores(weights, x))[jnp.arange(len(y)), y].mean()

@jax.jit
def step(weights, x, y, lr):
    gradient = jax.grad(loss)(weights, x, y)
    return jax.tree_util.tree_map(lambda w, g: w - lr * g, weights, gradient)

@app.train
def train(model, dataset, ctx):
    weights = {name: model[name] for name in ("hidden", "out")}
    for _ in range(5):
        for x, y in ctx.loader(dataset, batch_size=16):
            weights = step(weights, x, y, 0.3)
    model.update(weights)
    return {"drawn": np.random.random()}

@app.evaluate
def evaluate(model, dataset, ctx):
    x, y = dataset
    return {"loss": loss(model, x, y), "accuracy": (scores(model, x).argmax(1) == y).mean()}
"""
FEDERATION = """
[federation]
name = "lab"
scheme = "plaintext"
governance = "peers"

[training]
rounds = 3
min_members = 4

[selection]
rule = "median-rank"
keep = 4

[privacy]
differential_privacy = "off"

[simulation]
members = 5
malicious = { m3 = "sign-flip:5" }
"""


def options(folder: Path, source: str = APP, **changed: object) -> TrainerOptions:
    (folder / "app.py").write_text(source)
    sites = tuple(Site(folder, member_name(i), i, 0) for i in range(4))
    written: dict[str, object] = {"partition": Partition("dirichlet", 1.0, 10)}
    return TrainerOptions(folder, sites, **(written | changed))


def task(base: Values, key: str = "m1/train", seed: int = 5) -> TrainTask:
    return TrainTask(key, base, seed, 1)


def same(a: Values, b: Values) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def test_training_is_a_function_of_base_data_and_seed(tmp_path: Path) -> None:
    with create(options(tmp_path)) as trainer:
        base = trainer.initial(0)
        before = {n: v.copy() for n, v in base.items()}
        assert list(base) == ["hidden.b", "hidden.w", "out.b", "out.w"]
        assert {v.dtype for v in base.values()} == {np.dtype(np.float32)}
        assert same(base, trainer.initial(0))
        assert not same(base, trainer.initial(1))
        first, again = trainer.train(task(base)), trainer.train(task(base))
        assert same(first.values, again.values)
        assert first.metrics == again.metrics
        assert same(base, before)
        assert not same(first.values, trainer.train(task(base, seed=6)).values)
        old, new = (trainer.evaluate(EvaluateTask("test", (v,)))[0] for v in (base, first.values))
        assert new["loss"] < old["loss"]
        assert new["accuracy"] > old["accuracy"]


def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path) -> None:
    with create(options(tmp_path)) as alone, create(options(tmp_path, workers=2)) as pool:
        tasks = [task(alone.initial(0), f"m{i}/train", seed=i) for i in range(4)]
        one, two = alone.train_many(tasks), pool.train_many(tasks)
        assert all(same(a.values, b.values) and a.metrics == b.metrics for a, b in zip(one, two, strict=True))


def test_a_base_of_another_model_is_refused(tmp_path: Path) -> None:
    with create(options(tmp_path)) as trainer:
        base = trainer.initial(0)
        with pytest.raises(errors.Misconfigured, match=r"differ in: hidden\.b"):
            trainer.train(task({n: v for n, v in base.items() if n != "hidden.b"}))
        with pytest.raises(errors.Misconfigured, match=r"shape \(3,\) for out\.b"):
            trainer.train(task(base | {"out.b": np.zeros(1, np.float32)}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    return {\n", "    return 3\n    return {\n", "made int, not a dictionary of JAX's arrays"),
        ("    return {\n", "    return {}\n    return {\n", "without arrays"),
        (
            "    return {\n",
            '    return {"a.b": key * 1.0, "a": {"b": key * 1.0}}\n    return {\n',
            "one name",
        ),
        ("    model.update", "    raise ValueError('mine')\n    model.update", r"m1/train.*app\.py.*mine"),
        ("    labels = np.arange(480) % 3", "    labels = np.arange(480) % 3\n    return 3", "returned int"),
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


def test_another_device_is_refused_and_the_app_says_its_framework(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="not on 'cuda'"):
        create(options(tmp_path, device="cuda"))
    assert next(iter(wiring.trainer(options(tmp_path)).initial(0))) == "hidden.b"


@pytest.mark.slow
def test_a_federation_of_a_jax_app_is_trained_and_audited(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "federation.toml").write_text(FEDERATION)
    done = json.loads(hansa("run", tmp_path, "--out", tmp_path / "run", "--json").stdout)
    assert done["accuracy"]["joint"] > 0.7
    assert done["left_out"]["m3"] == 3
    assert "Every check holds." in hansa("audit", tmp_path / "run").stdout
