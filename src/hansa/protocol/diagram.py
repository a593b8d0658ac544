"""The phases as a table, and the picture of it in docs/protocol.md.

Every row is one way in which `rules` moves a federation; a test drives the rules through all of them and
finds no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hansa.records import Outcome, Phase

Place = Phase | Outcome
"""Where a federation stands, or how a round has just ended. Their numbers overlap: compare names."""

ROUND = tuple(Phase(number) for number in range(Phase.COMMIT, Phase.OPEN + 1))
"""The phases of a running round."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A move from any of `sources` to `target`, and what causes it."""

    sources: tuple[Place, ...]
    target: Place
    cause: str

    def edges(self) -> Iterator[tuple[str, str]]:
        """Names of source and target, one pair a source."""
        return ((source.name, self.target.name) for source in self.sources)


TRANSITIONS = (
    Transition((Phase.IDLE,), Phase.COMMIT, "owner starts"),
    Transition((Phase.COMMIT,), Phase.BEACON, "all committed, buffer full, or deadline"),
    Transition((Phase.COMMIT,), Phase.COMMIT, "deadline with too few, extended"),
    Transition((Phase.COMMIT,), Outcome.VOID, "deadline with too few, no extension left"),
    Transition((Phase.BEACON,), Phase.AVAILABLE, "all revealed, or deadline"),
    Transition((Phase.BEACON,), Outcome.VOID, "too few revealed, or no verifier"),
    Transition((Phase.AVAILABLE,), Phase.REVEAL, "all sent, or deadline"),
    Transition((Phase.AVAILABLE,), Phase.AGGREGATE, "the same, without ballots"),
    Transition((Phase.AVAILABLE,), Outcome.VOID, "too few updates available"),
    Transition((Phase.REVEAL,), Phase.AGGREGATE, "select picks exactly K"),
    Transition((Phase.REVEAL,), Outcome.VOID, "deadline without a selection"),
    Transition((Phase.AGGREGATE,), Phase.VERIFY, "leader proposes"),
    Transition((Phase.AGGREGATE,), Phase.AGGREGATE, "deadline, next leader"),
    Transition((Phase.AGGREGATE,), Outcome.VOID, "deadline, no attempt left"),
    Transition((Phase.VERIFY,), Outcome.FINAL, "quorum approves"),
    Transition((Phase.VERIFY,), Phase.OPEN, "quorum approves, sum is still closed"),
    Transition((Phase.VERIFY,), Phase.AGGREGATE, "rejected or undecided, next leader"),
    Transition((Phase.VERIFY,), Outcome.VOID, "rejected or undecided, no attempt left"),
    Transition((Phase.OPEN,), Outcome.FINAL, "quorum for one digest"),
    Transition((Phase.OPEN,), Outcome.BURNED, "no such quorum, or deadline"),
    Transition((Outcome.FINAL,), Phase.STOPPED, "last round, or most ballots wish to stop"),
    Transition((Outcome.FINAL, Outcome.VOID, Outcome.BURNED), Phase.COMMIT, "next round"),
    Transition((Outcome.FINAL,), Phase.PAUSED, "too few members"),
    Transition((Outcome.VOID, Outcome.BURNED), Phase.PAUSED, "too many failures, or too few members"),
    Transition(ROUND, Phase.PAUSED, "motion PAUSE"),
    Transition((Phase.PAUSED,), Phase.COMMIT, "motion RESUME"),
    Transition((Phase.PAUSED,), Phase.PAUSED, "motion RESUME with too few members"),
    Transition((Phase.IDLE, *ROUND, Phase.PAUSED), Phase.STOPPED, "motion STOP"),
)
"""All moves of the state machine, in the order of a round."""


def mermaid() -> str:
    """The table as a Mermaid state diagram (https://mermaid.js.org), without a fence."""
    return "\n".join(("stateDiagram-v2", *(f"    {line}" for line in _lines())))


def _lines() -> Iterator[str]:
    running = {phase.name for phase in ROUND}
    yield f"[*] --> {Phase.IDLE.name}"
    yield "state ROUND {"
    for source, target, cause in _drawn():
        if source in running and target in running:
            yield f"    {source} --> {target} : {cause}"
    yield "}"
    for source, target, cause in _drawn():
        if source not in running or target not in running:
            yield f"{source} --> {target} : {cause}"
    yield f"{Phase.STOPPED.name} --> [*]"


def _drawn() -> Iterator[tuple[str, str, str]]:
    """Arrows: what leaves every phase of a round leaves the round as a whole."""
    for transition in TRANSITIONS:
        sources = transition.sources
        if set(ROUND) <= set(sources):
            yield "ROUND", transition.target.name, transition.cause
            sources = tuple(s for s in sources if s not in ROUND)
        for source in sources:
            yield source.name, transition.target.name, transition.cause
