"""How a simulation shares rows among members: deterministic splits of row numbers, in plain numpy.

Label skew follows Hsu, Qi, Brown, "Measuring the effects of non-identical data distribution"
(arXiv 1909.06335): the rows of each class are dealt out by a Dirichlet draw over members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hansa import errors

Rows = NDArray[np.int64]
KINDS: Final = ("dirichlet", "iid", "natural")
DRAWS: Final = 1000


@dataclass(frozen=True, slots=True)
class Partition:
    """`kind` is "dirichlet" (skew `alpha`, small is skewed), "iid" or "natural" (one data set a member).

    Every member gets at least `min_rows` rows; "natural" members that have fewer are refused.
    """

    kind: str = "iid"
    alpha: float = 0.5
    min_rows: int = 10


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Row numbers of each member's training and validation rows, and of the test rows nobody holds."""

    train: tuple[Rows, ...]
    validation: tuple[Rows, ...]
    test: Rows


def split(
    labels: NDArray[np.int64] | None, rows: int, fraction: float, generator: np.random.Generator
) -> tuple[Rows, Rows]:
    """Split `rows` row numbers in (kept, held), ascending; `held` has round(fraction * rows) of them.

    With labels (one integer a row) each class gives its share: shares are rounded so that the total is exact.
    """
    count = round(fraction * rows)
    classes = np.zeros(rows, dtype=np.int64) if labels is None else np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(classes) if rows else np.zeros(0, dtype=np.int64)
    quota = np.floor(sizes * fraction).astype(np.int64)
    remainder = sizes * fraction - quota
    quota[np.argsort(-remainder, kind="stable")[: count - int(quota.sum())]] += 1
    held = [generator.permutation(np.flatnonzero(classes == c))[:q] for c, q in enumerate(quota)]
    held_rows = np.sort(np.concatenate([*held, np.zeros(0, dtype=np.int64)])).astype(np.int64)
    return np.setdiff1d(np.arange(rows, dtype=np.int64), held_rows), held_rows


def _iid(rows: Rows, members: int, generator: np.random.Generator) -> tuple[Rows, ...]:
    return tuple(np.sort(part) for part in np.array_split(generator.permutation(rows), members))


def _dirichlet(
    rows: Rows, labels: NDArray[np.int64], members: int, partition: Partition, generator: np.random.Generator
) -> tuple[Rows, ...]:
    for _ in range(DRAWS):
        owned: list[list[Rows]] = [[] for _ in range(members)]
        for label in np.unique(labels):
            mine = generator.permutation(rows[labels == label])
            cuts = np.cumsum(generator.dirichlet(np.full(members, partition.alpha)))[:-1] * len(mine)
            for member, part in enumerate(np.split(mine, np.round(cuts).astype(np.int64))):
                owned[member].append(part)
        parts = tuple(np.sort(np.concatenate(o)) for o in owned)
        if min(map(len, parts)) >= partition.min_rows:
            return parts
    raise errors.Misconfigured(
        f"[simulation] partition: no draw gave each of {members} members {partition.min_rows} rows "
        f"with alpha = {partition.alpha}",
        hint="Raise alpha, lower min_rows, or simulate fewer members.",
    )


def shares(
    labels: NDArray[np.int64] | None,
    rows: int,
    members: int,
    partition: Partition,
    *,
    holdout: float,
    validation: float,
    seed: int,
) -> Shares:
    """Share `rows` rows among `members`. The same arguments give the same shares.

    Raises `Misconfigured` for an unknown or natural kind, for label skew without labels, and when there
    are too few rows.
    """
    if partition.kind not in ("dirichlet", "iid"):
        raise errors.Misconfigured(f"[simulation] partition: {partition.kind!r} does not share one data set")
    generator = np.random.Generator(np.random.PCG64(seed))
    kept, test = split(labels, rows, holdout, generator)
    if len(kept) < members * partition.min_rows:
        raise errors.Misconfigured(
            f"[simulation] partition: {len(kept)} rows are too few for {members} members "
            f"of {partition.min_rows} rows",
            hint="Simulate fewer members or lower min_rows.",
        )
    if partition.kind == "iid":
        parts = _iid(kept, members, generator)
    elif labels is None:
        raise errors.Misconfigured(
            '[simulation] partition: "dirichlet" needs integer labels, and the data set shows none',
            hint='Return (features, labels) from data(site), or use kind = "iid".',
        )
    else:
        parts = _dirichlet(kept, labels[kept], members, partition, generator)
    return _with_validation(parts, labels, test, validation, generator)


def natural_shares(
    labels: Sequence[NDArray[np.int64] | None],
    rows: Sequence[int],
    partition: Partition,
    *,
    holdout: float,
    validation: float,
    seed: int,
) -> Shares:
    """Shares of members that bring their own rows, numbered on through all members in order.

    Each member gives the fraction `holdout` of its rows to the common test set.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    parts, tests, start = [], [], 0
    for member, (own, count) in enumerate(zip(labels, rows, strict=True)):
        kept, held = split(own, count, holdout, generator)
        if len(kept) < partition.min_rows:
            raise errors.Misconfigured(
                f"[simulation] partition: member {member} has {len(kept)} rows, "
                f"fewer than min_rows = {partition.min_rows}",
                hint="Lower min_rows, or leave this member out.",
            )
        parts.append(kept + start)
        tests.append(held + start)
        start += count
    known = [own for own in labels if own is not None]
    joined = np.concatenate(known) if len(known) == len(labels) else None
    return _with_validation(tuple(parts), joined, np.concatenate(tests), validation, generator)


def _with_validation(
    parts: tuple[Rows, ...],
    labels: NDArray[np.int64] | None,
    test: Rows,
    validation: float,
    generator: np.random.Generator,
) -> Shares:
    train, held = [], []
    for part in parts:
        kept, own = split(None if labels is None else labels[part], len(part), validation, generator)
        train.append(part[kept])
        held.append(part[own])
    return Shares(tuple(train), tuple(held), test)
