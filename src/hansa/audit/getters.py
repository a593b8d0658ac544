"""What the contract holds at the end of a run, asked by its public getters, against the rules' state."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hansa.audit.report import Book
from hansa.ledger import artefact
from hansa.ledger.embedded import open_chain
from hansa.ledger.rpc import Rpc, hexed, unhex
from hansa.protocol.state import State

STATE = "contract's state"


def check_getters(path: Path, contract: bytes, state: State, book: Book) -> None:
    """Ask a copy of a chain's file, which replay has found to be what it should be."""
    with book.attempt(STATE, "chain.sqlite", gaps=False), TemporaryDirectory() as folder:
        copied = Path(shutil.copyfile(path, Path(folder) / path.name))
        with open_chain(copied) as chain:
            for name, arguments, expected in _expected(state):
                found = _ask(chain, contract, name, arguments)
                if found == expected:
                    book.passed(STATE)
                else:
                    asked = name + str(arguments or "")
                    book.found(STATE, asked, f"the contract says {found!r}, the rules {expected!r}")


def _ask(rpc: Rpc, contract: bytes, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    data = artefact.encode_call(name, arguments)
    answer = rpc.request("eth_call", ({"to": hexed(contract), "data": hexed(data)}, "latest"))
    return artefact.decode_result(name, unhex(answer))


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
