"""Every governance, rule, optimiser and mode runs to its end, with a hostile member among the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.adversary.hostile import ALL, Dead, faults, leaders, outcomes, selections
from tests.tiny import LENGTH, TinyTrainer, moved, tiny

from hansa.protocol.aggregation import weight
from hansa.records import (
    AggregationTerms,
    Fault,
    Governance,
    GovernanceTerms,
    Phase,
    Role,
    SelectionTerms,
    Training,
)

TWICE = Training(rounds=2, min_members=4, deadline=100)
BAD = 2


class Poison(TinyTrainer):
    def train(self, task):
        result = super().train(task)
        result.values["w"] -= 5
        return result


def distance(made) -> float:
    """How far the model is from what all honest members want."""
    model = made.nodes[0].models.standing(made.state).model
    return float(np.abs(model.values / 2**model.layout.scale - 1).max())


def ended_well(made, rounds: int = 2) -> None:
    assert made.state.phase is Phase.STOPPED
    assert outcomes(made) == [1] * rounds
    assert made.state.version == rounds
    assert all(BAD not in chosen for chosen in selections(made))
    assert distance(made) < 0.5


@pytest.mark.parametrize("governance", Governance)
def test_each_governance_runs_to_the_end(governance):
    made = tiny(
        6,
        server=governance is Governance.SERVER,
        governance=governance,
        training=replace(TWICE, rounds=3),
        trainers={BAD: Poison()},
        govern=GovernanceTerms(committee=4, epoch=2),
    )
    made.run()
    ended_well(made, rounds=3)
    led = {id for _, id in leaders(made)}
    if governance is Governance.SERVER:
        assert led == {6}
        assert made.state.members[6].role is Role.SERVER
        assert 6 not in made.state.current.roster
    if governance is Governance.HYBRID:
        assert len(made.state.committee) == 4
        assert led <= frozenset(range(6))


def test_a_server_that_lies_is_voted_down_and_nothing_becomes_final():
    made = tiny(server=True, governance=Governance.SERVER, training=replace(TWICE, max_failed_rounds=1))
    server = made.nodes[5]
    base = server.models.standing

    def shifted(state):
        model = base(state)
        values = model.model.values + 7
        return replace(model, model=replace(model.model, values=values))

    server.models.standing = shifted
    made.run()
    assert made.state.phase is Phase.PAUSED
    assert made.state.version == 0
    assert set(faults(made, 5)) == {Fault.REJECTED_PROPOSAL}


RULES = [
    AggregationTerms(rule="weighted-mean"),
    AggregationTerms(rule="clipped-mean", clip_norm=1.0),
    AggregationTerms(rule="median"),
    AggregationTerms(rule="trimmed-mean", trim=0.2),
    AggregationTerms(rule="krum", malicious=0),
    AggregationTerms(rule="multi-krum", malicious=0),
    AggregationTerms(optimizer="momentum"),
    AggregationTerms(optimizer="adam"),
    AggregationTerms(optimizer="yogi"),
]


@pytest.mark.parametrize("terms", RULES, ids=lambda t: f"{t.rule}-{t.optimizer}")
def test_each_rule_and_optimiser_runs_to_the_end(terms):
    made = tiny(trainers={BAD: Poison()}, training=TWICE, aggregation=terms)
    before = distance(made)
    made.run()
    assert outcomes(made) == [1, 1]
    assert all(BAD not in chosen for chosen in selections(made))
    assert len(leaders(made)) == 2
    assert distance(made) < before
    for node in made.nodes:
        assert node.models.standing(made.state).digest == made.state.model


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "multi-krum"])
def test_a_robust_rule_holds_a_poisoned_update_without_selection(rule):
    """Five of six are honest; the mean alone would be dragged away."""

    def run(terms):
        made = tiny(6, trainers={BAD: Poison()}, training=TWICE, selection=ALL, aggregation=terms)
        made.run()
        assert outcomes(made) == [1, 1]
        return distance(made)

    robust = run(AggregationTerms(rule=rule, malicious=1, trim=0.2))
    assert robust < 0.5 < run(AggregationTerms(rule="weighted-mean"))


def test_sparse_updates_with_error_feedback_lose_nothing():
    """A quarter of the values goes out each round; what stays behind is sent later."""
    made = tiny(training=replace(TWICE, rounds=10, gamma=0.25), selection=ALL)
    made.run()
    assert outcomes(made) == [1] * 10
    (update,) = (u for (id, _), u in made.nodes[0].blobs._opened.items() if id == 1)
    assert update.indices is not None
    assert update.values.size == LENGTH // 4
    assert made.nodes[0].world.journal.latest("residual", 11) != b""
    with_feedback = distance(made)
    without_feedback = tiny(
        training=replace(TWICE, rounds=10, gamma=0.25, error_feedback=False), selection=ALL
    )
    without_feedback.run()
    assert with_feedback < 0.3
    assert distance(without_feedback) != with_feedback


@pytest.mark.parametrize("borda", [False, True])
def test_both_rules_of_selection_leave_a_single_attacker_out(borda):
    rule = SelectionTerms(rule="borda" if borda else "median-rank")
    made = tiny(6, trainers={BAD: Poison()}, training=TWICE, selection=rule)
    made.run()
    ended_well(made)


def test_fewer_targets_than_members_are_enough():
    made = tiny(8, trainers={BAD: Poison()}, training=TWICE, selection=SelectionTerms(targets=4))
    made.run()
    ended_well(made)


# asynchronous training


ASYNC = replace(TWICE, mode="asynchronous", buffer=4, max_staleness=2, rounds=4)


class Slow(TinyTrainer):
    """Needs as long as `passes` looks of its node at the chain take, in the first round."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[int] = []

    def train(self, task):
        self.trained.append(task.round)
        return super().train(task)


