"""An app that fails: the round's training or ranking is given up, the node goes on and says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.tiny import TinyTrainer, tiny

from hansa import errors
from hansa.app import EvaluateTask, TrainTask
from hansa.node.evaluating import evaluate


def crash(*_: Any) -> Any:
    raise errors.AppFailed("the app failed in train(): ZeroDivisionError", hint="The fault lies in app.py.")


class Crashing(TinyTrainer):
    """Its app fails in some rounds, or with some models."""

    def __init__(
        self, *, train: frozenset[int] = frozenset(), evaluate: frozenset[int] = frozenset()
    ) -> None:
        super().__init__()
        self.bad_train, self.bad_evaluate = train, evaluate
        self.tries = 0

    def train(self, task: TrainTask) -> Any:
        self.tries += 1
        return crash() if task.round in self.bad_train else super().train(task)

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        return crash() if task.round in self.bad_evaluate else super().evaluate(task)


def test_training_that_fails_costs_its_round_only() -> None:
    trainer = Crashing(train=frozenset({1, 2}))
    made = tiny(trainers={1: trainer})
    committed: dict[int, frozenset[int]] = {}
    while made.advance():
        committed[made.state.round] = committed.get(made.state.round, frozenset()) | set(
            made.state.current.commits
        )
    assert made.state.version == 3
    assert [1 in committed[r] for r in (1, 2, 3)] == [False, False, True]
    assert trainer.tries == 3
    texts = [t for t in made.nodes[1].findings if "own training gave no usable update" in t]
    assert len(texts) == 2
    assert "ZeroDivisionError The fault lies in app.py." in texts[0]
    # It verified, though it had nothing of its own.
    assert made.state.members[1].reputation > 0
    assert not [t for t in made.nodes[1].findings if "Untrusted" in t]


def test_evaluation_that_fails_becomes_doubt() -> None:
    made = tiny(trainers={1: Crashing(evaluate=frozenset({1, 2, 3}))})
    made.run()
    assert made.state.version == 3
    assert any("5 of 5 models could not be evaluated" in text for text in made.nodes[1].findings)


class Picky(TinyTrainer):
    """Fails with any model whose first value is negative."""

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        return crash() if any(m["w"][0] < 0 for m in task.models) else super().evaluate(task)


@pytest.mark.parametrize(
    ("first", "good"),
    [((1, 2, 3), (1, 1, 1)), ((1, -2, 3), (1, 0, 1)), ((-1, 2, 3), (0, 0, 0)), ((1, 2, -3), (1, 1, 0))],
)
def test_each_model_is_tried_by_itself(first: tuple[int, ...], good: tuple[int, ...]) -> None:
    models = tuple({"w": np.full(12, value, np.float32)} for value in first)
    notes: list[str] = []
    found = evaluate(Picky(), EvaluateTask("m1/validation", models, (), 4), notes.append)
    assert [metrics is not None for metrics in found] == [bool(g) for g in good]
    assert bool(notes) == (0 in good)
    assert all(note.startswith("round 4: ") for note in notes)
