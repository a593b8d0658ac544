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
    "backdoor": 1.0,
    "free-rider": None,
    "copycat": None,
    "alie": 1.5,
    "ipm": 0.5,
    "lie": None,
}
"""Kind -> strength when none is written; None: the kind takes no strength."""

DATA: Final = {"label-flip": "flipped", "backdoor": "backdoor"}
"""Kind -> what its member trains on instead of `train`."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A kind of `STRENGTHS` and its strength (0 where it has none).

    `sign-flip:F` sends its update times -F (Li et al., RSA, arXiv 1811.03761).
    `noise:S` sends Gaussian noise of standard deviation S in the model's units (Blanchard et al., Krum, 2017).
    `label-flip` trains with label y as top - y (Fang et al., arXiv 1911.11815).
    `backdoor:G` trains with half of its rows stamped by a trigger and labelled 0 (Gu et al., BadNets, arXiv
    1708.06733), and sends the update times G (model replacement, Bagdasaryan et al., arXiv 1807.00459).
    `copycat` sends an update that another member sent the round before (lazy clients, Li et al., arXiv 2012.02044);
    zeros where it has seen none. `free-rider` sends zeros (Lin et al., arXiv 1911.12560).
    `alie:Z` sends mean - Z standard deviations of the colluders' own updates, which is all they know (Baruch et al.,
    A Little Is Enough, arXiv 1902.06156; Z is 1.5 in its first experiment).
    `ipm:E` sends -E times the mean of the honest updates of the same round, which its paper lets it know (Xie et
    al., Fall of Empires, arXiv 1903.03936). Under Hansa nobody can know them then: the simulation tells it.
    `lie` trains honestly and only ranks falsely, as all the others do too.
    """

    kind: str
    strength: float = 0.0


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What colluders know when they send an update, as updates in the order of members.

    `own`: what the colluders' own training gave, before any of it was changed. `honest`: what that of all others
    gave in the same round. `seen`: those others' updates of an earlier round. Empty: unknown.
    """

    own: Sequence[Delta] = ()
    honest: Sequence[Delta] = ()
    seen: Sequence[Delta] = ()


NOTHING: Final = Knowledge()


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
    """Key of the dataset that a member trains on: some hostile ones have made theirs."""
    return f"{name}/{DATA.get(attack.kind, 'train') if attack is not None else 'train'}"


def distort_update(
    attack: Attack, delta: Delta, scale: int, generator: np.random.Generator, known: Knowledge = NOTHING
) -> Delta:
    """The update that a hostile member sends instead of `delta`, int32 of the same length, saturated.

    An integer x stands for x * 2**-scale. What an attack would need and is not `known` it does without: `alie` then
    knows its own update only, `ipm` takes the colluders' mean for that of the honest.
    """
    match attack.kind:
        case "sign-flip":
            return _saturated(delta.astype(np.float64) * -attack.strength)
        case "noise":
            return _saturated(generator.standard_normal(len(delta)) * attack.strength * 2.0**scale)
        case "backdoor":
            return _saturated(delta.astype(np.float64) * attack.strength)
        case "alie":
            own = _stacked(known.own or (delta,))
            return _saturated(own.mean(axis=0) - attack.strength * own.std(axis=0))
        case "ipm":
            honest = _stacked(known.honest or known.own or (delta,))
            return _saturated(honest.mean(axis=0) * -attack.strength)
        case "copycat" if known.seen:
            return known.seen[int(generator.integers(len(known.seen)))].copy()
        case "copycat" | "free-rider":
            return np.zeros_like(delta)
    return delta.copy()


def _stacked(updates: Sequence[Delta]) -> NDArray[np.float64]:
    return np.stack(updates).astype(np.float64)


def distort_ranking(ranking: tuple[int, ...], friends: frozenset[int] = frozenset()) -> tuple[int, ...]:
    """A false ballot: colluding `friends` first, then everybody else from the worst to the best."""
    liked = tuple(member for member in ranking if member in friends)
    return liked + tuple(member for member in reversed(ranking) if member not in friends)


def _saturated(values: NDArray[np.float64]) -> Delta:
    limits = np.iinfo(np.int32)
    return np.clip(np.rint(values), limits.min, limits.max).astype(np.int32)
