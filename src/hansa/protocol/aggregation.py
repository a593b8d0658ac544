"""Aggregation rules on fixed-point integers: the same bits at every verifier, in any order of arrival.

    weighted-mean   round(sum w_i q_i / sum w_i)
    clipped-mean    the same after clipping each q_i to a norm
    median          of every coordinate
    trimmed-mean    of every coordinate, without the `trim` fraction at either end
    krum            the update nearest to its neighbours
    multi-krum      the mean of the n - malicious - 2 nearest

The two means stream, in constant memory, over sparse or dense updates. The others ignore weights, which a
hostile member chooses, and take dense, fresh updates only. Divisions round half away from zero.

Bounds, all checked: the weights' whole parts sum below 2**30, so a sum of weighted int32 stays below 2**61 in
int64; their fractions are 16 bits each, so for at most 2**14 contributions theirs stay below 2**61.

Sources: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017);
Yin et al., "Byzantine-Robust Distributed Learning" (2018); Blanchard et al., "Machine Learning with
Adversaries" (2017) for Krum; Damaskinos et al., "AggregaThor" (2019) for the size of Multi-Krum; Nguyen et
al., "Federated Learning with Buffered Asynchronous Aggregation" (2022) for the discount of stale updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto import fixedpoint
from hansa.records import AggregationTerms

MAX_TOTAL_WEIGHT: Final = 2**30
MAX_CONTRIBUTIONS: Final = 2**14
GROUP: Final = 4
"""Dense updates that are added at once: all of them lie in memory together."""

_MAX_STALENESS: Final = 2**16
_CLIP_BITS: Final = 31
_SORT_CELLS: Final = 1 << 18
"""Cells (contributions times coordinates) that median and trimmed mean sort at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """One selected update: int32 `values`, dense when `indices` is None, else at ascending uint32 `indices`.

    `staleness` counts the final rounds between the update's base and the model that it is added to.
    """

    member: int
    examples: int
    values: NDArray[np.int32]
    indices: NDArray[np.uint32] | None = None
    staleness: int = 0


def mean_delta(
    terms: AggregationTerms, contributions: Iterable[Contribution], length: int, scale: int
) -> NDArray[np.int32]:
    """The joint update of `length` values under the rule of the terms; `scale` is the model's.

    The two means read contributions one at a time and keep none; the other rules hold all of them.
    Raises `Untrusted` when there is none, when a member appears twice, or when one does not fit the model;
    `Misconfigured` when rule, options and number of contributions do not go together.
    """
    checked = _checked(contributions, length)
    if terms.rule == "weighted-mean":
        return _mean(terms, checked, length)
    if terms.rule == "clipped-mean":
        bound = clip_bound(terms, scale)
        return _mean(terms, (replace(c, values=clip(c.values, bound)) for c in checked), length)
    if terms.rule not in _ORDER_RULES:
        known = ", ".join(["weighted-mean", "clipped-mean", *_ORDER_RULES])
        raise errors.Misconfigured(f"unknown aggregation rule {terms.rule!r}", hint=f"Rules: {known}.")
    ordered = sorted(checked, key=lambda c: c.member)
    if any(c.indices is not None or c.staleness for c in ordered):
        raise errors.Misconfigured(f"rule {terms.rule!r} takes dense updates of the current base only")
    return _ORDER_RULES[terms.rule](terms, [c.values for c in ordered])


