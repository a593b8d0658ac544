from __future__ import annotations

import math

import pytest

from hansa import errors
from hansa.protocol import stopping
from hansa.records import Training


def wishes(training: Training, metric: str, values: list[float]) -> list[bool]:
    memory, out = None, []
    for value in values:
        stop, memory = stopping.wish(training, metric, {metric: value}, memory)
        out.append(stop)
    return out


def test_loss_is_better_when_smaller():
    assert stopping.better("loss", 1.0) > stopping.better("loss", 2.0)
    assert stopping.better("val_loss", 1.0) > stopping.better("val_loss", 2.0)
    assert stopping.better("accuracy", 2.0) > stopping.better("accuracy", 1.0)
    assert stopping.better("accuracy", math.nan) == -math.inf


def test_gain_is_what_an_update_brings():
    assert stopping.gain("loss", {"loss": 2.0}, {"loss": 0.5}) == 1.5
    assert stopping.gain("accuracy", {"accuracy": 0.5}, {"accuracy": 0.25}) == -0.25
    for odd in (math.nan, math.inf, -math.inf):
        assert stopping.gain("accuracy", {"accuracy": 0.5}, {"accuracy": odd}) == -math.inf


def test_an_unknown_metric_names_those_that_are_known():
    with pytest.raises(errors.Misconfigured, match="auc") as caught:
        stopping.gain("auc", {"loss": 1.0, "accuracy": 1.0}, {"auc": 1.0})
    assert "accuracy, loss" in caught.value.hint


def test_without_patience_or_target_nobody_wants_to_stop():
    assert wishes(Training(), "loss", [1.0] * 9) == [False] * 9


def test_patience_counts_rounds_without_gain():
    values = [3.0, 2.0, 2.0, 1.0, 1.0, 1.5, 1.0, 0.5]
    assert wishes(Training(patience=3), "loss", values) == [False] * 6 + [True, False]


def test_a_target_is_reached_from_the_metrics_own_side():
    assert wishes(Training(target=("loss", 0.5)), "loss", [0.6, 0.5, 0.4]) == [False, True, True]
    assert wishes(Training(target=("accuracy", 0.9)), "accuracy", [0.8, 0.9]) == [False, True]


def test_a_target_in_another_metric_or_none():
    training = Training(target=("accuracy", 0.9))
    stop, _ = stopping.wish(training, "loss", {"loss": 1.0, "accuracy": 0.95}, None)
    assert stop
    stop, _ = stopping.wish(training, "loss", {"loss": 1.0}, None)
    assert not stop


def test_nan_is_no_gain():
    assert wishes(Training(patience=2), "loss", [1.0, math.nan, math.nan]) == [False, False, True]
