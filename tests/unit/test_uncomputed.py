"""Whom a federation under `mpc` waits for, and what joining it means."""

from __future__ import annotations

from dataclasses import replace

from tests.dealt import dealt

from hansa.cli.explanation import page
from hansa.protocol import awaiting, mpc
from hansa.records import Boundary, Mpc, Phase, RecordKind


def test_parties_that_have_not_joined_or_recorded_are_named() -> None:
    made, _ = dealt()
    assert awaiting.missing(made.terms, made.state) == ()
    gone = replace(made.state, ids={a: i for a, i in made.state.ids.items() if i != 5})
    assert awaiting.missing(made.terms, gone) == ("0x" + made.parties[5].address.hex(),)
    assert "to join" in awaiting.sentence(made.terms, gone, 0, made.now)
    bare = replace(made.state, recorded={})
    assert awaiting.awaited(made.terms, bare) == {"certificate": frozenset({4, 5, 6})}
    assert list(awaiting.remarks(made.terms, bare, 4)) == ["has recorded no certificate of its links"]
    assert list(awaiting.remarks(made.terms, bare, 0)) == []


def test_who_trains_and_who_waits_for_it() -> None:
    made, sessions = dealt()
    sessions[2].absent = True
    made.until(Phase.AGGREGATE)
    unsaid = replace(
        made.state, recorded={k: v for k, v in made.state.recorded.items() if k[0] != RecordKind.INPUT}
    )
    assert awaiting.awaited(made.terms, unsaid) == {"word on the shares": frozenset({4, 5, 6})}
    while not mpc.everybody(made.state, RecordKind.INPUT):
        assert made.advance()
    assert awaiting.awaited(made.terms, made.state) == {"delivery": frozenset({4, 5, 6})}
    assert "the computing parties train" in awaiting.sentence(made.terms, made.state, 0, made.now)
    assert awaiting.sentence(made.terms, made.state, 4, made.now) == ""


def test_the_page_that_a_member_agrees_to_says_what_is_opened() -> None:
    made, _ = dealt()
    text = page(made.terms, 4)
    assert "shares for 3 computing parties" in text
    assert "48 bytes up for each number that you share" in text
    assert "Any two of them together could read all rows" in text
    assert "hidden: to party 1, once a step, AS IT IS" in text
    quiet = replace(made.terms, mpc=Mpc())
    assert "is nothing while training" in page(quiet, 4)
    noised = Mpc(reveals=(Boundary("h", 0, "epoch", 1.0, 2.0),), accept_leakage=True)
    assert "clipped at 1, noise 2" in page(replace(made.terms, mpc=noised), 4)
    assert "ACCEPT LEAKAGE" in page(replace(made.terms, mpc=noised), 4)
