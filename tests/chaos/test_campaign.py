"""The campaign's short form; `make chaos SEEDS=10000` runs the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.campaign import main, reports, run
from tests.chaos.schedule import KINDS, Rates, draw

ROOT = Path(__file__).parents[2]


def test_no_schedule_violates_an_invariant():
    """And every kind of fault is among them, the rates too."""
    injected = Counter[str]()
    for report in reports(range(150)):
        assert report.violations == (), report.replay
        injected += report.injected
    rates = Rates.__dataclass_fields__
    assert all(injected[kind] > 0 for kind in (*KINDS, *rates, "kills", "restarts", "miscompute: folds"))


def test_no_schedule_under_secagg_violates_an_invariant():
    """Servers and key centres fall over too, and sums are opened once or not at all."""
    injected = Counter[str]()
    for report in reports(range(25), scheme="secagg", evm_every=25):
        assert report.violations == (), report.replay
        injected += report.injected
    assert injected["kills"] > 20


def test_no_schedule_under_tee_violates_an_invariant():
    """Who dies loses its enclave; signatures get lost on their way to the store."""
    injected = Counter[str]()
    for report in reports(range(20), scheme="tee", evm_every=20):
        assert report.violations == (), report.replay
        injected += report.injected
    assert injected["kills"] > 5
    assert injected["miscompute: folds"] > 0


def test_a_schedule_on_the_evm():
    schedule = draw(EVM)
    report = run(schedule, evm=True)
    assert report.violations == ()
    assert report.injected["kills"] > 0


EVM = next(s for s in range(1000) if any(f.kind == "crash" and f.amount < 3 for f in draw(s).faults))


def test_the_evm_does_as_the_specification():
    """Without faults and at the same times both chains show the same events."""
    schedule = replace(draw(1), faults=(), rates=Rates(), confirmations=0, quiet=0)
    on_evm, specified = run(schedule, evm=True), run(schedule)
    assert on_evm.violations == specified.violations == ()
    assert (on_evm.ticks, on_evm.steps, on_evm.rounds) == (specified.ticks, specified.steps, specified.rounds)


def test_a_seed_gives_the_same_run_in_another_process():
    code = "from tests.chaos.campaign import run; from tests.chaos.schedule import draw; "
    code += "print(*(run(draw(s)).trace for s in range(4)))"
    for salt in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert done.stdout.decode().split() == [run(draw(s)).trace for s in range(4)]


def test_the_command_line_prints_what_was_done(capsys: pytest.CaptureFixture[str]):
    assert main(["--seeds", "3", "--first", "5", "--evm-every", "0"]) == 0
    text = capsys.readouterr().out
    assert "schedules  3 (0 on the EVM), seeds 5 to 7" in text
    assert "violations 0" in text


def test_a_violation_is_printed_with_its_replay_and_the_command_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hansa.protocol.plan._after_deadline", lambda state, know, now: iter(()))
    bad = next(seed for seed in range(50) if run(draw(seed)).violations)
    assert main(["--seeds", "1", "--first", str(bad), "--evm-every", "0"]) == 1
    text = capsys.readouterr().out
    assert f"VIOLATION seed {bad}: the job has not ended" in text
    assert f"replay: python -m tests.chaos --replay {bad}" in text
    assert main(["--replay", str(bad)]) == 1
    assert "VIOLATION" in capsys.readouterr().out
