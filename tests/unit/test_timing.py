from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hansa.protocol import timing
from hansa.protocol.events import Committed

WORD = st.integers(0, 2**64 - 1)


def commits(*rows: tuple[int, int]) -> dict[int, Committed]:
    return {
        i: Committed(1, i, 0, bytes(32), timing.pack_meta(0, millis, examples))
        for i, (millis, examples) in enumerate(rows)
    }


@given(WORD, WORD, WORD)
def test_meta_is_unpacked_as_packed(timestamp, millis, examples):
    assert timing.unpack_meta(timing.pack_meta(timestamp, millis, examples)) == (timestamp, millis, examples)


def test_time_in_proportion_to_data_is_no_outlier():
    assert timing.outliers(commits((100, 10), (1000, 100), (10_000, 1000))) == frozenset()


def test_ten_times_off_is_the_limit_either_way():
    honest = [(100, 10)] * 3
    assert timing.outliers(commits(*honest, (1000, 10), (10, 10))) == frozenset()
    assert timing.outliers(commits(*honest, (1001, 10), (9, 10))) == {3, 4}


def test_huge_and_empty_claims_are_exact():
    assert timing.outliers({}) == frozenset()
    rows = [(100, 10)] * 3 + [(2**64 - 1, 1), (0, 0), (2**64 - 1, 2**64 - 1)]
    assert timing.outliers(commits(*rows)) == {3, 4}


def test_one_member_is_its_own_cohort():
    assert timing.outliers(commits((5, 5))) == frozenset()


def test_the_median_is_of_time_for_an_example_not_of_time():
    """By time alone the one in the middle would be the odd one, and everybody else an outlier."""
    rows = [(100, 10), (200, 20), (1000, 1), (5000, 500), (6000, 600)]
    assert timing.outliers(commits(*rows)) == {2}
