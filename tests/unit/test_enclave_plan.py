"""What a node does for enclaves, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.vouched import GOOD, OTHER, attests, founded, joined, opened, says

from hansa.protocol import attested, enclave_plan, plan
from hansa.protocol.enclave_plan import Attest, Knowledge, NameRosters, NameSet, Vouch
from hansa.protocol.state import State
from hansa.records import Phase, RecordKind, Terms


def at(state: State, phase: Phase, **current: Any) -> State:
    return replace(state, phase=phase, current=replace(state.current, **current))


def running() -> tuple[Terms, State]:
    """Round 1, with candidates 0, 1 and 2."""
    terms, state = founded(4)
    for host in range(3):
        state = attests(state, host, 4)
    return terms, opened(state)


def knows(terms: Terms, id: int, **more: Any) -> Knowledge:
    return Knowledge(id, terms, **more)


def steps(state: State, know: Knowledge, done: float = 0.0) -> list[enclave_plan.Step]:
    return list(enclave_plan.steps(state, know, done))


def test_hosts_are_attested_and_members_vouch() -> None:
    terms, state = founded(4)
    assert steps(state, knows(terms, 0, runs=True)) == [Attest()]
    assert steps(state, knows(terms, 0)) == [], "it cannot run one"
    assert steps(state, knows(terms, 3, runs=True)) == [], "it may not lead"
    state = says(state, 0, 0, GOOD, RecordKind.ATTESTATION)
    state = says(state, 1, 1, OTHER, RecordKind.ATTESTATION)
    assert steps(state, knows(terms, 3)) == [Vouch(frozenset({0, 1}))]
    assert steps(state, knows(terms, 3, refused=frozenset({OTHER}))) == [Vouch(frozenset({0}))]
    state = says(state, 3, 0, GOOD)
    assert steps(state, knows(terms, 3)) == [Vouch(frozenset({1}))]
    assert steps(state, knows(terms, 9)) == [], "who is no member"


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.PAUSED])
def test_nothing_is_done_where_nothing_goes_on(phase: Phase) -> None:
    terms, state = founded(4)
    state = says(state, 1, 1, OTHER, RecordKind.ATTESTATION)
    assert steps(at(state, phase), knows(terms, 0, runs=True)) == []


def test_rosters_are_looked_after_once_a_round() -> None:
    terms, state = running()
    assert steps(state, knows(terms, 3)) == []
    state = opened(joined(state, 4))
    assert steps(state, knows(terms, 3)) == [NameRosters()]
    assert steps(state, knows(terms, 3, named=1)) == []
    state = opened(joined(state, 5))
    assert steps(state, knows(terms, 3, named=1)) == [NameRosters()]


def test_the_set_is_signed_when_it_is_frozen_and_looked_after_in_each_quarter() -> None:
    terms, state = running()
    trusts = knows(terms, 3, trusted=True)
    assert steps(at(state, Phase.AVAILABLE), trusts) == []
    frozen = at(state, Phase.AGGREGATE)
    assert steps(frozen, trusts) == [NameSet(0)]
    assert steps(frozen, trusts, 0.6) == [NameSet(2)]
    assert steps(frozen, replace(trusts, signed=(Phase.AGGREGATE, 2)), 0.6) == []
    assert steps(at(state, Phase.VERIFY), replace(trusts, signed=(Phase.AGGREGATE, 2)), 0.6) == [NameSet(2)]
    assert steps(frozen, knows(terms, 3)) == [], "it does not know all candidates"
    assert steps(frozen, knows(terms, 4, trusted=True)) == [], "it is not on the roster"


def test_members_train_once_all_candidates_are_verified_and_fresh() -> None:
    terms, state = running()
    assert enclave_plan.ready(state, knows(terms, 3, trusted=True))
    assert not enclave_plan.ready(state, knows(terms, 3))
    assert not enclave_plan.ready(state, knows(terms, 3, trusted=True, fresh=False))
    assert not enclave_plan.ready(opened(founded(4)[1]), knows(terms, 3, trusted=True)), "there is none"


def test_an_attestation_that_ends_soon_is_made_anew() -> None:
    terms, state = running()
    current = frozenset({GOOD})
    assert steps(state, knows(terms, 0, runs=True, attested=current)) == []
    assert steps(state, knows(terms, 0, runs=True, attested=current, ending=True)) == [Attest()]
    assert steps(state, knows(terms, 0, runs=True)) == [Attest()], "what was attested is gone"


def test_who_leads_waits_for_a_quorum_and_for_its_own_enclave() -> None:
    terms, state = running()
    good = knows(terms, 0, attested=frozenset({GOOD}), signers=3)
    assert enclave_plan.leads(state, good)
    assert not enclave_plan.leads(state, replace(good, signers=2))
    assert not enclave_plan.leads(state, replace(good, attested=frozenset({OTHER})))
    assert not enclave_plan.leads(state, replace(good, id=3, attested=frozenset({OTHER})))


def test_only_the_leader_aggregates_and_a_restarted_one_proposes_what_it_made() -> None:
    terms, state = running()
    roster = frozenset(range(4))
    state = replace(at(state, Phase.AGGREGATE, leader=0, selected=roster), deadline=100)
    own = knows(terms, 0, attested=frozenset({GOOD}), trusted=True, signers=3, signed=(Phase.AGGREGATE, 0))

    def planned(id: int, enclave: Knowledge, **more: Any) -> list[plan.Step]:
        know = plan.Knowledge(id, checked=roster, enclave=replace(enclave, id=id), **more)
        return plan.next_steps(state, know, 1)

    assert plan.Aggregate() in planned(0, own)
    assert plan.Aggregate() not in planned(1, own)
    assert plan.Aggregate() not in planned(0, replace(own, signers=0))
    made = replace(own, attested=frozenset(), signers=0)
    assert plan.Send("proposal") in planned(0, made, aggregated=True)
    assert plan.Send("proposal") not in planned(1, made, aggregated=True)
    assert attested.candidates(terms, state)[0] == GOOD
