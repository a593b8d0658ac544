"""Cohorts: how V is split after burned rounds, what is accepted, who gathers suspicion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hansa.protocol import cohorts
from hansa.protocol.state import RoundState, State
from hansa.records import Parameters, RecordKind


def state_of(
    members: int,
    *,
    burned: tuple[int, ...] = (),
    round: int = 2,
    least: int = 3,
    said: Mapping[int, Any] | None = None,
) -> State:
    """In OPEN. `said`: by whom which cohorts were approved."""
    recorded = {
        (int(RecordKind.COHORTS), id): ((round, cohorts.encode_approvals(frozenset(good))),)
        for id, good in (said or {}).items()
    }
    return State(
        Parameters(bytes(32), min_updates=least, opens=True),
        frozenset(), bytes(20), bytes(32), bytes(32),
        round=round, burned=burned, recorded=recorded, beacon=hashlib.sha256(bytes([round])).digest(),
        current=RoundState(available=frozenset(range(members))),
    )  # fmt: skip


@given(st.integers(3, 200), st.integers(3, 8), st.integers(1, 12), st.integers(0, 100))
def test_cohorts_are_disjoint_whole_and_never_too_small(
    members: int, least: int, burned: int, later: int
) -> None:
    if members < least:
        return
    rounds = tuple(range(1, burned + 1))
    groups = cohorts.split(state_of(members, burned=rounds, round=burned + 1 + later, least=least))
    assert sorted(id for group in groups for id in group) == list(range(members))
    assert min(map(len, groups)) >= least
    assert len(groups) <= 2 ** min(burned, cohorts.DOUBLINGS)


def test_each_burned_round_doubles_cohorts_and_the_rounds_for_which_they_stay() -> None:
    def count(burned: tuple[int, ...], round: int) -> int:
        return len(cohorts.split(state_of(30, burned=burned, round=round)))

    assert count((), 1) == 1
    assert [count((1,), r) for r in range(2, 6)] == [2, 2, 1, 1]
    assert [count((1, 2), r) for r in range(3, 9)] == [4, 4, 4, 4, 1, 1]
    assert count((1, 2, 3, 4), 5) == 10, "ten times three is all there is"


def test_the_beacon_deals_members_out_anew() -> None:
    first, second = (cohorts.split(state_of(12, burned=(1, 2), round=r)) for r in (3, 4))
    assert set(first) != set(second)
    assert first == cohorts.split(state_of(12, burned=(1, 2), round=3))


def test_a_quorum_of_v_accepts_a_cohort() -> None:
    approving = {id: {0} for id in range(4)} | {4: {0, 1}}
    assert cohorts.accepted(state_of(6, burned=(1,), said=approving)) == {0}
    assert cohorts.accepted(state_of(7, burned=(1,), said=dict(list(approving.items())[:4]))) == frozenset()


def test_a_judgement_is_settled_when_what_is_awaited_cannot_change_it() -> None:
    said: dict[int, Any] = {id: {0} for id in range(4)}
    assert not cohorts.settled(state_of(6, burned=(1,), said=said))
    assert cohorts.settled(state_of(6, burned=(1,), said=said | {4: {0}}))


def test_who_is_in_a_cohort_that_was_not_accepted_gathers_suspicion() -> None:
    state = state_of(6, burned=(1,), said={id: {0} for id in range(6)})
    _, failed = cohorts.split(state)
    assert cohorts.suspicions(state) == dict.fromkeys(failed, 1)
    assert cohorts.suspicions(state_of(6, burned=(1,))) == {}
    assert cohorts.suspicions(state_of(6, said={0: set()})) == {}


def test_a_bitmap_of_someone_outside_v_or_of_bits_beyond_the_cohorts_counts_for_nothing() -> None:
    said: dict[int, Any] = {id: {0, 200} for id in range(4)} | {99: {0}, 98: {0}}
    state = state_of(6, burned=(1,), said=said)
    assert cohorts.approvals(state, 2) == (4, 0)
    assert cohorts.accepted(state) == frozenset()
