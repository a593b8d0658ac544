from __future__ import annotations

from functools import reduce

from hansa.protocol import events as ev
from hansa.protocol.history import RoundStory, tell
from hansa.records import Fault, Outcome, Phase

EVENTS = (
    ev.Entered(1, Phase.COMMIT, 100),
    ev.Committed(1, 0, 0, b"a" * 32, 0),
    ev.Committed(1, 1, 0, b"b" * 32, 0),
    ev.Committed(1, 2, 0, b"c" * 32, 0),
    ev.Entered(1, Phase.BEACON, 200),
    ev.Frozen(1, 0b011),
    ev.Selected(1, 0b001),
    ev.Elected(1, 0, 1),
    ev.Voted(1, 0, 0, False, bytes(32)),
    ev.Slashed(1, 1, Fault.REJECTED_PROPOSAL),
    ev.Elected(1, 1, 0),
    ev.Voted(1, 1, 0, True, bytes(32)),
    ev.Voted(1, 1, 1, True, bytes(32)),
    ev.Ended(1, Outcome.FINAL, 1, b"m" * 32),
    ev.Entered(2, Phase.COMMIT, 300),
)


def story(*events: ev.Event) -> tuple[RoundStory, ...]:
    return reduce(tell, events, ())


def test_a_round_is_told():
    first, second = story(*EVENTS)
    assert first == RoundStory(
        round=1,
        committed=frozenset({0, 1, 2}),
        available=frozenset({0, 1}),
        selected=frozenset({0}),
        leaders=(1, 0),
        approvals=2,
        rejections=0,
        slashed=((1, Fault.REJECTED_PROPOSAL),),
        outcome=Outcome.FINAL,
        version=1,
        model=b"m" * 32,
    )
    assert first.left_out == {1, 2}
    assert second == RoundStory(2)


def test_votes_are_those_of_the_last_attempt():
    (until_second_leader,) = story(*EVENTS[:9])
    assert (until_second_leader.approvals, until_second_leader.rejections) == (0, 1)


def test_events_outside_any_round_and_of_other_rounds_tell_nothing():
    before = (ev.Invited(bytes(20)), ev.StandingChanged(0, 1), ev.Committed(1, 0, 0, bytes(32), 0))
    assert story(*before) == ()
    assert story(*EVENTS, ev.Frozen(1, 0b111)) == story(*EVENTS)


def test_an_extended_phase_is_the_same_round():
    assert len(story(EVENTS[0], ev.Entered(1, Phase.COMMIT, 500))) == 1
