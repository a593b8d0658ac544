"""Contract and specification say the same, whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Federation

SETTINGS = settings(
    max_examples=3,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("start", range(2))
def test_contract_and_specification_agree(start: int) -> None:
    run_state_machine_as_test(seed(start)(type(f"Federation{start}", (Federation,), {})), settings=SETTINGS)
