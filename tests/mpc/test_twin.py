"""Training on shares gives the same network as its plaintext twin, whose gradients are jax.grad's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.mpc.data import digits, joined, shared, training
from tests.mpc.threads import Parties

from hansa.mpc import (
    OWNERS,
    Conv,
    Dense,
    Flatten,
    Logistic,
    ReLU,
    Reveal,
    Sgd,
    Sigmoid,
    Squared,
    Stop,
    SumPool,
    twin,
)

COUNTS = (200, 160, 100)
STEPS = 4
TOLERANCE = 0.001
BARE = Reveal(to=2)
NOISED = Reveal(to=2, clip=1.5, noise=2.0, gradient_clip=3.0, gradient_noise=0.2)
LEAKY: dict[str, Any] = {"accept_leakage": True, "labels": BARE}

CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "dense": ([Dense(16), ReLU(), Dense(12), ReLU(), Dense(10)], {"optimizer": Sgd(lr=0.05)}),
    "momentum": ([Dense(16), Sigmoid(), Dense(10)], {"optimizer": Sgd(lr=0.1, momentum=0.9)}),
    "convolution": (
        [Conv(4, 3), ReLU(), Conv(4, 3), ReLU(), SumPool(2), Flatten(), Dense(10)],
        {"inputs": (8, 8, 1), "optimizer": Sgd(lr=0.1)},
    ),
    "logistic": ([Dense(8), ReLU(), Dense(1)], {"loss": Logistic()}),
    "squared": ([Dense(8), ReLU(), Dense(1)], {"loss": Squared(), "optimizer": Sgd(lr=0.05)}),
    "frozen bottom": ([Dense(24, at=OWNERS, frozen=True), ReLU(), Dense(10)], {"optimizer": Sgd(lr=0.2)}),
    "bottleneck": ([Dense(8), ReLU(), NOISED, Dense(10, at=2)], {"norm": 4.0}),
    "bottleneck with a deep top": (
        [Dense(8), NOISED, Dense(8, at=2), ReLU(), Dense(10, at=2)],
        {"norm": 4.0, "optimizer": Sgd(lr=0.1, momentum=0.5)},
    ),
    "bottleneck, logistic": (
        [Dense(8), ReLU(), NOISED, Dense(1, at=2)],
        {"norm": 4.0, "loss": Logistic(), "optimizer": Sgd(lr=1.0)},
    ),
    "published": ([Dense(16), ReLU(), BARE, Dense(12, at=2), ReLU(), Dense(10, at=2)], LEAKY),
    "published, plain first": (
        [BARE, Dense(12, at=2), ReLU(), Dense(10, secret=True)],
        {"accept_leakage": True},
    ),
    "published, plain between": (
        [Dense(12), ReLU(), BARE, Dense(12, at=2), ReLU(), Dense(10, secret=True)],
        {"accept_leakage": True, "optimizer": Sgd(lr=0.1, momentum=0.9)},
    ),
    "two parties": ([Dense(8), ReLU(), Dense(10)], {"protocol": "SEMI2K_FOR_TESTS"}),
}


@pytest.mark.parametrize("name", CASES)
def test_shares_and_twin_give_the_same_network(name: str) -> None:
    layers, changes = CASES[name]
    declared = training(layers, **changes)
    x, y = digits()
    x = x.reshape(-1, *declared.declared.inputs)
    if declared.layout.outputs == (1,):
        y = y % 2
    values = shared(declared, COUNTS, x, y)
    found = Parties(declared, COUNTS, values).train(STEPS)
    together, labels, noise = joined(declared, COUNTS, values)
    expected = twin.train(declared, together, labels, noise=noise, steps=STEPS).parameters
    assert set(found) == set(expected)
    first = twin.train(declared, together, labels, noise=noise, steps=0).parameters
    for key, value in expected.items():
        error, moved = np.abs(found[key] - value).max(), np.abs(value - first[key]).max()
        assert error < TOLERANCE, key
        assert moved > 3 * TOLERANCE, f"{key} hardly moved"


def test_training_stops_by_one_bit_an_epoch() -> None:
    layers = [Dense(8), ReLU(), Dense(10)]
    x, y = digits()
    epochs = {}
    for below in (1e-6, 0.75):
        declared = training(layers, stop=Stop(below=below), epochs=4)
        values = shared(declared, COUNTS, x, y)
        parties = Parties(declared, COUNTS, values, seen=("stop",))
        parties.train()
        together, labels, _ = joined(declared, COUNTS, values)
        epochs[below] = len(parties.opened["stop"])
        assert epochs[below] == twin.train(declared, together, labels).epochs
    assert epochs[1e-6] == 4
    assert epochs[0.75] < 4
