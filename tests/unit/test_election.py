from __future__ import annotations

from collections import Counter
from dataclasses import replace

from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from hansa.protocol import election
from hansa.protocol.state import Member, RoundState, State
from hansa.records import Governance, Parameters, Role

IDS = st.sets(st.integers(0, 1023), min_size=1, max_size=40)


def federation(governance: Governance, weights: dict[int, int], **current) -> State:
    members = {
        i: Member(
            i,
            bytes([i]) * 20,
            bytes(32),
            bytes(32),
            0,
            1,
            Role.MEMBER,
            member=True,
            reputation=w,
            seated=i == 0,
        )
        for i, w in weights.items()
    }
    everyone = frozenset(weights)
    given = {"verifiers": everyone, "revealed": everyone, "roster": everyone} | current
    return State(
        Parameters(bytes(32), governance=governance, committee=3),
        frozenset({bytes([0]) * 20}),
        bytes(20),
        bytes(32),
        bytes(32),
        members=members,
        current=RoundState(**given),
    )


def test_hash_forward_is_keccak_again_and_again():
    assert election.hash_forward(b"x" * 32, 0) == b"x" * 32
    assert election.hash_forward(b"x" * 32, 3) == keccak(keccak(keccak(b"x" * 32)))


@given(IDS, st.binary(min_size=32, max_size=32))
def test_a_permutation_loses_nobody_and_depends_on_the_beacon_only(ids, beacon):
    places = election.permute(beacon, ids)
    assert sorted(places) == sorted(ids)
    assert places == election.permute(beacon, sorted(ids, reverse=True))


def test_every_order_is_about_equally_likely():
    orders = Counter(election.permute(i.to_bytes(32, "big"), range(4)) for i in range(2400))
    assert len(orders) == 24
    assert all(55 < n < 155 for n in orders.values())


def test_the_beacon_does_not_depend_on_the_order_of_reveals():
    a, b = election.layer_hash(b"a" * 32, 1), election.layer_hash(b"b" * 32, 2)
    assert election.next_beacon(bytes(32), 1, a ^ b) == election.next_beacon(bytes(32), 1, b ^ a)
    assert election.layer_hash(b"a" * 32, 1) != election.layer_hash(b"a" * 32, 2)
    beacons = {election.next_beacon(p, r, x) for p in (bytes(32), b"1" * 32) for r in (1, 2) for x in (a, b)}
    assert len(beacons) == 8


@given(st.dictionaries(st.integers(0, 99), st.integers(1, 1000), min_size=1), st.integers(0, 2**256 - 1))
def test_a_draw_falls_into_the_interval_of_who_is_drawn(weights, seed):
    id = election.draw(seed, weights)
    before = sum(w for i, w in weights.items() if i < id)
    assert before <= seed % sum(weights.values()) < before + weights[id]


def test_leaders_are_drawn_by_weight():
    drawn = Counter()
    for i in range(600):
        state = replace(federation(Governance.PEERS, {0: 0, 1: 99}), beacon=i.to_bytes(32, "big"))
        drawn[election.choose_leader(state, 0)[0]] += 1
    # Weights are reputation times resources plus one: 1 to 100.
    assert 0 < drawn[0] < 25


def test_a_weight_is_capped_and_taken_when_the_round_opened():
    state = federation(Governance.PEERS, {0: 90_000, 1: 5})
    assert election.weight(state, 0) == state.parameters.weight_cap + 1
    assert election.weight(state, 1) == 6
    opened = federation(Governance.PEERS, {0: 7}, snapshot={0: 3})
    assert election.weight(opened, 0) == 4


def test_each_attempt_has_another_leader_until_all_were_tried():
    state = federation(Governance.PEERS, dict.fromkeys(range(4), 10))
    seen = []
    for attempt in range(8):
        leader, tried = election.choose_leader(state, attempt)
        seen.append(leader)
        state = replace(state, current=replace(state.current, tried=tried))
    assert set(seen[:4]) == set(seen[4:]) == {0, 1, 2, 3}


def test_who_may_lead():
    weights = dict.fromkeys(range(5), 10)
    commits = dict.fromkeys(range(4))
    now = {"commits": commits, "revealed": frozenset({0, 1, 2}), "verifiers": frozenset({2, 3, 4})}
    pools = {g: election.leader_pool(federation(g, weights, **now)) for g in Governance}
    assert pools == {
        Governance.SERVER: {0},
        Governance.PEERS: {0, 1, 2},
        # Member 3 committed and withheld its layer; member 4 verifies without having committed.
        Governance.COMMITTEE: {2, 4},
        Governance.HYBRID: {2, 4},
    }
    assert election.choose_leader(federation(Governance.PEERS, weights, revealed=frozenset()), 0) is None


def test_a_committee_is_drawn_without_repetition_among_revealers():
    state = federation(Governance.HYBRID, dict.fromkeys(range(8), 10), revealed=frozenset(range(5)))
    sizes = Counter()
    for i in range(50):
        committee = election.draw_committee(state, i.to_bytes(32, "big"))
        assert committee <= frozenset(range(5))
        sizes[len(committee)] += 1
    assert sizes == {3: 50}
    few = federation(Governance.HYBRID, dict.fromkeys(range(8), 10), revealed=frozenset({6, 7}))
    assert election.draw_committee(few, bytes(32)) == {6, 7}


def test_who_was_tried_and_left_the_pool_counts_as_tried_no_more() -> None:
    """As the contract has it: back in the pool, such a leader may be chosen again."""
    weights = dict.fromkeys(range(4), 100)
    state = federation(Governance.PEERS, weights, tried=frozenset({0, 1}), revealed=frozenset({1, 2, 3}))
    chosen = election.choose_leader(state, 1)
    assert chosen is not None
    leader, tried = chosen
    assert leader in {2, 3}
    assert tried == {1, leader}
