"""The law of waiting: doubling, spread, never beyond its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hansa.node.backoff import backoff


def test_it_doubles_up_to_the_most() -> None:
    waits = [backoff(k, 1.0, first=1.0, most=30.0) for k in range(1, 8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert backoff(10**9, 1.0, first=0.1, most=30.0) == 30


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0.01, 60), st.floats(0.01, 60))
def test_it_is_spread_over_the_upper_half(failures: int, draw: float, first: float, most: float) -> None:
    longest = backoff(failures, 1.0, first=first, most=most)
    assert longest / 2 <= backoff(failures, draw, first=first, most=most) <= longest <= most
    assert longest <= backoff(failures + 1, 1.0, first=first, most=most)
