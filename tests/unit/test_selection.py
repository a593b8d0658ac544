from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa import errors
from hansa.protocol import selection
from hansa.protocol.events import BallotOpened
from hansa.protocol.state import RoundState, State
from hansa.records import Parameters

VALUES = st.lists(st.floats(allow_nan=False), min_size=1, max_size=16)


def state_of(places, ballots, *, targets=16, keep=0, permille=750, borda=False, available=None) -> State:
    """`ballots`: id -> (points, doubts) in the order of its targets."""
    opened = {
        id: BallotOpened(1, id, selection.pack_ranking(points, doubts), False, bytes(32))
        for id, (points, doubts) in ballots.items()
    }
    everyone = frozenset(places)
    current = RoundState(
        revealed=everyone,
        available=everyone if available is None else frozenset(available),
        places=tuple(places),
        opened=opened,
    )
    parameters = Parameters(bytes(32), targets=targets, keep=keep, keep_permille=permille, borda=borda)
    return State(parameters, frozenset(), bytes(20), bytes(32), bytes(32), current=current)


def matrix(quality: list[float], places=None, **options) -> State:
    """Everybody judges everybody else by the true quality."""
    places = list(range(len(quality))) if places is None else places
    ballots = {}
    for place, id in enumerate(places):
        seen = [quality[t] for t in selection.targets_of(places, place, options.get("targets", 16))]
        none = [False] * len(seen)
        ballots[id] = (selection.rank(seen, none), none)
    return state_of(places, ballots, **options)


@given(st.integers(2, 40), st.integers(1, 16))
def test_each_place_is_judged_as_often_as_it_judges(m, targets):
    places = tuple(range(100, 100 + m))
    seen = [t for p in range(m) for t in selection.targets_of(places, p, targets)]
    assert all(seen.count(id) == min(targets, m - 1) for id in places)


@given(
    st.integers(1, 16).flatmap(
        lambda c: st.tuples(st.permutations(range(c)), st.lists(st.booleans(), min_size=c, max_size=c))
    )
)
def test_a_ranking_is_unpacked_as_packed(made):
    points, doubts = made
    word = selection.pack_ranking(points, doubts)
    assert selection.unpack_ranking(word, len(points)) == list(zip(points, doubts, strict=True))


@given(st.integers(0, 2**256 - 1), st.integers(1, 16))
def test_any_word_is_a_permutation_or_refused(word, c):
    try:
        lanes = selection.unpack_ranking(word, c)
    except errors.MalformedRanking:
        return
    assert sorted(p for p, _ in lanes) == list(range(c))
    assert selection.pack_ranking(*zip(*lanes, strict=True)) == word


@given(VALUES, st.data())
def test_points_follow_values_and_doubted_ones_come_last(values, data):
    doubts = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    points = selection.rank(values, doubts)
    assert sorted(points) == list(range(len(values)))
    for i in range(len(values)):
        for j in range(len(values)):
            if doubts[i] == doubts[j] and values[i] > values[j]:
                assert points[i] > points[j]
            if doubts[i] < doubts[j]:
                assert points[i] > points[j]


@given(st.integers(4, 12).flatmap(lambda m: st.permutations(range(m))), st.booleans())
def test_the_best_are_selected_when_all_judge_alike(quality, borda):
    m = len(quality)
    state = matrix([float(q) for q in quality], borda=borda)
    chosen = selection.select(state, *selection.threshold_and_cut(state))
    k = -(-m * 750 // 1000)
    # A member is not judged by itself, which shifts the points of its neighbours by one at most.
    worst = sorted(range(m), key=lambda i: quality[i])[: m - k - 1]
    assert len(chosen) == k
    assert not chosen & set(worst)


@given(st.randoms(use_true_random=False), st.integers(4, 9), st.integers(1, 9), st.booleans())
def test_threshold_and_cut_give_the_k_best_and_nothing_else_does(random, m, keep, borda):
    places = random.sample(range(50), m)
    ballots = {id: (random.sample(range(m - 1), m - 1), [random.random() < 0.3] * (m - 1)) for id in places}
    state = state_of(places, ballots, keep=keep, borda=borda)
    rows = [t for t in selection.tally(state) if t.eligible]
    if not rows:
        assert selection.threshold_and_cut(state) is None
        with pytest.raises(errors.WrongSelection):
            selection.select(state, 0, m)
        return
    chosen = selection.select(state, *selection.threshold_and_cut(state))
    best = sorted(rows, key=lambda t: (-t.score, t.place))[: min(keep, len(rows))]
    assert chosen == {t.id for t in best}
    for threshold in {t.score for t in rows} | {-1}:
        for cut in range(m + 1):
            try:
                assert selection.select(state, threshold, cut) == chosen
            except errors.WrongSelection:
                continue


def test_who_opened_no_ballot_or_is_not_available_is_not_eligible():
    state = matrix([4.0, 3.0, 2.0, 1.0, 0.0], available=[1, 2, 3, 4])
    assert selection.scores(state).keys() == {1, 2, 3, 4}
    ballots = {i: ([3, 2, 1, 0], [False] * 4) for i in range(1, 5)}
    assert selection.scores(state_of(range(5), ballots)).keys() == {1, 2, 3, 4}


def test_more_doubts_than_judgements_disqualify():
    def with_doubts(count: int):
        ballots = {}
        for place in range(5):
            targets = selection.targets_of(range(5), place, 16)
            doubts = [t == 0 and place <= count for t in targets]
            ballots[place] = (selection.rank([1.0] * 4, doubts), doubts)
        return selection.scores(state_of(range(5), ballots))

    assert 0 in with_doubts(2)
    assert 0 not in with_doubts(3)


def test_the_median_is_the_lower_one_and_borda_the_mean():
    assert selection._score([9, 0, 5, 7], borda=False) == 5
    assert selection._score([9, 0, 5], borda=False) == 5
    assert selection._score([9, 0, 5, 7], borda=True) == 21 * 65536 // 4


def test_a_minority_cannot_move_a_median_beyond_the_honest_values():
    generator = np.random.default_rng(1)
    for _ in range(200):
        honest = generator.integers(5, 9, 7).tolist()
        for false in ([15, 15, 15], [0, 0, 0], [15, 0, 15]):
            assert min(honest) <= selection._score(honest + false, borda=False) <= max(honest)


def test_keep_is_a_number_or_a_share_and_never_more_than_there_are():
    share, number = Parameters(bytes(32), keep_permille=667), Parameters(bytes(32), keep=3)
    assert [selection.keep_count(share, n, 99) for n in (3, 4, 9, 10)] == [3, 3, 7, 7]
    assert selection.keep_count(share, 9, 5) == 5
    assert selection.keep_count(number, 9, 9) == 3
    assert selection.keep_count(number, 9, 2) == 2


def test_commitments_differ_in_every_field():
    base = (bytes(32), 1, 2, 3, False, bytes(32), bytes(32))
    other = (b"x" * 32, 9, 9, 9, True, b"x" * 32, b"x" * 32)
    made = {selection.ballot_commitment(*base)}
    for i, value in enumerate(other):
        made.add(selection.ballot_commitment(*base[:i], value, *base[i + 1 :]))
    assert len(made) == 8
    base2, other2 = (bytes(32), 1, 2, bytes(32), bytes(32)), (b"x" * 32, 9, 9, b"x" * 32, b"x" * 32)
    made = {selection.precommitment(*base2)}
    for i, value in enumerate(other2):
        made.add(selection.precommitment(*base2[:i], value, *base2[i + 1 :]))
    assert len(made) == 6
