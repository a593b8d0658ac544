"""Hostile members of a simulation: what colluders are told, and that they need no memory for it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.tiny import LENGTH, TinyTrainer

from hansa.app import TrainTask, training_seed
from hansa.attacks import parse
from hansa.hostile import Collusion, HostileTrainer
from hansa.protocol.checkpoint import difference
from hansa.protocol.history import RoundStory
from hansa.protocol.model import from_arrays
from hansa.records import Outcome
from hansa.simulation import Simulation

SCALE = 16


class Counting(TinyTrainer):
    def __init__(self) -> None:
        super().__init__(noise=0.5)
        self.tasks: list[TrainTask] = []

    def train(self, task):
        self.tasks.append(task)
        return super().train(task)


def task(member: int, round: int = 2) -> TrainTask:
    base = {"w": np.full(LENGTH, 0.25, np.float32)}
    return TrainTask(f"m{member}/train", base, training_seed(9, member, round), round, ())


def sent(kind: str, member: int = 1, before=None, round: int = 2, trainer=None, collusion=None):
    trainer = trainer or Counting()
    attacks = {1: parse(kind), 3: parse(kind)}
    collusion = collusion or Collusion(trainer, attacks, 5, 9, SCALE, before)
    made = HostileTrainer(trainer, parse(kind), member, 9, SCALE, collusion)
    given = task(member, round)
    return difference(from_arrays(given.base, SCALE)[0], made.train(given).values)


def honest(member: int, round: int = 2, base: float = 0.25):
    given = replace(task(member, round), base={"w": np.full(LENGTH, base, np.float32)})
    return difference(from_arrays(given.base, SCALE)[0], TinyTrainer(noise=0.5).train(given).values)


def test_alie_knows_the_updates_of_colluders_alone() -> None:
    trainer = Counting()
    own = np.stack([honest(1), honest(3)]).astype(float)
    expected = np.rint(own.mean(axis=0) - 1.5 * own.std(axis=0))
    assert sent("alie", trainer=trainer).tolist() == expected.tolist()
    assert {t.dataset for t in trainer.tasks} == {"m1/train", "m3/train"}


def test_colluders_send_the_same_and_train_once_for_both() -> None:
    trainer = Counting()
    collusion = Collusion(trainer, {1: parse("ipm"), 3: parse("ipm")}, 5, 9, SCALE, None)
    first = sent("ipm", 1, trainer=trainer, collusion=collusion)
    assert first.tolist() == sent("ipm", 3, trainer=trainer, collusion=collusion).tolist()
    assert sorted(t.dataset for t in trainer.tasks) == [f"m{i}/train" for i in range(5)]


def test_ipm_turns_the_mean_of_the_honest_updates_of_this_round() -> None:
    mean = np.stack([honest(m) for m in (0, 2, 4)]).astype(float).mean(axis=0)
    assert sent("ipm:2").tolist() == np.rint(-2 * mean).tolist()


def test_others_train_with_the_seeds_that_they_have() -> None:
    trainer = Counting()
    sent("ipm", trainer=trainer)
    assert {t.seed for t in trainer.tasks} == {training_seed(9, m, 2) for m in range(5) if m != 3}


@pytest.mark.parametrize("round", [1, 2])
def test_a_copycat_sends_what_another_sent_the_round_before(round: int) -> None:
    def before(now: int):
        return {"w": np.full(LENGTH, 0.125, np.float32)} if now > 1 else None

    copied = sent("copycat", before=before, round=round)
    others = [honest(m, round - 1, 0.125).tolist() for m in (0, 2, 4)]
    assert copied.tolist() in others if round > 1 else not copied.any()


def test_a_copycat_that_can_read_no_update_sends_zeros() -> None:
    assert not sent("copycat", before=None).any()


@pytest.mark.parametrize("kind", ["sign-flip", "noise", "free-rider", "lie"])
def test_other_attacks_make_nobody_train(kind: str) -> None:
    trainer = Counting()
    sent(kind, trainer=trainer)
    assert [t.dataset for t in trainer.tasks] == ["m1/train"]


def test_the_round_before_trained_from_the_last_final_model_before_it() -> None:
    def story(round: int, outcome: Outcome | None) -> RoundStory:
        return RoundStory(round, outcome=outcome, model=bytes([round]))

    told = (story(1, Outcome.FINAL), story(2, Outcome.VOID), story(3, Outcome.FINAL), story(4, None))
    trainer = SimpleNamespace(initial=lambda seed: {"w": np.array([float(seed)])})
    simulation = SimpleNamespace(
        story=told,
        founding=SimpleNamespace(trainer=trainer, file=SimpleNamespace(initial_seed=9)),
        joint_model=lambda digest: from_arrays({"w": np.array([digest[0]], np.float32)}, SCALE)[0],
    )
    found = [Simulation._before(simulation, round) for round in (1, 2, 3, 4)]
    assert found[0] is None
    assert [float(v["w"][0]) for v in found[1:]] == [9.0, 1.0, 1.0]
