"""Beacon, permutation and weighted draws: chance that nobody can steer after the commit set is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eth_hash.auto import keccak

from hansa.encoding import hash_fields
from hansa.protocol.state import State
from hansa.records import Governance

MAX_UINT = 2**256 - 1


def layer_hash(preimage: bytes, id: int) -> int:
    """What one revealed onion layer adds, by XOR, to the accumulator of the beacon."""
    return int.from_bytes(hash_fields(("bytes32", "uint256"), (preimage, id)), "big")


def next_beacon(previous: bytes, round: int, acc: int) -> bytes:
    """beacon = H(previous, round, XOR of H(preimage, id)): independent of order and of updates."""
    return hash_fields(("bytes32", "uint256", "uint256"), (previous, round, acc))


def hash_forward(preimage: bytes, steps: int) -> bytes:
    """Walk an onion outwards by `steps` layers."""
    for _ in range(steps):
        preimage = keccak(preimage)
    return preimage


def permute(beacon: bytes, ids: Iterable[int]) -> tuple[int, ...]:
    """Fisher-Yates over the ascending ids; four 64-bit draws a hash (bias below 2**-53)."""
    places = sorted(ids)
    word = 0
    for i in range(len(places)):
        if i % 4 == 0:
            word = int.from_bytes(hash_fields(("bytes32", "uint256"), (beacon, i)), "big")
        j = i + (word & (2**64 - 1)) % (len(places) - i)
        word >>= 64
        places[i], places[j] = places[j], places[i]
    return tuple(places)


def weight(state: State, id: int) -> int:
    """Leader weight: reputation at round open times declared resources, capped, plus one."""
    product = state.current.snapshot.get(id, state.members[id].reputation) * state.members[id].resources
    return min(state.parameters.weight_cap, product) + 1


def draw(seed: int, weights: Mapping[int, int]) -> int:
    """First id, ascending, whose cumulative weight exceeds seed modulo the total."""
    rest = seed % sum(weights.values())
    for id in sorted(weights):
        if rest < weights[id]:
            return id
        rest -= weights[id]
    raise AssertionError("unreachable: the remainder is below the total weight")


def _seed(beacon: bytes, salt: int) -> int:
    return int.from_bytes(hash_fields(("bytes32", "uint256"), (beacon, salt)), "big")


def draw_committee(state: State, beacon: bytes) -> frozenset[int]:
    """A hybrid federation's next committee: weighted draws without replacement among revealers."""
    weights = {i: weight(state, i) for i in state.current.revealed}
    chosen: set[int] = set()
    for k in range(state.parameters.committee):
        if not weights:
            break
        id = draw(_seed(beacon, MAX_UINT - k), weights)
        chosen.add(id)
        del weights[id]
    return frozenset(chosen)


def leader_pool(state: State) -> frozenset[int]:
    """Who may lead in this round under the federation's governance."""
    now = state.current
    match state.parameters.governance:
        case Governance.SERVER:
            return frozenset(m.id for m in state.members.values() if m.seated and m.active)
        case Governance.PEERS:
            return now.revealed
        case _:
            return now.verifiers - (frozenset(now.commits) - now.revealed)


def choose_leader(state: State, attempt: int) -> tuple[int, frozenset[int]] | None:
    """The leader of an attempt and the set of those tried with it; None when nobody may lead.

    Who left the pool meanwhile no longer counts as tried.
    """
    pool = leader_pool(state)
    if not pool:
        return None
    tried = state.current.tried & pool
    left = pool - tried
    if not left:
        tried, left = frozenset(), pool
    if state.parameters.governance is Governance.SERVER:
        leader = min(left)
    else:
        leader = draw(_seed(state.beacon, attempt), {i: weight(state, i) for i in left})
    return leader, tried | {leader}
