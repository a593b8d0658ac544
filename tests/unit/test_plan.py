from __future__ import annotations

from dataclasses import replace

import pytest

from hansa.protocol import plan
from hansa.protocol.events import BallotOpened
from hansa.protocol.plan import Knowledge
from hansa.protocol.selection import pack_ranking
from hansa.protocol.state import Member, RoundState, State
from hansa.records import Parameters, Phase, Role

START, LONG = 1000, 100
EVERYONE = frozenset(range(5))
COMMITS = dict.fromkeys(range(5))
MEMBERS = {
    i: Member(i, bytes([i]) * 20, bytes(32), bytes(32), 0, 1, Role.MEMBER, member=True) for i in EVERYONE
}


def state(phase: Phase, *, round: int = 1, parameters: dict | None = None, **current) -> State:
    given = {
        "roster": EVERYONE,
        "verifiers": EVERYONE,
        "commits": COMMITS if phase > Phase.COMMIT else {},
        "revealed": EVERYONE if phase > Phase.BEACON else frozenset(),
        "places": tuple(range(5)) if phase > Phase.BEACON else (),
        "ballots": dict.fromkeys(range(5), b"") if phase > Phase.AVAILABLE else {},
        "selected": frozenset({0, 1, 2}) if phase >= Phase.AGGREGATE else frozenset(),
        "leader": 2 if phase >= Phase.AGGREGATE else None,
    }
    return State(
        Parameters(bytes(32), durations=(LONG,) * 7, **(parameters or {})),
        frozenset(),
        bytes(20),
        bytes(32),
        bytes(32),
        members=MEMBERS,
        round=round,
        phase=phase,
        deadline=START + LONG,
        current=RoundState(**(given | current)),
    )


def steps(at: State, share: float = 0.0, **know) -> list:
    now = START + int(LONG * share)
    made = plan.next_steps(at, Knowledge(**({"id": 1} | know)), now)
    return [s for s in made if not isinstance(s, plan.Share)]


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.PAUSED, Phase.STOPPED])
def test_a_federation_at_rest_asks_nothing(phase):
    assert plan.next_steps(state(phase), Knowledge(1), START + LONG + 1) == []
    assert plan.next_wake(state(phase), START) is None


def test_a_member_trains_once():
    at = state(Phase.COMMIT)
    assert steps(at) == [plan.Train()]
    assert steps(at, sent=frozenset({"commit"})) == []
    assert steps(at, trains=False) == []
    assert steps(at, id=9) == []


def test_who_joined_again_in_this_round_sits_it_out():
    """It could not reveal a layer, and would lose reputation for that."""
    at = state(Phase.COMMIT)
    at = replace(at, members={**MEMBERS, 1: replace(MEMBERS[1], onion_round=1)})
    assert steps(at) == []
    assert steps(at, id=2) == [plan.Train()]


def test_two_of_those_who_have_the_model_seal_it_to_newcomers_and_all_do_after_half_of_the_phase():
    keys = {i: bytes([i]) * 32 for i in EVERYONE}
    at = state(Phase.COMMIT, readers=keys)
    at = replace(at, model_author=2, model_readers={i: keys[i] for i in (1, 2, 3)})
    assert plan.strangers(at) == {0, 4}
    hosts = [i for i in range(6) if plan.Welcome() in steps(at, id=i)]
    assert hosts == [1, 2]
    assert steps(at, id=1) == [plan.Welcome(), plan.Train()]
    assert steps(at, id=1, welcomed=True) == [plan.Train()]
    assert [i for i in range(6) if plan.Welcome() in steps(at, 0.5, id=i)] == [1, 2, 3]
    # Who has another key than then cannot open it either; the initial model everybody makes.
    assert plan.strangers(replace(at, model_readers={**keys, 3: bytes(32)})) == {3}
    assert not plan.strangers(replace(at, model_author=None))
    assert not plan.strangers(replace(at, model_readers=keys))


def test_a_layer_is_sent_by_those_who_committed():
    at = state(Phase.BEACON)
    assert steps(at) == [plan.Send("reveal")]
    assert steps(at, id=9) == []
    assert steps(replace(at, current=replace(at.current, commits={0: None}))) == []


def test_blobs_are_published_only_when_the_beacon_is_known():
    assert plan.Publish() not in steps(state(Phase.COMMIT)) + steps(state(Phase.BEACON))
    assert steps(state(Phase.AVAILABLE))[0] == plan.Publish()


