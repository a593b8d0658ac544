"""When to stop: each evaluator looks at its own validation data and says so with a bit of its ballot."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hansa import encoding, errors
from hansa.records import Training


def better(metric: str, value: float) -> float:
    """A metric turned so that greater is better; NaN is worst."""
    if math.isnan(value):
        return -math.inf
    return -value if metric == "loss" or metric.endswith("_loss") else value


def gain(metric: str, before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """How much better an update makes the base model. Raises `Misconfigured` for an unknown metric."""
    for values in (before, after):
        if metric not in values:
            known = ", ".join(sorted(values))
            raise errors.Misconfigured(
                f"[selection] metric: the app's evaluate gives no {metric!r}", hint=f"It gives: {known}."
            )
    if not math.isfinite(after[metric]):
        return -math.inf
    return better(metric, after[metric]) - better(metric, before[metric])


def wish(
    training: Training, metric: str, base: Mapping[str, float], memory: bytes | None
) -> tuple[bool, bytes]:
    """Whether this evaluator wants to stop, and what it has to remember for the next round.

    It does when its own data reach the agreed target, or see no gain for `patience` rounds.
    """
    value = better(metric, base[metric])
    best, since = encoding.decode(memory) if memory else (None, 0)
    since = 0 if best is None or value > best else since + 1
    best = value if best is None else max(best, value)
    stop = bool(training.patience and since >= training.patience)
    if training.target is not None:
        name, wanted = training.target
        stop |= name in base and better(name, base[name]) >= better(name, wanted)
    return stop, encoding.encode([best, since])
