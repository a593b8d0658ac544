"""What a node's ports are asked and how they answer, counted on the way; the node knows nothing of it."""

from __future__ import annotations

import builtins
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, cast

from hansa import errors
from hansa.app import EvaluateTask, TrainResult, TrainTask, Values
from hansa.ports import Call, Ledger, Owning, Store, Table, Trainer, View
from hansa.records import Mpc

Part = Literal["chain", "store"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A chain or a store that does not answer: since when, on the meter's clock, and what it said last."""

    since: float
    text: str


@dataclass(slots=True)
class Meter:
    """Counts since the start; others may read while the node works.

    `failing`: parts whose last answer was none. `up`, `down`: bytes of the store. `seconds`: in the app's own
    code, by what it did. `busy`: since when it is in there. `last`: seconds that it
    was there last, by what it did.
    """

    clock: Callable[[], float] = time.monotonic
    errors: Counter[Part] = field(default_factory=Counter)
    failing: dict[Part, Failure] = field(default_factory=dict)
    up: int = 0
    down: int = 0
    messages: int = 0
    transactions: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluate": 0.0})
    busy: float | None = None
    last: dict[str, float] = field(default_factory=dict)

    def trained(self) -> int:
        """Milliseconds that the last training took, at least one."""
        return max(1, round(1000 * self.last["train"]))

    @contextmanager
    def asking(self, part: Part) -> Iterator[None]:
        """A question to a part; what it raises passes through."""
        try:
            yield
        except (errors.Missing, errors.Refused):
            self.failing.pop(part, None)
            raise
        except (errors.Unavailable, errors.Untrusted) as e:
            self.errors[part] += 1
            before = self.failing.get(part)
            since = self.clock() if before is None else before.since
            self.failing[part] = Failure(since, f"{e} {e.hint}".strip())
            raise
        self.failing.pop(part, None)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """The app's own code at work."""
        begun = self.busy = self.clock()
        try:
            yield
        finally:
            self.busy = None
            self.last[what] = self.clock() - begun
            self.seconds[what] += self.last[what]


@dataclass(frozen=True, slots=True)
class MeteredLedger:
    """A ledger whose answers are counted."""

    inner: Ledger
    meter: Meter

    def view(self) -> View:
        """See `Ledger.view`."""
        with self.meter.asking("chain"):
            return self.inner.view()

    def submit(self, *calls: Call) -> None:
        """See `Ledger.submit`."""
        with self.meter.asking("chain"):
            self.meter.transactions += len(calls)
            self.inner.submit(*calls)

    def dry_run(self, call: Call) -> list[int]:
        """See `Ledger.dry_run`."""
        with self.meter.asking("chain"):
            return self.inner.dry_run(call)


@dataclass(frozen=True, slots=True)
class MeteredStore:
    """A store whose answers and bytes are counted. Bad bytes of one blob are no fault of the store's service."""

    inner: Store
    meter: Meter

    @contextmanager
    def _asking(self) -> Iterator[None]:
        wrong: errors.Untrusted | None = None
        with self.meter.asking("store"):
            try:
                yield
            except errors.Untrusted as e:
                wrong = e
        if wrong is not None:
            raise wrong

    def put(self, data: bytes, digest: bytes | None = None) -> bytes:
        """See `Store.put`."""
        with self._asking():
            digest = self.inner.put(data, digest)
        self.meter.up += len(data)
        return digest

    def get(self, digest: bytes, *, limit: int) -> bytes:
        """See `Store.get`."""
        with self._asking():
            data = self.inner.get(digest, limit=limit)
        self.meter.down += len(data)
        return data

    def has(self, digest: bytes) -> bool:
        """See `Store.has`."""
        with self._asking():
            return self.inner.has(digest)

    def discard(self, digest: bytes) -> None:
        """See `Store.discard`."""
        with self._asking():
            self.inner.discard(digest)

    def digests(self) -> frozenset[bytes]:
        """See `Store.digests`."""
        with self._asking():
            return self.inner.digests()

    def put_at(self, key: str, data: bytes) -> None:
        """See `Store.put_at`. A node puts messages there, and nothing else."""
        with self._asking():
            self.inner.put_at(key, data)
        self.meter.up += len(data)
        self.meter.messages += 1

    def get_at(self, key: str, *, limit: int) -> bytes:
        """See `Store.get_at`."""
        with self._asking():
            data = self.inner.get_at(key, limit=limit)
        self.meter.down += len(data)
        return data

    def list(self, prefix: str) -> builtins.list[str]:
        """See `Store.list`."""
        with self._asking():
            return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        with self._asking():
            self.inner.delete(key)


@dataclass(frozen=True, slots=True)
class MeteredTrainer:
    """A trainer whose time is taken."""

    inner: Trainer
    meter: Meter

    def initial(self, seed: int) -> Values:
        """See `Trainer.initial`."""
        return self.inner.initial(seed)

    def examples(self, dataset: str) -> int:
        """See `Trainer.examples`."""
        return self.inner.examples(dataset)

    def table(self, dataset: str, terms: Mpc, owners: int, key: bytes) -> Table:
        """See `Owning.table`."""
        return cast(Owning, self.inner).table(dataset, terms, owners, key)

    def train(self, task: TrainTask) -> TrainResult:
        """See `Trainer.train`."""
        with self.meter.working("train"):
            return self.inner.train(task)

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        """See `Trainer.train_many`."""
        with self.meter.working("train"):
            return self.inner.train_many(tasks)

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """See `Trainer.evaluate`."""
        with self.meter.working("evaluate"):
            return self.inner.evaluate(task)

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        """See `Trainer.evaluate_many`."""
        with self.meter.working("evaluate"):
            return self.inner.evaluate_many(tasks)

    def close(self) -> None:
        """See `Trainer.close`."""
        self.inner.close()
