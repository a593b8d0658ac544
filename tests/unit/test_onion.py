from __future__ import annotations

import pytest

from hansa import errors
from hansa.node.onion import Onion
from hansa.protocol.election import hash_forward
from hansa.protocol.state import Member
from hansa.records import Role


def member(onion: bytes, round: int) -> Member:
    return Member(0, bytes(20), bytes(32), onion, round, 1, Role.MEMBER, member=True)


def test_layers_come_off_one_a_round():
    onion = Onion(b"s" * 32, 5)
    known = member(onion.head, 2)
    for round in range(3, 8):
        layer = onion.layer(known, round)
        assert hash_forward(layer, 1) == known.onion
        known = member(layer, round)
    assert known.onion == b"s" * 32


def test_missed_rounds_are_walked_over():
    onion = Onion(b"s" * 32, 9)
    layer = onion.layer(member(onion.head, 0), 4)
    assert hash_forward(layer, 4) == onion.head
    assert hash_forward(layer, 3) != onion.head


def test_a_used_up_onion_and_a_strange_one_are_told_apart():
    onion = Onion(b"s" * 32, 3)
    with pytest.raises(errors.Misconfigured, match="used up"):
        onion.layer(member(onion.head, 0), 4)
    with pytest.raises(errors.Misconfigured, match="another hash onion"):
        onion.layer(member(bytes(32), 0), 1)


def test_an_onion_never_shows_itself():
    assert "73" * 8 not in repr(Onion(b"s" * 32, 3))
