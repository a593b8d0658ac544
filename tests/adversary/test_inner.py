"""`tee` over the uploads of `secagg` among real nodes: what enclaves open, and what they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests import enclaved, tiny
from tests.sums import inner, published_primes, summed, until_final  # noqa: F401, a fixture
from tests.tiny import Tiny

from hansa.records import AggregationTerms, GovernanceTerms, Phase, SelectionTerms, Training

Make = Callable[..., Tiny]


@pytest.fixture
def federation() -> Iterator[Make]:
    """Makes federations, and ends their enclaves."""
    every: list[Tiny] = []

    def make(*args: Any, **given: Any) -> Tiny:
        every.append(inner(*args, **given))
        return every[-1]

    yield make
    for made in every:
        enclaved.close(made)


@pytest.mark.parametrize("mode", ["masked", "direct"])
def test_the_models_are_those_of_secagg_and_of_plaintext_bit_for_bit(federation: Make, mode: str) -> None:
    made = federation(secagg={"mode": mode})
    made.run()
    assert made.state.phase is Phase.STOPPED, [list(n.findings) for n in made.nodes]
    masked = summed(secagg={"mode": mode})
    masked.run()
    plain = tiny.tiny(
        training=Training(rounds=3, min_members=3, deadline=100),
        selection=SelectionTerms(rule="none"),
        aggregation=AggregationTerms(weight_cap=1),
        govern=GovernanceTerms(),
    )
    plain.run()
    assert made.state.models == masked.state.models == plain.state.models
    assert len(set(made.state.models)) == 4
