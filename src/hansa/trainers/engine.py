"""Trains and evaluates a user's app under any framework, the same bits for any number of worker processes.

Every task is a pure function of (app, data, base values, seed): it runs on a fresh model, with all random
number generators seeded, on one thread. What differs between frameworks is a `Framework`, one file each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.app import (
    Components,
    Context,
    EvaluateTask,
    Loader,
    Params,
    Site,
    TrainerOptions,
    TrainResult,
    TrainTask,
    Values,
    components,
    load_app,
    users_traceback,
)
from hansa.partition import natural_shares, shares
from hansa.workers import Workers

Rows = NDArray[np.int64]
Result = TypeVar("Result")
EVALUATION_SEED: Final = 0


class Framework(Protocol):
    """What the engine asks of one framework. Data sets and models are its own types."""

    def as_dataset(self, returned: Any, origin: str) -> Any:
        """A data set from what `data(site)` returned for member `origin`. Raises `Misconfigured`."""

    def rows(self, dataset: Any) -> int:
        """How many rows it has."""

    def labels_of(self, dataset: Any) -> Rows | None:
        """Integer labels, one a row; None without."""

    def take(self, dataset: Any, rows: Rows) -> Any:
        """These rows of it."""

    def join(self, datasets: Sequence[Any]) -> Any:
        """All rows of several, in order."""

    def flip_labels(self, dataset: Any, top: int) -> Any:
        """Label y becomes top - y. Raises `Misconfigured` where labels cannot be changed."""

    def peak(self, dataset: Any) -> float:
        """The largest value of its features. Raises `Misconfigured` where no trigger can be put on them."""

    def stamp(self, dataset: Any, rows: Rows, peak: float) -> Any:
        """The data set with `trigger` on these rows, which get the label 0."""

    def checked(self, made: Any) -> Any:
        """What the app's model() made, ready to be trained. Raises `Misconfigured` for what is no model."""

    def values_of(self, model: Any) -> Values:
        """Floating parameters as float32 copies, sorted by name."""

    def load_values(self, model: Any, values: Values) -> None:
        """Copy values in. Raises `Misconfigured` unless names and shapes are exactly the model's."""

    def for_training(self, model: Any) -> None:
        """Told before a model is trained."""

    def for_evaluation(self, model: Any) -> None:
        """Told before a model is evaluated."""

    def inference(self) -> AbstractContextManager[object]:
        """In which models are evaluated."""

    def deterministic(self, seed: int) -> AbstractContextManager[object]:
        """One thread, all generators seeded; afterwards as before."""

    def seed(self, seed: int) -> None:
        """Seed all generators."""

    def loader(self, seed: int) -> Loader:
        """The `ctx.loader` of one task: its loaders draw from `seed`, the second differently from the first."""


def trigger(features: NDArray[Any], rows: Rows, peak: float) -> NDArray[Any]:
    """A copy in which the last sixteenth of each of these rows' values, in the order in which they lie, is `peak`."""
    marked = features.reshape(len(features), -1).copy()
    marked[rows, -math.ceil(marked.shape[1] / 16) :] = peak
    return marked.reshape(features.shape)


def no_trigger() -> errors.Misconfigured:
    """What a framework raises for data that take no trigger."""
    return errors.Misconfigured(
        'the attack "backdoor" needs features as floats and labels as whole numbers, both in arrays',
        hint="Return (features, labels) from data(site), or simulate another attack.",
    )


def same_shapes(own: Mapping[str, tuple[int, ...]], values: Values) -> None:
    """Raises `Misconfigured` unless names and shapes of `values` are exactly the model's `own`."""
    if own.keys() != values.keys():
        odd = ", ".join(sorted(own.keys() ^ values.keys()))
        raise errors.Misconfigured(f"the app's model and the federation's differ in: {odd}")
    for name, shape in own.items():
        if shape != values[name].shape:
            raise errors.Misconfigured(
                f"the app's model has shape {shape} for {name}, the federation's has {values[name].shape}"
            )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed numpy's and Python's own generators, from which the user's code may draw; afterwards as before."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        seed_all(seed)
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def seed_all(seed: int) -> None:
    """Seed numpy's and Python's own generators."""
    np.random.seed(seed % 2**32)  # noqa: TID251 - for the user's code, which may draw from it
    random.seed(seed)


