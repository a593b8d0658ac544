"""Updates that are not what they should be: none gets into V, and the round ends as if it had not been sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zstandard
from tests.adversary.hostile import (
    ALL,
    available,
    delta_of,
    faults,
    findings,
    lying,
    outcomes,
    selections,
    without,
)
from tests.tiny import LENGTH, TinyTrainer, tiny

from hansa.protocol import framing
from hansa.protocol.updates import _FIELDS, encode_update
from hansa.records import AggregationTerms, Fault, Limits, Phase, Training

BAD = 2
HONEST = frozenset({0, 1, 3, 4})
ONCE = Training(rounds=1, min_members=4, deadline=100)


@pytest.fixture(scope="module")
def undisturbed():
    """One round in which the hostile member sends nothing."""
    return without(BAD, training=ONCE)


def kept_out(made, undisturbed, word: str) -> None:
    """The bad update went nowhere, its author paid, everybody knows why, the model is the honest one."""
    assert outcomes(made) == [1]
    assert available(made) == [HONEST]
    assert selections(made) == [HONEST]
    assert made.state.model == undisturbed.state.model
    assert faults(made, BAD) == [Fault.WITHHELD_BLOB]
    assert made.state.members[BAD].reputation < min(made.state.members[i].reputation for i in HONEST)
    for text in findings(made, HONEST):
        assert f"member {BAD}" in text
        assert word in text


class Broken(TinyTrainer):
    """Training that went wrong."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def train(self, task):
        result = super().train(task)
        result.values["w"][3] = self.value
        return result


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_training_that_gives_nan_or_infinity_is_never_sent(undisturbed, value):
    made = tiny(trainers={BAD: Broken(value)}, selection=ALL, training=ONCE)
    made.run()
    assert made.state.model == undisturbed.state.model
    assert selections(made) == [HONEST]
    assert "no usable update" in findings(made, {BAD})[0]
    assert made.state.members[BAD].reputation < min(made.state.members[i].reputation for i in HONEST)


def bomb(update) -> bytes:
    body = zstandard.ZstdCompressor().compress(bytes(512 * 1024))
    return packed(update, body)


def silent_bomb(update) -> bytes:
    """A frame that does not say how much it holds."""
    writer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packed(update, writer.compress(bytes(256 * 1024)) + writer.flush())


def packed(update, body: bytes) -> bytes:
    said = {name: getattr(update, name) for name in _FIELDS if hasattr(update, name)}
    header = said | {"count": LENGTH, "sparse": False, "packed": True}
    return framing.pack("hansa/update/1", header, body)


