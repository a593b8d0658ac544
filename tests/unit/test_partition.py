"""Splits of rows: complete, disjoint, deterministic, stratified, and skewed as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa import errors
from hansa.partition import Partition, Shares, natural_shares, shares, split

LABELS = np.repeat(np.arange(10), 100).astype(np.int64)


def make(kind: str = "dirichlet", alpha: float = 0.3, seed: int = 0, members: int = 8) -> Shares:
    partition = Partition(kind, alpha, 10)
    return shares(LABELS, len(LABELS), members, partition, holdout=0.2, validation=0.2, seed=seed)


def everything(parts: Shares) -> list[int]:
    return sorted(np.concatenate([*parts.train, *parts.validation, parts.test]).tolist())


@pytest.mark.parametrize("kind", ["dirichlet", "iid"])
def test_every_row_goes_to_exactly_one_place(kind: str) -> None:
    parts = make(kind)
    assert everything(parts) == list(range(1000))
    assert len(parts.test) == 200
    assert min(len(t) + len(v) for t, v in zip(parts.train, parts.validation, strict=True)) >= 10


def test_the_test_set_has_every_class_in_its_share() -> None:
    assert np.bincount(LABELS[make().test]).tolist() == [20] * 10


def test_the_seed_alone_decides() -> None:
    first, again, other = make(seed=1), make(seed=1), make(seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(first.train, again.train, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.train, other.train, strict=True))


def test_small_alpha_skews_labels_and_large_alpha_does_not() -> None:
    def skew(alpha: float) -> float:
        counts = np.array([np.bincount(LABELS[t], minlength=10) / len(t) for t in make(alpha=alpha).train])
        return float(np.abs(counts - 0.1).mean())

    assert skew(0.3) > 2 * skew(100.0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=80),
    st.floats(0, 0.99),
    st.integers(0, 9),
)
def test_split_holds_the_exact_number_and_stratifies(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array(labels, dtype=np.int64)
    kept, held = split(array, len(array), fraction, np.random.Generator(np.random.PCG64(seed)))
    assert len(held) == round(fraction * len(array))
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(array)))
    for label in set(labels):
        share = fraction * labels.count(label)
        assert abs(int((array[held] == label).sum()) - share) < 1 + 1e-9


def test_natural_members_keep_their_own_rows_and_give_a_share_to_the_test_set() -> None:
    own = [LABELS[:300], LABELS[300:350]]
    parts = natural_shares(own, [300, 50], Partition("natural"), holdout=0.2, validation=0.25, seed=0)
    assert everything(parts) == list(range(350))
    assert set(parts.train[1]) | set(parts.validation[1]) <= set(range(300, 350))
    assert (len(parts.test), len(parts.train[1]), len(parts.validation[1])) == (70, 30, 10)


@pytest.mark.parametrize(
    ("labels", "members", "partition", "message"),
    [
        (LABELS, 200, Partition("iid"), "800 rows are too few for 200 members"),
        (None, 4, Partition("dirichlet"), "needs integer labels"),
        (LABELS[:100], 5, Partition("dirichlet", 0.001, 14), "no draw gave each of 5 members 14 rows"),
        (LABELS, 4, Partition("natural"), "does not share one data set"),
    ],
)
def test_impossible_splits_are_refused(
    labels: np.ndarray | None, members: int, partition: Partition, message: str
) -> None:
    with pytest.raises(errors.Misconfigured, match=message):
        shares(
            labels,
            1000 if labels is None else len(labels),
            members,
            partition,
            holdout=0.2,
            validation=0.2,
            seed=0,
        )


def test_a_natural_member_with_too_few_rows_is_refused() -> None:
    with pytest.raises(errors.Misconfigured, match="member 1 has 4 rows"):
        natural_shares([None, None], [100, 5], Partition("natural"), holdout=0.2, validation=0.2, seed=0)
