"""Models under the app's own `evaluate`, which a stranger's model may make fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hansa import errors
from hansa.app import EvaluateTask
from hansa.ports import Trainer


def evaluate(
    trainer: Trainer, task: EvaluateTask, note: Callable[[str], None]
) -> list[dict[str, float] | None]:
    """Metrics of each model, the standing one first; None for each with which the app fails.

    Nobody can rank what it cannot evaluate: those stand in the ballot as doubts. If the app fails with the
    standing model it fails by itself, and the others are not tried.
    """
    try:
        return list(trainer.evaluate(task))
    except errors.AppFailed as e:
        found: list[dict[str, float] | None] = []
        for model in task.models:
            try:
                found += trainer.evaluate(replace(task, models=(model,)))
            except errors.AppFailed:
                found.append(None)
            if found[0] is None:
                found += [None] * (len(task.models) - 1)
                break
        failed = sum(metrics is None for metrics in found)
        note(
            f"round {task.round}: {failed} of {len(found)} models could not be evaluated: {e} {e.hint}".strip()
        )
        return found
