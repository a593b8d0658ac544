"""`examples/cluster`: one command starts a chain and members, trains, and leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from examples.cluster.processes import until
from tests.anvil import find_anvil

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def started(out: Path, mark: str, *options: str) -> subprocess.Popen[str]:
    find_anvil()
    words = [
        sys.executable,
        str(ROOT / "examples" / "cluster"),
        "--members",
        "5",
        "--out",
        str(out),
        *options,
    ]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "MARK": mark}
    )


def alive(mark: str) -> set[int]:
    """Processes that inherited the mark and have not ended."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue  # ended meanwhile, or not ours
    return found


def test_five_processes_train_digits(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    with started(tmp_path / "out", mark, "--rounds", "3") as driver:
        said, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    assert "STOPPED, 3 of 3 rounds are final" in said
    assert "the same in every process" in said
    assert "audit     every check holds" in said
    assert float(re.search(r"accuracy  ([0-9.]+) %", said)[1]) > 75, said
    rounds = re.findall(r"^ +([0-9]+)/3 +m[0-4] +[0-9.]+ % ", said, re.MULTILINE)
    assert rounds == ["1", "2", "3"], said
    ends = {(tmp_path / "out" / f"m{i}" / "node.log").read_text().splitlines()[-1] for i in range(5)}
    assert len(ends) == 1, ends
    assert (tmp_path / "out" / "model.safetensors").stat().st_size > 4 * 4_000
    assert until(lambda: not alive(mark), 30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_processes_end_with_it(tmp_path: Path, number: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    with started(tmp_path / "out", mark, "--rounds", "1000") as driver:
        try:
            assert until(
                lambda: driver.poll() is not None or len(list(tmp_path.glob("out/m*/home"))) == 5, 300
            )
            assert driver.poll() is None, driver.stdout.read()
            # The driver, the server that forks, the tracker of its resources, a chain and five members.
            assert until(lambda: len(alive(mark)) >= 8, 10)
            time.sleep(0.5)
            driver.send_signal(number)
            driver.wait(60)
            assert driver.returncode == (130 if number is signal.SIGTERM else -number)
            assert until(lambda: not alive(mark), 30), alive(mark)
        finally:
            driver.kill()
