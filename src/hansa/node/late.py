"""Asynchronous training: an update for which a round did not wait goes into a later one.

It keeps the base that it was trained on; the chain takes it while that is at most `max_staleness` versions
old, and the aggregation weighs it down. All is in the journal, so that a restart changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from hansa.node.journal import Journal
from hansa.protocol.state import State
from hansa.protocol.updates import decode_update, encode_update
from hansa.records import Limits, Phase, Training, Update

_UPDATE, _RESIDUAL, _READY, _LATE = "update", "residual", "ready", "late"


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gave: the update, what error feedback keeps for the next one, and when it was over."""

    update: Update
    residual: bytes
    ready: int


def write(journal: Journal, training: Training, trained: Trained) -> None:
    """Write a trained update down, under the round for which it was meant."""
    if training.mode == "asynchronous":
        entries = {
            _UPDATE: encode_update(trained.update),
            _RESIDUAL: trained.residual,
            _READY: trained.ready.to_bytes(8, "big"),
        }
        round = trained.update.round
        journal.put(round, {k: v for k, v in entries.items() if k not in journal.keys(round)})


def notice(journal: Journal, training: Training, state: State, id: int) -> None:
    """Mark this round's update as late if the commitments closed without it."""
    if training.mode == "asynchronous" and state.phase > Phase.COMMIT and id not in state.current.commits:
        keys = journal.keys(state.round)
        if _UPDATE in keys and _LATE not in keys:
            journal.put(state.round, {_LATE: b""})


def find(
    journal: Journal, training: Training, state: State, rounds: int, limits: Limits, length: int
) -> Trained | None:
    """The newest update of this and the last `rounds` rounds, if no round took it and it is fresh enough.

    Its training may not be over yet.
    """
    if training.mode != "asynchronous":
        return None
    for round in range(state.round, state.round - 1 - rounds, -1):
        data = journal.get(round, _UPDATE)
        if data is None:
            continue
        update = decode_update(data, limits=limits, length=length)
        keys = journal.keys(round)
        late = round == state.round or _LATE in keys or "commit" not in keys
        if not late or state.version - update.version > training.max_staleness:
            return None
        ready = int.from_bytes(journal.get(round, _READY) or b"", "big")
        return Trained(update, journal.get(round, _RESIDUAL) or b"", ready)
    return None
