from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hansa import errors
from hansa.crypto import fixedpoint

LOW, HIGH = -(2**31), 2**31 - 1
int32s = st.one_of(st.integers(LOW, HIGH), st.sampled_from([LOW, HIGH, 0, -1, 2**15, -(2**15), 2**16 - 1]))
vectors = st.lists(int32s, min_size=1, max_size=20).map(lambda v: np.array(v, np.int32))


def half_away(value: Fraction) -> int:
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value > 0 else -magnitude


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.integers(0, 8),
        elements=st.floats(width=16, allow_nan=False, allow_infinity=False),
    ),
    st.integers(0, fixedpoint.MAX_SCALE),
)
def test_quantising_is_exact_half_even_and_counts_saturations(array, scale):
    values, saturated = fixedpoint.quantise(array, scale)
    exact = [round(Fraction(float(x)) * 2**scale) for x in array]
    assert values.tolist() == [min(max(x, LOW), HIGH) for x in exact]
    assert saturated == sum(not LOW <= x <= HIGH for x in exact)


def test_quantising_extremes():
    array = np.array([[1e308, -1e308], [2**31 - 0.5, -(2**31) - 0.5]])
    values, saturated = fixedpoint.quantise(array, 0)
    assert values.tolist() == [HIGH, LOW, HIGH, LOW]
    assert saturated == 3
    assert fixedpoint.quantise(np.array([1.7e308]), 30)[0].tolist() == [HIGH]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_not_finite_is_refused_wherever_it_stands(bad, kind):
    array = np.zeros(fixedpoint.BLOCK + 3, kind)
    array[-1] = bad
    with pytest.raises(errors.Untrusted, match="NaN or infinite"):
        fixedpoint.quantise(array, 16)


@given(vectors, st.integers(0, fixedpoint.MAX_SCALE))
def test_dequantising_gives_the_nearest_float(values, scale):
    expected = [np.float32(float(Fraction(int(v), 2**scale))) for v in values]
    assert fixedpoint.dequantise(values, scale).tolist() == [float(x) for x in expected]


def test_dequantised_small_values_come_back():
    values = np.arange(-(2**24), 2**24, 4099, dtype=np.int32)
    assert np.array_equal(fixedpoint.quantise(fixedpoint.dequantise(values, 16), 16)[0], values)


@given(st.lists(st.tuples(int32s, int32s), min_size=1, max_size=20))
def test_squares_and_distances_are_exact(pairs):
    a, b = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    assert fixedpoint.sum_of_squares(a) == sum(int(x) ** 2 for x in a)
    expected = sum((x - y) ** 2 for x, y in pairs)
    assert fixedpoint.squared_distances([a, b]) == [[0, expected], [expected, 0]]


def test_sums_over_many_blocks_do_not_overflow():
    size = 300_001
    lowest, highest = np.full(size, LOW, np.int32), np.full(size, HIGH, np.int32)
    assert fixedpoint.sum_of_squares(lowest) == size * 2**62
    distances = fixedpoint.squared_distances([lowest, highest, lowest, highest])
    assert distances[0] == [0, size * (2**32 - 1) ** 2, 0, size * (2**32 - 1) ** 2]


def test_all_distances_equal_the_pairwise_ones():
    rng = np.random.default_rng(0)
    rows = [rng.integers(LOW, HIGH, 5000, dtype=np.int32, endpoint=True) for _ in range(5)]
    assert fixedpoint.squared_distances(rows) == [
        [sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)) for b in rows] for a in rows
    ]


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=9), st.integers(1, 2**61))
def test_division_rounds_half_away_from_zero(numerators, denominator):
    got = fixedpoint.divide_half_away(np.array(numerators, np.int64), denominator)
    assert got.tolist() == [half_away(Fraction(n, denominator)) for n in numerators]


@pytest.mark.parametrize(
    ("numerator", "expected"), [(5, 3), (-5, -3), (3, 2), (-3, -2), (1, 1), (-1, -1), (0, 0)]
)
def test_halves(numerator, expected):
    assert fixedpoint.divide_half_away(np.array([numerator]), 2).tolist() == [expected]


@given(
    st.integers(-(2**61), 2**61),
    st.integers(-(2**61) + 1, 2**61 - 1),
    st.integers(2**15, 2**46 - 1),
)
def test_wide_division_equals_exact_division(whole, fraction, denominator):
    got = fixedpoint.divide_wide_half_away(np.array([whole]), np.array([fraction]), denominator)
    assert got.tolist() == [half_away(Fraction(whole * 2**16 + fraction, denominator))]


def test_wide_division_of_halves():
    whole, fraction = np.array([0, 0, 1, -1]), np.array([3, -3, 0, 0])
    assert fixedpoint.divide_wide_half_away(whole[:2], fraction[:2], 2).tolist() == [2, -2]
    assert fixedpoint.divide_wide_half_away(whole[2:], fraction[2:], 2**17).tolist() == [1, -1]


@given(st.lists(st.integers(0, 2**62) | st.integers(0, 2**31).map(lambda r: r * r), min_size=1, max_size=9))
def test_square_roots_are_floors(values):
    assert fixedpoint.square_roots(np.array(values, np.int64)).tolist() == [math.isqrt(v) for v in values]


def test_square_roots_beside_large_squares():
    values = [r * r + e for r in range(2**31 - 500, 2**31) for e in (-1, 0, 1)]
    assert fixedpoint.square_roots(np.array(values, np.int64)).tolist() == [math.isqrt(v) for v in values]


def test_saturation_to_int32():
    values = np.array([2**40, -(2**40), HIGH, LOW, 7])
    assert fixedpoint.saturate(values).tolist() == [HIGH, LOW, HIGH, LOW, 7]
