"""How long to wait before the next try, when a chain or a store does not answer."""

from __future__ import annotations


def backoff(failures: int, draw: float, *, first: float, most: float) -> float:
    """Seconds after so many failures in a row, at least 1: doubling from `first`, at most `most`.

    `draw` from [0, 1) spreads it over the upper half, so that nodes which failed together do not come back
    together (equal jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
    """
    span = min(most, first * 2.0 ** min(failures - 1, 60))
    return span * (1 + draw) / 2
