"""A node over a long time: it waits where nothing answers, says each thing once, loses nothing, stays small."""

from __future__ import annotations

import gc
import logging
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.tiny import START, Tiny, moved, tiny

from hansa import errors
from hansa.ledger.specified import Specified
from hansa.node.daemon import Node
from hansa.node.journal import open_journal
from hansa.node.meter import Meter, MeteredLedger, MeteredStore, MeteredTrainer
from hansa.node.world import KEPT
from hansa.ports import View
from hansa.records import Phase, Training
from hansa.serving import LONGEST, Service
from hansa.stores.objects import ObjectStore

LONG = Training(rounds=3, min_members=4, deadline=100_000)


class Weather:
    """A ledger and a store that answer, or do not."""

    def __init__(self, made: Tiny) -> None:
        self.made = made
        self.chain = self.store = ""
        self.lie = ""
        self.stamped: Callable[[], int] = lambda: 0

    def __getattr__(self, name: str) -> Any:
        part = "chain" if name in ("view", "submit", "dry_run") else "store"
        inner = self.made.ledger(1) if part == "chain" else self.made.store

        def ask(*arguments: Any, **options: Any) -> Any:
            if said := getattr(self, part):
                raise errors.Unavailable(said, hint="Check it.")
            if self.lie and name == "view":
                raise errors.Untrusted(self.lie)
            found = getattr(inner, name)(*arguments, **options)
            return replace(found, stamped=self.stamped()) if name == "view" else found

        return ask


class Place:
    """Member 1 of a tiny federation under a `Service`; the others step whenever it waits."""

    def __init__(self, **options: Any) -> None:
        self.made = tiny(**options)
        self.weather = Weather(self.made)
        self.meter = Meter(clock=lambda: self.seconds)
        old = self.made.nodes[1]
        node = moved(
            old,
            ledger=MeteredLedger(self.weather, self.meter),
            store=MeteredStore(self.weather, self.meter),
            trainer=MeteredTrainer(old.world.trainer, self.meter),
        )
        self.others = [n for n in self.made.nodes if n is not old]
        self.made.nodes[1] = node
        self.seconds = 0.0
        self.skew = 0
        self.pauses: list[float] = []
        self.service = Service(
            node, self.meter, look=1.0, clock=lambda: self.made.now + self.skew, draw=lambda: 1.0
        )

    def run(self, until: Callable[[], bool], *, others: bool = True, most: int = 5000) -> View | None:
        rest = most

        def stopped() -> bool:
            nonlocal rest
            rest -= 1
            assert rest, "it never came to that"
            return until()

        def pause(seconds: float) -> None:
            self.pauses.append(seconds)
            self.seconds += seconds
            self.made.now += int(seconds)
            for node in self.others if others else ():
                node.step()

        return self.service.run(stopped, pause)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """The texts of an event that were logged."""
    logging.getLogger("hansa").propagate = True
    caplog.set_level(logging.INFO, logger="hansa")

    def of(event: str) -> list[str]:
        return [r.getMessage() for r in caplog.records if getattr(r, "event", None) == event]

    return of


def test_it_works_until_the_federation_has_stopped(said) -> None:
    place = Place()
    last = place.run(lambda: False)
    assert last is not None
    assert (last.state.phase, last.state.version) == (Phase.STOPPED, 3)
    assert "round 2, BEACON" in said("phase")
    assert said("waiting") == []
    assert place.meter.messages > 10
    assert place.meter.up > 1000
    assert place.meter.down > 1000


def test_it_stops_when_it_is_told_to() -> None:
    assert Place().run(lambda: True) is None


@pytest.mark.parametrize("part", ["chain", "store"])
def test_where_nothing_answers_it_waits_longer_and_says_so_once(part: str, said) -> None:
    place = Place(training=LONG)
    place.run(lambda: bool(place.pauses))
    setattr(place.weather, part, f"cannot reach the {part}")
    place.pauses.clear()
    place.run(lambda: len(place.pauses) == 8, others=False)
    assert place.pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert place.pauses[6:] == [LONGEST] * 2
    assert said("waiting") == [f"cannot reach the {part} Check it. Trying again, at least every 30 s."]
    assert not [text for text in said("finding") if "cannot reach" in text]
    assert place.meter.errors[part] >= 8
    setattr(place.weather, part, "")
    place.run(lambda: bool(said("back")))
    assert said("back") == [f"the {part} answers again, after 121 s"]
    setattr(place.weather, part, "cannot be reached again")
    place.pauses.clear()
    place.run(lambda: len(place.pauses) == 2, others=False)
    assert place.pauses == [1, 2]
    assert len(said("waiting")) == 2


def test_nodes_of_the_chain_that_disagree_are_waited_for(said) -> None:
    place = Place(training=LONG)
    place.weather.lie = "the nodes at one and two tell different things"
    place.run(lambda: len(place.pauses) == 3, others=False)
    assert len(said("waiting")) == 1
    assert place.made.nodes[1].world.journal.keys(1) == set()
    place.weather.lie = ""
    place.run(lambda: bool(said("back")))


