"""`tee` over the uploads of `secagg` among real nodes: what enclaves open, for whom, and what their hosts try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
from tests import enclaved, tiny
from tests.enclaves import Threaded
from tests.sums import inner, published_primes, summed, until_final  # noqa: F401, a fixture
from tests.tiny import Tiny

from hansa import encoding, errors
from hansa.app import TrainResult, TrainTask
from hansa.enclave.messages import Code
from hansa.node.centre import Centre
from hansa.node.enclosure import Rejected
from hansa.node.inner import Inner
from hansa.node.released import halves_of
from hansa.ports import Delegating
from hansa.protocol import attested, secagg, tee
from hansa.protocol.model import to_arrays
from hansa.protocol.tee import Manifest
from hansa.records import AggregationTerms, GovernanceTerms, Phase, RecordKind, SelectionTerms, Training
from hansa.stores import objects

FIRST, STANDBY, CENTRE = 5, 6, 7
"""Ids of two servers and a key centre after five members."""

Make = Callable[..., Tiny]


@pytest.fixture(scope="module")
def federation() -> Iterator[Make]:
    """Makes federations, and ends their enclaves."""
    every: list[Tiny] = []

    def make(*args: Any, **given: Any) -> Tiny:
        every.append(inner(*args, **given))
        return every[-1]

    yield make
    for made in every:
        enclaved.close(made)


def part(made: Tiny, id: int) -> Inner:
    found = next(n for n in made.nodes if n.me.id == id).enclosed
    assert isinstance(found, Inner)
    return found


def delivered(made: Tiny, round: int) -> list[int]:
    return sorted(secagg.deliveries(made.terms, made.state, round))


# the same model


@pytest.mark.parametrize("mode", ["masked", "direct"])
def test_the_models_are_those_of_secagg_and_of_plaintext_bit_for_bit(federation: Make, mode: str) -> None:
    made = federation(secagg={"mode": mode})
    made.run()
    assert made.state.phase is Phase.STOPPED
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


def test_a_clipped_mean_is_that_of_plaintext_too(federation: Make) -> None:
    given: dict[str, Any] = {
        "aggregation": AggregationTerms(rule="clipped-mean", clip_norm=0.3, weight_cap=1)
    }
    made = federation(**given)
    made.run()
    plain = tiny.tiny(
        training=Training(rounds=3, min_members=3, deadline=100),
        selection=SelectionTerms(rule="none"),
        govern=GovernanceTerms(),
        **given,
    )
    plain.run()
    assert made.state.models == plain.state.models


# who reads what


@dataclass(frozen=True)
class Opening:
    """A round whose halves are given, before anybody voted: the standby's enclave has taken nothing of it yet."""

    made: Tiny
    part: Inner
    manifest: Manifest
    signatures: tee.Signatures

    @property
    def asked(self) -> tuple[bytes, bytes]:
        assert self.manifest.summed is not None
        get = self.part.blobs.get
        return get(self.manifest.summed.opening), get(self.manifest.summed.setup)

    @property
    def enclave(self) -> Threaded:
        assert self.part._hosting is not None
        return cast(Threaded, self.part._hosting._enclosure)

    def halves(self) -> dict[int, bytes]:
        return {side: blobs[0] for side, blobs in self.part._halves(self.made.state).items()}

    def sums(self) -> tuple[Any, ...]:
        return cast(Delegating, self.part.world.scheme).masked(self.made.state, self.part.blobs.get)

    def signed(self, manifest: Manifest) -> tee.Signatures:
        """By a quorum of members that sign anything."""
        data = encoding.message_bytes(self.made.state.domain, "Manifest", manifest.round, manifest.digest)
        return tuple((id, self.made.parties[id].sign(data)) for id in range(4))

    def start(self) -> None:
        self.enclave.start(self.manifest, self.signatures)
        self.enclave.opening(*self.asked)

    def finish(self) -> Any:
        for side, blob in self.halves().items():
            self.enclave.half(side, blob)
        for k, wire in enumerate(self.sums()):
            self.enclave.masked(k, wire)
        return self.enclave.finish()


def opening_of(made: Tiny) -> Opening:
    while made.state.phase is not Phase.OPEN or not delivered(made, made.state.round):
        assert made.advance()
    found, state = part(made, STANDBY), made.state
    manifest = attested.manifest(made.terms, state, found.known(state))
    return Opening(made, found, manifest, found._signatures(state))


