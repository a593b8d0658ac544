"""This machine's clock against the chain's, as precisely as blocks tell.

A block's timestamp has whole seconds and was chosen before the block was seen. So a block from the future
proves that this clock is late, and a new one that is old on arrival that it is early. Of an old newest block
alone nothing follows: the chain may have stopped, or makes blocks only when there is something to put in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hansa.doctor.findings import Finding, Verdict
from hansa.ledger.follower import Header

TOLERANCE = 5
"""Seconds of skew that nobody notices; block makers' clocks and the network take that much."""

HARMFUL = 60
"""Seconds from which on a node would miss deadlines, or take those of others for missed."""

POLL = 0.5
LONGEST_WATCH = 30.0


@dataclass(frozen=True, slots=True)
class Watch:
    """The newest block's `timestamp`, and this clock when it was seen; `new`: it came while we watched."""

    timestamp: int
    seen: float
    new: bool


def watch(
    newest: Callable[[], Header],
    gap: int | None,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Watch:
    """See the newest block; if it is older than `gap` seconds, the longest between blocks, wait for the next."""
    head, seen = newest(), clock()
    if gap is None or seen - head.timestamp <= gap + TOLERANCE:
        return Watch(head.timestamp, seen, new=False)
    waited, longest = 0.0, min(gap + TOLERANCE, LONGEST_WATCH)
    while waited < longest:
        sleep(POLL)
        waited += POLL
        after, seen = newest(), clock()
        if after.number > head.number:
            return Watch(after.timestamp, seen, new=True)
    return Watch(head.timestamp, seen, new=False)


def judge_clock(watched: Watch) -> Finding:
    """What the newest block says of this clock."""
    ahead = watched.seen - watched.timestamp
    measured = (("newest_block_age_s", round(ahead, 3)), ("block_was_new", watched.new))
    advice = "Set this machine's clock, best by NTP; if it is right, the block makers' are wrong."
    verdict: Verdict = "fail" if abs(ahead) > HARMFUL else "warn"
    if ahead < -TOLERANCE:
        return Finding("clock", verdict, f"at least {-ahead:.0f} s behind the chain", advice, measured)
    if watched.new and ahead > TOLERANCE:
        return Finding("clock", verdict, f"about {ahead:.0f} s ahead of the chain", advice, measured)
    if ahead > HARMFUL:
        return Finding(
            "clock",
            "warn",
            f"the newest block is {ahead:.0f} s old: the chain rests, or this clock is ahead",
            "Check that this clock is right and that the chain runs; one that makes blocks on demand may rest.",
            measured,
        )
    return Finding("clock", "ok", f"the newest block is {max(0.0, ahead):.1f} s old", measured=measured)
