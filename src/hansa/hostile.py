"""Hostile members for simulations: a trainer that lies in its member's name. Nodes know nothing of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hansa.app import EvaluateTask, TrainResult, TrainTask, Values, member_name, training_seed
from hansa.attacks import Attack, Delta, Knowledge, distort_update, training_key
from hansa.ports import Trainer
from hansa.protocol.checkpoint import difference, shifted
from hansa.protocol.model import from_arrays, to_arrays

Before = Callable[[int], Values | None]
"""The model that the round before this one trained from; None where there was none."""


class Collusion:
    """What the hostile members of a simulation tell each other, and what the simulation tells them.

    attacks: by member. seed: that of all training. before: for attacks that copy, where updates can be read at all;
    None where they cannot. Training is repeated for it, so that a run that was killed goes on as it would have.
    """

    def __init__(
        self,
        trainer: Trainer,
        attacks: Mapping[int, Attack],
        members: int,
        seed: int,
        scale: int,
        before: Before | None,
    ) -> None:
        self._trainer = trainer
        self._attacks = attacks
        self._members = members
        self._seed = seed
        self._scale = scale
        self._before = before
        self._trained: dict[tuple[int, int, bytes], Delta] = {}

    def knowledge(self, attack: Attack, task: TrainTask) -> Knowledge:
        """What `attack` is told in the round of `task`; nothing if its kind needs nothing."""
        hostile = sorted(self._attacks)
        honest = [m for m in range(self._members) if m not in self._attacks]
        match attack.kind:
            case "alie":
                return Knowledge(own=self._updates(hostile, task))
            case "ipm":
                return Knowledge(honest=self._updates(honest, task))
            case "copycat" if self._before is not None and (base := self._before(task.round)) is not None:
                return Knowledge(seen=self._updates(honest, replace(task, base=base, round=task.round - 1)))
        return Knowledge()

    def _updates(self, members: Sequence[int], task: TrainTask) -> list[Delta]:
        """What training gives each of these members, from the base and in the round of `task`."""
        base, _ = from_arrays(task.base, self._scale)
        digest = hashlib.sha256(base.values.tobytes()).digest()
        keys = {m: (task.round, m, digest) for m in members}
        self._trained = {key: delta for key, delta in self._trained.items() if key[0] >= task.round - 1}
        missing = [m for m in members if keys[m] not in self._trained]
        tasks = [
            replace(
                task,
                dataset=training_key(self._attacks.get(m), member_name(m)),
                seed=training_seed(self._seed, m, task.round),
            )
            for m in missing
        ]
        for m, result in zip(missing, self._trainer.train_many(tasks), strict=True):
            self._trained[keys[m]] = difference(base, result.values)
        return [self._trained[keys[m]] for m in members]


class HostileTrainer:
    """Trains honestly, then sends something else; as an evaluator it ranks upside down."""

    def __init__(
        self, honest: Trainer, attack: Attack, member: int, seed: int, scale: int, collusion: Collusion
    ) -> None:
        self._honest = honest
        self._attack = attack
        self._member = member
        self._seed = seed
        self._scale = scale
        self._collusion = collusion

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
        known = self._collusion.knowledge(self._attack, task)
        sent = shifted(base, distort_update(self._attack, delta, self._scale, generator, known))
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