@pytest.fixture(scope="module")
def following(federation: Make) -> Make:
    """The opening of the next round of one federation, whose enclaves live on."""
    made = federation(5, servers=2, rounds=40)

    def following() -> Opening:
        until_final(made, made.state.version + 1)
        return opening_of(made)

    return cast(Make, following)


def test_no_member_can_open_the_halves_and_the_enclaves_can(following: Any) -> None:
    it = following()
    state, get = it.made.state, it.part.blobs.get
    asked = secagg.decode_opening(it.asked[0])
    member = it.made.nodes[0].world.scheme
    halves = halves_of(it.made.terms, state, state.round, 0, get)
    with pytest.raises(errors.Unavailable, match="not sealed to this member"):
        member.open(state, asked, halves, get)
    enclaves = {tee.reader_id(FIRST), tee.reader_id(STANDBY)}
    assert [member.check_half(state, state.round, half) for half in halves] == [enclaves, enclaves]


def test_key_centre_and_servers_cannot_read_what_enclaves_opened(following: Any) -> None:
    it = following()
    (digest,) = secagg.deliveries(it.made.terms, it.made.state, it.made.state.round).values()
    delivery = attested.read_delivery(it.part.blobs.get(digest))
    assert [id for id, _ in delivery.manifest.readers] == list(range(5))
    for id in (FIRST, STANDBY, CENTRE):
        with pytest.raises(errors.Untrusted):
            part(it.made, id)._unpacked(delivery, FIRST)
    assert part(it.made, 0)._unpacked(delivery, FIRST).sums[0] is not None


# hostile hosts


