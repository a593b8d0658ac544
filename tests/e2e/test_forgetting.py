"""A run whose terms keep two rounds: it ends, its folder stays small, and its audit says what is gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hansa import runfolder, simulation
from hansa.audit import Report, audit, exit_code
from hansa.audit.chain import read_chain
from hansa.audit.report import GAPS, Book
from hansa.config import load_federation
from hansa.summary import finish

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
SETTINGS = [
    "federation.retain_rounds=2",
    "training.rounds=8",
    "training.params={ lr = 0.3, epochs = 1 }",
    "training.min_members=4",
    "selection.keep=4",
    "simulation.members=5",
    "simulation.malicious={}",
]
WHY = "not kept by the terms (retain_rounds = 2)"


@pytest.fixture(scope="module")
def sizes() -> list[int]:
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> Path:
    folder = tmp_path_factory.mktemp("retention") / "run"
    made = simulation.start(load_federation(EXAMPLE, SETTINGS), folder)

    def measure(event: object, running: simulation.Simulation) -> None:
        if getattr(event, "outcome", None):
            sizes.append(len(running.store.digests()) + len(running.store.list("outbox")))

    made.play(measure)
    finish(made, seconds=0.0)
    made.close()
    return folder


def gaps(report: Report) -> dict[str, str]:
    return {check.name: check.note for check in report.checks if check.verdict == "unavailable"}


def test_the_store_is_bounded(run: Path, sizes: list[int]) -> None:
    assert len(sizes) == 8
    assert max(sizes) <= 3.5 * sizes[0]
    assert abs(sizes[7] - sizes[5]) <= 6


def test_the_audit_counts_as_not_made_what_the_terms_forget(run: Path) -> None:
    report = audit(run)
    assert report.findings == ()
    assert exit_code(report) == GAPS
    assert gaps(report).keys() == {
        "initial model", "updates opened", "matrix rows", "evidence records", "sealed models",
        "aggregates recomputed", "blobs present",
    }  # fmt: skip
    for name in ("initial model", "updates opened", "matrix rows", "evidence records", "blobs present"):
        assert WHY in gaps(report)[name]
    counts = {check.name: check.count for check in report.checks}
    assert (counts["updates opened"], counts["aggregates recomputed"]) == (3 * 5, 3)
    assert any(WHY in note for note in report.notes)


def test_what_lacks_within_the_window_is_named_first(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    state = read_chain(copy, runfolder.read_record(copy), Book()).rounds[7].state
    digest = state.current.opened[0].values
    for part in ("store", "kept"):
        (copy / part / "blobs" / digest.hex()[:2] / digest.hex()).unlink()
    lost = gaps(audit(copy))["matrix rows"]
    assert lost.startswith("round 8, evaluator 0: blob ")
    assert WHY not in lost
