"""`secagg` where several conspire, or one of several key centres or servers turns on its colleagues."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.adversary.hostile import available, findings, outcomes
from tests.adversary.test_bad_members import motion
from tests.adversary.test_sums_attacks import (
    at,
    bent,
    by_id,
    record,
    recorded,
    with_scheme,
    word,
    wrong_half,
)
from tests.sums import published_primes, summed, until_final  # noqa: F401, a fixture
from tests.tiny import LENGTH, Tiny, TinyTrainer

from hansa import encoding, errors
from hansa.crypto import double_trapdoor as dt
from hansa.crypto import kahe
from hansa.node import answers
from hansa.node.released import halves_of
from hansa.ports import Half
from hansa.protocol import secagg
from hansa.protocol.timing import unpack_meta
from hansa.records import AggregationTerms, Motion, Outcome, Phase, RecordKind, Update

SERVER, CENTRE = 5, 6


@pytest.fixture(scope="module")
def whole() -> Tiny:
    """One round in which everybody takes part."""
    made = summed(rounds=1)
    made.run()
    return made


# members and verifiers


@pytest.mark.parametrize("holder", [SERVER, CENTRE])
def test_a_quorum_that_takes_a_copied_upload_into_v_gets_no_half(holder: int) -> None:
    """Member 1 sends member 0's ciphertexts of round 1 as its own; the others, and who leads, look away.

    The sum of keys, less their own, would be that of member 0's mask of round 1, which lies in the store.
    """
    nodes: list[Any] = []

    def bend(fields: list[Any], wires: Any, tools: Any) -> Any:
        if tools.state.round == 1:
            return fields
        stolen = nodes[0].world.journal.get(1, "blob/0")
        return at(fields, 6, encoding.decode(stolen)[6])

    made = summed(rounds=2, worlds={1: bent(bend)})
    nodes += made.nodes
    until_final(made, 1)
    made.nodes = [n for n in made.nodes if n.me.id != 0]
    for id in (1, 2, 3, 4, SERVER):
        by_id(made, id).world.scheme.check = lambda *_: None
    made.until(Phase.OPEN, 2)
    assert made.state.current.available == frozenset({1, 2, 3, 4})
    view = made.ledger(holder).view()
    honest = by_id(made, holder)
    with pytest.raises(errors.Untrusted, match="proof of knowledge"):
        honest.centre.halve(view)
    assert honest.world.journal.get(2, "half") is None
    made.until(Phase.COMMIT, 3)
    assert outcomes(made) == [Outcome.FINAL, Outcome.BURNED]


def test_updates_of_no_rows_stay_out_and_stop_nobody() -> None:
    """The sum of a cohort of nothing else would be divided by zero."""

    class NoRows(TinyTrainer):
        def train(self, task: Any) -> Any:
            return replace(super().train(task), examples=0)

    made = summed(
        6, rounds=1, trainers={i: NoRows() for i in (3, 4, 5)}, aggregation=AggregationTerms(weight_cap=4)
    )
    made.run()
    assert [unpack_meta(c.meta)[2] for c in made.state.current.commits.values()].count(0) == 3
    assert available(made) == [frozenset({0, 1, 2})]
    assert outcomes(made) == [Outcome.FINAL]
    assert all("no examples" in text for text in findings(made, frozenset({0, 1, 2})))


# one of several key centres or servers


def test_a_standby_cannot_bring_back_a_key_that_a_member_gave_up() -> None:
    """Who stole the old one would read what the member is let in to."""
    made = summed(centres=2, rounds=4)
    until_final(made, 1)
    state, standby = made.state, 7
    parties = secagg.parties(made.terms, state)
    old = secagg.certified(state, parties, 0)
    made.nodes.remove(by_id(made, 0))
    new = encoding.digest(b"another key of member 0, proven to key centre 6")
    record(made, 0, state.round, RecordKind.KEY, new)
    about = secagg.about(RecordKind.CERTIFICATE, 0)
    record(made, 6, state.round, about, new)
    assert secagg.certified(made.state, parties, 0) == old
    until_final(made, 2)
    assert secagg.certified(made.state, parties, 0) == new
    record(made, standby, made.state.round, about, old)
    until_final(made, 3)
    assert secagg.certified(made.state, parties, 0) == new
    assert secagg.certified(made.state, parties, 0, 1) == old


def test_a_key_that_is_recorded_anew_counts_from_the_next_round_on() -> None:
    """Also one that was certified long ago."""
    made = summed(rounds=6)
    until_final(made, 1)
    parties, about = secagg.parties(made.terms, made.state), secagg.about(RecordKind.CERTIFICATE, 0)
    first, second = secagg.certified(made.state, parties, 0), encoding.digest(b"second")
    for author, kind in ((0, RecordKind.KEY), (CENTRE, about)):
        record(made, author, made.state.round, kind, second)
    until_final(made, 2)
    record(made, 0, made.state.round, RecordKind.KEY, first)
    assert secagg.certified(made.state, parties, 0) == second
    until_final(made, 3)
    assert secagg.certified(made.state, parties, 0) == first


def test_a_holder_that_was_excluded_keeps_no_colleague_from_answering() -> None:
    """It gives its word for an opening that there is not, round after round."""
    made = summed(servers=2, rounds=1, silent=frozenset({5}))
    for round in (1, 2):
        made.until(Phase.OPEN, round)
        made.store.put_at(answers.place(made.state, 5), word(made, 5, 5, bytes(32)))
        if round == 1:
            made.until(Phase.COMMIT, 2)
            made.ledger().submit(motion(made, Motion.EXCLUDE, made.parties[5].address, range(5)))
    made.run()
    assert outcomes(made) == [Outcome.BURNED, Outcome.FINAL]
    assert recorded(made, RecordKind.REFUSAL, 6) == [1]


def test_an_admission_that_does_not_open_keeps_nobody_out_and_blames_nobody() -> None:
    """The first server was wrong in round 1, and lets a member in to its colleague's half with a key made up."""

    def admit(inner: Any, state: Any, member: int, half: Any, fetch: Any) -> bytes:
        (_, right) = (d for i in (5, 6) for _, d in state.recorded[RecordKind.OPENING, i])
        fields = encoding.decode(inner.admit(state, member, Half(6, fetch(right)), fetch))
        return encoding.encode(at(fields, 4, bytes(len(fields[4]))))

    made = summed(servers=2, rounds=8, worlds={5: with_scheme(halve=wrong_half, admit=admit)})
    sleeper = by_id(made, 4)
    made.nodes.remove(sleeper)
    until_final(made, 1)
    made.nodes.append(sleeper)
    until_final(made, 2)
    assert recorded(made, secagg.about(RecordKind.READMISSION, 4), 5, 6) == [1, 1]
    assert sleeper.openings.standing(made.state)
    assert 4 in made.state.model_set
    assert not any("id 6 is at fault" in text for text in sleeper.findings)


