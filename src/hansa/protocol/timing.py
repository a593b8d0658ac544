"""Training time against the cohort (Qu et al.: computing time in proportion to data size).

A claim of time is trivially forged, so an outlier is a flag and, unless the terms say so, no ground for
refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from hansa.protocol.events import Committed

FACTOR = 10
"""How far a member's time for an example may lie from the cohort's median, either way."""


def pack_meta(timestamp: int, millis: int, examples: int) -> int:
    """The commitment's `meta` word: three 64-bit numbers."""
    return timestamp << 128 | millis << 64 | examples


def unpack_meta(meta: int) -> tuple[int, int, int]:
    """Timestamp, milliseconds and examples of a commitment."""
    mask = 2**64 - 1
    return meta >> 128, (meta >> 64) & mask, meta & mask


def outliers(commits: Mapping[int, Committed]) -> frozenset[int]:
    """Members whose training time for an example is over `FACTOR` times off the cohort's median."""
    return _outliers(tuple((id, commit.meta) for id, commit in commits.items()))


@lru_cache(maxsize=16)  # every member of a simulation asks it, several times a round
def _outliers(metas: tuple[tuple[int, int], ...]) -> frozenset[int]:
    rates: dict[int, tuple[int, int]] = {}
    for id, meta in metas:
        _, millis, examples = unpack_meta(meta)
        rates[id] = (millis, max(examples, 1))
    ordered = sorted(rates.values(), key=lambda r: r[0] / r[1])
    if not ordered:
        return frozenset()
    m, e = ordered[len(ordered) // 2]
    # a/b against m/e, cross-multiplied: exact for any size.
    return frozenset(id for id, (a, b) in rates.items() if a * e > FACTOR * m * b or FACTOR * a * e < m * b)
