"""The second environment holds the versions that scheme mpc is pinned to."""

from __future__ import annotations

from importlib.metadata import version


def test_spu_and_numpy_are_the_pinned_ones() -> None:
    assert version("spu") == "0.9.5"
    assert version("numpy").startswith("1.")
