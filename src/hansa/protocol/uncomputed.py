"""Whom a federation under `mpc` waits for, beyond the messages of a round: for status and for a node's log."""

from __future__ import annotations

from collections.abc import Iterator

from hansa.protocol import mpc
from hansa.protocol.history import names_of
from hansa.protocol.state import State, record_of
from hansa.records import Phase, RecordKind, Terms

CERTIFICATE, ACCEPTANCE, DELIVERY = "certificate", "word on the shares", "delivery"

_OWED = {RecordKind.INPUT: ACCEPTANCE, RecordKind.OUTPUT: DELIVERY}


def missing(terms: Terms, state: State) -> tuple[str, ...]:
    """Addresses of computing parties that the terms name, and that have not joined."""
    return tuple(a for a in terms.govern.seats if bytes.fromhex(a.removeprefix("0x")) not in state.ids)


def awaited(state: State) -> dict[str, frozenset[int]]:
    """Kind of record -> parties that owe it."""
    if state.phase is Phase.STOPPED:
        return {}
    found = mpc.parties(state)
    owed = {CERTIFICATE: frozenset(p for p in found if mpc.certificate(state, p) is None)}
    if state.phase is Phase.AGGREGATE:
        for kind, word in _OWED.items():
            owed[word] = frozenset(p for p in found if record_of(state, state.round, kind, p) is None)
            if owed[word]:
                break
    return {kind: ids for kind, ids in owed.items() if ids}


def remarks(state: State, id: int) -> Iterator[str]:
    """What is to be said of a computing party."""
    if id in mpc.parties(state) and mpc.certificate(state, id) is None:
        yield "has recorded no certificate of its links"


def sentence(terms: Terms, state: State, id: int) -> str:
    """What the node of this id waits for, if it is another party's turn; else empty."""
    absent, owed, names = missing(terms, state), awaited(state), names_of(state)
    if absent:
        return f"waiting for computing parties of the terms to join: {', '.join(absent)}"
    others = {kind: sorted(ids - {id}) for kind, ids in owed.items() if id not in ids}
    for kind, ids in others.items():
        who = ", ".join(names[i] for i in ids)
        if kind == DELIVERY and id not in mpc.parties(state):
            return f"the computing parties train: waiting for the model from {who}"
        return f"waiting for the {kind} of {who}"
    return ""
