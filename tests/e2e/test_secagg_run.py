"""`hansa run examples/digits --set federation.scheme=secagg`: what a user gets, and what it equals."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.commands import driven, hansa, result

from hansa.runfolder import read_record

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
FAST = ("--rounds", "2", "--set", "secagg.modulus=2048")
SECAGG = ("--set", "federation.scheme=secagg", *FAST)
PLAINTEXT = (
    "--rounds", "2",
    "--set", "selection.rule=none",
    "--set", "aggregation.rule=clipped-mean",
    "--set", "aggregation.clip_norm=1.5",
    "--set", "aggregation.weight_cap=1",
    "--set", "training.min_members=4",
)  # fmt: skip
"""The same job with the same rule and weights, in which everybody sees every update."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, Any]:
    done = driven(0, 0, "run", DIGITS, *SECAGG, "--json", cwd=place)
    return result(done) | {"effects": int((place / "effects").read_text())}


def test_its_model_is_that_of_plaintext_bit_for_bit(place: Path, undisturbed: dict[str, Any]) -> None:
    plain = result(hansa("run", DIGITS, *PLAINTEXT, "--json", cwd=place))
    assert undisturbed["scheme"] == "secagg"
    assert undisturbed["model_digest"] == plain["model_digest"]
    assert undisturbed["accuracy"]["joint"] > undisturbed["accuracy"]["fedavg_unprotected"]


def test_two_of_ten_vanish_in_every_round_and_the_model_is_the_same(place: Path) -> None:
    ten = ("--set", "simulation.members=10", "--json")
    there = result(hansa("run", DIGITS, *SECAGG, *ten, "--out", "ten", cwd=place))
    gone = ("--set", "simulation.vanishing=2", "--out", "eight")
    vanished = result(hansa("run", DIGITS, *SECAGG, *ten, *gone, cwd=place))
    assert (vanished["rounds"], vanished["failed_rounds"]) == (2, 0)
    assert vanished["model_digest"] == there["model_digest"]


def test_a_killed_run_goes_on_to_the_same_model(place: Path, undisturbed: dict[str, Any]) -> None:
    generator, out = random.Random(4), ("--out", "killed", "--json")
    for n in range(2):
        at = generator.randrange(1, undisturbed["effects"] // 2)
        resume = ("--resume",) * (n > 0)
        done = driven(at, signal.SIGKILL, "run", DIGITS, *SECAGG, *out, *resume, cwd=place)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
    again = result(hansa("run", DIGITS, *SECAGG, *out, "--resume", cwd=place))
    assert again["model_digest"] == undisturbed["model_digest"]


def test_the_terms_name_the_key_centre_and_the_servers(place: Path, undisturbed: dict[str, Any]) -> None:
    terms = read_record(place / undisturbed["run"]).terms
    assert terms.secagg is not None
    assert (len(terms.secagg.key_centres), len(terms.govern.seats)) == (1, 2)
