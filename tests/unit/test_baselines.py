"""Baselines on a trainer whose training is plain arithmetic, so that each result is known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hansa.app import EvaluateTask, TrainResult, TrainTask, Values, training_seed
from hansa.attacks import parse
from hansa.baselines import Setup, alone, compare, fedavg, pooled

STEPS = {"m0": 1.0, "m1": 2.0, "m2": -4.0, "pooled": 8.0}
ROWS = {"m0": 10, "m1": 30, "m2": 20, "pooled": 60}


class Arithmetic:
    """Training adds a member's own step to every value; "accuracy" is the first value."""

    def __init__(self) -> None:
        self.tasks: list[TrainTask] = []

    def initial(self, seed: int) -> Values:
        return {"a": np.full(2, seed, np.float32), "b": np.zeros((1, 2), np.float32)}

    def examples(self, dataset: str) -> int:
        return ROWS[dataset.split("/")[0]]

    def train(self, task: TrainTask) -> TrainResult:
        self.tasks.append(task)
        name, part = task.dataset.split("/")
        step = STEPS[name] * (100 if part == "flipped" else 1)
        moved = {n: (v + np.float32(step)).astype(np.float32) for n, v in task.base.items()}
        return TrainResult(moved, ROWS[name])

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        return [self.train(task) for task in tasks]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        offset = {"test": 0.0, "m0/validation": 0.5, "m1/validation": 0.25}[task.dataset]
        return [
            {"loss": 0.0, "accuracy": offset + float(m["a"][0]), "other": float(m["b"][0, 1])}
            for m in task.models
        ]

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        return [self.evaluate(task) for task in tasks]

    def close(self) -> None:
        return


def setup(rounds: int = 3, seed: int = 5) -> Setup:
    trainer = Arithmetic()
    return Setup(trainer, 3, rounds, trainer.initial(0), seed, (("lr", 0.1),))


def test_alone_trains_each_member_for_all_rounds_from_the_start() -> None:
    assert [float(m["a"][0]) for m in alone(setup(), [0, 1, 2])] == [3.0, 6.0, -12.0]
    assert [float(m["a"][0]) for m in alone(setup(), [1])] == [6.0]


def test_pooled_trains_on_all_rows_for_all_rounds() -> None:
    assert pooled(setup())["accuracy"] == 24.0


def test_fedavg_weighs_by_rows_and_keeps_shapes() -> None:
    mean = (1 * 10 + 2 * 30 - 4 * 20) / 60
    metrics = fedavg(setup(), {})
    assert metrics["accuracy"] == pytest.approx(3 * mean)
    assert metrics["other"] == pytest.approx(3 * mean)


def test_fedavg_takes_in_whatever_hostile_members_send() -> None:
    flipped = (1 * 10 - 5 * 2 * 30 - 4 * 20) / 60
    assert fedavg(setup(), {1: parse("sign-flip:5")})["accuracy"] == pytest.approx(3 * flipped)
    labels = (1 * 10 + 200 * 30 - 4 * 20) / 60
    assert fedavg(setup(1), {1: parse("label-flip")})["accuracy"] == pytest.approx(labels)
    idle = (1 * 10 - 4 * 20) / 60
    assert fedavg(setup(1), {1: parse("copycat")})["accuracy"] == pytest.approx(idle)


def test_attacks_repeat_with_the_seed() -> None:
    noise = {2: parse("noise:0.5")}
    assert fedavg(setup(seed=1), noise) == fedavg(setup(seed=1), noise)
    assert fedavg(setup(seed=1), noise) != fedavg(setup(seed=2), noise)


def test_tasks_carry_the_federations_seeds_rounds_and_params() -> None:
    job = setup(rounds=2)
    fedavg(job, {})
    assert isinstance(job.trainer, Arithmetic)
    seen = [(t.dataset, t.seed, t.round, t.params) for t in job.trainer.tasks]
    assert seen == [
        (f"m{m}/train", training_seed(5, m, r), r, (("lr", 0.1),)) for r in (1, 2) for m in range(3)
    ]


def test_the_comparison_counts_honest_members_alone() -> None:
    found = compare(setup(), {2: parse("free-rider")})
    assert found.alone == (3.0, 6.0)
    assert found.own == (3.5, 6.25)
    assert found.alone_mean == 4.5
    assert found.pooled == 24.0
    assert found.fedavg_unprotected == pytest.approx(3 * 70 / 60)


def test_who_is_absent_takes_no_part_in_fedavg() -> None:
    """Of steps 1 (10 rows) and 2 (30 rows) the mean is 1.75; member 2 would turn it to the other side."""
    made = setup(rounds=2)
    assert fedavg(made, {}, absent=[2])["accuracy"] == pytest.approx(3.5)
    assert isinstance(made.trainer, Arithmetic)
    assert {t.dataset for t in made.trainer.tasks} == {"m0/train", "m1/train"}
