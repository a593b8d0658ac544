"""One round inside the enclave: a manifest, the payloads that it names, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto import fixedpoint
from hansa.enclave import oblivious
from hansa.enclave.messages import Code, Refusal
from hansa.protocol import aggregation
from hansa.protocol.aggregation import Contribution, WeightedSum
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import parameters
from hansa.protocol.tee import Entry, Flaw, Manifest
from hansa.records import Terms, Update

STREAMING = ("weighted-mean", "clipped-mean")
"""Rules that need no update for longer than it takes to add it."""


@dataclass(slots=True)
class Round:
    """What is there of a round: `waiting` entries by member, flaws of what came, the sum or the rows."""

    manifest: Manifest
    waiting: dict[int, Entry]
    total: WeightedSum
    base: Checkpoint | None = None
    flaws: dict[int, Flaw] = field(default_factory=dict)
    rows: dict[int, NDArray[np.int32]] = field(default_factory=dict)


def start(terms: Terms, manifest: Manifest) -> Round:
    """A round with nothing taken yet. Raises `Refusal` when its weights do not fit the terms' rule."""
    if manifest.summed is not None:
        return Round(manifest, {}, WeightedSum(np.zeros(0, np.int64)))
    units = sum(_weight(terms, manifest, entry) >> 16 for entry in manifest.entries)
    if units >= aggregation.MAX_TOTAL_WEIGHT:
        raise Refusal(Code.RULE)
    sums = terms.aggregation.rule in STREAMING
    total = WeightedSum(np.zeros(parameters(terms.layout) if sums else 0, np.int64))
    return Round(manifest, {entry.member: entry for entry in manifest.entries}, total)


def add(terms: Terms, round: Round, entry: Entry, update: Update) -> None:
    """Add the valid update of an entry."""
    rule, values = terms.aggregation.rule, update.values
    if rule not in STREAMING:
        round.rows[entry.member] = values
        return
    if rule == "clipped-mean":
        bound = aggregation.clip_bound(terms.aggregation, terms.layout.scale)
        values = oblivious.clip(values, bound)
    units = _weight(terms, round.manifest, entry)
    round.total.add(Contribution(entry.member, entry.examples, values), units)


def joint_update(terms: Terms, round: Round) -> NDArray[np.int32]:
    """What the valid updates make together. Raises `Refusal` where the rule cannot take so few."""
    if len(round.flaws) == len(round.manifest.entries):
        raise Refusal(Code.RULE)
    if terms.aggregation.rule in STREAMING:
        return round.total.divided()
    rows = [round.rows[member] for member in sorted(round.rows)]
    try:
        return oblivious.RULES[terms.aggregation.rule](terms.aggregation, rows)
    except errors.Misconfigured as e:
        raise Refusal(Code.RULE) from e


def exceeds_norm(terms: Terms, values: NDArray[np.int32]) -> bool:
    """Whether a vector is longer than the terms allow."""
    assert terms.tee is not None
    if not terms.tee.max_norm:
        return False
    bound = aggregation.norm_bound(terms.tee.max_norm, terms.layout.scale)
    return fixedpoint.sum_of_squares(values) > bound * bound


def _weight(terms: Terms, manifest: Manifest, entry: Entry) -> int:
    return aggregation.weight(terms.aggregation, entry.examples, manifest.version - entry.version)
