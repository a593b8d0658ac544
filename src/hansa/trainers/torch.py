"""PyTorch: what the engine asks of it. Torch's deterministic algorithms are used where it has them."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, final

import numpy as np
import torch
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
from hansa.app import Loader, TrainerOptions, Values
from hansa.trainers.engine import AppTrainer, Engine, Rows, no_trigger, same_shapes, seed_all, seeded, trigger

SEEDS: Final = 2**63


def as_dataset(returned: Any, origin: str) -> Dataset[Any]:
    """A map-style dataset from what `data(site)` returned: a dataset, or a tuple of arrays with one length.

    Raises `Misconfigured` for anything else; `origin` names the member.
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


def peak(dataset: Dataset[Any]) -> float:
    """See `Framework.peak`."""
    if labels_of(dataset) is None or not isinstance(dataset, TensorDataset):
        raise no_trigger()
    if not dataset.tensors[0].is_floating_point():
        raise no_trigger()
    return float(dataset.tensors[0].max())


def stamp(dataset: Dataset[Any], rows: Rows, peak: float) -> Dataset[Any]:
    """See `Framework.stamp`."""
    assert isinstance(dataset, TensorDataset)
    features, *between, labels = dataset.tensors
    marked = torch.from_numpy(trigger(features.numpy(), rows, peak))
    return TensorDataset(marked, *between, labels.index_fill(0, torch.from_numpy(rows), 0))


def _floating(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for name, tensor in sorted(model.state_dict().items())
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }


def values_of(model: torch.nn.Module) -> Values:
    """Floating parameters and buffers of `model` as float32 copies, sorted by name."""
    return {
        name: tensor.detach().to("cpu", torch.float32, copy=True).numpy()
        for name, tensor in _floating(model).items()
    }


def load_values(model: torch.nn.Module, values: Values) -> None:
    """Copy `values` into `model`. Raises `Misconfigured` unless names and shapes are exactly the model's."""
    state = _floating(model)
    same_shapes({name: tuple(tensor.shape) for name, tensor in state.items()}, values)
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.from_numpy(np.array(values[name], dtype=np.float32)))


def make_loader(seed: int) -> Loader:
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
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if cuda else []
    with torch.random.fork_rng(devices), warnings.catch_warnings(), seeded(seed):
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        try:
            torch.set_num_threads(1)
            torch.set_deterministic_debug_mode("warn")
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(strict)


@final
class Torch:
    """The `Framework` whose models are `torch.nn.Module`, on one device."""

    as_dataset = staticmethod(as_dataset)
    labels_of = staticmethod(labels_of)
    take = staticmethod(take)
    join = staticmethod(join)
    flip_labels = staticmethod(flip_labels)
    peak = staticmethod(peak)
    stamp = staticmethod(stamp)
    values_of = staticmethod(values_of)
    load_values = staticmethod(load_values)
    deterministic = staticmethod(deterministic)
    loader = staticmethod(make_loader)

    def __init__(self, device: str) -> None:
        self._device = device

    def rows(self, dataset: Any) -> int:
        """See `Framework.rows`."""
        return len(dataset)

    def checked(self, made: Any) -> torch.nn.Module:
        """See `Framework.checked`: on the device."""
        if not isinstance(made, torch.nn.Module) or not values_of(made):
            raise errors.Misconfigured(
                f"the app's model() made {type(made).__name__}, not a torch.nn.Module with parameters",
                hint="App(model=make_model) takes a function that returns a new torch.nn.Module; "
                'for estimators of scikit-learn write App(model=make_model, framework="sklearn").',
            )
        return made.to(self._device)

    def for_training(self, model: torch.nn.Module) -> None:
        """See `Framework.for_training`."""
        model.train()

    def for_evaluation(self, model: torch.nn.Module) -> None:
        """See `Framework.for_evaluation`."""
        model.eval()

    def inference(self) -> AbstractContextManager[object]:
        """See `Framework.inference`."""
        return torch.no_grad()

    def seed(self, seed: int) -> None:
        """See `Framework.seed`."""
        torch.manual_seed(seed)
        seed_all(seed)


def prepare(options: TrainerOptions) -> Engine:
    """The engine of an app."""
    return Engine(options, Torch(options.device))


def create(options: TrainerOptions) -> AppTrainer:
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
    return AppTrainer(options, prepare)
