"""What an owner shares: rows that cannot be trained on are refused at their owner, and noise is what was declared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tests.unit.test_mpc_network import NOISED, training

from hansa import errors
from hansa.mpc import OWNERS, Dense, Logistic, ReLU, Squared, bottleneck, inputs, outline

KEY = bytes(range(32))
GOOD: Any = (["a", "b"], [[0.5] * 8, [1.0] * 8], [0, 2])


def rows(**changes: Any) -> Any:
    return tuple(changes.get(name, GOOD[i]) for i, name in enumerate(("ids", "features", "labels")))


def test_rows_are_shared_as_numbers_and_one_hot_labels() -> None:
    found = inputs.check_rows(training([Dense(3)]), GOOD, 0)
    assert found.ids == ("a", "b")
    assert found.features is not None
    assert found.features.dtype == np.float32
    assert found.labels is not None
    assert found.labels.tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": [[0.5] * 8, [float("nan")] * 8]}, "NaN or infinity in 8 places"),
        ({"features": [[0.5] * 8, [float("inf")] * 8]}, "NaN or infinity"),
        ({"features": [[0.5] * 8, [1e6] * 8]}, "1 rows of features hold values outside"),
        ({"features": [[0.5] * 8]}, "shape"),
        ({"features": [[0.5] * 7, [1.0] * 7]}, "shape"),
        ({"features": [[0.5] * 8, [1.0] * 7]}, "no numbers"),
        ({"features": [["x"] * 8, ["y"] * 8]}, "no numbers"),
        ({"features": None}, "no numbers|shape"),
        ({"labels": [0, 3]}, "1 labels are not one of the classes 0 to 2"),
        ({"labels": [0, 0.5]}, "1 labels"),
        ({"labels": [0]}, "shape"),
        ({"ids": ["a", "a"]}, "1 of them different"),
        ({"ids": []}, "0 ids"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.Misconfigured, match=said) as refused:
        inputs.check_rows(training([Dense(3)]), rows(**changes), 0)
    assert "1000000" not in str(refused.value), "a value stands in the message"


def test_numbers_are_labels_of_squared_loss_within_the_bound() -> None:
    declared = training([Dense(1)], loss=Squared(), bound=4.0)
    found = inputs.encode_labels(declared, [1.5, -2.0], 2)
    assert found.tolist() == [[1.5], [-2.0]]
    with pytest.raises(errors.Misconfigured, match="outside"):
        inputs.encode_labels(declared, [1.5, 5.0], 2)


def test_rows_longer_than_the_norm_are_scaled() -> None:
    found = inputs.check_rows(training([Dense(6), ReLU(), NOISED, Dense(3, at=2)], norm=2.0), GOOD, 0)
    assert found.features is not None
    assert np.linalg.norm(found.features, axis=1) == pytest.approx([0.5 * 8**0.5, 2.0])


def test_a_bottom_is_read_from_its_pinned_file(tmp_path: Path) -> None:
    weight, bias = np.eye(8, 2, dtype=np.float32), np.array([0.0, 9.0], np.float32)
    data = save({"weight": weight, "bias": bias})
    (tmp_path / "w.safetensors").write_bytes(data)
    pinned = Dense(
        2, at=OWNERS, frozen=True, weights="w.safetensors", digest=hashlib.sha256(data).hexdigest()
    )
    found = inputs.check_rows(training([pinned, ReLU(), Dense(3)]), GOOD, 0, folder=tmp_path)
    assert found.features is not None
    assert found.features.tolist() == [[0.5, 9.5], [1.0, 10.0]]
    (tmp_path / "w.safetensors").write_bytes(data[:-1] + b"\x01")
    with pytest.raises(errors.Misconfigured, match="not the file"):
        inputs.check_rows(training([pinned, ReLU(), Dense(3)]), GOOD, 0, folder=tmp_path)
    with pytest.raises(errors.Misconfigured, match="cannot read"):
        inputs.check_rows(training([pinned, ReLU(), Dense(3)]), GOOD, 0, folder=tmp_path / "elsewhere")


def test_owners_of_columns_share_theirs_alone() -> None:
    declared = training([Dense(1)], loss=Logistic(), columns=(8, 0), labels_by=1, batch=2)
    features = inputs.check_rows(declared, rows(labels=None), 0)
    labels = inputs.check_rows(declared, rows(features=None, labels=[0, 1]), 1)
    assert features.labels is None
    assert labels.features is None
    assert set(inputs.share_values(declared, features, 2, 2, KEY)) == {"x"}
    assert set(inputs.share_values(declared, labels, 2, 2, KEY)) == {"y"}
    with pytest.raises(errors.Misconfigured, match="must hold the same"):
        outline.outline(declared, (2, 3))


def test_fewer_rows_than_a_batch_have_no_program() -> None:
    with pytest.raises(errors.Misconfigured, match="a batch is 2"):
        outline.outline(training([Dense(3)], batch=2), (1,))


def test_noise_of_all_owners_but_one_is_enough() -> None:
    declared = training([Dense(6), ReLU(), NOISED, Dense(3, at=2)], norm=2.0, batch=16, epochs=40)
    drawn: list[Any] = []
    for owner in range(3):
        checked = inputs.check_rows(declared, ([*range(16)], np.ones((16, 8)), [0] * 16), owner)
        values = inputs.share_values(declared, checked, 40 * 3, 3, bytes([owner]) * 32)
        drawn.append(values[f"noise.{bottleneck.SHOWN}"])
    assert drawn[0].shape == (40 * 3, 16, 6)
    two = drawn[0] + drawn[1]
    assert two.std() == pytest.approx(4.0, rel=0.03)
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.05


def test_gaussian_numbers_are_standard_and_follow_the_key() -> None:
    numbers = inputs.gaussian(100_001, b"k" * 32)
    assert numbers.shape == (100_001,)
    assert numbers.mean() == pytest.approx(0, abs=0.02)
    assert numbers.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(numbers) < 1).mean() == pytest.approx(0.6827, abs=0.01)
    assert (inputs.gaussian(10, b"k" * 32) == inputs.gaussian(10, b"k" * 32)).all()
    assert (inputs.gaussian(10, b"k" * 32) != inputs.gaussian(10, b"l" * 32)).all()
