"""`hansa run examples/digits --set federation.scheme=tee`: what a user gets, and what it equals."""

from __future__ import annotations

import json
import random
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.commands import driven, hansa, result

from hansa.attestation import NO_PROTECTION
from hansa.records import Terms
from hansa.runfolder import read_record

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TEE = ("--set", "federation.scheme=tee", "--rounds", "3")
PLAINTEXT = (
    "--rounds", "3",
    "--set", "selection.rule=none",
    "--set", "aggregation.rule=trimmed-mean",
    "--set", "aggregation.trim=0.25",
    "--set", "governance.invitation=vote",
    "--set", "governance.committee=4",
)  # fmt: skip
"""The same job with the same rule, in which everybody sees every update."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, Any]:
    done = driven(0, 0, "run", DIGITS, *TEE, "--json", cwd=place)
    assert f"\n{NO_PROTECTION}\n" in done.stderr
    return result(done) | {"effects": int((place / "effects").read_text())}


def test_its_model_is_that_of_plaintext_bit_for_bit(place: Path, undisturbed: dict[str, Any]) -> None:
    plain = result(hansa("run", DIGITS, *PLAINTEXT, "--json", cwd=place))
    ours, theirs = (read_record(place / run["run"]).terms for run in (undisturbed, plain))
    assert [f.name for f in fields(Terms) if getattr(ours, f.name) != getattr(theirs, f.name)] == [
        "scheme",
        "tee",
    ]
    assert replace(theirs, scheme="tee", tee=ours.tee) == ours
    assert undisturbed["rounds"] == plain["rounds"] == 3
    assert undisturbed["model_digest"] == plain["model_digest"]
    assert undisturbed["accuracy"]["joint"] > undisturbed["accuracy"]["fedavg_unprotected"]


def test_it_says_everywhere_that_nothing_is_protected(place: Path, undisturbed: dict[str, Any]) -> None:
    run = undisturbed["run"]
    assert undisturbed["protection"] == NO_PROTECTION
    assert json.loads((place / run / "summary.json").read_text())["protection"] == NO_PROTECTION
    assert f"tee, {NO_PROTECTION}: whoever hosts an enclave can read every update" in undisturbed["privacy"]
    said = hansa("status", run, cwd=place).stdout
    assert f"enclaves  {NO_PROTECTION}" in said
    assert "its enclave is attested" in said
    assert result(hansa("status", run, "--json", cwd=place))["protection"] == NO_PROTECTION
    explained = hansa("explain", DIGITS, *TEE[:2], cwd=place).stdout
    assert f"But they are {NO_PROTECTION}." in explained
    assert "each member of its round" not in explained
    assert NO_PROTECTION in hansa("check", DIGITS, *TEE[:2], cwd=place).stdout


def test_its_audit_verifies_every_quote_again(place: Path, undisturbed: dict[str, Any]) -> None:
    done = hansa("audit", undisturbed["run"], cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert NO_PROTECTION in done.stdout


def test_a_killed_run_goes_on_with_other_enclaves(place: Path, undisturbed: dict[str, Any]) -> None:
    generator, out = random.Random(5), ("--out", "killed", "--json")
    for n in range(2):
        at = generator.randrange(1, undisturbed["effects"] // 2)
        resume = ("--resume",) * (n > 0)
        done = driven(at, signal.SIGKILL, "run", DIGITS, *TEE, *out, *resume, cwd=place)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
    again = result(hansa("run", DIGITS, *TEE, *out, "--resume", cwd=place))
    assert again["rounds"] == 3
    assert again["accuracy"]["joint"] > again["accuracy"]["fedavg_unprotected"]
    audited = hansa("audit", "killed", cwd=place)
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_a_simulation_has_no_processors(place: Path) -> None:
    pinned = "tee.accept={root = 'intel', enclaves = ['" + "ab" * 32 + "']}"
    done = hansa("run", DIGITS, *TEE, "--set", pinned, cwd=place)
    assert done.returncode == 2
    assert "`hansa run` simulates its enclaves" in done.stderr
