"""Owners' rows under a training script of scheme `mpc`, and what is compared with training on shares.

What computing parties train is trained here only in the clear, for comparison: by one owner alone, or on all rows of
a simulation together. A data set is rows as they are shared: behind the plain bottom, labels encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.app import EvaluateTask, Site, TrainerOptions, TrainResult, TrainTask, Values, users_traceback
from hansa.mpc import bottleneck, layers, outline, schedule
from hansa.mpc.inputs import Shared, check_rows, share_values
from hansa.mpc.layout import Arrangement, Segment
from hansa.mpc.network import Logistic, SoftmaxCrossEntropy
from hansa.mpc.program import Open, Operation
from hansa.mpc.training import load_training
from hansa.partition import Shares, natural_shares, shares
from hansa.ports import Table
from hansa.records import Boundary, Mpc

Rows = NDArray[np.int64]


@final
class ScriptTrainer:
    """The port `Owning` for a script."""

    def __init__(self, options: TrainerOptions) -> None:
        self._options = options
        self._path = options.folder / options.script
        self.training = load_training(self._path, digest=options.digest)
        self._terms: Mpc | None = None

    # what the terms take from the script

    def declared(self, terms: Mpc) -> Mpc:
        """See `ports.Owning.declared`. Raises `Misconfigured`."""
        declared, layout = self.training.declared, self.training.layout
        if layout.arrangement is Arrangement.BOTTLENECK and not terms.rows:
            raise errors.Misconfigured(
                "owners draw the noise of all steps beforehand, and the terms do not say how many there may be",
                hint="Write rows = N under [mpc]: the most rows that all owners share together.",
            )
        program = outline.outline(self.training, [declared.batch] * max(1, len(declared.columns))).program
        reveals = [
            _boundary(self.training.layout, operation, per)
            for operations, per in (
                (program.start, "training"),
                (program.step, "step"),
                (program.epoch, "epoch"),
                (program.finish, "training"),
            )
            for operation in operations
            if isinstance(operation, Open)
        ]
        lines = []
        for placed in layout.layers:
            where = "on shares" if placed.place is None else f"in the clear, at {_who(placed.place)}"
            before, after = ("x".join(map(str, shape)) for shape in (placed.inputs, placed.outputs))
            lines.append(f"{placed.name}, {before} to {after}: {where}")
        return replace(
            terms,
            protocol=declared.protocol,
            field=declared.field,
            network=tuple(lines),
            reveals=tuple(sorted(reveals, key=lambda b: (b.boundary, b.to))),
            accept_leakage=declared.accept_leakage,
        )

    # rows

    @property
    def whole_rows(self) -> bool:
        """See `ports.Owning.whole_rows`."""
        return not self.training.declared.columns

    @cached_property
    def _datasets(self) -> Mapping[str, Shared]:
        """All data sets by key: `NAME/train`, `NAME/validation`, `test`, `pooled/train`."""
        o = self._options
        own = [self._rows(place, site) for place, site in enumerate(o.sites)]
        if self.training.declared.columns:
            return self._by_columns(own)
        if o.partition.kind == "natural" or len(o.sites) == 1:
            whole, found = _joined(own), self._natural(own)
        else:
            whole = own[0]
            found = shares(
                _labels(whole), len(whole.ids), len(o.sites), o.partition,
                holdout=o.holdout, validation=o.validation, seed=o.seed,
            )  # fmt: skip
        named = {"test": found.test, "pooled/train": np.concatenate(found.train)}
        for site, train, validation in zip(o.sites, found.train, found.validation, strict=True):
            named |= {f"{site.name}/train": train, f"{site.name}/validation": validation}
        return {key: _taken(whole, rows) for key, rows in named.items()}

    def _natural(self, own: Sequence[Shared]) -> Shares:
        o = self._options
        return natural_shares(
            [_labels(s) for s in own], [len(s.ids) for s in own], o.partition,
            holdout=o.holdout, validation=o.validation, seed=o.seed,
        )  # fmt: skip

    def _by_columns(self, own: Sequence[Shared]) -> Mapping[str, Shared]:
        """Owners hold the same rows and other columns: which rows are held out follows from their names."""
        o = self._options
        if len({s.ids for s in own}) > 1:
            raise errors.Misconfigured(
                "owners of columns do not hold the same rows in the same order",
                hint="Align rows by id before training: the same ids, in the same order, at every owner.",
            )
        held = np.array([_held_out(i, o.seed, o.holdout) for i in own[0].ids])
        found = {
            f"{site.name}/train": _taken(s, np.flatnonzero(~held))
            for site, s in zip(o.sites, own, strict=True)
        }
        if len(own) == len(self.training.declared.columns):
            features = np.concatenate([s.features for s in own if s.features is not None], axis=1)
            labels = next(s.labels for s in own if s.labels is not None)
            whole = Shared(own[0].ids, features, labels)
            found |= {"test": _taken(whole, np.flatnonzero(held))}
            found |= {"pooled/train": _taken(whole, np.flatnonzero(~held))}
        return found

    def _rows(self, place: int, site: Site) -> Shared:
        owner = site.index if self.training.declared.columns else place
        try:
            returned = self.training.read_rows(site)
            return check_rows(self.training, returned, owner, folder=self._options.folder)
        except errors.HansaError:
            raise
        except Exception as e:
            raise errors.AppFailed(
                f"the script failed in rows(site) of {site.name}:\n{users_traceback(e, self._path.name)}",
                hint=f"The fault lies in {self._path.name}, not in Hansa.",
            ) from e

    def _dataset(self, key: str) -> Shared:
        if key not in self._datasets:
            raise errors.AppFailed(f"there are no rows called {key!r} here")
        return self._datasets[key]

    def examples(self, dataset: str) -> int:
        """Rows of a data set."""
        return len(self._dataset(dataset).ids)

    def table(self, dataset: str, terms: Mpc, owners: int, key: bytes) -> Table:
        """See `ports.Owning.table`. Raises `Misconfigured`."""
        rows, declared = self._dataset(dataset), self.training.declared
        steps = declared.epochs * (terms.rows // declared.batch)
        found = share_values(self.training, rows, steps, owners, key)
        # Only owners of columns need digests that can be compared; those of others tell nobody anything.
        salt = b"" if declared.columns else key
        return Table(len(rows.ids), encoding.digest(encoding.encode([salt, list(rows.ids)])), found)

    # in the clear, for comparison

    def initial(self, seed: int) -> Values:
        """First weights of what is trained. They follow from the script's own seed."""
        del seed
        made = schedule.initial(self.training.layout, self.training.declared.seed)
        return {name: made[name] for segment in self._segments for name in segment.parameters}

    @property
    def _segments(self) -> tuple[Segment, ...]:
        return self.training.layout.segments

    def train(self, task: TrainTask) -> TrainResult:
        """The whole training in the clear, on one data set; clips and noise of reveals are left out."""
        rows, declared = self._dataset(task.dataset), self.training.declared
        if rows.features is None or rows.labels is None:
            raise errors.AppFailed("an owner of some columns cannot train alone")
        whole = Segment(None, tuple(p for s in self._segments for p in s.layers), None)
        values, velocity = dict(task.base), None
        if declared.optimizer.momentum:
            velocity = np.zeros(sum(v.size for v in values.values()), np.float32)
        total = len(rows.ids)
        used = replace(declared, batch=min(declared.batch, total))
        for step in range(used.epochs * schedule.steps_an_epoch(used, total)):
            batch = schedule.feeds(used, total, step)[schedule.ROWS]
            z, saved = layers.forward(whole.layers, values, rows.features[batch], np)
            d = layers.prediction(z, used.loss, np) - rows.labels[batch]
            _, gradients = layers.backward(whole, values, saved, d, np, onward=False)
            values, velocity = layers.update(
                whole.parameters, values, velocity, gradients, used.optimizer, used.batch, np
            )
        made = {name: np.asarray(values[name], np.float32) for name in task.base}
        return TrainResult(made, total)

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        """Several, one after another."""
        return [self.train(task) for task in tasks]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """Loss of each model, and accuracy where labels are classes."""
        rows = self._dataset(task.dataset)
        if rows.features is None or rows.labels is None:
            raise errors.AppFailed("an owner of some columns cannot evaluate a model alone")
        if not rows.ids:
            raise errors.AppFailed("there are no rows to evaluate on")
        placed = [p for s in self._segments for p in s.layers]
        found = []
        for values in task.models:
            z, _ = layers.forward(placed, values, rows.features, np)
            found.append(_metrics(self.training.declared.loss, z, rows.labels))
        return found

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        """Several, one after another."""
        return [self.evaluate(task) for task in tasks]

    def close(self) -> None:
        """Nothing to stop."""


