"""A small run, and copies of it that somebody has tampered with: the audit must see each."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hansa import encoding, runfolder, simulation
from hansa.audit import Report, anchors_of, audit, exit_code
from hansa.config import load_federation
from hansa.ledger.embedded import open_chain, read_journal
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.model import from_arrays
from hansa.summary import finish

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
SETTINGS = [
    "training.rounds=2",
    "training.params={ lr = 0.3, epochs = 1 }",
    "training.min_members=4",
    "selection.keep=4",
    "simulation.members=5",
    'simulation.malicious={ m3 = "sign-flip:5" }',
]


def make(folder: Path, seed: int) -> Path:
    run = simulation.start(load_federation(EXAMPLE, [*SETTINGS, f"simulation.seed={seed}"]), folder)
    run.play()
    finish(run, seconds=0.0)
    keep_initial(run)
    run.close()
    return folder


def keep_initial(run: simulation.Simulation) -> None:
    """Nodes that keep the model they derived from the seed leave it for the audit."""
    file = run.founding.file
    model, _ = from_arrays(run.founding.trainer.initial(file.initial_seed), file.scale)
    run.kept.put(ckpt.initial(run.terms.aggregation, model).data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("audit") / "run", 0)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Iterator[Path]:
    yield shutil.copytree(run, tmp_path / "copy")


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.verdict == "failed"}


def gaps(report: Report) -> set[str]:
    return {check.name for check in report.checks if check.verdict == "unavailable"}


def counts(report: Report) -> dict[str, int]:
    return {check.name: check.count for check in report.checks}


# where things lie


def digests(folder: Path) -> dict[str, bytes]:
    """Digests of one blob of each kind, as the events of the chain name them."""
    history = simulation_events(folder)
    state = history[-1].state
    evidence = (folder / blob("store", state.current.evidence)).read_bytes()
    commit = state.current.commits[min(state.current.selected)]
    opened = state.current.opened[min(state.current.opened)]
    update = (folder / blob("store", commit.digest)).read_bytes()
    from hansa.crypto.sealing import read_header

    return {
        "update": commit.digest,
        "grant": read_header(update).grant,
        "evidence": state.current.evidence,
        "sealed model": ckpt.sealed_digest(evidence),
        "row": opened.values,
        "model": history[-1].ended.model,
        "initial": state.models[0],
    }


def simulation_events(folder: Path):
    from hansa.audit.chain import read_chain
    from hansa.audit.report import Book

    return read_chain(folder, runfolder.read_record(folder), Book()).rounds


def blob(part: str, digest: bytes) -> Path:
    return Path(part) / "blobs" / digest.hex()[:2] / digest.hex()


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
