"""What an audit derives without input or output: counts, an evaluator's row, who was left out too often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hansa import encoding, errors
from hansa.protocol import events as ev
from hansa.protocol import messages as msg
from hansa.protocol import selection
from hansa.protocol.history import RoundStory
from hansa.protocol.state import State
from hansa.records import Outcome

KINDS: dict[type, str] = {
    ev.Joined: "joins",
    ev.Committed: "commitments",
    ev.Revealed: "beacon layers",
    ev.BeaconSet: "beacons",
    ev.Held: "availability bitmaps",
    ev.Frozen: "available sets",
    ev.Balloted: "ballots",
    ev.BallotOpened: "ballot openings",
    ev.Selected: "selections",
    ev.CommitteeDrawn: "committees",
    ev.Elected: "elections",
    ev.Precommitted: "precommitments",
    ev.Proposed: "proposals",
    ev.Voted: "votes",
    ev.OpenVoted: "votes on openings",
    ev.Slashed: "penalties",
    ev.Ended: "round endings",
}
"""Event -> what its check is called. The rules decided every one of them anew."""

_SIGNED = (
    ev.Joined, ev.Committed, ev.Held, ev.Balloted, ev.Precommitted, ev.Proposed, ev.Voted, ev.OpenVoted,
    ev.Recorded,
)  # fmt: skip
"""Events that stand for one accepted signature each."""


def counts(call: msg.Call, events: Iterable[ev.Event]) -> Counter[str]:
    """What was checked when the rules decided `call` and accepted these events."""
    found: Counter[str] = Counter()
    for event in events:
        if type(event) in KINDS:
            found[KINDS[type(event)]] += 1
        found["signatures"] += isinstance(event, _SIGNED)
    match call:
        case msg.Move():
            found["signatures"] += len(call.signatures)
        case msg.Status():
            found["signatures"] += 1
        case msg.Accuse():
            found["signatures"] += 2
    return +found


def check_row(data: bytes, state: State, opened: ev.BallotOpened, metric: str) -> None:
    """Hold an evaluator's row of the matrix against its opened ballot, at the end of its round.

    Raises `Untrusted` unless the row names the round, the evaluator, the terms' metric and the assigned
    targets, and its values give the ranking of the ballot.
    """
    row = encoding.decode(data)
    current = state.current
    targets = selection.targets_of(current.places, current.places.index(opened.id), state.parameters.targets)
    expected = {"round": opened.round, "evaluator": opened.id, "metric": metric, "targets": list(targets)}
    if not isinstance(row, dict) or row.keys() != {*expected, "values", "doubts"}:
        raise errors.Untrusted("is no row of the matrix", digest=opened.values)
    for name, value in expected.items():
        if row[name] != value:
            raise errors.Untrusted(f"says {name} = {row[name]!r}, not {value!r}", digest=opened.values)
    values, doubts = row["values"], row["doubts"]
    if not _of(values, {int, float}, len(targets)) or not _of(doubts, {bool}, len(targets)):
        raise errors.Untrusted("does not hold one value and one doubt a target", digest=opened.values)
    if selection.pack_ranking(selection.rank(values, doubts), doubts) != opened.ranking:
        raise errors.Untrusted("gives another ranking than the opened ballot", digest=opened.values)


def _of(values: object, kinds: set[type], length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(type(v) in kinds for v in values)


def left_out(story: Iterable[RoundStory], id: int) -> int:
    """Final rounds whose model holds no update of this member."""
    return sum(r.outcome is Outcome.FINAL and id not in r.selected for r in story)


def starved(story: Iterable[RoundStory]) -> dict[int, int]:
    """Members whose updates were left out of more than half of the final rounds that they trained for.

    Gives the number of those rounds by id.
    """
    final = [r for r in story if r.outcome is Outcome.FINAL]
    trained = Counter(id for r in final for id in r.committed)
    unused = Counter(id for r in final for id in r.left_out)
    return {id: n for id, n in sorted(unused.items()) if 2 * n > trained[id]}