def weight(terms: AggregationTerms, examples: int, staleness: int) -> int:
    """min(examples, cap) / sqrt(1 + staleness) in units of 2**-16, rounded down; exact for a fresh update."""
    return min(examples, terms.weight_cap) * math.isqrt(2**32 // (1 + staleness))


def check_weights(terms: AggregationTerms) -> None:
    """Raises `Misconfigured` when the terms leave no weight to anybody."""
    if terms.weight_cap < 1:
        raise errors.Misconfigured(
            "weight_cap is below 1", hint="Use 1 to give every member the same weight."
        )


def trimmed(terms: AggregationTerms, count: int) -> tuple[int, int]:
    """Of `count` sorted values: how many to leave out at either end, and how many stay. Raises `Misconfigured`."""
    cut = math.floor(Fraction(str(terms.trim)) * count)
    kept = count - 2 * cut
    if terms.trim < 0 or kept < 1:
        raise errors.Misconfigured(
            f"trim = {terms.trim} leaves nothing of {count} updates", hint="Use a trim below 0.5."
        )
    return cut, kept


def neighbours(terms: AggregationTerms, count: int) -> int:
    """How many nearest updates make a Krum score, and Multi-Krum's mean. Raises `Misconfigured`."""
    hostile = terms.malicious
    if hostile < 0 or count < 2 * hostile + 3:
        raise errors.Misconfigured(
            f"rule {terms.rule!r} with malicious = {hostile} needs {2 * hostile + 3} updates, not {count}",
            hint="Lower [aggregation] malicious or raise [training] min_members.",
        )
    return count - hostile - 2


def norm_bound(norm: float, scale: int) -> int:
    """A norm of the terms in units of 2**-scale, rounded down."""
    return math.floor(Fraction(str(norm)) * (1 << scale))


def clip_bound(terms: AggregationTerms, scale: int) -> int:
    """The terms' `clip_norm` in units of 2**-scale. Raises `Misconfigured` when nothing is left."""
    bound = norm_bound(terms.clip_norm, scale)
    if bound < 1:
        raise errors.Misconfigured(f"clip_norm = {terms.clip_norm} clips every update to nothing")
    return bound


def clip(values: NDArray[np.int32], bound: int) -> NDArray[np.int32]:
    """Scale a vector down to a Euclidean norm of at most `bound`, in the vector's units.

    The factor is rounded down to 31 bits and products towards zero, so the result never exceeds the bound.
    """
    square = fixedpoint.sum_of_squares(values)
    if square <= bound * bound:
        return values
    factor = math.isqrt((bound * bound << 2 * _CLIP_BITS) // square)
    out = np.empty_like(values)
    for part in fixedpoint.blocks(values.size):
        block = values[part].astype(np.int64)
        out[part] = np.sign(block) * ((np.abs(block) * factor) >> _CLIP_BITS)
    return out


def _checked(contributions: Iterable[Contribution], length: int) -> Iterable[Contribution]:
    seen: set[int] = set()
    for c in contributions:
        if c.member in seen:
            raise errors.Untrusted(f"member {c.member} contributes twice")
        seen.add(c.member)
        if c.examples < 1 or not 0 <= c.staleness < _MAX_STALENESS:
            raise errors.Untrusted(f"member {c.member}: {c.examples} examples, staleness {c.staleness}")
        size = length if c.indices is None else c.indices.size
        if c.values.dtype != np.int32 or c.values.shape != (size,):
            raise errors.Untrusted(f"member {c.member}: values do not fit a model of {length}")
        if c.indices is not None and not _ascending_below(c.indices, length):
            raise errors.Untrusted(f"member {c.member}: indices do not ascend within a model of {length}")
        yield c
    if not seen:
        raise errors.Untrusted("there is nothing to aggregate")


def _ascending_below(indices: NDArray[np.uint32], length: int) -> bool:
    if indices.dtype != np.uint32 or indices.ndim != 1:
        return False
    return not indices.size or (bool(np.all(indices[1:] > indices[:-1])) and int(indices[-1]) < length)


@dataclass(slots=True)
class WeightedSum:
    """Running sum of weighted vectors: `whole` + `fraction` / 2**16.

    Only stale contributions have weights with a fraction, so a synchronous round never allocates it. Dense
    vectors wait until there are `GROUP` of them: then the long sum goes through memory once for all.
    """

    whole: NDArray[np.int64]
    fraction: NDArray[np.int64] | None = None
    weights: int = 0
    count: int = 0
    _waiting: list[tuple[NDArray[np.int32], int]] = field(default_factory=list)

    def add(self, c: Contribution, units: int) -> None:
        """Add `units` / 2**16 times a contribution."""
        self.weights += units
        self.count += 1
        if self.weights >> 16 >= MAX_TOTAL_WEIGHT or self.count > MAX_CONTRIBUTIONS:
            raise errors.Misconfigured("the weights sum too high", hint="Lower [aggregation] weight_cap.")
        if units & 0xFFFF:
            if self.fraction is None:
                self.fraction = np.zeros_like(self.whole)
            self._fold(self.fraction, c, units & 0xFFFF)
        if c.indices is not None:
            self._fold(self.whole, c, units >> 16)
        else:
            self._waiting.append((c.values, units >> 16))
            if len(self._waiting) == GROUP:
                self._fold_waiting()

    def _fold(self, into: NDArray[np.int64], c: Contribution, factor: int) -> None:
        for part in fixedpoint.blocks(c.values.size):
            scaled = np.multiply(c.values[part], factor, dtype=np.int64)
            if c.indices is None:
                np.add(into[part], scaled, out=into[part])
            else:
                # Indices are distinct, so a plain fancy addition loses nothing.
                into[c.indices[part]] += scaled

    def _fold_waiting(self) -> None:
        total, scaled = np.empty((2, fixedpoint.BLOCK), np.int64)
        for part in fixedpoint.blocks(self.whole.size if self._waiting else 0):
            size = part.stop - part.start
            total[:size] = self.whole[part]
            for values, factor in self._waiting:
                np.multiply(values[part], factor, out=scaled[:size], dtype=np.int64)
                np.add(total[:size], scaled[:size], out=total[:size])
            self.whole[part] = total[:size]
        self._waiting.clear()

    def divided(self) -> NDArray[np.int32]:
        """The weighted mean; a mean of int32 is an int32."""
        self._fold_waiting()
        out = np.empty(self.whole.size, np.int32)
        for part in fixedpoint.blocks(out.size):
            if self.fraction is None:
                out[part] = fixedpoint.divide_half_away(self.whole[part], self.weights >> 16)
            else:
                out[part] = fixedpoint.divide_wide_half_away(
                    self.whole[part], self.fraction[part], self.weights
                )
        return out


def _mean(terms: AggregationTerms, contributions: Iterable[Contribution], length: int) -> NDArray[np.int32]:
    check_weights(terms)
    total = WeightedSum(np.zeros(length, np.int64))
    for c in contributions:
        total.add(c, weight(terms, c.examples, c.staleness))
    return total.divided()


def _by_coordinate(
    rows: Sequence[NDArray[np.int32]], rule: Callable[[NDArray[np.int32]], NDArray[np.int64]]
) -> NDArray[np.int32]:
    """Apply `rule` to the sorted values of each coordinate (rows: coordinates), a bounded block at a time."""
    out = np.empty(rows[0].size, np.int32)
    for part in fixedpoint.blocks(out.size, max(1, _SORT_CELLS // len(rows))):
        columns = np.stack([row[part] for row in rows], axis=1)
        columns.sort(axis=1)
        out[part] = rule(columns)
    return out


def _median(_terms: AggregationTerms, rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    low, high = (len(rows) - 1) // 2, len(rows) // 2

    def middle(ordered: NDArray[np.int32]) -> NDArray[np.int64]:
        return fixedpoint.divide_half_away(np.add(ordered[:, low], ordered[:, high], dtype=np.int64), 2)

    return _by_coordinate(rows, middle)


def _trimmed_mean(terms: AggregationTerms, rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    cut, kept = trimmed(terms, len(rows))

    def inner(ordered: NDArray[np.int32]) -> NDArray[np.int64]:
        return fixedpoint.divide_half_away(ordered[:, cut : cut + kept].sum(axis=1, dtype=np.int64), kept)

    return _by_coordinate(rows, inner)


def _nearest(terms: AggregationTerms, rows: Sequence[NDArray[np.int32]]) -> list[int]:
    """Rows by Krum score: the sum of squared distances to the n - malicious - 2 nearest; ties by position."""
    count, near = len(rows), neighbours(terms, len(rows))
    distances = fixedpoint.squared_distances(rows)
    scores = [sum(sorted(row[:i] + row[i + 1 :])[:near]) for i, row in enumerate(distances)]
    return sorted(range(count), key=lambda i: (scores[i], i))


def _krum(terms: AggregationTerms, rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return rows[_nearest(terms, rows)[0]].copy()


def _multi_krum(terms: AggregationTerms, rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    total = WeightedSum(np.zeros(rows[0].size, np.int64))
    for i in _nearest(terms, rows)[: neighbours(terms, len(rows))]:
        total.add(Contribution(i, 1, rows[i]), 1 << 16)
    return total.divided()


_Rule = Callable[[AggregationTerms, Sequence[NDArray[np.int32]]], NDArray[np.int32]]
_ORDER_RULES: Final[dict[str, _Rule]] = {
    "median": _median,
    "trimmed-mean": _trimmed_mean,
    "krum": _krum,
    "multi-krum": _multi_krum,
}
