"""scikit-learn: estimators that learn in steps, by `partial_fit`, such as SGDClassifier and MLPClassifier.

A data set is a tuple of arrays with one length, the labels last (`arrays`). A model's values are the floating arrays
among its fitted attributes, those whose names end in an underscore.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from hansa import errors
from hansa.app import TrainerOptions, Values
from hansa.trainers import arrays
from hansa.trainers.engine import AppTrainer, Engine, same_shapes, seed_all, seeded


def _fitted(model: BaseEstimator) -> dict[str, NDArray[Any]]:
    """The floating arrays of a model, themselves: what is written into them is in the model."""
    found: dict[str, NDArray[Any]] = {}
    for name, value in vars(model).items():
        if name.startswith("_") or not name.endswith("_"):
            continue
        parts = {name: value}
        if isinstance(value, list):
            parts = {f"{name}.{i}": part for i, part in enumerate(value)}
        found |= {
            key: part
            for key, part in parts.items()
            if isinstance(part, np.ndarray) and part.dtype.kind == "f"
        }
    return dict(sorted(found.items()))


@final
class Sklearn:
    """The `Framework` whose models are estimators."""

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

    def checked(self, made: Any) -> BaseEstimator:
        """See `Framework.checked`."""
        if not isinstance(made, BaseEstimator) or not hasattr(made, "partial_fit"):
            raise errors.Misconfigured(
                f"the app's model() made {type(made).__name__}, not an estimator of scikit-learn with partial_fit",
                hint="Use one that learns in steps, such as SGDClassifier or MLPClassifier.",
            )
        if not _fitted(made):
            raise errors.Misconfigured(
                f"the app's model() made a {type(made).__name__} without shapes, as it was never fitted",
                hint="Fit it once in model(), so that all members have the same shapes and classes: "
                "model.partial_fit(numpy.zeros((1, FEATURES)), [0], classes=range(CLASSES)).",
            )
        return made

    def values_of(self, model: BaseEstimator) -> Values:
        """See `Framework.values_of`."""
        return {name: array.astype(np.float32) for name, array in _fitted(model).items()}

    def load_values(self, model: BaseEstimator, values: Values) -> None:
        """See `Framework.load_values`."""
        own = _fitted(model)
        same_shapes({name: array.shape for name, array in own.items()}, values)
        for name, array in own.items():
            array[...] = values[name]

    def for_training(self, model: BaseEstimator) -> None:
        """An estimator is the same in training."""

    def for_evaluation(self, model: BaseEstimator) -> None:
        """An estimator is the same in evaluation."""

    def inference(self) -> AbstractContextManager[object]:
        """See `Framework.inference`."""
        return nullcontext()

    @contextmanager
    def deterministic(self, seed: int) -> Iterator[None]:
        """See `Framework.deterministic`: estimators without a random_state draw from numpy's own generator."""
        with threadpool_limits(1), seeded(seed):
            yield


def prepare(options: TrainerOptions) -> Engine:
    """The engine of an app."""
    return Engine(options, Sklearn())


def create(options: TrainerOptions) -> AppTrainer:
    """A trainer for the app in `options.folder`. Raises `Misconfigured` when it cannot be loaded."""
    if options.device != "cpu":
        raise errors.Misconfigured(
            f"scikit-learn trains on the processor, not on {options.device!r}", hint='Use device = "cpu".'
        )
    return AppTrainer(options, prepare)
