"""Contract and specification say the same, whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Federation

SETTINGS = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # Shrinking takes longer than CI may; the failing steps are printed as they are.
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("start", range(4))
def test_contract_and_specification_agree(start: int) -> None:
    run_state_machine_as_test(seed(start)(type(f"Federation{start}", (Federation,), {})), settings=SETTINGS)
