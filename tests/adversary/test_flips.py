"""A seeded tenth of all single-bit flips of genuine quotes; `make attestation-flips` makes all of them."""

from __future__ import annotations

import random

import pytest
from tests import flips
from tests.quoted import raw

# A flipped serial number may be one that the library of certificates will refuse some day.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


@pytest.mark.parametrize("name", flips.NAMES)
def test_no_flipped_bit_of_a_genuine_quote_is_accepted(name: str) -> None:
    assert not flips.objections(name)
    bits = 8 * len(raw(name)[0])
    drawn = random.Random(name).sample(range(bits), bits // 10)
    assert flips.accepted(name, drawn) == []