def test_a_half_of_a_key_that_the_member_gave_up_is_nobodys_fault(whole: Tiny) -> None:
    state, reader = whole.state, by_id(whole, 0)
    scheme = replace_key(reader.world.scheme)
    halves = halves_of(whole.terms, state, 1, 0, reader.blobs.get)
    with pytest.raises(errors.Unavailable, match="not sealed to this member"):
        scheme.secret(state, 1, halves, reader.blobs.get)


def replace_key(scheme: Any) -> Any:
    """The scheme of the same member with another key file."""
    return type(scheme)(scheme._id, bytes(range(32)), scheme._entropy, scheme._limits, scheme._terms)


# bytes of key centres and servers


@pytest.mark.parametrize("digest", [2**62, -1, [0] * 32, "x" * 32, bytes(31)])
def test_a_set_up_whose_digests_are_none_is_refused(digest: Any, whole: Tiny) -> None:
    """`bytes` of a number are as many zeros."""
    scheme, state = by_id(whole, 0).world.scheme, whole.state
    setup = secagg.setup(state, secagg.parties(whole.terms, state))
    fields = encoding.decode(whole.store.get(setup, limit=10**6))
    bent = encoding.encode([*fields[:3], [[1, digest, fields[3][0][2]], fields[3][1]]])
    with pytest.raises(errors.Untrusted, match="malformed"):
        scheme.references(bent)


def test_a_set_up_with_shorter_exponents_than_the_terms_say_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its parameters are good ones, for weaker keys than the members agreed to."""
    short = dt.set_up
    monkeypatch.setattr(dt, "set_up", lambda bits, entropy, mode: short(bits, entropy, "short"))
    with pytest.raises(errors.Untrusted, match="exponents of 256 bits, while the terms say full"):
        summed(secagg={"exponents": "full"})


def test_full_exponents_are_made_and_taken_where_the_terms_say_so() -> None:
    made = summed(secagg={"exponents": "full"}, rounds=1)
    made.run()
    assert outcomes(made) == [Outcome.FINAL]


@pytest.mark.parametrize("author", [SERVER, CENTRE])
def test_a_half_of_millions_of_items_is_not_even_parsed(
    author: int, whole: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte of it would become an object of many."""
    scheme, state = by_id(whole, 0).world.scheme, whole.state
    half = whole.store.get(dict(state.recorded[RecordKind.OPENING, author])[1], limit=10**6)
    assert scheme.check_half(state, 1, Half(author, half))
    empty = encoding.encode(at(encoding.decode(half), 6, []))
    place, items = empty.index(b"\x80"), 5_000_000
    bomb = empty[:place] + b"\x9a" + items.to_bytes(4, "big") + b"\x80" * items + empty[place + 1 :]
    monkeypatch.setattr(encoding, "_is_tagged", lambda data: pytest.fail("it is parsed"))
    with pytest.raises(errors.Untrusted, match="too long"):
        scheme.check_half(state, 1, Half(author, bomb))


# randomness


def test_no_secret_serves_for_two_masks_where_randomness_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart from a copy of a machine: other values in the same round, and another round."""
    drawn: list[bytes] = []
    honest = kahe.draw_secret
    monkeypatch.setattr(kahe, "draw_secret", lambda e: drawn.append((s := honest(e)).tobytes()) or s)
    made = summed(rounds=1)
    member = by_id(made, 0)
    scheme, state, fetch = member.world.scheme, made.state, member.blobs.get
    scheme._entropy = lambda label, n: bytes(n)
    update = Update(
        federation=state.domain, round=1, member=0, version=0, base=state.model, examples=1, millis=1, timestamp=0,
        length=LENGTH, values=np.arange(LENGTH, dtype=np.int32), indices=None,
    )  # fmt: skip
    first = scheme.seal(state, update, fetch)
    assert scheme.seal(state, update, fetch) == first
    scheme.seal(state, replace(update, values=update.values + 1), fetch)
    scheme.seal(replace(state, round=2), update, fetch)
    assert len(set(drawn)) == 3
