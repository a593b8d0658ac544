from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa import encoding, errors
from hansa.protocol import messages as msg
from hansa.protocol import wire

D, S = st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)
N = st.integers(0, 2**64 - 1)
ITEMS = {
    "commit": st.builds(msg.Commit, N, N, D, st.integers(0, 2**256 - 1), S),
    "reveal": st.builds(msg.Reveal, N, D),
    "availability": st.builds(msg.Availability, N, st.integers(0, 2**1024 - 1), S),
    "ballot": st.builds(msg.Ballot, N, D, S),
    "opening": st.builds(msg.Opening, N, N, st.integers(0, 2**256 - 1), st.booleans(), D, D),
    "precommit": st.builds(msg.Precommit, N, D, S),
    "proposal": st.builds(msg.Propose, N, N, D, D, S),
    "vote": st.builds(msg.Vote, N, st.booleans(), D, S),
    "opened": st.builds(msg.OpeningVote, N, D, S),
}
ANY = st.sampled_from(sorted(ITEMS)).flatmap(lambda k: st.tuples(st.just(k), ITEMS[k]))


def test_every_kind_is_tried():
    assert ITEMS.keys() == wire.KINDS.keys()


@given(ANY)
def test_a_message_is_read_as_written(made):
    kind, item = made
    data = wire.encode_item(item)
    assert len(data) <= wire.ITEM_LIMIT
    assert wire.decode_item(kind, data) == item


@given(ANY, st.integers(0, 6), st.sampled_from([None, True, -1, 2**64, b"", bytes(31), "x", [], 1.0]))
def test_a_field_of_a_wrong_type_or_size_is_named(made, position, wrong):
    kind, item = made
    fields = encoding.decode(wire.encode_item(item))
    names = [f.name for f in dataclasses.fields(item)]
    at = position % len(fields)
    if wrong is True and names[at] in ("approve", "stop"):
        return
    if wrong == 2**64:
        fields[at] = bytes(129)
    else:
        fields[at] = wrong
    with pytest.raises(errors.Untrusted, match=names[at]) as caught:
        wire.decode_item(kind, encoding.encode(fields))
    assert len(caught.value.digest) == 32


@given(st.sampled_from(sorted(ITEMS)), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(kind, data):
    try:
        item = wire.decode_item(kind, data)
    except errors.Untrusted:
        return
    assert wire.encode_item(item) == data


SAME_SHAPE = [{"commit", "proposal"}, {"ballot", "precommit", "opened"}]
"""Kinds that only their EIP-712 type tells apart, which is signed."""


@given(ANY)
def test_a_message_of_another_kind_is_refused(made):
    kind, item = made
    for other in wire.KINDS.keys() - {kind}:
        if not any({kind, other} <= shape for shape in SAME_SHAPE):
            with pytest.raises(errors.Untrusted):
                wire.decode_item(other, wire.encode_item(item))


def test_a_message_over_the_limit_is_not_parsed():
    with pytest.raises(errors.Untrusted, match="too long"):
        wire.decode_item("reveal", encoding.encode([0, bytes(wire.ITEM_LIMIT)]))


@pytest.mark.parametrize("kind", sorted(wire.KINDS.keys() - {"proposal"}))
def test_a_batch_carries_its_round_and_its_items(kind):
    call = wire.batch_of(kind, 7, 2, ("item",))
    assert call.round == 7
    assert call.items == ("item",)
    assert getattr(call, "attempt", 2) == 2


def test_a_proposal_travels_alone():
    proposal = msg.Propose(1, 0, bytes(32), bytes(32), bytes(64))
    assert wire.batch_of("proposal", 1, 0, (proposal,)) is proposal
