"""`hansa compare`: a small sweep, killed and gone on with."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.commands import hansa, result

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
WORDS = [
    "compare",
    str(DIGITS),
    "--presets",
    "B,D",
    "--attacks",
    "free-rider",
    "--seeds",
    "1",
    "--rounds",
    "1",
]
ARGUMENTS = [*WORDS, "--jobs", "1", "--json", "--out", "out"]
CELLS = 6


def written(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = "from hansa.cli.main import main; main()"
    first = subprocess.Popen(
        [sys.executable, "-c", code, *ARGUMENTS], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        while len(written(out)) < 2:
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
    finally:
        first.kill()
        first.communicate()
    before = written(out)
    assert 2 <= len(before) < CELLS

    again = hansa(*ARGUMENTS, cwd=tmp_path)
    said = result(again)
    assert f"{CELLS} cells, {CELLS - len(before)} to run" in again.stderr
    after = written(out)
    assert len(after) == CELLS
    assert {name: after[name] for name in before} == before
    files = {"accuracy.svg", "cells", "cells.csv", "sweep.json", "systems.csv", "systems.md"}
    assert {path.name for path in out.iterdir()} == files

    assert list(said["skipped"]) == ["D"]
    found = {(row["system"], row["attack"]): row for row in said["rows"]}
    references = {("fedavg", "none"), ("pooled", "none"), ("alone", "none"), ("fedavg", "free-rider")}
    assert found.keys() == {("B", "none"), ("B", "free-rider")} | references
    assert found["B", "free-rider"]["accepted"] == 0
    assert found["B", "none"]["accuracy"] > 0.5
    assert found["B", "none"]["gas"] > 0
    assert {line["status"] for line in csv.DictReader((out / "cells.csv").open())} == {"done"}
