"""Hostile members for simulations: a trainer that lies in its member's name. Nodes know nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.app import EvaluateTask, TrainResult, TrainTask, Values, training_seed
from hansa.attacks import Attack, distort_update
from hansa.ports import Trainer
from hansa.protocol.checkpoint import difference, shifted
from hansa.protocol.model import from_arrays, to_arrays


class HostileTrainer:
    """Trains honestly, then sends something else; as an evaluator it ranks upside down."""

    def __init__(self, honest: Trainer, attack: Attack, member: int, seed: int, scale: int) -> None:
        self._honest = honest
        self._attack = attack
        self._member = member
        self._seed = seed
        self._scale = scale

    def initial(self, seed: int) -> Values:
        """As the honest trainer."""
        return self._honest.initial(seed)

    def examples(self, dataset: str) -> int:
        """As the honest trainer."""
        return self._honest.examples(dataset)

    def train(self, task: TrainTask) -> TrainResult:
        """The attacked update, added to the base."""
        result = self._honest.train(task)
        base, _ = from_arrays(task.base, self._scale)
        delta = difference(base, result.values)
        generator = np.random.Generator(np.random.PCG64(training_seed(self._seed, self._member, task.round)))
        sent = shifted(base, distort_update(self._attack, delta, self._scale, generator))
        return TrainResult(to_arrays(sent), result.examples, result.metrics)

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        """One after the other."""
        return [self.train(task) for task in tasks]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        """Every metric with its sign turned: the best updates look worst."""
        return [{k: -v for k, v in metrics.items()} for metrics in self._honest.evaluate(task)]

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        """One after the other."""
        return [self.evaluate(task) for task in tasks]

    def close(self) -> None:
        """The honest trainer belongs to all members; its owner closes it."""
