"""Means over seeds with intervals: Student's t at 95 %, paired where two sides share their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t for 1 to 30 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean of `n` values, and how far the interval reaches to either side; None for one value."""

    mean: float
    half: float | None
    n: int

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + (self.half or 0.0)


def quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; above 30 degrees of freedom by its expansion, right to 1e-4."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def interval(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of independent values; None for none."""
    if not values:
        return None
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Interval(mean, None, n)
    return Interval(mean, quantile(n - 1) * statistics.stdev(values) / math.sqrt(n), n)


def paired(values: Mapping[int, float], against: Mapping[int, float]) -> Interval | None:
    """That of `values` minus `against`, seed by seed, over the seeds that both have."""
    return interval([values[seed] - against[seed] for seed in sorted(values.keys() & against.keys())])
