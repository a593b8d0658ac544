from __future__ import annotations

from dataclasses import replace

import pytest
from tests.tiny import START, tiny

from hansa.node.flights import Flights
from hansa.ports import View


@pytest.fixture
def view():
    made = tiny(5, silent=frozenset(range(5)))
    return View(made.state, START, 1, bytes(32))


def later(view: View, seconds: int) -> View:
    return replace(view, now=view.now + seconds)


def test_what_departed_is_away_for_a_quarter_of_the_phase(view):
    quarter = view.state.parameters.durations[view.state.phase - 1] // 4
    flights = Flights()
    assert "vote" not in flights.away(view)
    assert not flights.known("vote", view)
    flights.depart("vote", view)
    assert "vote" in flights.away(later(view, quarter - 1))
    assert "vote" not in flights.away(later(view, quarter))
    assert flights.known("vote", later(view, quarter))
    assert "other" not in flights.away(view)


@pytest.mark.parametrize("change", ["deadline", "attempt", "round"])
def test_another_deadline_attempt_or_round_is_another_flight(view, change):
    flights = Flights()
    flights.depart("vote", view)
    state = view.state
    match change:
        case "deadline":
            state = replace(state, deadline=state.deadline + 1)
        case "attempt":
            state = replace(state, current=replace(state.current, attempt=1))
        case _:
            flights.turn()
    assert "vote" not in flights.away(replace(view, state=state))
