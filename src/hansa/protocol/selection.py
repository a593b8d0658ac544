"""Ballots and the top-K of a round.

Sources: median of ranks (default) and the Borda rule of CN110197285 / US11954592: evaluator i gives
update j `(m - p_j)/(m - 1)`; here an integer number of points, equal up to a factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hansa import errors
from hansa.encoding import hash_fields
from hansa.protocol.state import State
from hansa.records import Parameters

LANE = 16
DOUBT = 1 << 14
POINTS = DOUBT - 1


def targets_of(places: Sequence[int], place: int, targets: int) -> tuple[int, ...]:
    """Ids that the evaluator at `place` judges: the next min(targets, m-1) places of the ring."""
    m = len(places)
    return tuple(places[(place + 1 + j) % m] for j in range(min(targets, m - 1)))


def pack_ranking(points: Sequence[int], doubts: Sequence[bool]) -> int:
    """Points (c-1 = best) and doubts of the c targets in 16-bit lanes from the top of a word."""
    word = 0
    for j, (p, d) in enumerate(zip(points, doubts, strict=True)):
        word |= (p | (DOUBT if d else 0)) << (256 - LANE * (j + 1))
    return word


def unpack_ranking(ranking: int, c: int) -> list[tuple[int, bool]]:
    """Points and doubt of each of c lanes.

    Raises `MalformedRanking` unless the points are a permutation of 0..c-1 and nothing else is set.
    """
    lanes = [(ranking >> (256 - LANE * (j + 1))) & 0xFFFF for j in range(c)]
    rest = ranking & ((1 << (256 - LANE * c)) - 1)
    points = [v & POINTS for v in lanes]
    if rest or any(v >> 15 for v in lanes) or sorted(points) != list(range(c)):
        raise errors.MalformedRanking
    return [(v & POINTS, bool(v & DOUBT)) for v in lanes]


def rank(values: Sequence[float], doubts: Sequence[bool]) -> list[int]:
    """Points for each target from its value (greater is better); doubted ones come last.

    Ties go to the earlier place of the ring, which the beacon has shuffled.
    """
    order = sorted(range(len(values)), key=lambda j: (doubts[j], -values[j], j))
    points = [0] * len(values)
    for p, j in enumerate(order):
        points[j] = len(values) - 1 - p
    return points


def ballot_commitment(
    domain: bytes, round: int, id: int, ranking: int, stop: bool, values: bytes, salt: bytes
) -> bytes:
    """Keccak-256 that binds a ballot to federation, round and author; `salt` is 32 secret bytes."""
    return hash_fields(
        ("bytes32", "uint256", "uint256", "uint256", "bool", "bytes32", "bytes32"),
        (domain, round, id, ranking, stop, values, salt),
    )


def precommitment(domain: bytes, round: int, id: int, result: bytes, salt: bytes) -> bytes:
    """Keccak-256 by which a verifier fixes its own result before it sees the proposal."""
    return hash_fields(
        ("bytes32", "uint256", "uint256", "bytes32", "bytes32"), (domain, round, id, result, salt)
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """What the opened ballots say of one place."""

    id: int
    place: int
    eligible: bool
    score: int


def tally(state: State) -> list[Tally]:
    """Scores of all places of the ring, in order of place."""
    now, p = state.current, state.parameters
    m = len(now.places)
    received: list[list[int]] = [[] for _ in range(m)]
    doubts = [0] * m
    c = min(p.targets, m - 1)
    for place, id in enumerate(now.places):
        if id not in now.opened:
            continue
        for j, (points, doubt) in enumerate(unpack_ranking(now.opened[id].ranking, c)):
            target = (place + 1 + j) % m
            if doubt:
                doubts[target] += 1
            else:
                received[target].append(points)
    out = []
    for place, id in enumerate(now.places):
        got = received[place]
        eligible = id in now.available and id in now.opened and bool(got) and doubts[place] <= len(got)
        out.append(Tally(id, place, eligible, _score(got, borda=p.borda) if eligible else 0))
    return out


def _score(received: list[int], *, borda: bool) -> int:
    if borda:
        return sum(received) * 65536 // len(received)
    ordered = sorted(received, reverse=True)
    return ordered[len(ordered) // 2]


def keep_count(parameters: Parameters, available: int, eligible: int) -> int:
    """K: how many updates are selected."""
    wanted = parameters.keep or -(-available * parameters.keep_permille // 1000)
    return min(wanted, eligible)


def select(state: State, threshold: int, cut: int) -> frozenset[int]:
    """Eligible updates above the threshold, or at it and before place `cut`.

    Raises `WrongSelection` unless these are exactly K, which leaves only the K best.
    """
    rows = [t for t in tally(state) if t.eligible]
    chosen = frozenset(t.id for t in rows if t.score > threshold or (t.score == threshold and t.place < cut))
    k = keep_count(state.parameters, len(state.current.available), len(rows))
    if not rows or len(chosen) != k:
        raise errors.WrongSelection
    return chosen


def threshold_and_cut(state: State) -> tuple[int, int] | None:
    """The arguments with which `select` picks exactly K; None when nobody is eligible."""
    rows = sorted((t for t in tally(state) if t.eligible), key=lambda t: (-t.score, t.place))
    if not rows:
        return None
    last = rows[keep_count(state.parameters, len(state.current.available), len(rows)) - 1]
    return last.score, last.place + 1


def scores(state: State) -> Mapping[int, int]:
    """Score of every eligible update by id."""
    return {t.id: t.score for t in tally(state) if t.eligible}
