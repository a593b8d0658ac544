"""A run folder as it is now, also while a process works in it: nothing in it is written or locked."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa import encoding, errors, runfolder, wiring
from hansa.ledger.embedded import Chain, read_journal
from hansa.ledger.evm import Fold
from hansa.ports import View
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.events import Event
from hansa.protocol.history import RoundStory, tell
from hansa.protocol.model import parameters
from hansa.protocol.state import State
from hansa.records import Limits, Model
from hansa.runfolder import RunRecord


@dataclass(frozen=True, slots=True)
class Reading:
    """A run. `start` is the chain's time of its first block, `running` whether a process is at work in it."""

    folder: Path
    record: RunRecord
    view: View
    story: tuple[RoundStory, ...]
    metrics: tuple[dict[str, Any], ...]
    start: int
    running: bool

    def name(self, id: int) -> str:
        """A party's name; ids after the members' are servers."""
        names = self.record.names
        return names[id] if id < len(names) else f"s{id - len(names)}"


def read_run(folder: Path) -> Reading:
    """Fold the chain of a run folder. Raises `Misconfigured`, `Untrusted`, `Unavailable`."""
    record = runfolder.read_record(folder)
    path = folder / "chain.sqlite"
    if not path.exists():
        raise errors.Unavailable(f"the run in {folder} has no chain yet", hint="Go on with it by --resume.")
    genesis, _ = read_journal(path)
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        # One snapshot for all reads: another process may add blocks meanwhile.
        database.execute("begin")
    except sqlite3.Error as e:
        raise errors.Unavailable(f"cannot read {path}: {e}", hint="Check the file and its rights.") from e
    story: tuple[RoundStory, ...] = ()

    def observe(event: Event, _block: int) -> None:
        nonlocal story
        story = tell(story, event)

    with Chain(database, genesis) as chain:
        fold = Fold(chain, record.deployment)
        fold.observe(observe)
        view = fold.view(lambda: chain.time)
    metrics = tuple(runfolder.read_metrics(folder))
    return Reading(folder, record, view, story, metrics, genesis.timestamp, _in_use(folder))


def _in_use(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def final_model(run: Reading) -> Model:
    """The model that the chain calls current, from the nodes' disks or else from the shared store.

    Its bytes are held against the digest on the chain. Raises `Misconfigured` before the first final round,
    `Unavailable` when no copy is left or no key opens it, `Untrusted` when a copy is not what it should be.
    """
    state, terms = run.view.state, run.record.terms
    if state.model_author is None:
        raise errors.Misconfigured(
            f"the federation in {run.folder} has no final round yet",
            hint="Let it run: add --resume to its command.",
        )
    data = _kept(run, state) or _released(run, state, state.model_author)
    if encoding.digest(data) != state.model:
        raise errors.Untrusted(
            "the model is not the one that the chain names",
            hint="Do not use it. `hansa audit` says more.",
            digest=encoding.digest(data),
        )
    return ckpt.decode(data, terms.aggregation, terms.layout, Limits()).model


def _kept(run: Reading, state: State) -> bytes | None:
    if not (run.folder / "kept").is_dir():
        return None
    try:
        return wiring.store(str(run.folder / "kept")).get(state.model, limit=Limits().blob)
    except (errors.Unavailable, errors.Untrusted):
        return None


def _released(run: Reading, state: State, author: int) -> bytes:
    """The model as its leader sealed it, opened with a key of the run folder."""
    if not (run.folder / "store").is_dir():
        raise errors.Unavailable(f"no copy of the model is left in {run.folder}")
    store, limits, terms = wiring.store(str(run.folder / "store")), Limits(), run.record.terms

    def fetch(digest: bytes) -> bytes:
        return store.get(digest, limit=limits.blob)

    readers = state.model_readers
    own = [(id, key) for id, key in runfolder.read_keys(run.folder).items() if id in readers]
    if not own:
        raise errors.Unavailable("the run folder has no key that opens the model", hint="Restore keys.cbor.")
    id, key = own[0]
    scheme = wiring.scheme(
        terms.scheme,
        id=id,
        private_key=key,
        entropy=lambda _label, n: os.urandom(n),
        limits=limits,
        length=parameters(terms.layout),
    )
    sealed = fetch(ckpt.sealed_digest(fetch(state.model_evidence)))
    return scheme.open_release(state.domain, readers, author, state.version, sealed, fetch)
