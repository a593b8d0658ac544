"""Flower's arrays and Hansa's: what a model looks like on either side, and whether a reply can be taken.

Hansa's model is a vector of fixed point; Flower's is an ordered list of named arrays of any type. Floating arrays
go over as they are. Integer arrays (counters, as those of batch normalisation) are averaged too under Flower, so they
go over in steps of 1/256.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.common.constant import SType
from numpy.typing import NDArray

from hansa import errors

Floats = dict[str, NDArray[Any]]
STEP_BITS: Final = 8
"""Integers are kept to 2**-8."""

VERSION_1: Final = np.lib.format.magic(1, 0)
"""How an `.npy` file begins; two bytes follow, the length of its header."""


@dataclass(frozen=True, slots=True)
class Form:
    """Names, types and shapes of the app's arrays, in the app's order; values stand in units of 2**-scale."""

    names: tuple[str, ...]
    types: tuple[np.dtype[Any], ...]
    shapes: tuple[tuple[int, ...], ...]
    scale: int

    @property
    def limit(self) -> float:
        """Magnitude from which on a value no longer fits."""
        return 2.0 ** (31 - self.scale)

    def floats(self, record: ArrayRecord) -> Floats:
        """The arrays by name. Raises `AppFailed` when they are not those that were sent, or do not fit."""
        if sorted(record) != sorted(self.names):
            odd = ", ".join(sorted(set(record) ^ set(self.names))[:5])
            raise errors.AppFailed(
                f"the reply's arrays are not those that were sent: {odd}",
                hint="Return every array under its name.",
            )
        made: Floats = {}
        for name, kind, shape in zip(self.names, self.types, self.shapes, strict=True):
            array = read(record[name])
            if array.shape != shape:
                raise errors.AppFailed(
                    f"array {name!r} came back with shape {array.shape}, and was sent with {shape}",
                    hint="A round's arrays can be averaged only if all have the shape of the model.",
                )
            made[name] = _checked(name, np.ldexp(array.astype(np.float64), self._shift(kind)), self.limit)
        return made

    def record(self, values: NDArray[np.int32], types: Sequence[str], *, mean: bool) -> ArrayRecord:
        """The arrays that integers in the model's scale stand for, of the types that a member returned.

        Of a `mean`, integer arrays are float64, as they are in the means that Flower computes.
        """
        found: dict[str, NDArray[Any]] = {}
        start = 0
        for name, shape in sorted(zip(self.names, self.shapes, strict=True)):
            size = math.prod(shape)
            found[name] = values[start : start + size].reshape(shape)
            start += size
        made = {}
        for name, sent, returned in zip(self.names, self.types, types, strict=True):
            exact = np.ldexp(found[name].astype(np.float64), -self.scale - self._shift(sent))
            kind = np.dtype(returned)
            if kind.kind != "f":
                exact, kind = (exact, np.dtype(np.float64)) if mean else (np.rint(exact), kind)
            made[name] = Array(exact.astype(kind))
        return ArrayRecord(made)

    def of_values(self, values: Mapping[str, NDArray[Any]]) -> ArrayRecord:
        """The arrays of a model as the trainer port hands it over."""
        made = {}
        for name, kind in zip(self.names, self.types, strict=True):
            exact = np.ldexp(values[name].astype(np.float64), -self._shift(kind))
            made[name] = Array(exact.astype(kind if np.issubdtype(kind, np.floating) else np.float64))
        return ArrayRecord(made)

    def _shift(self, kind: np.dtype[Any]) -> int:
        return 0 if np.issubdtype(kind, np.floating) else STEP_BITS - self.scale


def read(array: Array) -> NDArray[Any]:
    """As `array.numpy()`, but read-only: numpy parses each header as Python, and members' headers are all alike."""
    data, start = array.data, len(VERSION_1) + 2
    start += int.from_bytes(data[len(VERSION_1) : start], "little")
    if array.stype != SType.NUMPY or not data.startswith(VERSION_1) or len(data) < start:
        return array.numpy()
    shape, by_column, kind = _header(data[:start])
    if len(data) != start + math.prod(shape) * kind.itemsize:
        return array.numpy()
    return np.frombuffer(data, kind, offset=start).reshape(shape, order="F" if by_column else "C")


