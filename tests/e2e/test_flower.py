"""Flower apps by the real command line: run, audited, killed and continued, refused."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.e2e.commands import driven, hansa, result
from tests.flowers import write_app

from hansa.runfolder import read_metrics

pytestmark = pytest.mark.slow

QUICKSTART = Path(__file__).parents[2] / "examples" / "flower-quickstart"
MISCONFIGURED, HALTED = 2, 4
TOLD = ("round", "version", "selected", "left_out", "accuracy", "loss", "eval_acc", "eval_loss", "train_loss")
FAST = ("--rounds", "2", "--members", "4", "--scheme", "plaintext")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, Any]:
    """What a run of the quickstart prints that nobody disturbs; `effects` is how many there are to kill at."""
    done = driven(0, 0, "run", QUICKSTART, *FAST, "--json", cwd=place)
    return result(done) | {"effects": int((place / "effects").read_text())}


def test_the_quickstart_learns_and_its_audit_holds(place: Path, undisturbed: dict[str, Any]) -> None:
    assert (undisturbed["scheme"], undisturbed["rounds"], undisturbed["metric"]) == (
        "plaintext",
        2,
        "accuracy",
    )
    assert undisturbed["accuracy"]["joint"] > 0.7
    assert [row["round"] for row in _metrics(place / undisturbed["run"])] == [1, 2]
    audited = hansa("audit", undisturbed["run"], cwd=place)
    assert audited.returncode == 0, audited.stdout
    assert "Every check holds." in audited.stdout


def test_fedavg_and_the_federation_have_one_model(place: Path, undisturbed: dict[str, Any]) -> None:
    folder = place / undisturbed["run"]
    agreed, arrays = load_file(folder / "model.safetensors"), load_file(folder / "arrays.safetensors")
    assert (
        agreed.keys()
        == arrays.keys()
        == {f"layers.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")}
    )
    for name in agreed:
        np.testing.assert_allclose(agreed[name], arrays[name], atol=1e-6)


def test_a_killed_run_goes_on_to_the_same_arrays(place: Path, undisturbed: dict[str, Any]) -> None:
    out = "runs/killed"
    words = ("run", QUICKSTART, *FAST, "--json", "--out", out)
    killed = driven(undisturbed["effects"] * 3 // 5, signal.SIGKILL, *words, cwd=place)
    assert killed.returncode == -signal.SIGKILL
    again = result(hansa(*words, "--resume", cwd=place))
    assert again["model_digest"] == undisturbed["model_digest"]
    first, second = (load_file(place / run / "arrays.safetensors") for run in (undisturbed["run"], out))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    told = [_metrics(place / run) for run in (undisturbed["run"], out)]
    assert told[0] == told[1]


def _metrics(folder: Path) -> list[dict[str, Any]]:
    """What a run says of each final round, but what it cost: a kill costs more."""
    return [{key: row[key] for key in TOLD} for row in read_metrics(folder)]


def test_a_strategy_that_the_scheme_cannot_serve_is_refused_before_anything_is_written(place: Path) -> None:
    app = write_app(place / "krum", strategy="strategies.Krum(num_malicious_nodes=1)")
    refused = hansa("run", app, "--scheme", "secagg", cwd=place)
    assert refused.returncode == MISCONFIGURED
    assert "strategy Krum needs every single update, and secagg shows nobody more" in refused.stderr
    assert "--scheme plaintext" in refused.stderr
    assert not (place / "runs" / "tiny-app-1").exists()


def test_an_app_that_fails_costs_rounds_and_is_told_why(place: Path) -> None:
    app = write_app(place / "boom", fault="assert context.state['seen']['rounds'] < 2, 'out of rows'")
    stopped = result(hansa("run", app, "--scheme", "plaintext", "--json", cwd=place), HALTED)
    assert (stopped["finished"], stopped["rounds"], stopped["failed_rounds"]) == (False, 1, 3)
    assert stopped["failures"].keys() == {f"m{i}" for i in range(5)}
    assert "out of rows" in stopped["failures"]["m0"]
    assert "client_app.py" in stopped["failures"]["m0"]
    assert hansa("audit", stopped["run"], cwd=place).returncode == 0


def test_check_shows_what_a_flower_app_asks_for(place: Path) -> None:
    shown = hansa("check", QUICKSTART, "--set", "federation.scheme=tee", cwd=place)
    assert shown.returncode == 0, shown.stderr
    assert "TEE, governance committee" in shown.stdout
    assert "5 rounds" in shown.stdout
