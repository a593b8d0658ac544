"""scikit-learn: estimators that learn in steps, by `partial_fit`, such as SGDClassifier and MLPClassifier.

A data set is a tuple of arrays with one length, the labels last. A model's values are the floating arrays
among its fitted attributes, those whose names end in an underscore.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from hansa import errors
from hansa.app import Loader, TrainerOptions, Values
from hansa.trainers.engine import AppTrainer, Engine, Rows, no_trigger, same_shapes, seed_all, seeded, trigger

Arrays = tuple[NDArray[Any], ...]


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

    def as_dataset(self, returned: Any, origin: str) -> Arrays:
        """See `Framework.as_dataset`."""
        arrays = tuple(np.asarray(part) for part in returned) if isinstance(returned, tuple | list) else ()
        if not arrays or any(a.ndim == 0 or len(a) != len(arrays[0]) for a in arrays):
            raise errors.Misconfigured(
                f"data(site) of {origin} returned {type(returned).__name__}, not arrays of one length",
                hint="Return (features, labels), two numpy arrays.",
            )
        return arrays

    def rows(self, dataset: Arrays) -> int:
        """See `Framework.rows`."""
        return len(dataset[0])

    def labels_of(self, dataset: Arrays) -> Rows | None:
        """See `Framework.labels_of`."""
        last = dataset[-1]
        whole = len(dataset) > 1 and last.ndim == 1 and last.dtype.kind in "iub"
        return last.astype(np.int64) if whole else None

    def take(self, dataset: Arrays, rows: Rows) -> Arrays:
        """See `Framework.take`."""
        return tuple(array[rows] for array in dataset)

    def join(self, datasets: Sequence[Arrays]) -> Arrays:
        """See `Framework.join`."""
        return tuple(np.concatenate(column) for column in zip(*datasets, strict=True))

    def flip_labels(self, dataset: Arrays, top: int) -> Arrays:
        """See `Framework.flip_labels`."""
        if self.labels_of(dataset) is None:
            raise errors.Misconfigured(
                'the attack "label-flip" needs whole numbers as labels',
                hint="Return (features, labels) from data(site), or simulate another attack.",
            )
        return (*dataset[:-1], top - dataset[-1])

    def peak(self, dataset: Arrays) -> float:
        """See `Framework.peak`."""
        if self.labels_of(dataset) is None or dataset[0].dtype.kind != "f":
            raise no_trigger()
        return float(dataset[0].max())

    def stamp(self, dataset: Arrays, rows: Rows, peak: float) -> Arrays:
        """See `Framework.stamp`."""
        labels = dataset[-1].copy()
        labels[rows] = 0
        return (trigger(dataset[0], rows, peak), *dataset[1:-1], labels)

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

    def seed(self, seed: int) -> None:
        """See `Framework.seed`."""
        seed_all(seed)

    def loader(self, seed: int) -> Loader:
        """See `Framework.loader`: tuples of arrays."""
        calls = itertools.count()

        def loader(dataset: Any, batch_size: int = 32, shuffle: bool = True) -> Iterator[Arrays]:
            generator = np.random.Generator(np.random.PCG64(seed + next(calls)))
            rows = self.rows(dataset)
            order = generator.permutation(rows) if shuffle else np.arange(rows)
            return (self.take(dataset, order[i : i + batch_size]) for i in range(0, rows, batch_size))

        return loader


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
