"""Whom a federation under `secagg` waits for, as status and a node's log say it."""

from __future__ import annotations

from tests import tiny
from tests.sums import published_primes, summed, until_final  # noqa: F401, a fixture

from hansa.protocol import awaiting
from hansa.records import Phase, RecordKind

SERVER, CENTRE = 5, 6


def test_parameters_of_the_first_key_centre_are_awaited_by_name() -> None:
    made = summed(silent=frozenset({CENTRE}))
    assert awaiting.missing(made.terms, made.state) == ()
    assert awaiting.awaited(made.terms, made.state) == {"parameters": frozenset({CENTRE})}
    assert "to make the parameters" in awaiting.sentence(made.terms, made.state, 0, made.now)
    assert "making the parameters now" in awaiting.sentence(made.terms, made.state, CENTRE, made.now)


def test_a_member_without_a_key_is_named_and_one_without_a_certificate_waits_for_the_key_centre() -> None:
    made = summed(silent=frozenset({4}))
    assert awaiting.awaited(made.terms, made.state) == {"public key": frozenset({4})}
    assert list(awaiting.remarks(made.terms, made.state, 4)) == ["has recorded no public key"]
    assert list(awaiting.remarks(made.terms, made.state, 0)) == []
    made.nodes = [tiny.node(made, 4)]
    made.advance()
    assert awaiting.awaited(made.terms, made.state) == {"certificates": frozenset({CENTRE})}
    assert list(awaiting.remarks(made.terms, made.state, 4)) == ["its public key is not certified yet"]
    assert "to certify the own public key" in awaiting.sentence(made.terms, made.state, 4, made.now)


def test_the_half_that_is_not_there_is_named_after_a_quarter_of_the_phase() -> None:
    made = summed(silent=frozenset({CENTRE + 1}), centres=2)
    made.nodes = [n for n in made.nodes if n.me.id != CENTRE]
    made.until(Phase.OPEN)
    while (RecordKind.OPENING, SERVER) not in made.state.recorded:
        assert made.advance()
    owed = awaiting.awaited(made.terms, made.state)
    assert owed == {awaiting.KEY_HALF: {CENTRE, CENTRE + 1}}
    late = made.state.deadline - 10
    text = awaiting.sentence(made.terms, made.state, 0, late)
    assert "cannot be opened yet: waiting for the key half of" in text
    assert " or " in text
    assert awaiting.sentence(made.terms, made.state, 0, made.state.deadline - 100) == ""


def test_who_missed_an_opening_is_told_whom_it_waits_for() -> None:
    made = summed(rounds=8)
    sleeper = made.nodes.pop(4)
    until_final(made, 1)
    made.nodes = [sleeper]
    made.until(Phase.COMMIT, 2)
    assert made.advance()
    assert list(awaiting.remarks(made.terms, made.state, 4)) == ["asks for the model of round 1"]
    text = awaiting.sentence(made.terms, made.state, 4, made.now)
    assert "was opened without this member; waiting for" in text
    assert awaiting.awaited(made.terms, made.state) == {}


def test_who_may_ask_for_no_more_models_is_told_so() -> None:
    made = summed(rounds=8, secagg={"max_reentries": 0})
    made.nodes.pop(4)
    until_final(made, 1)
    made.until(Phase.COMMIT, 2)
    assert "it cannot train any more" in awaiting.sentence(made.terms, made.state, 4, made.now)


def test_when_training_is_over_nobody_is_awaited() -> None:
    made = summed(rounds=1)
    made.run()
    assert awaiting.awaited(made.terms, made.state) == {}
    assert awaiting.sentence(made.terms, made.state, 0, made.now) == ""