def late(world_of: dict):
    """Member 4's ledger shows nothing while the others commit: it looks at the chain only in round 2."""
    return lambda world: replace(world, ledger=Dead(world.ledger, lambda: world_of["made"].state.round < 2))


def test_a_full_buffer_closes_the_round_without_latecomers():
    hold: dict = {}
    made = hold["made"] = tiny(training=ASYNC, selection=ALL, worlds={4: late(hold)})
    made.run()
    assert outcomes(made) == [1] * 4
    assert selections(made)[0] == frozenset({0, 1, 2, 3})
    assert {len(s) for s in selections(made)} <= {4, 5}


def latecomer(staleness: int):
    """Member 4 trains in round 1 and delivers when `staleness` more rounds have become final.

    The others need two seconds to train, so that an update which is ready goes first.
    """

    def quick(world):
        return replace(world, virtual=True, duration=lambda _examples: 2000)

    training = replace(ASYNC, max_staleness=2)
    made = tiny(training=training, selection=ALL, worlds=dict.fromkeys(range(4), quick))
    node, trainer = made.nodes[4], Slow()

    def busy(task):
        result = trainer.train(task)
        others = [n for n in made.nodes if n is not node]
        made.nodes = others
        made.until(Phase.COMMIT, 1 + staleness)
        made.nodes = [node, *others]
        return result

    class Busy(TinyTrainer):
        def train(self, task):
            return busy(task) if task.round == 1 else trainer.train(task)

    node = moved(node, trainer=Busy())
    made.nodes = [node, *made.nodes[:4]]
    made.run()
    return made, trainer


@pytest.mark.parametrize("staleness", [1, 2])
def test_a_latecomers_stale_update_is_taken(staleness):
    made, trainer = latecomer(staleness)
    assert outcomes(made) == [1] * 4
    commits = [e for e in made.chain.events if type(e).__name__ == "Committed" and e.id == 4]
    assert (commits[0].round, commits[0].base) == (1 + staleness, 0)
    assert trainer.trained[0] == 1
    assert 1 + staleness not in trainer.trained
    assert 4 in selections(made)[staleness]


def test_a_stale_update_weighs_less_by_the_root_of_its_age():
    fresh = weight(AggregationTerms(), 10, 0)
    for staleness in range(1, 9):
        stale = weight(AggregationTerms(), 10, staleness)
        assert stale == pytest.approx(fresh / (1 + staleness) ** 0.5, rel=1e-4)


def test_an_update_that_is_too_old_is_thrown_away():
    made, trainer = latecomer(3)
    assert outcomes(made) == [1] * 4
    commits = [e for e in made.chain.events if type(e).__name__ == "Committed" and e.id == 4]
    assert [(c.round, c.base) for c in commits] == [(4, 3)]
    assert trainer.trained == [1, 4]


def test_a_slow_member_trains_on_while_rounds_go_by():
    """On the virtual clock its training lasts for several rounds; meanwhile it verifies, then its update goes in."""

    def paced(seconds):
        return lambda world: replace(world, virtual=True, duration=lambda _examples: 1000 * seconds)

    training = replace(ASYNC, max_staleness=5, rounds=8)
    worlds = {id: paced(2) for id in range(4)} | {4: paced(30)}
    made = tiny(training=training, selection=ALL, worlds=worlds)
    began = made.now
    made.run()
    assert outcomes(made) == [1] * 8
    commits = [e for e in made.chain.events if type(e).__name__ == "Committed" and e.id == 4]
    assert commits
    assert 0 < commits[0].round - 1 - commits[0].base <= 5
    voters = {e.round for e in made.chain.events if type(e).__name__ == "Voted" and e.id == 4}
    assert voters, "it verifies while it trains"
    together = tiny(training=replace(TWICE, rounds=8), selection=ALL, worlds=worlds)
    together.run()
    assert outcomes(together) == [1] * 8
    assert 2 * (made.now - began) < together.now - began
    assert distance(made) < 2 * distance(together) + 0.01


# stopping


def test_a_reached_target_stops_the_federation():
    made = tiny(training=replace(TWICE, rounds=50, target=("loss", 0.1)))
    made.run()
    assert made.state.phase is Phase.STOPPED
    assert 1 < made.state.version < 10


def test_patience_stops_a_federation_that_learns_no_more():
    made = tiny(training=replace(TWICE, rounds=50, patience=2))
    made.run()
    assert made.state.phase is Phase.STOPPED
    assert 3 < made.state.version < 50


def test_a_minority_cannot_stop_a_federation():
    class Done(TinyTrainer):
        def evaluate(self, task):
            return [{"loss": 0.0} for _ in task.models]

    made = tiny(trainers={0: Done(), 1: Done()}, training=replace(TWICE, rounds=3, target=("loss", 1e-9)))
    made.run()
    assert outcomes(made) == [1, 1, 1]
