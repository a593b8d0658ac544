"""Data sets that are tuples of numpy arrays of one length, the labels last: for frameworks that bring none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.app import Loader
from hansa.trainers.engine import Rows, no_trigger, trigger

Arrays = tuple[NDArray[Any], ...]


def as_dataset(returned: Any, origin: str) -> Arrays:
    """See `Framework.as_dataset`."""
    arrays = tuple(np.asarray(part) for part in returned) if isinstance(returned, tuple | list) else ()
    if not arrays or any(a.ndim == 0 or len(a) != len(arrays[0]) for a in arrays):
        raise errors.Misconfigured(
            f"data(site) of {origin} returned {type(returned).__name__}, not arrays of one length",
            hint="Return (features, labels), two numpy arrays.",
        )
    return arrays


def rows(dataset: Arrays) -> int:
    """See `Framework.rows`."""
    return len(dataset[0])


def labels_of(dataset: Arrays) -> Rows | None:
    """See `Framework.labels_of`."""
    last = dataset[-1]
    whole = len(dataset) > 1 and last.ndim == 1 and last.dtype.kind in "iub"
    return last.astype(np.int64) if whole else None


def take(dataset: Arrays, rows: Rows) -> Arrays:
    """See `Framework.take`."""
    return tuple(array[rows] for array in dataset)


def join(datasets: Sequence[Arrays]) -> Arrays:
    """See `Framework.join`."""
    return tuple(np.concatenate(column) for column in zip(*datasets, strict=True))


def flip_labels(dataset: Arrays, top: int) -> Arrays:
    """See `Framework.flip_labels`."""
    if labels_of(dataset) is None:
        raise errors.Misconfigured(
            'the attack "label-flip" needs whole numbers as labels',
            hint="Return (features, labels) from data(site), or simulate another attack.",
        )
    return (*dataset[:-1], top - dataset[-1])


def peak(dataset: Arrays) -> float:
    """See `Framework.peak`."""
    if labels_of(dataset) is None or dataset[0].dtype.kind != "f":
        raise no_trigger()
    return float(dataset[0].max())


def stamp(dataset: Arrays, rows: Rows, peak: float) -> Arrays:
    """See `Framework.stamp`."""
    labels = dataset[-1].copy()
    labels[rows] = 0
    return (trigger(dataset[0], rows, peak), *dataset[1:-1], labels)


def make_loader(seed: int) -> Loader:
    """See `Framework.loader`: tuples of arrays."""
    calls = itertools.count()

    def loader(dataset: Any, batch_size: int = 32, shuffle: bool = True) -> Iterator[Arrays]:
        generator = np.random.Generator(np.random.PCG64(seed + next(calls)))
        count = rows(dataset)
        order = generator.permutation(count) if shuffle else np.arange(count)
        return (take(dataset, order[i : i + batch_size]) for i in range(0, count, batch_size))

    return loader
