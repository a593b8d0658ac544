"""The short form of `make processes`: real processes, killed and cut off, end the job with one model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.anvil import find_anvil

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_job_ends_with_one_model_whatever_is_done_to_its_processes() -> None:
    find_anvil()
    words = [sys.executable, "-m", "tests.chaos.processes", "--repeat", "1", "--members", "7"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    line = done.stdout.splitlines()[0]
    assert line.endswith(": well")
    assert int(re.search(r"kills ([0-9]+)", line)[1]) > 0
    for fault in ("chain paused 1", "chain restarted 1", "removed for good 2"):
        assert fault in line
    assert "store filled 1" in line or "no mount namespace here" in line
