"""Epsilon of a noised bottleneck, and the bounds that it rests on, tried on rows exchanged at random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm as normal
from tests.mpc.data import training

from hansa.mpc import Dense, Logistic, ReLU, Reveal, bottleneck, inputs, privacy, schedule

REVEAL = Reveal(to=2, clip=1.5, noise=4.0, gradient_clip=2.0, gradient_noise=3.0)
CASES = {
    "one layer": ([Dense(6), ReLU(), REVEAL, Dense(10, at=2)], {}),
    "deep": ([Dense(6), REVEAL, Dense(8, at=2), ReLU(), Dense(10, at=2)], {}),
    "logistic": ([Dense(3), ReLU(), REVEAL, Dense(1, at=2)], {"loss": Logistic()}),
}


def analytic(multipliers: list[float], delta: float) -> float:
    """Epsilon of Gaussian mechanisms together (Balle, Wang, arXiv 1805.06530, theorem 8): one with mu = root sum."""
    mu = math.sqrt(sum(1 / m**2 for m in multipliers))
    low, high = 0.0, 1e4
    for _ in range(100):
        e = (low + high) / 2
        reached = normal.cdf(mu / 2 - e / mu) - math.exp(min(e, 700)) * normal.cdf(-mu / 2 - e / mu)
        low, high = (e, high) if reached > delta else (low, e)
    return high


@pytest.mark.parametrize("name", CASES)
def test_epsilon_is_no_less_than_the_exact_one_and_close_to_it(name: str) -> None:
    layers, changes = CASES[name]
    declared = training(layers, norm=4.0, epochs=5, **changes)
    found = privacy.mechanisms(declared)
    exact = analytic([m.multiplier for m in found for _ in range(m.times)], 1e-5)
    assert exact <= privacy.epsilon(declared) < 1.2 * exact + 0.5
    assert len(found) == (4 if name == "deep" else 3)


@pytest.mark.parametrize("name", CASES)
def test_exchanging_a_row_moves_nothing_by_more_than_its_clip(name: str) -> None:
    """What noise is measured by: rows, labels and weights at random, the exchanged row as bad as it may be."""
    layers, changes = CASES[name]
    declared = training(layers, norm=4.0, batch=8, **changes)
    layout, generator = declared.layout, np.random.RandomState(1)
    below, top = layout.segments
    limit = REVEAL.gradient_clip
    assert limit is not None
    for _ in range(40):
        grown = 10.0 ** generator.uniform(-1, 2)
        weights = {k: v * grown for k, v in schedule.initial(layout, generator.randint(1000)).items()}
        rows, shown, labels = some(declared, generator)
        other = [array.copy() for array in (rows, shown, labels)]
        replaced = some(declared, generator)
        for array, new in zip(other, replaced, strict=True):
            array[0] = new[0]
        inside = np.ones((8, *below.outputs), bool)
        top_rows = bottleneck.compute_top(declared.declared, layout, shown, weights)
        named = dict(
            zip((v.name for v in bottleneck.top_outputs(declared.declared, layout)), top_rows, strict=True)
        )
        nothing = {v.name: 0.0 for v in bottleneck.noises(declared.declared, layout)}
        theirs, _ = bottleneck.backward(layout, named, labels, nothing, inside, rows, np)
        # Given what was shown, the top's gradients move with the label alone.
        moved, _ = bottleneck.backward(layout, named, other[2], nothing, inside, rows, np)
        for key, value in theirs.items():
            assert np.linalg.norm(value - moved[key]) <= limit * 1.0001, key
        # The secret layer's gradient moves with features and label, and with what the party made of them.
        again = bottleneck.compute_top(declared.declared, layout, other[1], weights)
        swapped = dict(zip(named, again, strict=True))
        ours = own(bottleneck.backward(layout, named, labels, nothing, inside, rows, np)[1])
        after = own(bottleneck.backward(layout, swapped, other[2], nothing, inside, other[0], np)[1])
        assert np.linalg.norm(ours - after) <= limit * 1.0001
        assert top.place == 2


def some(declared: Any, generator: Any) -> tuple[Any, Any, Any]:
    """Features within the norm, shown values with noise, labels."""
    width, classes = declared.layout.segments[0].outputs[0], declared.layout.outputs[0]
    x = generator.standard_normal((8, 64)) * 100
    x = (x / np.linalg.norm(x, axis=1, keepdims=True) * 4.0).astype(np.float32)
    shown = (generator.standard_normal((8, width)) * 6).astype(np.float32)
    labels = generator.randint(0, max(2, classes), 8)
    return x, shown, inputs.encode_labels(declared, labels, 8)


def own(gradients: Any) -> Any:
    return np.concatenate([g.reshape(-1) for g in gradients.values()])


@pytest.mark.parametrize("after_relu", [True, False])
def test_shown_values_stay_within_the_clip(after_relu: bool) -> None:
    z = np.random.RandomState(2).standard_normal((50, 6)).astype(np.float32) * 5
    h, inside = bottleneck.clip(z, REVEAL, after_relu=after_relu, xp=np)
    assert np.allclose(h, np.clip(z, 0.0 if after_relu else -1.5, 1.5), atol=1e-5)
    assert (inside == ((z > (0.0 if after_relu else -1.5)) & (z < 1.5))).all()
