"""Asynchronous training: an update for which a round did not wait goes into a later one.

It keeps the base that it was trained on; the chain takes it while that is at most `max_staleness` versions
old, and the aggregation weighs it down. All is in the journal, so that a restart changes nothing.
"""

from __future__ import annotations

from hansa.node.journal import Journal
from hansa.protocol.state import State
from hansa.protocol.updates import decode_update, encode_update
from hansa.records import Limits, Phase, Training, Update

_UPDATE, _LATE = "update", "late"


def entries(training: Training, update: Update, *, late: bool) -> dict[str, bytes]:
    """What to write down about a trained update. `late`: its round went on before training was over."""
    if training.mode != "asynchronous":
        return {}
    return {_UPDATE: encode_update(update)} | ({_LATE: b""} if late else {})


def notice(journal: Journal, training: Training, state: State, id: int) -> None:
    """Mark this round's update as late if the commitments closed without it."""
    if training.mode == "asynchronous" and state.phase > Phase.COMMIT and id not in state.current.commits:
        keys = journal.keys(state.round)
        if _UPDATE in keys and _LATE not in keys:
            journal.put(state.round, {_LATE: b""})


def find(
    journal: Journal, training: Training, state: State, rounds: int, limits: Limits, length: int
) -> tuple[Update, bytes] | None:
    """The newest update of the last `rounds` rounds, and its residual, if it is late and fresh enough."""
    if training.mode != "asynchronous":
        return None
    for round in range(state.round - 1, state.round - 1 - rounds, -1):
        data = journal.get(round, _UPDATE)
        if data is None:
            continue
        update = decode_update(data, limits=limits, length=length)
        fresh = state.version - update.version <= training.max_staleness
        if not fresh or journal.get(round, _LATE) is None:
            return None
        return update, journal.get(round, "residual") or b""
    return None
