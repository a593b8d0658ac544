"""Contract and specification say the same, whatever happens."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Federation


def test_contract_and_specification_agree() -> None:
    run_state_machine_as_test(
        Federation,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