def refused(code: Code, call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(Rejected) as e:
        call(*args)
    assert e.value.code == code


def test_two_enclaves_open_the_same(following: Any) -> None:
    it = following()
    it.start()
    output = it.finish()
    (digest,) = secagg.deliveries(it.made.terms, it.made.state, it.made.state.round).values()
    other = attested.read_delivery(it.part.blobs.get(digest))
    assert output.result.result == other.result.result
    assert output.result.sealed != other.result.sealed
    assert it.enclave.finish() == output


def test_a_manifest_without_a_quorum_or_for_something_else_is_refused(following: Any) -> None:
    it = following()
    manifest, summed_ = it.manifest, it.manifest.summed
    refused(Code.MANIFEST, it.enclave.start, manifest, it.signatures[:-1])
    for other in (
        replace(manifest, base=bytes(32)),
        replace(manifest, summed=replace(summed_, opening=bytes(32))),
        replace(manifest, summed=replace(summed_, seed=bytes(32))),
        replace(manifest, readers=((0, it.part.world.entropy("own", 32)),)),
    ):
        refused(Code.MANIFEST, it.enclave.start, other, it.signatures)
    # Nor one of single updates, whoever signed it.
    plain = replace(manifest, summed=None)
    refused(Code.MANIFEST, it.enclave.start, plain, it.signed(plain))
    it.start()
    it.finish()


def test_a_second_opening_of_a_round_is_refused_even_if_signed(following: Any) -> None:
    it = following()
    it.start()
    other = replace(it.manifest, summed=replace(it.manifest.summed, opening=bytes(32)))
    refused(Code.ROUND, it.enclave.start, other, it.signed(other))
    it.finish()
    refused(Code.ROUND, it.enclave.start, other, it.signed(other))


@pytest.mark.parametrize("wrong", ["base", "round", "members", "least"])
def test_an_opening_about_something_else_than_the_manifest_is_refused(following: Any, wrong: str) -> None:
    it = following()
    opening = secagg.decode_opening(it.asked[0])
    (group,) = opening.cohorts
    other = {
        "base": lambda: replace(opening, base=bytes(32)),
        "round": lambda: replace(opening, round=opening.round - 1),
        "members": lambda: replace(opening, cohorts=(replace(group, members=group.members[1:]),)),
        "least": lambda: replace(
            opening,
            cohorts=(
                replace(group, members=group.members[:1]),
                replace(group, members=group.members[1:]),
            ),
        ),
    }[wrong]()
    data = secagg.encode_opening(other)
    summed_ = replace(it.manifest.summed, opening=encoding.digest(data))
    manifest = replace(it.manifest, summed=summed_)
    it.enclave.start(manifest, it.signed(manifest))
    refused(Code.DIGEST, it.enclave.opening, it.asked[0], it.asked[1])
    refused(Code.MANIFEST, it.enclave.opening, data, it.asked[1])


def test_halves_of_another_opening_and_altered_ones_are_refused(following: Any) -> None:
    before = following().halves()
    it = following()
    it.start()
    right = it.halves()
    for side in (1, 2):
        refused(Code.HALF, it.enclave.half, side, before[side])
        refused(Code.HALF, it.enclave.half, 3 - side, right[side])
        refused(Code.HALF, it.enclave.half, side, right[side][:-1] + bytes([right[side][-1] ^ 1]))
    refused(Code.HALF, it.enclave.half, 0, right[1])
    refused(Code.INCOMPLETE, it.enclave.finish)
    it.finish()


def test_a_half_of_other_exponents_is_refused_although_it_is_sealed_right(
    following: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key centre itself lies: its proof does not hold, whatever it is sealed to."""
    it = following()
    state, node = it.made.state, next(n for n in it.made.nodes if n.me.id == CENTRE)
    scheme = node.world.scheme
    asked, enclaves = secagg.decode_opening(it.asked[0]), part(it.made, CENTRE).enclaves(state)
    real = scheme._own_half(state, node.blobs.get)
    monkeypatch.setattr(scheme, "_own_half", lambda *_: replace(real, exponent=real.exponent + 1))
    lie = scheme.halve(state, asked, frozenset(), node.blobs.get, enclaves)
    it.start()
    refused(Code.HALF, it.enclave.half, 1, lie)
    it.finish()


def test_other_masked_sums_are_refused_and_nothing_comes_out_before_all_are_there(following: Any) -> None:
    it = following()
    it.start()
    for side, blob in it.halves().items():
        it.enclave.half(side, blob)
    (wire,) = it.sums()
    refused(Code.DIGEST, it.enclave.masked, 0, bytes(len(wire)))
    refused(Code.DIGEST, it.enclave.masked, 0, b"")
    refused(Code.INCOMPLETE, it.enclave.finish)
    it.enclave.masked(0, wire)
    it.enclave.finish()
    # The opening was taken already; out of turn ends the enclave. Last in the module's order for it.
    refused(Code.ORDER, it.enclave.opening, *it.asked)


# somebody is missing, or lies


def test_the_standby_enclave_opens_when_the_first_server_vanishes(federation: Make) -> None:
    made = federation(5, servers=2, rounds=2)
    made.until(Phase.OPEN)
    made.nodes = [n for n in made.nodes if n.me.id != FIRST]
    until_final(made, 1)
    assert delivered(made, 1) == [STANDBY]
    assert made.state.burned == ()


def test_the_standby_enclave_opens_when_that_of_the_first_server_dies(federation: Make) -> None:
    made = federation(5, servers=2, rounds=2)
    made.until(Phase.VERIFY)
    part(made, FIRST).close()
    until_final(made, 1)
    assert delivered(made, 1) == [STANDBY]
    until_final(made, 2)
    assert made.state.version == 2


def test_what_no_attested_enclave_signed_is_not_taken(
    federation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server records a delivery of its own making; members take the standby's."""
    made = federation(5, servers=2, rounds=1)
    liar = part(made, FIRST)
    honest = liar._sum_up

    def forged(state: Any) -> bytes:
        delivery = attested.read_delivery(liar.blobs.get(honest(state)))
        altered = replace(delivery, result=replace(delivery.result, result=bytes(32)))
        data = encoding.encode(altered)
        liar.blobs.publish(state, data)
        return encoding.digest(data)

    monkeypatch.setattr(liar, "_sum_up", forged)
    made.run()
    assert (made.state.version, made.state.burned) == (1, ())
    assert delivered(made, 1) == [FIRST, STANDBY]
    assert any("not signed by the enclave" in text for text in made.nodes[0].findings)


def test_no_half_is_given_while_no_enclave_is_attested(
    federation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = federation(5, rounds=1)
    monkeypatch.setattr(Inner, "known", lambda *_: {})
    made.until(Phase.COMMIT)
    centre = next(n for n in made.nodes if n.me.id == 6).centre
    assert isinstance(centre, Centre)
    with pytest.raises(errors.Unavailable, match="no enclave is attested"):
        part(made, 6).enclaves(made.state)


class Poisoner(tiny.TinyTrainer):
    """Sends what makes the model worse, within the bounds of a value."""

    def train(self, task: TrainTask) -> TrainResult:
        return TrainResult({"w": task.base["w"] + np.float32(40.0)}, 10)


def test_a_poisoner_is_voted_down_and_training_goes_on_in_cohorts(federation: Make) -> None:
    made = federation(8, rounds=4, trainers={2: Poisoner()})
    while made.state.version < 2:
        assert made.advance()
    assert made.state.burned[0] == 1
    assert made.state.suspicion[2] == max(made.state.suspicion.values()) >= 2
    honest = made.nodes[0].openings
    assert honest is not None
    assert np.abs(to_arrays(honest.standing(made.state).model)["w"] - 1).max() < 0.5


# who comes, goes and comes back


def test_who_missed_rounds_trains_on_without_asking_anybody(federation: Make) -> None:
    made = federation(5, rounds=8)
    sleeper = next(n for n in made.nodes if n.me.id == 4)
    until_final(made, 2)
    made.nodes.remove(sleeper)
    until_final(made, 5)
    assert 4 not in made.state.model_set
    made.nodes.append(sleeper)
    made.run(1000)
    assert made.state.version == 8
    assert 4 in made.state.model_set
    kinds = {kind % 256 for kind, _ in made.state.recorded}
    assert not kinds & {RecordKind.REENTRY, RecordKind.READMISSION}
    assert sleeper.openings.standing(made.state).digest == made.state.model


def test_a_newcomer_gets_the_model_sealed_when_its_first_round_opens(federation: Make) -> None:
    made = federation(4, rounds=6, newcomers=1)
    until_final(made, 2)
    made.ledger().submit(tiny.join(made, made.parties[6]))
    made.nodes.append(enclaved.host(made, 6))
    made.run(1500)
    assert made.state.version == 6
    assert 6 in made.state.model_set
    assert made.store.list(f"welcome/{made.state.domain.hex()}")
    # It was sealed to members only: the server reads no model, whoever releases it.
    with pytest.raises((errors.Unavailable, errors.Untrusted)):
        part(made, 4).standing(made.state)


def test_a_reader_of_the_last_round_reads_the_last_model_from_the_store(federation: Make) -> None:
    made = federation(5, rounds=2)
    until_final(made, 1)
    gone = next(n for n in made.nodes if n.me.id == 4)
    made.nodes.remove(gone)
    made.run()
    assert any([n.step() for n in made.nodes]), "the last model is released"
    assert 4 not in made.state.model_set
    assert secagg.opens(made.terms, made.state, 4)
    fresh = tiny.moved(gone)
    assert fresh.openings.standing(made.state).digest == made.state.model


def test_old_rounds_are_forgotten_and_what_opens_the_standing_model_is_kept(federation: Make) -> None:
    made = federation(5, rounds=6, retain_rounds=1)
    until_final(made, 1)
    (first,) = secagg.deliveries(made.terms, made.state, 1).values()
    sealed = attested.sealed_digest(made.store.get(first, limit=1 << 20))
    made.run()
    assert any([n.step() for n in made.nodes]), "the last model is released"
    assert not made.store.has(first)
    assert not made.store.has(sealed)
    fresh = tiny.moved(made.nodes[0], kept=objects.create("memory:///"))
    assert fresh.openings.standing(made.state).digest == made.state.model


def test_what_opens_the_standing_model_outlasts_rounds_that_fail(federation: Make) -> None:
    made = federation(5, rounds=6, retain_rounds=1)
    until_final(made, 1)
    (digest,) = secagg.deliveries(made.terms, made.state, 1).values()
    sealed = attested.sealed_digest(made.store.get(digest, limit=1 << 20))
    made.nodes = [n for n in made.nodes if n.me.id > 2]
    while made.state.round < 4:
        assert made.advance()
    for _ in range(2):
        made.advance()
    assert made.state.version == 1
    assert made.store.has(digest)
    assert made.store.has(sealed)
