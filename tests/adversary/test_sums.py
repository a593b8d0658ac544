"""`secagg` among real nodes: what is opened, by whom, and what happens when somebody is missing."""

from __future__ import annotations

import numpy as np
import pytest
from tests import tiny
from tests.sums import published_primes, summed, until_final  # noqa: F401, a fixture

from hansa import errors
from hansa.app import TrainResult, TrainTask
from hansa.protocol import secagg
from hansa.protocol.model import to_arrays
from hansa.records import (
    AggregationTerms,
    GovernanceTerms,
    Phase,
    RecordKind,
    Release,
    SelectionTerms,
    Training,
)


@pytest.mark.parametrize("mode", ["masked", "direct"])
def test_the_model_equals_that_of_plaintext_bit_for_bit(mode: str) -> None:
    made = summed(secagg={"mode": mode})
    made.run()
    assert made.state.phase is Phase.STOPPED
    plain = tiny.tiny(
        training=Training(rounds=3, min_members=3, deadline=100),
        selection=SelectionTerms(rule="none"),
        aggregation=AggregationTerms(weight_cap=1),
        govern=GovernanceTerms(),
    )
    plain.run()
    assert made.state.models == plain.state.models
    assert len(set(made.state.models)) == 4


def test_two_of_ten_vanish_in_every_round_and_nobody_waits_for_them() -> None:
    made = summed(10, servers=2, rounds=3)
    asleep: dict[int, frozenset[int]] = {1: frozenset({0, 1}), 2: frozenset({2, 3}), 3: frozenset({4, 5})}
    nodes = list(made.nodes)
    while made.state.phase is not Phase.STOPPED:
        gone = asleep[made.state.round] if made.state.phase > Phase.AVAILABLE else frozenset()
        made.nodes = [n for n in nodes if n.me.id not in gone]
        assert made.advance()
    assert made.state.version == 3
    assert made.state.burned == ()
    assert made.state.model_set == frozenset(range(10))


def test_a_member_that_skipped_a_round_cannot_open_its_model() -> None:
    made = summed(5)
    skipper = next(n for n in made.nodes if n.me.id == 4)
    made.nodes.remove(skipper)
    until_final(made, 1)
    assert 4 not in made.state.model_set
    with pytest.raises(errors.Unavailable, match="not sealed to this member"):
        skipper.models.standing(made.state)
    # Not even with what a contributor has released meanwhile.
    while not made.state.recorded.get((RecordKind.RELEASE, 0)):
        assert made.advance()
    with pytest.raises(errors.Unavailable, match="not sealed to this member"):
        skipper.models.standing(made.state)
    assert made.nodes[0].models.standing(made.state).digest == made.state.model


def test_who_missed_three_rounds_asks_to_be_let_in_and_trains_on() -> None:
    made = summed(5, rounds=8)
    sleeper = next(n for n in made.nodes if n.me.id == 4)
    until_final(made, 2)
    made.nodes.remove(sleeper)
    until_final(made, 5)
    assert 4 not in made.state.model_set
    made.nodes.append(sleeper)
    made.run(1000)
    assert made.state.version == 8
    assert [round for round, _ in made.state.recorded[RecordKind.REENTRY, 4]] == [5]
    assert 4 in made.state.model_set
    assert made.state.contributed[4][0] == 5
    assert sleeper.models.standing(made.state).digest == made.state.model


def test_who_reenters_and_sends_nothing_loses_the_right() -> None:
    made = summed(5, rounds=8, idle=frozenset({4}))
    until_final(made, 6)
    assert [round for round, _ in made.state.recorded[RecordKind.REENTRY, 4]] == [1]
    assert not secagg.may_reenter(made.terms, made.state, 4)


def test_a_newcomer_is_let_in_after_its_key_is_certified() -> None:
    made = summed(4, rounds=8, newcomers=1)
    until_final(made, 5)
    made.ledger().submit(tiny.join(made, made.parties[6]))
    made.nodes.append(tiny.node(made, 6))
    made.run(1500)
    assert made.state.version == 8
    assert 6 in made.state.model_set
    # It joined in round 6, its key counts from round 7, where it asked for the model of round 6.
    assert [round for round, _ in made.state.recorded[RecordKind.REENTRY, 6]] == [6]
    assert made.state.contributed[6] == (2, 8)


def test_the_last_model_goes_also_to_who_took_part_in_enough_rounds() -> None:
    """Members 5 and 6 are away when the last model is made; one took part in two rounds of four, the other in one."""
    made = summed(7, rounds=4, release=Release(min_share=0.6))
    fifth, sixth = made.nodes[5:7]
    until_final(made, 1)
    made.nodes.remove(sixth)
    until_final(made, 2)
    made.nodes.remove(fifth)
    until_final(made, 3)
    assert secagg.entitled(made.terms, made.state, 5)
    assert not secagg.entitled(made.terms, made.state, 6)
    assert not secagg.opens(made.terms, made.state, 5)
    made.run()
    assert (made.state.version, made.state.model_set) == (4, frozenset(range(5)))
    assert any([n.step() for n in made.nodes]), "the last model is released"
    assert [secagg.opens(made.terms, made.state, i) for i in range(7)] == [True] * 6 + [False]
    assert fifth.openings.standing(made.state).digest == made.state.model
    with pytest.raises(errors.Unavailable, match="not sealed to this member"):
        sixth.openings.standing(made.state)


class Poisoner(tiny.TinyTrainer):
    """Sends what makes the model worse, within the bounds of a value."""

    def train(self, task: TrainTask) -> TrainResult:
        return TrainResult({"w": task.base["w"] + np.float32(40.0)}, 10)


def test_a_poisoner_is_voted_down_and_training_goes_on_in_cohorts() -> None:
    made = summed(8, rounds=4, trainers={2: Poisoner()})
    story: list[tuple[int, int]] = []
    while made.state.version < 3:
        before = made.state
        assert made.advance()
        if made.state.round != before.round:
            story.append((before.round, made.state.version))
    assert made.state.burned[0] == 1
    assert made.state.version == 3
    assert made.state.suspicion[2] >= 3
    assert made.state.suspicion[2] == max(made.state.suspicion.values())
    honest = made.nodes[0].models.standing(made.state)
    assert np.abs(to_arrays(honest.model)["w"] - 1).max() < 0.5