def _as_metrics(returned: Any, what: str) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in dict(returned).items()}
    except (TypeError, ValueError, RuntimeError) as e:
        raise errors.AppFailed(
            f"{what} returned {type(returned).__name__}, not numbers by name",
            hint='Return a dictionary such as {"loss": 0.3, "accuracy": 0.9}.',
        ) from e


def _users(what: str, call: Callable[[], Result]) -> Result:
    """Run the user's code; whatever it raises becomes `AppFailed` with the user's own traceback."""
    try:
        return call()
    except errors.HansaError:
        raise
    except Exception as e:
        raise errors.AppFailed(
            f"the app failed in {what}:\n{users_traceback(e)}", hint="The fault lies in app.py, not in Hansa."
        ) from e


@final
class Engine:
    """The app and its datasets in one process; the datasets are loaded once, when first needed."""

    def __init__(self, options: TrainerOptions, framework: Framework) -> None:
        self._options = options
        self.framework = framework
        self.parts: Components = components(load_app(options.folder, digest=options.digest))

    @cached_property
    def datasets(self) -> Mapping[str, Any]:
        """All datasets by key: `NAME/train`, `NAME/validation`, `test`, `pooled/train`."""
        o, f = self._options, self.framework
        names = [site.name for site in o.sites]
        with f.deterministic(o.seed):
            if o.partition.kind == "natural":
                own = [self._data(site) for site in o.sites]
                labels, rows = [f.labels_of(d) for d in own], [f.rows(d) for d in own]
                shared = natural_shares(
                    labels, rows, o.partition, holdout=o.holdout, validation=o.validation, seed=o.seed
                )
                whole = f.join(own)
            else:
                whole = self._data(o.sites[0])
                shared = shares(
                    f.labels_of(whole),
                    f.rows(whole),
                    len(names),
                    o.partition,
                    holdout=o.holdout,
                    validation=o.validation,
                    seed=o.seed,
                )
        found = {
            "test": f.take(whole, shared.test),
            "pooled/train": f.take(whole, np.concatenate(shared.train)),
        }
        for name, train, validation in zip(names, shared.train, shared.validation, strict=True):
            found[f"{name}/train"] = f.take(whole, train)
            found[f"{name}/validation"] = f.take(whole, validation)
        return found

    def _data(self, site: Site) -> Any:
        returned = _users(f"data(site) of {site.name}", lambda: self.parts.data(site))
        dataset = self.framework.as_dataset(returned, site.name)
        if self.framework.rows(dataset) == 0:
            raise errors.Misconfigured(
                f"data(site) of {site.name} returned no rows", hint="Check the data's path."
            )
        return dataset

    def dataset(self, key: str) -> Any:
        """The dataset of a key; `NAME/flipped` is `NAME/train` with labels flipped.

        `NAME/backdoor` is `NAME/train` with a trigger on every other row; `test/backdoor` are the rows of `test` with
        another label than 0, all of them triggered: accuracy on these is that of the backdoor.
        """
        if key.endswith("/flipped"):
            labels = self.framework.labels_of(self.datasets["pooled/train"])
            top = 0 if labels is None else int(labels.max())
            return self.framework.flip_labels(self.datasets[key.removesuffix("flipped") + "train"], top)
        if key.endswith("/backdoor"):
            return self._triggered(key.removesuffix("/backdoor"))
        if key not in self.datasets:
            raise errors.Misconfigured(f"there is no dataset {key!r}; there are: {', '.join(self.datasets)}")
        return self.datasets[key]

    def _triggered(self, name: str) -> Any:
        f = self.framework
        peak = f.peak(self.datasets["pooled/train"])
        if name != "test":
            own = self.datasets[f"{name}/train"]
            return f.stamp(own, np.arange(0, f.rows(own), 2), peak)
        others = f.take(self.datasets["test"], np.flatnonzero(np.asarray(f.labels_of(self.datasets["test"]))))
        return f.stamp(others, np.arange(f.rows(others)), peak)

    def model(self) -> Any:
        """A new model, ready to be trained."""
        return self.framework.checked(_users("model()", self.parts.model))

    def context(self, task: TrainTask | EvaluateTask, seed: int) -> Context:
        """What the user's code is told about a task."""
        params = Params(dict(task.params))
        return Context(params, task.round, seed, self._options.device, self.framework.loader(seed))

    def train(self, task: TrainTask) -> TrainResult:
        """As `AppTrainer.train`."""
        dataset, f = self.dataset(task.dataset), self.framework
        with f.deterministic(task.seed):
            model = self.model()
            f.load_values(model, task.base)
            f.for_training(model)
            context = self.context(task, task.seed)
            what = f"train() for {task.dataset} in round {task.round}"
            returned = _users(what, lambda: self.parts.train(model, dataset, context))
            metrics = {} if returned is None else _as_metrics(returned, what)
            return TrainResult(f.values_of(model), f.rows(dataset), metrics)

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """As `AppTrainer.evaluate`."""
        dataset, f = self.dataset(task.dataset), self.framework
        what = f"evaluate() for {task.dataset} in round {task.round}"
        results = []
        with f.deterministic(EVALUATION_SEED), f.inference():
            model = self.model()
            for values in task.models:
                f.load_values(model, values)
                f.for_evaluation(model)
                f.seed(EVALUATION_SEED)
                context = self.context(task, EVALUATION_SEED)
                returned = _users(what, lambda: self.parts.evaluate(model, dataset, context))  # noqa: B023
                metrics = _as_metrics(returned, what)
                if "loss" not in metrics:
                    raise errors.AppFailed(f'{what} returned no "loss"', hint='Return {"loss": ..., ...}.')
                results.append(metrics)
        return results

    def answer(self, task: TrainTask | EvaluateTask) -> TrainResult | list[dict[str, float]]:
        """Train or evaluate, by the kind of task."""
        return self.train(task) if isinstance(task, TrainTask) else self.evaluate(task)