def test_a_short_phase_is_not_slept_through() -> None:
    place = Place(training=replace(LONG, deadline=40))
    place.run(lambda: bool(place.pauses))
    place.weather.chain = "gone"
    place.pauses.clear()
    place.run(lambda: len(place.pauses) == 6, others=False)
    assert max(place.pauses) == 5


def test_nothing_is_lost_where_chain_and_store_come_and_go() -> None:
    place = Place()
    turns = 0

    def weather() -> bool:
        nonlocal turns
        turns += 1
        place.weather.chain = "gone" if turns % 7 in (2, 3) else ""
        place.weather.store = "gone" if turns % 5 == 1 else ""
        return False

    last = place.run(weather)
    assert last is not None
    assert last.state.version == 3
    assert place.meter.errors["chain"] > 5
    assert place.meter.errors["store"] > 5


def test_a_paused_federation_is_said_once_and_waited_for(said) -> None:
    place = Place(training=Training(rounds=3, min_members=4, deadline=100, max_failed_rounds=1))
    for node in place.others:
        place.made.nodes.remove(node)
    place.others = []
    place.run(lambda: place.made.state.phase is Phase.PAUSED and len(said("paused")) > 0)
    before = len(place.pauses)
    place.run(lambda: len(place.pauses) == before + 5)
    assert len(said("paused")) == 1
    assert "hansa propose FEDERATION resume" in said("paused")[0]
    assert place.service.pulse.view is not None
    assert place.service.pulse.view.state.phase is Phase.PAUSED


def test_a_second_node_elsewhere_stops_this_one() -> None:
    place = Place(training=LONG)
    place.made.until(Phase.BEACON)
    node = moved(
        place.made.nodes[1],
        journal=open_journal(None, place.made.state.domain, place.made.parties[1].address),
    )
    turns = iter([False, False])
    with pytest.raises(errors.Misconfigured, match="its journal does not know"):
        Service(node, Meter(), look=1.0).run(lambda: next(turns, True), lambda _: None)


def test_and_before_it_trains(said) -> None:
    place = Place(training=LONG, relays=frozenset())
    twin = moved(
        place.made.nodes[1],
        journal=open_journal(None, place.made.state.domain, place.made.parties[1].address),
    )
    twin.step()
    with pytest.raises(errors.Misconfigured, match="the store has a message"):
        place.run(lambda: False)
    assert place.meter.seconds["train"] == 0
    assert place.made.nodes[1].world.journal.keys(1) == set()


@pytest.mark.parametrize(
    ("skew", "word"), [(600, "about 600 s ahead"), (-600, "at least 600 s behind"), (30, "")]
)
def test_a_clock_that_is_off_is_said_once(skew: int, word: str, said) -> None:
    place = Place(training=LONG)
    place.skew = skew
    place.weather.stamped = lambda: place.made.now
    place.run(lambda: len(place.pauses) == 12)
    assert [word in text for text in said("clock")] == ([True] if word else [])
    assert word in place.service.pulse.clock
    place.skew = 0
    place.run(lambda: place.made.state.phase is Phase.COMMIT and place.made.state.round == 2)
    assert place.service.pulse.clock == ""


def test_a_chain_at_rest_says_nothing_of_the_clock(said) -> None:
    place = Place(training=LONG)
    place.weather.stamped = lambda: START
    place.run(lambda: len(place.pauses) == 100, others=False)
    place.made.now += 1000
    place.run(lambda: len(place.pauses) == 110, others=False)
    assert said("clock") == []


def test_what_a_node_noticed_is_bounded_and_each_thing_is_told_once() -> None:
    node = tiny().nodes[0]
    for k in range(3 * KEPT):
        node._note(f"this happened: {k // 2}")
    assert len(node.findings) == KEPT
    assert len(node.news()) == KEPT
    assert node.news() == []
    node._note("one more")
    assert node.news() == ["one more"]


OUTSIDE = (
    Specified,
    ObjectStore,
    types.ModuleType,
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    logging.Logger,
)
"""What is no part of a node: the test's own chain and store, code."""


def reachable(*roots: Any) -> tuple[int, int]:
    """Objects that these hold, and their bytes."""
    seen: dict[int, Any] = {}
    todo = list(roots)
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, OUTSIDE):
            continue
        seen[id(item)] = item
        todo += gc.get_referents(item)
    return len(seen), sum(sys.getsizeof(item) for item in seen.values())


def test_a_node_stays_small_over_many_rounds() -> None:
    """What the contract itself remembers for ever, a digest a model, is all that grows."""
    made = tiny(members=4, training=Training(rounds=48, min_members=4, deadline=100))
    sizes: dict[int, tuple[int, int]] = {}
    while made.advance():
        if made.state.phase is Phase.COMMIT and made.state.round in {16, 48} - sizes.keys():
            gc.collect()
            node: Node = made.nodes[0]
            sizes[made.state.round] = reachable(
                node.blobs, node.models, node.messages, node.world.journal, node
            )
    assert made.state.version == 48
    early, late = sizes[16], sizes[48]
    assert late[0] - early[0] < 130
    assert late[1] - early[1] < 13_000
