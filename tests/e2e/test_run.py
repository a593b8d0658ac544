"""The real command line in processes of its own, on the real contract."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.e2e.commands import DONE, driven, hansa, result

from hansa.cli.costs import gas_of_a_round
from hansa.cli.run import holding
from hansa.runfolder import read_record

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
FAST = ("--rounds", "2")
JSON_KEYS = {"run", "scheme", "rounds", "model_digest", "accuracy", "left_out", "gas", "seconds"}
FOUND, MISCONFIGURED, HALTED, INTERRUPTED = 1, 2, 4, 130


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, Any]:
    """What a run prints that nobody disturbs; `effects` is how many there are to kill at."""
    done = driven(0, 0, "run", DIGITS, *FAST, "--json", "--anchors", "anchors.toml", cwd=place)
    return result(done) | {"effects": int((place / "effects").read_text()), "progress": done.stderr}


def test_json_holds_what_the_issue_asks_for(undisturbed: dict[str, Any]) -> None:
    assert undisturbed.keys() > JSON_KEYS
    assert undisturbed["run"] == "runs/digits-1"
    assert (undisturbed["scheme"], undisturbed["rounds"]) == ("plaintext", 2)
    accuracy = undisturbed["accuracy"]
    assert accuracy.keys() == {"joint", "alone_mean", "fedavg_unprotected", "pooled"}
    assert accuracy["joint"] > accuracy["alone_mean"]
    assert accuracy["joint"] > accuracy["fedavg_unprotected"] + 0.2
    assert undisturbed["left_out"].keys() == {f"m{i}" for i in range(8)}
    assert undisturbed["left_out"]["m3"] == undisturbed["left_out"]["m6"] == 2
    assert undisturbed["gas"] == sum(undisturbed["gas_by_call"].values())


def test_why_a_member_was_left_out_comes_from_the_chain(undisturbed: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in undisturbed["members"]}
    assert rows["m3"]["why"] == {"ranked below the best 6": 2}
    assert rows["m3"]["hostile"] == "sign-flip:5"
    assert rows["m3"]["alone"] is None
    assert rows["m0"]["why"] == rows["m0"]["slashed"] == {}
    assert rows["m0"]["worse"] == (rows["m0"]["joint"] < rows["m0"]["alone"])
    assert rows["m3"]["reputation"] < rows["m0"]["reputation"]


def test_progress_is_one_plain_line_a_round(undisturbed: dict[str, Any]) -> None:
    first, heading, *rounds = undisturbed["progress"].splitlines()
    assert first == (
        "digits · PLAINTEXT · simulated · seed 0 · 8 members, 2 malicious: m3 sign-flip:5, m6 noise:0.5"
    )
    assert heading.split() == ["round", "leader", "accuracy", "time", "left", "out"]
    assert [line.split()[0] for line in rounds] == ["1/2", "2/2"]
    assert all(line.endswith("m3 m6") for line in rounds)
    assert "\x1b" not in undisturbed["progress"]


def test_files_of_a_run(place: Path, undisturbed: dict[str, Any]) -> None:
    folder = place / undisturbed["run"]
    written = json.loads((folder / "summary.json").read_text())
    assert written == {k: v for k, v in undisturbed.items() if k not in ("effects", "progress")}
    model = load_file(folder / "model.safetensors")
    assert {name: array.shape for name, array in model.items()}["0.weight"] == (64, 64)


def test_status_of_a_finished_run(place: Path, undisturbed: dict[str, Any]) -> None:
    status = result(hansa("status", undisturbed["run"], "--json", cwd=place))
    assert status["model_digest"] == undisturbed["model_digest"]
    assert (status["phase"], status["rounds"], status["running"]) == ("STOPPED", 2, False)
    assert status["until"] is None
    assert status["accuracy"] == pytest.approx(undisturbed["accuracy"]["joint"], abs=1e-6)
    assert {m["name"]: m["left_out"] for m in status["members"]} == undisturbed["left_out"]
    shown = hansa("status", undisturbed["run"], cwd=place)
    assert "all 2 rounds are final" in shown.stdout
    assert undisturbed["model_digest"] in shown.stdout


def test_audit_passes_with_and_without_anchors(place: Path, undisturbed: dict[str, Any]) -> None:
    report = result(hansa("audit", undisturbed["run"], "--trust", "anchors.toml", "--json", cwd=place))
    assert report["anchored"]
    assert report["findings"] == []
    shown = hansa("audit", undisturbed["run"], cwd=place)
    assert shown.returncode == DONE
    assert "Not checked: whether this is the run that you think it is" in shown.stdout


def test_audit_fails_against_anchors_of_another_run(place: Path, undisturbed: dict[str, Any]) -> None:
    text = (place / "anchors.toml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("hash"))
    (place / "other.toml").write_text(text.replace(line, f'hash = "0x{"ab" * 32}"'))
    shown = hansa("audit", undisturbed["run"], "--trust", "other.toml", cwd=place)
    assert shown.returncode == FOUND
    assert "FAILED" in shown.stdout


def test_export_gives_the_run_s_model_and_overwrites_nothing(
    place: Path, undisturbed: dict[str, Any]
) -> None:
    done = hansa("export", undisturbed["run"], "m.safetensors", cwd=place)
    assert done.returncode == DONE, done.stderr
    assert undisturbed["model_digest"] in done.stdout
    exported = load_file(place / "m.safetensors")
    for name, array in load_file(place / undisturbed["run"] / "model.safetensors").items():
        np.testing.assert_array_equal(exported[name], array)
    again = hansa("export", undisturbed["run"], "m.safetensors", cwd=place)
    assert (again.returncode, again.stderr.splitlines()[0]) == (MISCONFIGURED, "hansa: m.safetensors exists")
    assert hansa("export", undisturbed["run"], "m.safetensors", "--force", cwd=place).returncode == DONE


def test_gas_estimate_is_near_what_the_run_used(place: Path, undisturbed: dict[str, Any]) -> None:
    terms = read_record(place / undisturbed["run"]).terms
    used = undisturbed["gas_by_call"]
    for call, estimate in gas_of_a_round(terms, 8).items():
        assert used[call] / 2 == pytest.approx(estimate, rel=0.5), call


def test_resuming_a_finished_run_shows_the_same_end(place: Path, undisturbed: dict[str, Any]) -> None:
    again = result(hansa("run", DIGITS, *FAST, "--resume", "--json", cwd=place))
    for key in ("run", "model_digest", "accuracy", "left_out", "gas", "anchors"):
        assert again[key] == undisturbed[key], key


def test_a_run_in_use_shows_as_running_and_is_left_alone(place: Path, undisturbed: dict[str, Any]) -> None:
    folder = undisturbed["run"]
    with holding(place / folder, resume=True):
        assert result(hansa("status", folder, "--json", cwd=place))["running"]
        done = hansa("run", DIGITS, *FAST, "--out", folder, "--resume", cwd=place)
    assert done.returncode == MISCONFIGURED
    assert f"another process is at work in {folder}" in done.stderr


def test_killed_and_resumed_ends_with_the_same_model(place: Path, undisturbed: dict[str, Any]) -> None:
    target = random.Random(0).randrange(1, undisturbed["effects"])
    words = ("run", DIGITS, *FAST, "--json", "--out", "killed", "--track", "tensorboard")
    assert driven(target, signal.SIGKILL, *words, cwd=place).returncode == -signal.SIGKILL
    status = result(hansa("status", "killed", "--json", cwd=place))
    assert not status["running"]
    assert status["phase"] not in ("STOPPED", "PAUSED")
    with (place / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "member", "round": 2, "member": "m0"}\n{"kind": "rou')  # what a kill may leave
    resumed = result(hansa(*words, "--resume", cwd=place))
    assert told(place / "killed") == told(place / undisturbed["run"])
    assert drawn(place / "killed" / "tensorboard") == [1, 2]
    for key in ("model_digest", "accuracy", "left_out"):
        assert resumed[key] == undisturbed[key], (key, target)
    assert hansa("audit", "killed", cwd=place).returncode == DONE


def told(folder: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl` without what differs from one process to another."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines if line["kind"] == "round"] == [1, 2]
    assert all(line["bytes"] > 0 and line["seconds"] > 0 for line in lines if line["kind"] == "round")
    own = ("bytes", "seconds", "time", "gas")
    return [{key: value for key, value in line.items() if key not in own} for line in lines]


def drawn(folder: Path) -> list[int]:
    """Rounds of which TensorBoard knows the accuracy."""
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    (file,) = folder.iterdir()
    events = accumulator.EventAccumulator(str(file))
    events.Reload()
    return [event.step for event in events.Tensors("accuracy")]


def test_gas_of_rounds_is_that_of_the_run(place: Path, undisturbed: dict[str, Any]) -> None:
    lines = map(json.loads, (place / undisturbed["run"] / "metrics.jsonl").read_text().splitlines())
    spent = sum(line["gas"] for line in lines if line["kind"] == "round")
    set_up = sum(undisturbed["gas_by_call"][call] for call in ("deploy", "invite", "join", "start"))
    assert spent == undisturbed["gas"] - set_up


def test_ctrl_c_says_how_to_go_on(place: Path, undisturbed: dict[str, Any]) -> None:
    words = ("run", DIGITS, *FAST, "--out", "stopped run")
    done = driven(undisturbed["effects"] // 2, signal.SIGINT, *words, cwd=place)
    assert done.returncode == INTERRUPTED
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Interrupted; nothing is lost. Go on with: hansa run ")
    assert last.endswith("--out 'stopped run' --resume")
    assert "Traceback" not in done.stderr
    shown = hansa("status", "stopped run", cwd=place)
    assert "stopped or killed" in shown.stdout
    assert "waiting" in shown.stdout
    assert "(chain's clock)" in " ".join(shown.stdout.split())


NAMES = ("straight", "crooked")
APP = """
import torch
import hansa

