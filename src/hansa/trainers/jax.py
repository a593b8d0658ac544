"""JAX: a model is a dictionary of arrays, nested as flax's and haiku's parameters are; training replaces its entries.

A data set is a tuple of arrays with one length, the labels last (`arrays`). A value's name is its keys with points
between them. JAX draws from keys only, so `model()` and `@app.train` make theirs from numpy's generator or `ctx.seed`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, final

import jax
import jax.numpy as jnp
import numpy as np

from hansa import errors
from hansa.app import TrainerOptions, Values
from hansa.trainers import arrays
from hansa.trainers.engine import AppTrainer, Engine, same_shapes, seed_all, seeded

ONE_THREAD: Final = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
HINT: Final = (
    "Return a dictionary of arrays, nested or not; a flax module's is dict(module.init(key, x)['params'])."
)

Place = tuple[dict[str, Any], str]
"""A dictionary, and the key under which an array lies in it."""


def _places(model: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Place]]:
    """Names of the floating arrays of a model, with where each lies."""
    for key, value in model.items():
        if isinstance(value, dict):
            yield from _places(value, f"{prefix}{key}.")
        elif isinstance(value, jax.Array | np.ndarray) and jnp.issubdtype(value.dtype, jnp.floating):
            yield f"{prefix}{key}", (model, key)


@final
class Jax:
    """The `Framework` whose models are nested dictionaries of arrays."""

    as_dataset = staticmethod(arrays.as_dataset)
    rows = staticmethod(arrays.rows)
    labels_of = staticmethod(arrays.labels_of)
    take = staticmethod(arrays.take)
    join = staticmethod(arrays.join)
    flip_labels = staticmethod(arrays.flip_labels)
    peak = staticmethod(arrays.peak)
    stamp = staticmethod(arrays.stamp)
    seed = staticmethod(seed_all)
    loader = staticmethod(arrays.make_loader)

    def checked(self, made: Any) -> dict[str, Any]:
        """See `Framework.checked`."""
        if not isinstance(made, dict):
            raise errors.Misconfigured(
                f"the app's model() made {type(made).__name__}, not a dictionary of JAX's arrays", hint=HINT
            )
        names = [name for name, _ in _places(made)]
        if not names or len(set(names)) != len(names):
            raise errors.Misconfigured(
                "the app's model() made a dictionary "
                + ("with two arrays of one name" if names else "without arrays"),
                hint=HINT,
            )
        return made

    def values_of(self, model: dict[str, Any]) -> Values:
        """See `Framework.values_of`."""
        return {name: np.array(at[key], np.float32) for name, (at, key) in sorted(_places(model))}

    def load_values(self, model: dict[str, Any], values: Values) -> None:
        """See `Framework.load_values`."""
        own = dict(_places(model))
        same_shapes({name: at[key].shape for name, (at, key) in own.items()}, values)
        for name, (at, key) in own.items():
            at[key] = jnp.asarray(values[name], at[key].dtype)

    def for_training(self, model: dict[str, Any]) -> None:
        """Parameters are the same in training."""

    def for_evaluation(self, model: dict[str, Any]) -> None:
        """Parameters are the same in evaluation."""

    def inference(self) -> AbstractContextManager[object]:
        """See `Framework.inference`."""
        return nullcontext()

    def deterministic(self, seed: int) -> AbstractContextManager[object]:
        """See `Framework.deterministic`: numpy's generator and Python's; threads are set before XLA starts."""
        return seeded(seed)


def prepare(options: TrainerOptions) -> Engine:
    """The engine of an app."""
    return Engine(options, Jax())


def create(options: TrainerOptions) -> AppTrainer:
    """A trainer for the app in `options.folder`. Raises `Misconfigured` when it cannot be loaded."""
    if options.device != "cpu":
        raise errors.Misconfigured(
            f"apps of JAX train on the processor here, not on {options.device!r}", hint='Use device = "cpu".'
        )
    if ONE_THREAD not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} {ONE_THREAD}".strip()
    return AppTrainer(options, prepare)