def test_availability_waits_for_all_until_half_of_the_phase_is_over():
    at = state(Phase.AVAILABLE)
    some = {"published": True, "checked": frozenset({0, 1}), "refused": frozenset({4})}
    assert steps(at, 0.49, **some) == [plan.Fetch(frozenset({2, 3}))]
    late = steps(at, 0.5, **some)
    assert late == [plan.Fetch(frozenset({2, 3})), plan.Send("availability"), plan.Evaluate()]
    whole = some | {"checked": frozenset({0, 1, 2, 3})}
    assert steps(at, **whole) == [plan.Send("availability"), plan.Evaluate()]
    assert steps(at, evaluated=True, **whole) == [plan.Send("availability"), plan.Send("ballot")]


def test_an_evaluator_that_does_not_verify_fetches_its_targets_only():
    at = state(Phase.AVAILABLE, verifiers=frozenset({0}), parameters={"targets": 2})
    assert steps(at, published=True) == [plan.Fetch(frozenset({2, 3}))]
    assert steps(at, published=True, checked=frozenset({2, 3})) == [plan.Evaluate()]


def test_without_selection_nobody_evaluates():
    at = state(Phase.AVAILABLE, parameters={"evaluate": False})
    assert steps(at, published=True, checked=EVERYONE) == [plan.Send("availability")]


def test_ballots_are_opened_by_those_who_cast_one():
    at = state(Phase.REVEAL, ballots={1: b""}, opened={})
    assert steps(at) == [plan.Send("opening")]
    assert steps(at, id=2) == []


def test_a_verifier_fixes_its_result_before_the_proposal():
    at = state(Phase.AGGREGATE)
    assert steps(at) == [plan.Fetch(frozenset({0, 1, 2}))]
    have = {"checked": frozenset({0, 1, 2})}
    assert steps(at, **have) == [plan.Aggregate()]
    assert steps(at, aggregated=True) == [plan.Send("precommit")]
    assert steps(at, aggregated=True, sent=frozenset({"precommit"})) == []


@pytest.mark.parametrize(
    ("count", "share", "proposes"),
    [(5, 0.0, True), (4, 0.0, False), (4, 0.24, False), (4, 0.25, True), (3, 0.49, False), (3, 0.9, False)],
)
def test_a_leader_proposes_when_enough_have_fixed_theirs(count, share, proposes):
    at = state(Phase.AGGREGATE, precommits=dict.fromkeys(range(count), b""))
    made = steps(at, share, id=2, aggregated=True, sent=frozenset({"precommit"}))
    assert made == ([plan.Send("proposal")] if proposes else [])


def test_a_proposal_belongs_to_its_attempt():
    at = state(Phase.AGGREGATE, attempt=1, precommits=dict.fromkeys(range(5), b""))
    sent = frozenset({"precommit", "proposal:0"})
    assert steps(at, id=2, aggregated=True, sent=sent) == [plan.Send("proposal")]
    assert steps(at, id=2, aggregated=True, sent=sent | {"proposal:1"}) == []


def test_a_leader_outside_the_roster_proposes_too():
    at = state(Phase.AGGREGATE, leader=7, precommits=dict.fromkeys(range(5), b""))
    assert steps(at, id=7) == [plan.Fetch(frozenset({0, 1, 2}))]
    assert steps(at, id=7, aggregated=True) == [plan.Send("proposal")]


def test_a_vote_follows_a_judgement():
    at = state(Phase.VERIFY)
    assert steps(at) == [plan.Judge()]
    for judgement in (True, False):
        assert steps(at, judgement=judgement) == [plan.Send("vote")]
    assert steps(at, judgement=True, sent=frozenset({"vote:0"})) == []
    assert steps(at, id=9) == []


# relaying


def relays(at: State, share: float, waiting: set[int], **know) -> list:
    sent = frozenset({"commit"})
    made = steps(at, share, sent=sent, waiting={"commit": frozenset(waiting)}, **know)
    return [s for s in made if isinstance(s, plan.Relay)]


def test_two_relays_act_at_once_when_all_is_there():
    at = state(Phase.COMMIT)
    # In round 1 the roster's ids 1 and 2 come first.
    assert relays(at, 0, set(EVERYONE), id=1) == [plan.Relay("commit")]
    assert relays(at, 0, set(EVERYONE), id=2) == [plan.Relay("commit")]
    assert relays(at, 0, set(EVERYONE), id=3) == []
    assert relays(at, 0, {0, 1, 2, 3}, id=1) == []
    assert [plan.relay_rank(state(Phase.COMMIT, round=r), 0) for r in (1, 2, 5)] == [4, 3, 0]


def test_every_relay_acts_after_a_quarter():
    at = state(Phase.COMMIT)
    for id in range(5):
        assert relays(at, 0.24, {0}, id=id) == []
        assert relays(at, 0.25, {0}, id=id) == [plan.Relay("commit")]
        assert relays(at, 0.25, set(), id=id) == []


def test_who_relays_for_nobody_brings_its_own_after_three_quarters():
    at = state(Phase.COMMIT)
    assert relays(at, 0.74, {1}, relay=False) == []
    assert relays(at, 0.75, {1}, relay=False) == [plan.Relay("commit", own=True)]
    assert relays(at, 0.75, {0}, relay=False) == []


