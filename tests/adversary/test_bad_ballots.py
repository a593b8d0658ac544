"""Ballots that rank whom they must not, and evaluators in collusion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.adversary.hostile import Ledger, faults, outcomes, selections
from tests.tiny import TinyTrainer, tiny

from hansa import encoding, errors
from hansa.app import EvaluateTask
from hansa.protocol import election, selection
from hansa.protocol import messages as msg
from hansa.protocol.events import BallotOpened
from hansa.protocol.state import RoundState, State
from hansa.records import Fault, Parameters, Phase, SelectionTerms, Training

ONCE = Training(rounds=1, min_members=4, deadline=100)
LIAR = 2
TARGETS = 4


def ranking(points: list[int]) -> int:
    return selection.pack_ranking(points, [False] * len(points))


BALLOTS = {
    "a rank twice": ranking([3, 3, 1, 0]),
    "a rank beyond the targets": ranking([4, 2, 1, 0]),
    "all last": ranking([0, 0, 0, 0]),
    # The lanes are those of the assigned targets: a fifth lane would rank oneself or a stranger.
    "a lane more, for oneself": ranking([3, 2, 1, 0, 4]),
    "a lane more, for a stranger": ranking([3, 2, 1, 0]) | 1 << 16,
    "the highest bit": ranking([3, 2, 1, 0]) | 1 << 255,
}


@pytest.mark.parametrize("kind", BALLOTS)
def test_a_ballot_that_is_no_ranking_of_the_assigned_updates_cannot_be_opened(kind):
    """It was committed, so it cannot be corrected: its author's update is out and its author pays."""
    made = tiny(training=ONCE)
    made.until(Phase.AVAILABLE)
    journal = made.nodes[LIAR].world.journal
    entries = {
        "ranking": BALLOTS[kind].to_bytes(32, "big"),
        "stop": b"\0",
        "values": b"\x80",
        "best": b"\x80",
    }
    journal.put(1, entries)
    made.run()
    assert outcomes(made) == [1]
    assert LIAR not in selections(made)[0]
    assert faults(made, LIAR) == [Fault.WITHHELD_BALLOT]


def test_an_evaluator_never_has_itself_or_a_stranger_among_its_targets():
    for m in range(4, 40):
        places = election.permute(bytes([m]) * 32, range(0, 3 * m, 3))
        for place, id in enumerate(places):
            targets = selection.targets_of(places, place, 16)
            assert id not in targets
            assert set(targets) < set(places)
            assert len(set(targets)) == min(16, m - 1)


def test_a_ballot_from_another_place_of_the_ring_is_refused():
    """Another place would mean other targets, oneself among them."""

    def shift(call):
        if not isinstance(call, msg.Openings):
            return call
        return replace(call, items=tuple(replace(i, place=(i.place + 1) % 5) for i in call.items))

    made = tiny(training=ONCE)
    made.until(Phase.REVEAL)
    made.nodes[0].step()
    liar = made.nodes[LIAR]
    liar.messages.send("opening", made.state)
    data = liar.world.journal.get(1, "opening")
    opening = msg.Opening(*_fields(data))
    moved = Ledger(made.ledger(LIAR), shift)
    with pytest.raises(errors.WrongPlace):
        moved.submit(msg.Openings(1, (opening,)))
    with pytest.raises(errors.WrongPlace):
        made.ledger().submit(msg.Openings(1, (replace(opening, place=77),)))


def _fields(data):
    id, place, ranking, stop, values, salt = encoding.decode(data)
    return id, place, int.from_bytes(ranking, "big"), stop, values, salt


def test_another_ballot_than_the_committed_one_is_refused():
    made = tiny(training=ONCE)
    made.until(Phase.REVEAL)
    made.nodes[LIAR].messages.send("opening", made.state)
    opening = msg.Opening(*_fields(made.nodes[LIAR].world.journal.get(1, "opening")))
    for other in (
        replace(opening, ranking=opening.ranking ^ (1 << 240)),
        replace(opening, stop=not opening.stop),
        replace(opening, values=bytes(32)),
        replace(opening, salt=bytes(32)),
        replace(opening, id=0),
    ):
        with pytest.raises(errors.WrongBallot):
            made.ledger().submit(msg.Openings(1, (other,)))


