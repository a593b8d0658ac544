"""A run folder as it is now, also while a process works in it: nothing in it is written or locked."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from hansa import errors, runfolder, wiring
from hansa.cli.models import current, readers, released
from hansa.cli.reading import Reading, Run
from hansa.ledger.embedded import Chain, read_journal
from hansa.ledger.evm import Fold
from hansa.protocol.events import Event
from hansa.protocol.history import RoundStory, names_of, tell
from hansa.protocol.state import State
from hansa.records import Limits, Model, Terms


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A `Source`: each reading folds the whole chain, which another process may have gone on with."""

    folder: Path

    def read(self) -> Reading:
        """See `Source.read`."""
        return read_run(self.folder)

    def model(self, reading: Reading) -> Model:
        """See `Source.model`: from the nodes' disks or else from the store, by the keys of the folder."""
        state, folder = reading.view.state, self.folder
        if state.model_author is None:
            raise errors.Misconfigured(
                f"the federation in {folder} has no final round yet",
                hint="Let it run: add --resume to its command.",
            )
        data = _kept(folder, state) or _from_store(folder, state, reading.terms)
        return current(state, data, reading.terms)


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
        block_time = chain.time
    names = names_of(view.state) | dict(enumerate(record.names))
    run = Run(folder, tuple(runfolder.read_metrics(folder)), genesis.timestamp, _in_use(folder))
    return Reading(str(folder), record.terms, view, story, names, block_time, run)


def _in_use(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _kept(folder: Path, state: State) -> bytes | None:
    if not (folder / "kept").is_dir():
        return None
    try:
        return wiring.store(str(folder / "kept")).get(state.model, limit=Limits().blob)
    except (errors.Unavailable, errors.Untrusted):
        return None


def _from_store(folder: Path, state: State, terms: Terms) -> bytes:
    if not (folder / "store").is_dir():
        raise errors.Unavailable(f"no copy of the model is left in {folder}")
    able = readers(state, terms)
    own = [(id, key) for id, key in runfolder.read_keys(folder).items() if id in able]
    if not own:
        raise errors.Unavailable("the run folder has no key that opens the model", hint="Restore keys.cbor.")
    return released(state, terms, wiring.store(str(folder / "store")), *own[0])
