"""The plan of a training script: what is opened, and what a step is expected to cost. Needs no SPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.test_mpc_network import BARE, NOISED, training
from typer.testing import CliRunner

from hansa.cli.main import app
from hansa.mpc import Dense, ReLU, Stop
from hansa.mpc.plan import plan
from hansa.mpc.training import load_training

EXAMPLE = Path("examples/hospitals-mpc")


def test_nothing_is_revealed_by_default() -> None:
    found = plan(training([Dense(6), ReLU(), Dense(3)]), rows=160)
    assert found.boundaries == ()
    assert found.epsilon is None
    assert found.steps == 30


def test_each_reveal_stands_in_the_plan_with_its_number_of_times() -> None:
    found = plan(training([Dense(6), ReLU(), NOISED, Dense(3, at=2)], norm=3.0), rows=160)
    assert [(b.variable, b.to, b.times, b.protected) for b in found.boundaries] == [
        ("shown", 2, 30, True),
        ("dense4.gradient", 2, 30, True),
    ]
    leaky = plan(
        training([Dense(6), ReLU(), BARE, Dense(3, at=2)], labels=BARE, accept_leakage=True), rows=160
    )
    assert [(b.variable, b.times, b.protected) for b in leaky.boundaries] == [
        ("y", 1, False),
        ("dense4.enters", 30, False),
    ]
    assert "0.94" in leaky.boundaries[1].words
    stops = plan(training([Dense(3)], stop=Stop(below=0.1)), rows=160)
    assert [(b.variable, b.to, b.times) for b in stops.boundaries] == [("stop", -1, 3)]


def test_costs_follow_the_measured_ones() -> None:
    """Digits 64-128-64-10, batch 128, ABY3: what benchmarks/mpc.py measured for a step."""
    digits = training([Dense(128), ReLU(), Dense(64), ReLU(), Dense(10)], inputs=(64,), batch=128, bound=4.0)
    cost = plan(digits).cost
    assert cost is not None
    assert cost.sends == pytest.approx(177, rel=0.1)
    assert cost.bytes == pytest.approx(10.8e6, rel=0.1)
    other = training([Dense(3)], protocol="CHEETAH")
    assert plan(other).cost is None


def test_the_example_needs_far_less_than_all_ciphertext() -> None:
    default, secret = (plan(load_training(EXAMPLE / f"{name}.py")) for name in ("training", "all_secret"))
    assert default.cost
    assert secret.cost
    assert default.boundaries == ()
    assert secret.cost.sends > 7 * default.cost.sends
    assert secret.cost.bytes > 2 * default.cost.bytes


@pytest.mark.parametrize("name", ["training", "all_secret", "bottleneck", "as_published"])
def test_the_command_prints_it(name: str) -> None:
    script = str(EXAMPLE / f"{name}.py")
    done = CliRunner().invoke(app, ["mpc", "plan", script, "--rows", "593"])
    assert done.exit_code == 0, done.output
    assert ("nothing, to no party" in done.output) == (name in ("training", "all_secret"))
    assert ("epsilon" in done.output) == (name == "bottleneck")
    found = json.loads(CliRunner().invoke(app, ["mpc", "plan", script, "--json"]).output)
    assert {line["name"] for line in found["layers"]} >= {"loss", "reveals and returns"}
    assert bool(found["reveals"]) == (name in ("bottleneck", "as_published"))
