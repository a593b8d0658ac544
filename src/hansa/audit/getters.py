"""What the contract holds at the end of its history, asked by its public getters, against the rules' state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hansa.audit.report import Book
from hansa.ledger import artefact
from hansa.ledger.rpc import hexed
from hansa.protocol.state import State

STATE = "contract's state"


def check_getters(ask: Callable[[bytes], bytes], state: State, book: Book) -> None:
    """Compare all getters; `ask` gives what the contract answers to a call's data. Raises what `ask` raises."""
    for name, arguments, expected in _expected(state):
        answer = ask(artefact.encode_call(name, arguments))
        found = artefact.decode_result(name, answer)
        if found == expected:
            book.passed(STATE)
        else:
            asked = name + str(arguments or "")
            book.found(STATE, asked, f"the contract says {found!r}, the rules {expected!r}")


def _expected(state: State) -> Iterator[tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    """Getters with their arguments and the values that the rules give."""
    for name in ("round", "phase", "deadline", "voids", "motions", "version", "model", "beacon", "domain"):
        yield name, (), (getattr(state, name),)
    yield "owner", (), (hexed(state.owner),)
    yield "n", (), (len(state.members),)
    for id, m in sorted(state.members.items()):
        before = state.current.snapshot.get(id, 0)
        standing = (m.member, m.active, int(m.role), m.reputation, before, m.resources, m.absent)
        yield "member", (id,), standing
        yield "address_of", (id,), (hexed(m.address),)
        yield "onion", (id,), (m.onion,)
        yield "nonces", (m.address,), (state.nonces.get(m.address, 0),)
