"""What hostile members of a simulation do. Pure functions; randomness comes from the given generator."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hansa import errors

Delta = NDArray[np.int32]

STRENGTHS: Final[dict[str, float | None]] = {
    "sign-flip": 1.0,
    "noise": 1.0,
    "label-flip": None,
    "free-rider": None,
    "copycat": None,
    "lie": None,
}
"""Kind -> strength when none is written; None: the kind takes no strength."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A kind of `STRENGTHS` and its strength (0 where it has none).

    `sign-flip:F` sends its update times -F; `noise:S` sends Gaussian noise of standard deviation S in the
    model's units; `label-flip` trains on wrong labels; `free-rider` sends an update of zeros; `copycat` sends
    another member's earlier update; `lie` trains honestly and only ranks falsely, as all the others do too.
    """

    kind: str
    strength: float = 0.0


def parse(spec: str) -> Attack:
    """Read "sign-flip:5". Raises `Misconfigured` for an unknown kind or a strength that makes no sense."""
    kind, colon, text = spec.partition(":")
    if kind not in STRENGTHS:
        near = difflib.get_close_matches(kind, STRENGTHS, 1)
        raise errors.Misconfigured(
            f"unknown attack {kind!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            hint="Attacks: " + ", ".join(STRENGTHS),
        )
    default = STRENGTHS[kind]
    if default is None:
        if colon:
            raise errors.Misconfigured(f"the attack {kind!r} takes no strength, but {text!r} is given")
        return Attack(kind)
    try:
        strength = float(text) if colon else default
    except ValueError:
        strength = math.nan
    if not (math.isfinite(strength) and strength > 0):
        raise errors.Misconfigured(
            f"the strength of attack {spec!r} must be a positive number",
            hint=f'For example "{kind}:{default:g}".',
        )
    return Attack(kind, strength)


def training_key(attack: Attack | None, name: str) -> str:
    """Key of the dataset that a member trains on: a label-flipping one has labels of its own."""
    return f"{name}/flipped" if attack is not None and attack.kind == "label-flip" else f"{name}/train"


def distort_update(
    attack: Attack,
    delta: Delta,
    scale: int,
    generator: np.random.Generator,
    *,
    seen: Sequence[Delta] = (),
) -> Delta:
    """The update that a hostile member sends instead of `delta`, int32 of the same length, saturated.

    An integer x stands for x * 2**-scale. `seen` are other members' updates of earlier rounds: this round's
    are out of reach until commits close.
    """
    if attack.kind == "sign-flip":
        return _saturated(delta.astype(np.float64) * -attack.strength)
    if attack.kind == "noise":
        return _saturated(generator.standard_normal(len(delta)) * attack.strength * 2.0**scale)
    if attack.kind == "free-rider" or (attack.kind == "copycat" and not seen):
        return np.zeros_like(delta)
    if attack.kind == "copycat":
        return seen[int(generator.integers(len(seen)))].copy()
    return delta.copy()


def distort_ranking(ranking: tuple[int, ...], friends: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """A false ballot: colluding `friends` first, then everybody else from the worst to the best."""
    liked = tuple(member for member in ranking if member in friends)
    return liked + tuple(member for member in reversed(ranking) if member not in friends)


def _saturated(values: NDArray[np.float64]) -> Delta:
    limits = np.iinfo(np.int32)
    return np.clip(np.rint(values), limits.min, limits.max).astype(np.int32)