@lru_cache(maxsize=1024)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type: out of what precedes the values in an `.npy` file of version 1."""
    return np.lib.format.read_array_header_1_0(BytesIO(head[len(VERSION_1) :]))


def form_of(record: ArrayRecord, scale: int) -> Form:
    """How the app's arrays look. Raises `Misconfigured` for what cannot be averaged."""
    arrays = {name: array.numpy() for name, array in record.items()}
    odd = [name for name, a in arrays.items() if a.dtype.kind not in "fiub"]
    if odd or not arrays:
        what = f"array {odd[0]!r} has type {arrays[odd[0]].dtype}" if odd else "its model has no arrays"
        raise errors.Misconfigured(
            f"the app's ServerApp starts with a model that cannot be averaged: {what}",
            hint="Hansa adds up arrays of numbers; models of other kinds, such as trees, have no sum.",
        )
    return Form(
        tuple(arrays),
        tuple(a.dtype for a in arrays.values()),
        tuple(a.shape for a in arrays.values()),
        scale,
    )


def largest(record: ArrayRecord) -> float:
    """The greatest magnitude among floating arrays, 0 if there is none."""
    floats = [array.numpy() for array in record.values()]
    return max((float(np.max(np.abs(a))) for a in floats if a.dtype.kind == "f" and a.size), default=0.0)


def _checked(name: str, array: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    if not np.isfinite(array).all():
        raise errors.AppFailed(
            f"array {name!r} came back with NaN or infinity",
            hint="Training diverged: lower the learning rate.",
        )
    if array.size and float(np.max(np.abs(array))) >= limit:
        raise errors.AppFailed(
            f"array {name!r} came back with a value beyond {limit:g}, which the terms' scale cannot hold",
            hint="Use a smaller scale: --set federation.scale=16 holds values up to 32768.",
        )
    return array


def only_arrays(content: RecordDict) -> tuple[str, ArrayRecord]:
    """The one ArrayRecord of a reply, and its key. Raises `AppFailed`."""
    found = content.array_records
    if len(found) != 1:
        raise errors.AppFailed(
            f"the reply holds {len(found)} ArrayRecords, and a round needs exactly one",
            hint='Return RecordDict({"arrays": ArrayRecord(...), "metrics": MetricRecord(...)}).',
        )
    key, record = next(iter(found.items()))
    return key, record


def only_metrics(content: RecordDict, weight: str) -> tuple[str, MetricRecord, float]:
    """The one MetricRecord of a reply, its key, and its weight. Raises `AppFailed`."""
    found = content.metric_records
    if len(found) != 1:
        raise errors.AppFailed(
            f"the reply holds {len(found)} MetricRecords, and a round needs exactly one",
            hint=f'Return MetricRecord({{"{weight}": number of rows, ...}}).',
        )
    key, record = next(iter(found.items()))
    if weight not in record:
        raise errors.AppFailed(
            f"the reply's MetricRecord has no {weight!r}, by which updates are weighted",
            hint=f'Add "{weight}": len(dataset) to the metrics that the ClientApp returns.',
        )
    value = record[weight]
    if isinstance(value, list) or not math.isfinite(value):
        raise errors.AppFailed(
            f"{weight!r} in the reply's MetricRecord is no number", hint="Return one number."
        )
    return key, record, float(value)


def whole(weight: str, value: float) -> int:
    """A weight as members commit to it. Raises `AppFailed` unless it is a whole number above zero."""
    if value < 1 or value != int(value):
        raise errors.AppFailed(
            f"{weight!r} is {value:g}, and members commit to a whole number of examples above zero",
            hint="A member without data takes no part; weights that are fractions have no place on the chain.",
        )
    return int(value)


def numbers(record: MetricRecord) -> dict[str, float]:
    """Metrics that are single numbers."""
    return {name: float(v) for name, v in record.items() if isinstance(v, int | float)}


def named(metrics: Mapping[str, float]) -> dict[str, float]:
    """With `accuracy` and `loss`, where the app calls them otherwise: `eval_acc`, `val_loss`; of training, last."""
    made = dict(metrics)
    for wanted, part in (("accuracy", "acc"), ("loss", "loss")):
        near = [name for name in metrics if part in name.lower()]
        near.sort(key=lambda name: "train" in name.lower())
        if wanted not in made and near:
            made[wanted] = metrics[near[0]]
    return made


def fresh(content: RecordDict) -> RecordDict:
    """A copy whose records may be changed without changing those of others; arrays are shared, being immutable."""
    made = RecordDict()
    for key, record in content.items():
        kind: Any = type(record)
        made[key] = kind(dict(record))
    return made