def test_a_selection_of_others_than_the_best_is_refused():
    made = tiny(training=ONCE)
    made.until(Phase.REVEAL)
    while len(made.state.current.opened) < 5:
        for node in made.nodes:
            if "opening" not in node.messages.delivered:
                node.messages.send("opening", made.state)
        items = tuple(msg.Opening(*_fields(n.world.journal.get(1, "opening"))) for n in made.nodes)
        made.ledger().submit(msg.Openings(1, items))
    threshold, cut = selection.threshold_and_cut(made.state)
    scores = selection.scores(made.state)
    for wrong in (
        (threshold + 1, 0),
        (threshold, cut - 1),
        (threshold, 0),
        (-1, 0),
        (max(scores.values()), 0),
    ):
        with pytest.raises(errors.WrongSelection):
            made.ledger().submit(msg.Select(1, *wrong))
    made.ledger().submit(msg.Select(1, threshold, cut))
    best = sorted(scores, key=lambda i: (-scores[i], made.state.current.places.index(i)))
    assert made.state.current.selected == frozenset(best[: len(made.state.current.selected)])


# collusion


M, BAD_SHARE = 10, 3
FRIENDS = frozenset(range(BAD_SHARE))


def one_round(beacon: bytes, generator, *, borda: bool) -> frozenset[int]:
    """Who is selected when the friends send bad updates and vote each other first, and all others judge
    honestly but noisily. The full matrix: every evaluator ranks all others."""
    places = election.permute(beacon, range(M))
    quality = np.where(np.arange(M) < BAD_SHARE, -1.0, generator.normal(1, 0.05, M))
    opened = {}
    for place, id in enumerate(places):
        targets = selection.targets_of(places, place, 16)
        if id in FRIENDS:
            seen = [2.0 + t if t in FRIENDS else -quality[t] for t in targets]
        else:
            seen = [quality[t] + generator.normal(0, 0.3) for t in targets]
        points = selection.rank(seen, [False] * len(targets))
        opened[id] = BallotOpened(1, id, ranking(points), False, bytes(32))
    parameters = Parameters(bytes(32), borda=borda, keep_permille=700)
    everyone = frozenset(range(M))
    current = RoundState(revealed=everyone, available=everyone, places=places, opened=opened)
    state = State(parameters, frozenset(), bytes(20), bytes(32), bytes(32), current=current)
    return selection.select(state, *selection.threshold_and_cut(state))


def accepted(*, borda: bool, rounds: int = 200) -> int:
    """Bad updates selected in all rounds together."""
    generator = np.random.default_rng(7)
    beacons = (encoding.digest(bytes([r])) for r in range(rounds))
    return sum(len(one_round(b, generator, borda=borda) & FRIENDS) for b in beacons)


def test_colluding_evaluators_at_thirty_percent_never_pass_the_median():
    assert accepted(borda=False) == 0


def test_the_same_collusion_passes_under_borda():
    """A mean has a breakdown point of zero: extreme points of 30 % lift bad updates over the weaker good ones."""
    assert accepted(borda=True) > 0


class Colluder(TinyTrainer):
    """Sends a bad update; likes models that are far from what the honest ones want."""

    def train(self, task):
        result = super().train(task)
        result.values["w"] = task.base["w"] - 5
        return result

    def evaluate(self, task: EvaluateTask):
        return [{"loss": -row["loss"]} for row in super().evaluate(task)]


def test_colluding_nodes_at_thirty_percent_reach_nothing():
    made = tiny(
        M,
        trainers={i: Colluder() for i in FRIENDS},
        selection=SelectionTerms(assume_malicious=0.3),
        training=replace(ONCE, rounds=3),
    )
    made.run()
    assert len(selections(made)) == 3
    assert all(not chosen & FRIENDS for chosen in selections(made))
    assert max(made.state.members[i].reputation for i in FRIENDS) < min(
        made.state.members[i].reputation for i in range(BAD_SHARE, M)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_evaluation_that_is_not_finite_still_makes_a_ballot(value):
    class Odd(TinyTrainer):
        def evaluate(self, task):
            return [{"loss": value} for _ in task.models]

    made = tiny(trainers={LIAR: Odd()}, training=ONCE)
    made.run()
    assert outcomes(made) == [1]
    assert faults(made, LIAR) == []
