"""`hansa run` under scheme mpc, with real processes of the computing parties: what users do from end to end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from script import COLUMNS, PROGRAM, PUBLISHED, folder, hansa

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "hospitals-mpc"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, as its README says."""
    at = tmp_path_factory.mktemp("mpc")
    made = hansa("run", EXAMPLE, "--out", at / "run")
    assert "epoch 40 of 40" in made.stdout
    assert "loss" not in made.stdout, "nobody sees it"
    return at / "run"


def audited(run: Path) -> tuple[int, dict]:
    done = hansa("audit", run, "--json", check=False)
    return done.returncode, json.loads(done.stdout)


def test_owners_get_a_model_like_that_of_training_in_the_clear(run: Path) -> None:
    accuracy = json.loads((run / "summary.json").read_text())["accuracy"]
    assert accuracy["joint"] >= accuracy["pooled"] - 0.01
    assert accuracy["joint"] > accuracy["alone_mean"]
    assert accuracy["fedavg_unprotected"] is None
    assert load_file(run / "model.safetensors").keys() == {"dense3.weight", "dense3.bias"}


def test_the_audit_puts_the_model_together_again(run: Path) -> None:
    code, said = audited(run)
    assert code == 0, said
    made = {check["name"]: check for check in said["checks"]}
    assert made["models put together"]["verdict"] == "verified"
    assert made["shares opened"]["count"] == 12, "four owners, three parties"


def test_the_report_names_layers_and_that_nothing_was_opened(run: Path) -> None:
    shown = hansa("mpc", "report", run).stdout
    assert "dense1" in shown
    assert "Nothing was opened while training." in shown
    said = json.loads(hansa("mpc", "report", run, "--json").stdout)
    assert said["parties"].keys() == {"p0", "p1", "p2"}
    for party in said["parties"].values():
        assert (party["epochs"], party["reveals"]) == (40, [])
        assert sum(cost["bytes"] for cost in party["costs"]) > 0


def test_export_opens_what_the_parties_delivered(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "kept")
    hansa("export", copy, tmp_path / "model.safetensors")
    exported, own = load_file(tmp_path / "model.safetensors"), load_file(run / "model.safetensors")
    assert all((exported[name] == own[name]).all() for name in own)


def test_each_tampered_package_is_found(run: Path, tmp_path: Path) -> None:
    """Any blob of the store: owners' packages, parties' words and deliveries among them."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    blobs = sorted((copy / "store" / "blobs").rglob("*/*"), key=lambda p: -p.stat().st_size)
    for blob in blobs[:2]:
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
        code, said = audited(copy)
        assert code == 1
        assert blob.name in json.dumps(said)
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
    assert audited(copy)[0] == 0


def test_two_parties_train_on_columns_of_three_owners(tmp_path: Path) -> None:
    app = folder(tmp_path / "app", seats=("p0", "p1"), script=COLUMNS)
    hansa("run", app, "--out", tmp_path / "run")
    accuracy = json.loads((tmp_path / "run" / "summary.json").read_text())["accuracy"]
    assert accuracy["joint"] >= max(0.85, accuracy["pooled"] - 0.02)
    code, said = audited(tmp_path / "run")
    assert code == 0, said
    assert load_file(tmp_path / "run" / "model.safetensors")["dense1.weight"].shape == (4, 1)


def test_the_party_that_sees_the_loss_shows_it(tmp_path: Path) -> None:
    made = hansa("run", folder(tmp_path / "app", epochs=8, script=PUBLISHED), "--out", tmp_path / "run")
    shown = re.findall(r"(p[012])  loss ([0-9.]+) in epoch ([0-9]+)", made.stdout)
    assert {party for party, _, _ in shown} == {"p1"}
    assert [int(epoch) for _, _, epoch in shown] == list(range(1, 9))
    losses = [float(loss) for _, loss, _ in shown]
    assert losses[-1] < 0.5 * losses[0] < 0.5
    assert "opened: " in hansa("mpc", "report", tmp_path / "run").stdout


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with (tmp_path / "log").open("w") as log:
        words = ["run", folder(tmp_path / "app", epochs=12), "--out", tmp_path / "run"]
        process = subprocess.Popen(
            [*PROGRAM, *map(str, words)], stdout=log, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process, tmp_path
        finally:
            process.kill()
            process.wait()


def until(log: Path, text: str, process: subprocess.Popen[str]) -> None:
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)


def children(of: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(of)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def test_a_party_s_process_is_killed_and_the_job_goes_on(
    long_run: tuple[subprocess.Popen[str], Path],
) -> None:
    process, at = long_run
    until(at / "log", "epoch 2 of 12", process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    assert process.wait(300) == 0, (at / "log").read_text()
    assert "died" in (at / "log").read_text()
    assert audited(at / "run")[0] == 0
    said = json.loads(hansa("mpc", "report", at / "run", "--json").stdout)
    assert all(party["attempts"] == 2 for party in said["parties"].values())


def test_a_whole_run_is_killed_and_goes_on(long_run: tuple[subprocess.Popen[str], Path]) -> None:
    process, at = long_run
    until(at / "log", "epoch 3 of 12", process)
    process.kill()
    process.wait()
    done = hansa("run", at / "app", "--out", at / "run", "--resume")
    assert "epoch 1 of 12" not in done.stdout, "it went on from a checkpoint"
    assert "epoch 12 of 12" in done.stdout
    assert audited(at / "run")[0] == 0
