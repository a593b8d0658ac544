"""One key, one node: two of them might sign two different messages for one slot, which costs reputation.

On one machine a lock keeps the second one out, whatever home it has. Elsewhere nothing can; but a message of one's
own that the journal does not know shows that another node signed it, or that the journal was lost.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from eth_hash.auto import keccak

from hansa import encoding, errors
from hansa.crypto import signatures
from hansa.node import outbox
from hansa.node.journal import Journal
from hansa.ports import Store
from hansa.protocol.state import State
from hansa.protocol.wire import decode_item


@contextmanager
def locked(home: Path, federation: bytes, address: bytes, *, runtime: Path | None = None) -> Iterator[None]:
    """Keep other nodes of this home, and of this member with another home, out of this machine.

    `federation` and `address`: 20 bytes each. `runtime`: where the users' locks lie, by default one folder of
    each user in the system's folder for temporary files. Raises `Misconfigured`.
    """
    shared = runtime or Path(tempfile.gettempdir()) / f"hansa-{os.getuid()}"
    with ExitStack() as held:
        held.enter_context(_lock(home, f"another node is at work in {home}"))
        _make(shared)
        whose = shared / f"{federation.hex()}-{address.hex()}"
        held.enter_context(
            _lock(whose, f"another node of 0x{address.hex()} is at work on this machine, with another home")
        )
        yield


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise errors.Misconfigured(
                f"{folder} belongs to somebody else",
                hint="Have it removed, or set TMPDIR to a folder of yours.",
            )
    except OSError as e:
        raise errors.Misconfigured(f"cannot use {folder}: {e.strerror}", hint="Name another --home.") from e


@contextmanager
def _lock(folder: Path, taken: str) -> Iterator[None]:
    """Hold the folder itself: what sweeps old files away leaves locked ones alone."""
    _make(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise errors.Misconfigured(taken, hint="One node a member: stop the other one first.") from None
    finally:
        os.close(handle)


def check_chain(journal: Journal, state: State, id: int) -> None:
    """Whether all that the chain has of member `id` in this round is in its journal. Raises `Misconfigured`."""
    now = state.current
    slots = {
        "commit": now.commits,
        "availability": now.held,
        "ballot": now.ballots,
        "precommit": now.precommits,
        f"vote:{now.attempt}": now.votes,
    }
    known = journal.keys(state.round)
    for slot, senders in slots.items():
        if id in senders and slot not in known:
            raise _another(state, slot.partition(":")[0], "the chain has")


def check_outbox(journal: Journal, store: Store, state: State, id: int) -> None:
    """Whether nobody left a commitment of member `id` in the store that its journal does not know.

    To be asked before training. Everybody may write there: only what carries the member's signature counts.
    Raises `Misconfigured`, and `Unavailable` when the store does not answer.
    """
    if "commit" in journal.keys(state.round):
        return
    try:
        commit = decode_item("commit", outbox.get(store, state, "commit", id))
    except (errors.Missing, errors.Untrusted):
        return
    fields = (state.round, commit.base, commit.digest, commit.meta)
    signed = keccak(encoding.message_bytes(state.domain, "Commit", *fields))
    if signatures.recover(signed, commit.signature) == state.members[id].address:
        raise _another(state, "commit", "the store has")


def _another(state: State, slot: str, where: str) -> errors.Misconfigured:
    return errors.Misconfigured(
        f"{where} a message ({slot}) of this member in round {state.round} that its journal does not know",
        hint="Another node runs with this key, or the journal was lost. Stop the other node; if there is none,"
        f" start again when round {state.round} is over, so that nothing is signed twice.",
    )