def test_only_what_the_chain_awaits_is_relayed():
    at = state(Phase.COMMIT, commits={0: None})
    assert relays(at, 0.25, {0}) == []
    assert relays(at, 0.25, {0, 9}) == []
    assert relays(at, 0.25, {3}) == [plan.Relay("commit")]


def test_each_kind_has_those_whom_the_chain_awaits():
    kinds = {
        "commit": state(Phase.COMMIT, commits={0: None}),
        "reveal": state(Phase.BEACON, revealed=frozenset({0})),
        "availability": state(Phase.AVAILABLE, held={0: 0}),
        "ballot": state(Phase.AVAILABLE, ballots={0: b""}),
        "opening": state(Phase.REVEAL, opened={0: None}),
        "precommit": state(Phase.AGGREGATE, precommits={0: b""}),
        "vote": state(Phase.VERIFY, votes={0: True}),
    }
    for kind, at in kinds.items():
        assert plan.expected(at, kind) == {1, 2, 3, 4}
        assert kind in plan.kinds_of(at)
    assert plan.expected(state(Phase.AGGREGATE), "proposal") == {2}
    assert plan.expected(state(Phase.COMMIT), "proposal") == frozenset()


def test_kinds_that_the_terms_leave_out_are_not_sent():
    bare = {"evaluate": False, "precommit": False}
    assert plan.kinds_of(state(Phase.AVAILABLE, parameters=bare)) == ("availability",)
    assert plan.kinds_of(state(Phase.AGGREGATE, parameters=bare)) == ("proposal",)


# sharing


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.IDLE, Phase.PAUSED, Phase.STOPPED}))
def test_blobs_are_put_back_once_a_quarter_in_phases_that_may_lack_them(phase):
    def shares(share: float, shared: tuple[Phase, int] | None) -> list[int]:
        know = Knowledge(1, shared=shared)
        steps = plan.next_steps(state(phase), know, START + int(LONG * share))
        return [step.quarter for step in steps if isinstance(step, plan.Share)]

    def wanted(quarter: int) -> list[int]:
        return [quarter] if phase in plan.SHARING else []

    assert [shares(s, None) for s in (0, 0.24, 0.25, 0.9)] == [[], [], wanted(1), wanted(3)]
    assert shares(0.5, (phase, 2)) == shares(0.74, (phase, 2)) == []
    assert shares(0.5, (phase, 1)) == shares(0.5, (Phase.BEACON, 2)) == wanted(2)


# time


def test_a_node_is_woken_at_each_quarter_and_at_the_deadlines():
    at, now, woken = state(Phase.REVEAL), START, []
    while (wake := plan.next_wake(at, now)) is not None:
        woken.append(wake - START)
        now = wake
    assert woken == [25, 50, 75, 100, 200]


def test_elapsed_runs_from_zero_to_one():
    at = state(Phase.COMMIT)
    assert [plan.elapsed(at, START + t) for t in (0, 50, 100)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "phase", sorted(set(Phase) - {Phase.IDLE, Phase.PAUSED, Phase.STOPPED, Phase.REVEAL})
)
def test_after_the_deadline_a_relay_pushes(phase):
    assert steps(state(phase), 1.0) == [plan.Push()]
    assert steps(state(phase), 1.0, relay=False) == []
    assert plan.Push() not in steps(state(phase), 0.99)


def test_a_late_reveal_is_pushed_only_when_no_selection_is_possible():
    at = state(Phase.REVEAL)
    assert steps(at, 1.0) == [plan.Push()]
    word = pack_ranking([3, 2, 1, 0], [False] * 4)
    opened = {i: BallotOpened(1, i, word, False, bytes(32)) for i in (0, 1)}
    chosen = state(Phase.REVEAL, opened=opened, available=EVERYONE)
    assert [type(s) for s in steps(chosen, 1.0)] == [plan.Choose]
    assert [type(s) for s in steps(chosen, 0.9, sent=frozenset({"opening"}))] == []
    none_eligible = state(Phase.REVEAL, opened=opened, available=frozenset())
    assert steps(none_eligible, 1.0) == []
    assert steps(none_eligible, 2.0) == [plan.Push()]


def test_a_selection_is_made_as_soon_as_all_ballots_are_open():
    word = pack_ranking([3, 2, 1, 0], [False] * 4)
    opened = {i: BallotOpened(1, i, word, False, bytes(32)) for i in EVERYONE}
    at = state(Phase.REVEAL, opened=opened, available=EVERYONE)
    made = steps(at, sent=frozenset({"opening"}))
    assert [type(s) for s in made] == [plan.Choose]
    assert steps(at, sent=frozenset({"opening"}), relay=False) == []