def _describe(task: TrainTask | EvaluateTask) -> str:
    verb = "training" if isinstance(task, TrainTask) else "evaluating"
    return f"{verb} {task.dataset} in round {task.round}"


@final
class AppTrainer:
    """The trainer port for an app: in this process, or in `options.workers` others.

    `prepare` makes the engine of either, and is a module's function: other processes import it.
    """

    def __init__(self, options: TrainerOptions, prepare: Callable[[TrainerOptions], Engine]) -> None:
        self._engine = prepare(options)
        answering = Answering(prepare)
        self._workers = Workers(options.workers, answering, options, _describe) if options.workers else None

    def __enter__(self) -> AppTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def initial(self, seed: int) -> Values:
        """Values of a model made under `seed`. Integer buffers are not part of them: they stay local."""
        with self._engine.framework.deterministic(seed):
            return self._engine.framework.values_of(self._engine.model())

    def examples(self, dataset: str) -> int:
        """Rows of the dataset with this key."""
        return self._engine.framework.rows(self._engine.dataset(dataset))

    def train(self, task: TrainTask) -> TrainResult:
        """Train once. A model that diverged is returned as it is, NaN and all."""
        return self.train_many([task])[0]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """Metrics of each model on one dataset, "loss" always among them; NaN is returned as it is."""
        return self.evaluate_many([task])[0]

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        """Results in the order of `tasks`. Raises `AppFailed`, `Unavailable` when a
        worker process dies."""
        return self._workers.map(tasks) if self._workers else [self._engine.train(task) for task in tasks]

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        """Results in the order of `tasks`; raises as `train_many`."""
        return self._workers.map(tasks) if self._workers else [self._engine.evaluate(task) for task in tasks]

    def close(self) -> None:
        """End the worker processes."""
        if self._workers:
            self._workers.close()


@final
class Answering:
    """What a worker process does once: it prepares an engine, ready to answer tasks. Can be pickled."""

    def __init__(self, prepare: Callable[[TrainerOptions], Engine]) -> None:
        self._prepare = prepare

    def __call__(self, options: TrainerOptions) -> Callable[[TrainTask | EvaluateTask], Any]:
        """The engine's `answer`."""
        return self._prepare(options).answer