LIES = {
    "too long": (lambda u: delta_of(u, [1] * (LENGTH + 1)), "values"),
    "too short": (lambda u: delta_of(u, [1] * (LENGTH - 1)), "values"),
    "other base": (lambda u: replace(u, base=bytes(32)), "base"),
    "other version": (lambda u: replace(u, version=7), "version"),
    "other round": (lambda u: replace(u, round=u.round + 1), "round"),
    "other member": (lambda u: replace(u, member=0), "member"),
    "other federation": (lambda u: replace(u, federation=b"x" * 32), "federation"),
    "other examples": (lambda u: replace(u, examples=99_999), "examples"),
    "other time": (lambda u: replace(u, millis=1), "millis"),
    "sparse where dense is due": (
        lambda u: replace(u, values=u.values[:1], indices=np.array([0], np.uint32)),
        "sparse",
    ),
    "bytes that are no update": (lambda u: b"\x00\x00\x00\x02{}", "refused"),
    "bytes left over": (lambda u: encode_update(u) + b"\0", "body"),
    "decompression bomb": (bomb, "announces"),
    "decompression bomb that hides its size": (silent_bomb, "announces"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_update_that_differs_from_its_commitment_is_refused(undisturbed, lie):
    say, word = LIES[lie]
    made = tiny(worlds={BAD: lying(say=say)}, selection=ALL, training=ONCE)
    made.run()
    kept_out(made, undisturbed, word)


def test_an_update_from_no_examples_cannot_stop_the_aggregation(undisturbed):
    """Its weight would be 0 of 0: an aggregation that met it would fail at every node."""

    class Empty(TinyTrainer):
        def train(self, task):
            return replace(super().train(task), examples=0)

    made = tiny(trainers={BAD: Empty()}, selection=ALL, training=ONCE)
    made.run()
    kept_out(made, undisturbed, "no examples")


def test_a_sparse_update_cannot_stop_a_rule_that_compares_dense_ones():
    rule = AggregationTerms(rule="median")
    made = tiny(
        worlds={BAD: lying(say=LIES["sparse where dense is due"][0])},
        selection=ALL,
        training=ONCE,
        aggregation=rule,
    )
    made.run()
    kept_out(made, without(BAD, training=ONCE, aggregation=rule), "sparse")


def test_more_than_the_agreed_share_of_values_is_refused():
    training = replace(ONCE, gamma=0.25)
    everything = np.arange(LENGTH, dtype=np.uint32)

    def say(update):
        return replace(update, values=np.full(LENGTH, 9, np.int32), indices=everything)

    made = tiny(worlds={BAD: lying(say=say)}, selection=ALL, training=training)
    made.run()
    kept_out(made, without(BAD, training=training), "too many")


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_flipped_byte_in_what_was_committed_is_refused(undisturbed, at):
    def flip(blob: bytes) -> bytes:
        bent = bytearray(blob)
        bent[at] ^= 1
        return bytes(bent)

    made = tiny(worlds={BAD: lying(bend=flip)}, selection=ALL, training=ONCE)
    made.run()
    kept_out(made, undisturbed, "")


def test_another_members_blob_is_refused(undisturbed):
    """The copycat commits to the digest of a blob that it saw: here its neighbour's, known beforehand."""
    spied = tiny(selection=ALL, training=ONCE)
    spied.until(Phase.BEACON)
    stolen = spied.nodes[0].world.journal.get(1, "blob/0")
    assert stolen is not None
    made = tiny(worlds={BAD: lying(bend=lambda _: stolen)}, selection=ALL, training=ONCE)
    made.run()
    assert made.state.model == undisturbed.state.model
    kept_out(made, undisturbed, "")


def test_a_copied_update_sealed_anew_is_refused(undisturbed):
    spied = tiny(selection=ALL, training=ONCE)
    spied.until(Phase.REVEAL if spied.state.parameters.evaluate else Phase.AGGREGATE)
    copied = spied.nodes[BAD].blobs.update(spied.state, 0)
    made = tiny(worlds={BAD: lying(say=lambda _: copied)}, selection=ALL, training=ONCE)
    made.run()
    kept_out(made, undisturbed, "member")


def test_a_blob_that_never_comes_is_left_out(undisturbed):
    def silent(world):
        class NoPut(type(world.store)):
            def put(self, data, digest=None):
                return world.store.put(b"something else")

        return replace(world, store=NoPut(world.store.place, world.store._backend))

    made = tiny(worlds={BAD: silent}, selection=ALL, training=ONCE)
    made.run()
    kept_out(made, undisturbed, "could not be fetched")


def test_a_blob_of_ten_times_the_allowed_size_is_never_read(undisturbed):
    limits = Limits(blob=4096)

    def capped(world):
        return replace(world, limits=limits)

    def huge(world):
        return lying(bend=lambda blob: blob + bytes(40_960))(world)

    worlds = {i: capped for i in HONEST} | {BAD: huge}
    made = tiny(worlds=worlds, selection=ALL, training=ONCE)
    made.run()
    kept_out(made, undisturbed, "could not be fetched")
    digest = next(e.digest for e in made.chain.events if type(e).__name__ == "Committed" and e.id == BAD)
    assert made.store.has(digest)
    for node in made.nodes:
        assert node.me.id == BAD or not node.world.kept.has(digest)


def test_bad_updates_are_not_selected_by_ballots_either():
    """With selection on, an update that can be opened and is bad is ranked out, round after round."""

    class Poison(TinyTrainer):
        def train(self, task):
            result = super().train(task)
            result.values["w"] -= 5
            return result

    made = tiny(6, trainers={BAD: Poison()}, training=replace(ONCE, rounds=3))
    made.run()
    assert len(selections(made)) == 3
    assert all(BAD not in chosen for chosen in selections(made))
    assert made.state.members[BAD].reputation == min(m.reputation for m in made.state.members.values())


def slow(world):
    return replace(world, duration=lambda examples: examples * 1000)


@pytest.mark.parametrize("rule", ["off", "flag", "reject"])
def test_training_time_out_of_proportion(rule):
    """Only "reject" keeps the update out: a claim of time is no proof."""
    worlds = {i: lambda w: replace(w, duration=lambda n: n) for i in HONEST} | {BAD: slow}
    made = tiny(worlds=worlds, selection=ALL, training=replace(ONCE, time_check=rule))
    made.run()
    assert outcomes(made) == [1]
    rejected = rule == "reject"
    assert (BAD not in selections(made)[0]) is rejected
    assert faults(made, BAD) == ([Fault.WITHHELD_BLOB] if rejected else [])
    flagged = ["out of proportion" in text for text in findings(made, HONEST)]
    assert flagged == [rule != "off"] * 4
