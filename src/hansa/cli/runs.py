"""A run folder as it is now, also while a process works in it: nothing in it is written or locked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hansa import errors, runfolder, wiring
from hansa.cli.models import current, readers, released
from hansa.cli.reading import Reading, Run
from hansa.ledger.evm import Fold
from hansa.protocol.events import Event
from hansa.protocol.history import RoundStory, names_of, tell
from hansa.protocol.state import State
from hansa.records import Limits, Model, Terms
from hansa.report.folder import in_use, read_run_record, snapshot


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
    record = read_run_record(folder)
    story: tuple[RoundStory, ...] = ()

    def observe(event: Event, _block: int) -> None:
        nonlocal story
        story = tell(story, event)

    with snapshot(folder) as chain:
        fold = Fold(chain, record.deployment)
        fold.observe(observe)
        view = fold.view(lambda: chain.time)
        block_time = chain.time
    names = names_of(view.state) | dict(enumerate(record.names))
    run = Run(folder, tuple(runfolder.read_metrics(folder)), chain.genesis.timestamp, in_use(folder))
    return Reading(str(folder), record.terms, view, story, names, block_time, run)


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
