"""Trains and evaluates a user's PyTorch app, the same bits for any number of worker processes.

Every task is a pure function of (app, data, base values, seed): it runs on a fresh model, with all random
number generators seeded, on one thread, with torch's deterministic algorithms where it has them.
"""

from __future__ import annotations

import itertools
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from hansa import errors
from hansa.app import (
    Components,
    Context,
    EvaluateTask,
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
SEEDS: Final = 2**63
EVALUATION_SEED: Final = 0


def as_dataset(returned: Any, origin: str) -> Dataset[Any]:
    """A map-style dataset from what `data(site)` returned: a dataset, or a tuple of arrays with one length.

    Raises `Misconfigured` for anything else, and for an empty one; `origin` names the member.
    """
    if isinstance(returned, tuple | list) and returned:
        try:
            tensors = [torch.as_tensor(part) for part in returned]
            dataset: Any = TensorDataset(*tensors)
        except (TypeError, ValueError, AssertionError, RuntimeError, IndexError) as e:
            raise errors.Misconfigured(
                f"data(site) of {origin} returned a tuple whose parts are not arrays of one length: {e}",
                hint="Return (features, labels), or a torch Dataset.",
            ) from e
    else:
        dataset = returned
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise errors.Misconfigured(
            f"data(site) of {origin} returned {type(returned).__name__}, which has no length or no items",
            hint="Return (features, labels), or a torch Dataset with __len__ and __getitem__.",
        )
    if len(dataset) == 0:
        raise errors.Misconfigured(f"data(site) of {origin} returned no rows", hint="Check the data's path.")
    return dataset  # type: ignore[no-any-return]


def labels_of(dataset: Dataset[Any]) -> Rows | None:
    """Integer labels, one a row: the last tensor, or the attribute `targets` or `labels`; None without."""
    if isinstance(dataset, TensorDataset):
        found: Any = dataset.tensors[-1] if len(dataset.tensors) > 1 else None
    else:
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if found is None:
        return None
    array = np.asarray(found)
    return array.astype(np.int64) if array.ndim == 1 and array.dtype.kind in "iub" else None


def take(dataset: Dataset[Any], rows: Rows) -> Dataset[Any]:
    """The given rows of a dataset, copied where it lies in tensors."""
    if isinstance(dataset, TensorDataset):
        return TensorDataset(*(tensor[torch.from_numpy(rows)] for tensor in dataset.tensors))
    return Subset(dataset, rows.tolist())


def join(datasets: Sequence[Dataset[Any]]) -> Dataset[Any]:
    """All rows of several datasets, in order."""
    if len(datasets) == 1:
        return datasets[0]
    if all(isinstance(d, TensorDataset) for d in datasets):
        columns = zip(*(d.tensors for d in datasets if isinstance(d, TensorDataset)), strict=True)
        return TensorDataset(*(torch.cat(column) for column in columns))
    return ConcatDataset(datasets)


def flip_labels(dataset: Dataset[Any], top: int) -> Dataset[Any]:
    """Label y becomes top - y: what a label-flipping member trains on."""
    if not isinstance(dataset, TensorDataset):
        raise errors.Misconfigured(
            'the attack "label-flip" needs labels in a tensor',
            hint="Return (features, labels) from data(site), or simulate another attack.",
        )
    return TensorDataset(*dataset.tensors[:-1], top - dataset.tensors[-1])


def values_of(model: torch.nn.Module) -> Values:
    """Floating parameters and buffers of `model` as float32 copies, sorted by name."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, tensor in _floating(model).items()
    }


def _floating(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for name, tensor in sorted(model.state_dict().items())
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }


def load_values(model: torch.nn.Module, values: Values) -> None:
    """Copy `values` into `model`. Raises `Misconfigured` unless names and shapes are exactly the model's."""
    state = _floating(model)
    if state.keys() != values.keys():
        odd = ", ".join(sorted(state.keys() ^ values.keys()))
        raise errors.Misconfigured(f"the app's model and the federation's differ in: {odd}")
    with torch.no_grad():
        for name, tensor in state.items():
            if tuple(tensor.shape) != values[name].shape:
                raise errors.Misconfigured(
                    f"the app's model has shape {tuple(tensor.shape)} for {name}, "
                    f"the federation's has {values[name].shape}"
                )
            tensor.copy_(torch.from_numpy(np.array(values[name], dtype=np.float32)))


def make_loader(seed: int) -> Callable[..., DataLoader[Any]]:
    """The `ctx.loader` of one task: its loaders draw from `seed`, the second differently from the first."""
    calls = itertools.count()

    def loader(dataset: Any, batch_size: int = 32, shuffle: bool = True) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed((seed + next(calls)) % SEEDS)
        if not isinstance(dataset, TensorDataset):
            return DataLoader(dataset, batch_size, shuffle=shuffle, generator=generator)
        # A tensor takes a whole batch of row numbers at once, much faster than row by row.
        order = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        batches = BatchSampler(order, batch_size, drop_last=False)
        return DataLoader(dataset, batch_size=None, sampler=batches, generator=generator)

    return loader


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random, use one thread and deterministic algorithms; afterwards as before."""
    threads, strict = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if cuda else []
    with torch.random.fork_rng(devices), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        try:
            torch.set_num_threads(1)
            torch.set_deterministic_debug_mode("warn")
            _seed_all(seed)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(strict)
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed)
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

    def __init__(self, options: TrainerOptions) -> None:
        self._options = options
        self.parts: Components = components(load_app(options.folder, digest=options.digest))

    @cached_property
    def datasets(self) -> Mapping[str, Dataset[Any]]:
        """All datasets by key: `NAME/train`, `NAME/validation`, `test`, `pooled/train`."""
        o = self._options
        names = [site.name for site in o.sites]
        with deterministic(o.seed):
            if o.partition.kind == "natural":
                own = [self._data(site) for site in o.sites]
                labels, rows = [labels_of(d) for d in own], [len(d) for d in own]  # type: ignore[arg-type]
                shared = natural_shares(
                    labels, rows, o.partition, holdout=o.holdout, validation=o.validation, seed=o.seed
                )
                whole = join(own)
            else:
                whole = self._data(o.sites[0])
                shared = shares(
                    labels_of(whole),
                    len(whole),  # type: ignore[arg-type]
                    len(names),
                    o.partition,
                    holdout=o.holdout,
                    validation=o.validation,
                    seed=o.seed,
                )
        found = {"test": take(whole, shared.test), "pooled/train": take(whole, np.concatenate(shared.train))}
        for name, train, validation in zip(names, shared.train, shared.validation, strict=True):
            found[f"{name}/train"] = take(whole, train)
            found[f"{name}/validation"] = take(whole, validation)
        return found

    def _data(self, site: Site) -> Dataset[Any]:
        return as_dataset(_users(f"data(site) of {site.name}", lambda: self.parts.data(site)), site.name)

    def dataset(self, key: str) -> Dataset[Any]:
        """The dataset of a key; `NAME/flipped` is `NAME/train` with labels flipped."""
        if key.endswith("/flipped"):
            labels = labels_of(self.datasets["pooled/train"])
            top = 0 if labels is None else int(labels.max())
            return flip_labels(self.datasets[key.removesuffix("flipped") + "train"], top)
        if key not in self.datasets:
            raise errors.Misconfigured(f"there is no dataset {key!r}; there are: {', '.join(self.datasets)}")
        return self.datasets[key]

    def model(self) -> torch.nn.Module:
        """A new model on the device."""
        made = _users("model()", self.parts.model)
        if not isinstance(made, torch.nn.Module) or not values_of(made):
            raise errors.Misconfigured(
                f"the app's model() made {type(made).__name__}, not a torch.nn.Module with parameters",
                hint="App(model=make_model) takes a function that returns a new torch.nn.Module.",
            )
        return made.to(self._options.device)

    def context(self, task: TrainTask | EvaluateTask, seed: int) -> Context:
        """What the user's code is told about a task."""
        return Context(Params(dict(task.params)), task.round, seed, self._options.device, make_loader(seed))

    def train(self, task: TrainTask) -> TrainResult:
        """As `TorchTrainer.train`."""
        dataset = self.dataset(task.dataset)
        with deterministic(task.seed):
            model = self.model()
            load_values(model, task.base)
            model.train()
            context = self.context(task, task.seed)
            what = f"train() for {task.dataset} in round {task.round}"
            returned = _users(what, lambda: self.parts.train(model, dataset, context))
            metrics = {} if returned is None else _as_metrics(returned, what)
            return TrainResult(values_of(model), len(dataset), metrics)  # type: ignore[arg-type]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """As `TorchTrainer.evaluate`."""
        dataset = self.dataset(task.dataset)
        what = f"evaluate() for {task.dataset} in round {task.round}"
        results = []
        with deterministic(EVALUATION_SEED), torch.no_grad():
            model = self.model()
            for values in task.models:
                load_values(model, values)
                model.eval()
                _seed_all(EVALUATION_SEED)
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


def prepare(options: TrainerOptions) -> Callable[[TrainTask | EvaluateTask], Any]:
    """What a worker process does once: its `Engine`, ready to answer tasks."""
    return Engine(options).answer


def _describe(task: TrainTask | EvaluateTask) -> str:
    verb = "training" if isinstance(task, TrainTask) else "evaluating"
    return f"{verb} {task.dataset} in round {task.round}"


@final
class TorchTrainer:
    """The trainer port for PyTorch: in this process, or in `options.workers` others."""

    def __init__(self, options: TrainerOptions) -> None:
        self._engine = Engine(options)
        self._workers = Workers(options.workers, prepare, options, _describe) if options.workers else None

    def __enter__(self) -> TorchTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def initial(self, seed: int) -> Values:
        """Values of a model made under `seed`. Integer buffers are not part of them: they stay local."""
        with deterministic(seed):
            return values_of(self._engine.model())

    def examples(self, dataset: str) -> int:
        """Rows of the dataset with this key."""
        return len(self._engine.dataset(dataset))  # type: ignore[arg-type]

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


def create(options: TrainerOptions) -> TorchTrainer:
    """A trainer for the app in `options.folder`.

    Raises `Misconfigured` when the app cannot be loaded or the device is not there.
    """
    device = options.device.partition(":")[0]
    if device not in ("cpu", "cuda"):
        raise errors.Misconfigured(f"unknown device {options.device!r}", hint='Use "cpu" or "cuda".')
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what makes cuBLAS deterministic
        if not torch.cuda.is_available():
            raise errors.Misconfigured("torch finds no CUDA device here", hint='Use device = "cpu".')
    return TorchTrainer(options)