def _metrics(loss: Any, z: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    found = {"loss": layers.mean_loss(z, y, loss)}
    if isinstance(loss, SoftmaxCrossEntropy | Logistic) or set(np.unique(y)) <= {0.0, 1.0}:
        half = 0.0 if isinstance(loss, Logistic) else 0.5
        right = z.argmax(axis=1) == y.argmax(axis=1) if y.shape[1] > 1 else (z > half) == (y > 0.5)
        found["accuracy"] = float(np.mean(right))
    return found


def _boundary(layout: Any, opened: Operation, per: str) -> Boundary:
    assert isinstance(opened, Open)
    name = opened.variable.name
    found = Boundary(name, opened.to, per)
    if layout.arrangement is not Arrangement.BOTTLENECK or opened.to < 0:
        return found
    reveal = bottleneck.reveal_of(layout)
    clip, noise = (
        (reveal.clip, reveal.noise)
        if name == bottleneck.SHOWN
        else (reveal.gradient_clip, reveal.gradient_noise)
    )
    return replace(found, clip=clip or 0.0, noise=noise or 0.0)


def _who(place: int | str) -> str:
    return "each owner" if isinstance(place, str) else f"party {place}"


def _labels(rows: Shared) -> Rows | None:
    """Classes, where there are any: rows are split in each of them alike."""
    y = rows.labels
    if y is None or not set(np.unique(y)) <= {0.0, 1.0}:
        return None
    classes: Rows = (y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0]).astype(np.int64)
    return classes


def _taken(rows: Shared, numbers: Rows) -> Shared:
    return Shared(
        tuple(rows.ids[int(n)] for n in numbers),
        None if rows.features is None else rows.features[numbers],
        None if rows.labels is None else rows.labels[numbers],
    )


def _joined(own: Sequence[Shared]) -> Shared:
    features = [s.features for s in own if s.features is not None]
    labels = [s.labels for s in own if s.labels is not None]
    ids = tuple(i for s in own for i in s.ids)
    return Shared(ids, np.concatenate(features), np.concatenate(labels))


def _held_out(id: str, seed: int, fraction: float) -> bool:
    word = hashlib.sha256(encoding.encode(["hansa/held-out", seed, id])).digest()[:8]
    return int.from_bytes(word, "big") < fraction * 2**64


def create(options: TrainerOptions) -> ScriptTrainer:
    """The trainer of a script. Raises `Misconfigured`."""
    return ScriptTrainer(options)
