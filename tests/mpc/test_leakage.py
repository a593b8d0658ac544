"""The attacks of `leakage`: the published form falls to them, the default arrangements do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.mpc.data import digits, joined, named, shared, training
from tests.mpc.threads import Parties

from hansa.app import Site
from hansa.mpc import OWNERS, Dense, Logistic, ReLU, Reveal, Sgd, Squared, inputs, leakage
from hansa.mpc.schedule import feeds
from hansa.mpc.training import load_training

EXAMPLE = Path("examples/hospitals-mpc")
KNOWN = 200
NOISE = 1.0
"""Deviation of the noise on gradients in the example of a bottleneck."""
BARE = Reveal(to=2)
LEAKY: dict[str, Any] = {"accept_leakage": True, "labels": BARE}


def rows_in_order(declared: Any, total: int, seen: list[Any]) -> Any:
    """What was seen of each row, averaged over the epochs: (rows, values)."""
    sums, times = np.zeros((total, *seen[0].shape[1:])), np.zeros(total)
    for step, values in enumerate(seen):
        rows = feeds(declared.declared, total, step)["rows"]
        sums[rows] += values
        times[rows] += 1
    return sums / np.maximum(times, 1)[:, None]


def trained(layers: list[Any], count: int, seen: str, **changes: Any) -> tuple[Any, Any, Any, Any]:
    """Parties after a training on shares, what was seen of each row, features and labels."""
    declared = training(layers, **changes)
    x, y = digits()
    y = y % 2 if declared.layout.outputs == (1,) else y
    values = shared(declared, (count,), x, y)
    parties = Parties(declared, (count,), values, seen=(seen,))
    parties.train()
    features, labels, _ = joined(declared, (count,), values)
    return parties, rows_in_order(declared, count, parties.opened[seen]), features, labels


def test_published_activations_rebuild_the_pixels() -> None:
    layers = [Dense(128), ReLU(), BARE, Dense(10, at=2)]
    _, seen, features, _ = trained(layers, 640, "dense4.enters", epochs=1, **LEAKY)
    assert leakage.ridge_r2(seen, features, KNOWN) > 0.85
    layers = [Dense(128), BARE, Dense(10, at=2)]
    _, seen, features, _ = trained(layers, 640, "dense3.enters", epochs=1, **LEAKY)
    assert leakage.ridge_r2(seen, features, KNOWN) > 0.9


def test_published_gradients_tell_binary_labels() -> None:
    layers = [BARE, Dense(16, at=2), ReLU(), Dense(1, secret=True)]
    parties, _, _, labels = trained(
        layers, 256, "dense4.returns", epochs=2, accept_leakage=True, loss=Logistic(), optimizer=Sgd(0.2)
    )
    for step, returned in enumerate(parties.opened["dense4.returns"]):
        rows = feeds(parties.training.declared, 256, step)["rows"]
        guessed = leakage.labels_from_gradients(returned)
        assert leakage.agreement(guessed, labels[rows, 0] > 0.5) > 0.98


BOTTOM = Dense(16, at=OWNERS, frozen=True)


@pytest.mark.parametrize("layers", [[Dense(16), ReLU(), Dense(1)], [BOTTOM, ReLU(), Dense(1)]])
def test_the_default_opens_nothing_and_shares_tell_a_party_nothing(layers: list[Any]) -> None:
    """A party's own shares of features and labels, as bytes, against the same attacks."""
    declared = training(layers, loss=Squared(), optimizer=Sgd(lr=0.02))
    assert leakage.boundaries(declared, (640,)) == ()
    x, y = digits()
    values = shared(declared, (640,), x, y % 2)
    parties = Parties(declared, (640,), values)
    pixels, labels = x[:640], y[:640] % 2 == 1
    for rank in range(3):
        for name, what in (("x", pixels), ("y", pixels)):
            seen = own_share(parties, rank, name, len(values["x.0"]))
            assert leakage.ridge_r2(seen, what, KNOWN) < 0.1
        guessed = own_share(parties, rank, "y", 640)[:, 0] > 0
        assert leakage.agreement(guessed, labels) < 0.6


def own_share(parties: Parties, rank: int, name: str, rows: int) -> Any:
    """Both components that an ABY3 party holds of a variable, as numbers around zero, by row."""
    share = parties.runtimes[rank].get_var(name)
    data = b"".join(share.share_chunks)
    words = np.frombuffer(data[len(data) % (16 * rows) :], dtype=np.int64).astype(np.float64) / 2.0**63
    return words.reshape(rows, -1)


def test_the_example_of_a_bottleneck_holds_both_attacks_down() -> None:
    """The settings of examples/hospitals-mpc/bottleneck.py on its patients, all of what party 2 gets.

    Means over three draws of the noise, since one draw moves the guesses of labels by some points.
    """
    declared = load_training(EXAMPLE / "bottleneck.py")
    owners = [declared.read_rows(Site(EXAMPLE, f"m{i}", i, 0)) for i in range(4)]
    checked = [inputs.check_rows(declared, rows, i) for i, rows in enumerate(owners)]
    rebuilt, by_gradients, by_value = np.mean(
        [attacked(declared, checked, draw) for draw in range(3)], axis=0
    )
    assert rebuilt < 0.1
    # What a party knows of a label without any gradient: the side of the middle that the row's one value lies on.
    assert by_gradients < by_value + 0.06, "the gradients tell labels"
    assert by_gradients < 0.7


def attacked(declared: Any, checked: list[inputs.Shared], draw: int) -> tuple[float, float, float]:
    """R2 of rebuilt rows; share of labels guessed from gradients, and from the shown value alone."""
    counts = tuple(len(rows.ids) for rows in checked)
    values: dict[str, Any] = {}
    for i, rows in enumerate(checked):
        values |= named(declared, rows, i, counts, draw)
    seen = ("shown", "prediction", "dense3.rows", "dense3.gradient")
    parties = Parties(declared, counts, values, seen=seen)
    parties.train()
    features, labels, _ = joined(declared, counts, values)
    shown = rows_in_order(declared, sum(counts), parties.opened["shown"])
    mixed = np.random.RandomState(0).permutation(len(features))
    steps = zip(*(parties.opened[k] for k in ("dense3.rows", "dense3.gradient", "prediction")), strict=True)
    told = [leakage.labels_from_sums(rows, gradient, guess, NOISE) for rows, gradient, guess in steps]
    truth = labels[:, 0] > 0.5
    by_gradients = ((rows_in_order(declared, sum(counts), told)[:, 0] > 0.5) == truth).mean()
    by_value = leakage.agreement(shown[:, 0] > np.median(shown[:, 0]), truth)
    return leakage.ridge_r2(shown[mixed], features[mixed], KNOWN), float(by_gradients), by_value


def test_without_noise_the_same_gradients_tell_labels() -> None:
    """The attack on sums works where nothing drowns them: what the test above shows is not a weak attack."""
    generator = np.random.RandomState(0)
    rows, labels = generator.standard_normal((8, 17)), generator.randint(0, 2, (8, 1))
    predictions = np.full((8, 1), 0.5)
    gradient = rows.T @ (predictions - labels)
    told = leakage.labels_from_sums(rows, gradient, predictions, 1e-3)
    assert ((told > 0.5) == labels).all()