app = hansa.App(model=lambda: torch.nn.Linear(2, 1))

@app.data
def data(site):
    x = torch.linspace(-1, 1, 200).reshape(100, 2)
    return x, x.sum(1, keepdim=True)

@app.train
def train(model, dataset, ctx):
    for p in model.parameters():
        p.data += float(ctx.params.step)

@app.evaluate
def evaluate(model, dataset, ctx):
    x, y = dataset[:]
    return {"loss": float((model(x) - y).square().mean())}
"""
TERMS = """
[federation]
name = "line"
scheme = "plaintext"
[training]
rounds = 1
min_members = 4
max_failed_rounds = 1
params = { step = "0.1" }
[selection]
keep = 3
[privacy]
differential_privacy = "off"
[simulation]
members = 4
"""


@pytest.fixture(scope="module")
def line(place: Path) -> Path:
    """An app whose metrics have no accuracy."""
    folder = place / "line"
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "federation.toml").write_text(TERMS)
    return folder


@pytest.fixture(scope="module")
def straight(place: Path, line: Path) -> subprocess.CompletedProcess[str]:
    """Its run, for people, undisturbed."""
    return driven(0, 0, "run", line, "--out", "straight", cwd=place)


def test_without_an_accuracy_the_selection_metric_is_compared(
    straight: subprocess.CompletedProcess[str],
) -> None:
    assert straight.returncode == DONE, straight.stderr
    assert "Loss on a test set that no member holds" in straight.stdout
    assert "%" not in straight.stdout


def test_killed_at_one_moment_after_another_ends_with_the_same_model(
    place: Path, line: Path, straight: subprocess.CompletedProcess[str]
) -> None:
    effects, generator = int((place / "effects").read_text()), random.Random(1)
    words = ("run", line, "--out", "crooked")
    for attempt in range(3):
        target = generator.randrange(1, effects // 3)
        done = driven(target, signal.SIGKILL, *words, *["--resume"] * (attempt > 0), cwd=place)
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert hansa(*words, "--resume", cwd=place).returncode == DONE
    digests = [json.loads((place / name / "summary.json").read_text())["model_digest"] for name in NAMES]
    assert digests[0] == digests[1]


def test_a_run_folder_is_not_used_for_anything_else(
    place: Path, line: Path, straight: subprocess.CompletedProcess[str]
) -> None:
    done = hansa("run", line, "--out", "straight", cwd=place)
    assert done.returncode == MISCONFIGURED
    assert "straight already holds a run" in done.stderr
    done = hansa("run", line, "--rounds", 9, "--out", "straight", "--resume", cwd=place)
    assert done.returncode == MISCONFIGURED
    assert "was started with other terms" in done.stderr
    done = hansa("run", line, "--out", "line", cwd=place)
    assert done.returncode == MISCONFIGURED
    assert "line is not empty and holds no run" in done.stderr


def test_a_paused_federation_says_so_and_exits_with_four(place: Path, line: Path) -> None:
    done = hansa("run", line, "--set", "training.params.step='nan'", "--out", "nan", cwd=place)
    assert done.returncode == HALTED, done.stdout + done.stderr
    assert "PAUSED after 0 of 1 rounds: 1 rounds in a row failed" in done.stdout
    summary = json.loads((place / "nan" / "summary.json").read_text())
    assert not summary["finished"]
    assert summary["accuracy"]["joint"] is None
    assert not (place / "nan" / "model.safetensors").exists()
    done = hansa("export", "nan", "x.safetensors", cwd=place)
    assert done.returncode == MISCONFIGURED
    assert "no final round yet" in done.stderr
