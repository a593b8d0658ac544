"""`tee` among real nodes: who vanishes, who lies, who comes and goes, and what training makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from tests import enclaved, tiny
from tests.adversary.hostile import Wrapped, faults, outcomes
from tests.enclaved import until_final
from tests.tiny import Tiny

from hansa import attestation, encoding, errors
from hansa.attestation import SgxMeasurement
from hansa.attestation.simulated import Simulated
from hansa.crypto import sealing, signatures
from hansa.enclave.program import PROGRAM
from hansa.enclave.providers import simulated_measurement
from hansa.node.daemon import Node
from hansa.node.world import World
from hansa.ports import Sealed
from hansa.protocol import attested
from hansa.protocol import messages as msg
from hansa.protocol.attested import Attestation, Delivery
from hansa.protocol.statements import Statement, report_data
from hansa.protocol.terms import terms_digest
from hansa.records import (
    Accept,
    AggregationTerms,
    Fault,
    GovernanceTerms,
    Motion,
    Outcome,
    Phase,
    RecordKind,
    SelectionTerms,
    Standing,
    Training,
)

FINAL = int(Outcome.FINAL)

Make = Callable[..., Tiny]


@pytest.fixture
def federation() -> Iterator[Make]:
    """Makes federations, and ends their enclaves."""
    every: list[Tiny] = []

    def make(*args: Any, **given: Any) -> Tiny:
        every.append(enclaved.enclaved(*args, **{"hosts": 4, **given}))
        return every[-1]

    yield make
    for made in every:
        enclaved.close(made)


def training(rounds: int = 3, **more: Any) -> Training:
    return Training(rounds=rounds, min_members=3, deadline=100, **more)


def said(made: Tiny, id: int) -> str:
    return "\n".join(next(n for n in made.nodes if n.me.id == id).findings)


def vouchers(made: Tiny, host: int, round: int) -> list[int]:
    number = attested.counted(made.state, RecordKind.VOUCHER, host, round)
    return [
        id for (kind, id), found in made.state.recorded.items() if kind == number and dict(found).get(round)
    ]


# the same model


@pytest.mark.parametrize(
    "rule", ["weighted-mean", "clipped-mean", "median", "trimmed-mean", "krum", "multi-krum"]
)
def test_the_models_are_those_of_plaintext_bit_for_bit(federation: Make, rule: str) -> None:
    given: dict[str, Any] = {
        "training": training(),
        "aggregation": AggregationTerms(rule=rule, **({"clip_norm": 0.5} if rule == "clipped-mean" else {})),
    }
    made = federation(7, **given)
    made.run()
    plain = tiny.tiny(7, selection=SelectionTerms(rule="none"), govern=GovernanceTerms(), **given)
    plain.run()
    assert made.state.phase is Phase.STOPPED
    assert made.state.models == plain.state.models
    assert len(set(made.state.models)) == 4


# somebody is gone


def test_another_host_finishes_where_the_leader_vanished_and_nobody_sends_again(federation: Make) -> None:
    made = federation()
    made.until(Phase.AGGREGATE)
    nodes, sent = list(made.nodes), {id: c.digest for id, c in made.state.current.commits.items()}
    made.nodes = [n for n in nodes if n.me.id != made.state.current.leader]
    until_final(made, 1)
    assert outcomes(made) == [FINAL]
    assert {e.id: e.digest for e in made.chain.events if type(e).__name__ == "Committed"} == sent
    made.nodes = nodes
    made.run()
    assert made.state.version == 3


def test_an_enclave_that_died_unseen_is_attested_anew_in_the_next_round(federation: Make) -> None:
    made = federation()
    dead = made.nodes[0].enclosed
    assert dead is not None
    until_final(made, 1)
    dead.close()
    made.until(Phase.BEACON)
    assert attested.attested_in(made.state, 0, 2) is not None
    made.until(Phase.BEACON, 3)
    assert set(attested.candidates(made.terms, made.state)) == {0, 1, 2, 3}
    made.run()
    assert outcomes(made) == [FINAL] * 3


def test_a_killed_enclave_is_noticed_while_nothing_is_asked_of_it(federation: Make) -> None:
    made = federation()
    hosting = made.nodes[0].enclosed._hosting
    assert hosting is not None
    hosting._enclosure._socket.shutdown(2)
    hosting._enclosure.thread.join(10)
    assert hosting.attested == frozenset()
    made.run()
    assert made.state.version == 3
    assert attested.attested_in(made.state, 0, 1) is not None


def test_all_nodes_and_enclaves_restart_and_one_round_is_lost(federation: Make) -> None:
    made = federation()
    until_final(made, 1)
    made.until(Phase.COMMIT, 2)
    enclaved.close(made)
    made.nodes = [tiny.moved(n) for n in made.nodes]
    made.run(1500)
    assert made.state.version == 3
    assert outcomes(made).count(FINAL) == 3
    assert len(outcomes(made)) == 4


def test_all_nodes_restart_after_every_step_of_a_round(federation: Make) -> None:
    """Members: hosts keep their enclaves, since a round without any cannot end well."""
    made = federation(6, hosts=3)
    while made.state.version < 1:
        members = [n for n in made.nodes if n.me.id >= 3]
        made.nodes = [n for n in made.nodes if n.me.id < 3] + [tiny.moved(n) for n in members]
        assert made.advance()
    assert outcomes(made) == [FINAL]


def test_a_host_that_is_gone_for_good_is_no_candidate_any_more(federation: Make) -> None:
    made = federation(5, tee={"epoch": 2}, training=training(8))
    until_final(made, 1)
    made.nodes = [n for n in made.nodes if n.me.id != 0]
    until_final(made, 4)
    assert set(attested.candidates(made.terms, made.state)) == {1, 2, 3}
    made.run(2000)
    assert made.state.version == 8


def test_epochs_leave_no_round_without_any_candidate(federation: Make) -> None:
    made = federation(5, tee={"epoch": 2}, training=training(8))
    seen = []
    while made.state.phase is not Phase.STOPPED:
        if made.state.phase is Phase.COMMIT:
            seen.append(set(attested.candidates(made.terms, made.state)))
        assert made.advance()
    assert outcomes(made) == [FINAL] * 8
    assert all(each == {0, 1, 2, 3} for each in seen)
    assert len(made.state.recorded[attested.counted(made.state, RecordKind.ATTESTATION, 0, 1), 0]) >= 3


def test_a_round_in_which_nobody_vouches_does_not_end_an_epoch_early(federation: Make) -> None:
    made = federation(5, tee={"epoch": 3}, training=training(6))
    muted = 2
    for node in made.nodes:
        assert node.enclosed is not None
        inner = node.enclosed.vouch

        def vouch(view: Any, hosts: Any, inner: Any = inner) -> bool:
            return view.state.round != muted and inner(view, hosts)

        node.enclosed.vouch = vouch
    made.run(1500)
    assert attested.attested_in(made.state, 0, muted) is not None
    assert vouchers(made, 0, muted) == []
    assert outcomes(made) == [FINAL] * 6


def test_one_member_that_never_vouches_and_never_signs_is_not_waited_for(federation: Make) -> None:
    made = federation(5, silent=frozenset({4}))
    made.run(1500)
    assert made.state.version == 3
    assert outcomes(made) == [FINAL] * 3


# the store


class Forgetful(Wrapped):
    """A store that loses each signature the first time it gets it, and gives others to whoever asks."""

    def __init__(self, inner: Any, kinds: tuple[str, ...]) -> None:
        super().__init__(inner)
        self.kinds, self.lost = kinds, set[str]()

    def put_at(self, key: str, data: bytes) -> None:
        if key.startswith(self.kinds) and key not in self.lost:
            self.lost.add(key)
            data = bytes(64)
        self.inner.put_at(key, data)


def test_signatures_that_the_store_lost_are_left_again(federation: Make) -> None:
    made = federation(5, newcomers=1)
    store = Forgetful(made.store, ("manifests/", "rosters/"))
    made.nodes = [tiny.moved(n, store=store) for n in _closed(made)]
    until_final(made, 1)
    made.ledger().submit(tiny.join(made, made.parties[5]))
    made.nodes.append(enclaved.host(made, 5))
    made.run(2500)
    assert made.state.version == 3
    assert {key.split("/")[0] for key in store.lost} == {"manifests", "rosters"}


def _closed(made: Tiny) -> list[Node]:
    enclaved.close(made)
    return list(made.nodes)


def test_a_store_that_falters_costs_no_enclave(federation: Make) -> None:
    """The leader's disk and store have nothing for a while, in the middle of its aggregation."""
    made = federation()
    made.until(Phase.AGGREGATE)
    leader = made.nodes[made.state.current.leader]
    hosting, get, left = leader.enclosed._hosting, leader.blobs.get, [5]
    assert hosting is not None
    before = hosting.attested

    def falters(digest: bytes, **limit: Any) -> bytes:
        left[0] -= 1
        if left[0] == 0:
            raise errors.Unavailable("no answer")
        return get(digest, **limit)

    leader.blobs.get = falters
    until_final(made, 1)
    assert left[0] < 0
    assert outcomes(made) == [FINAL]
    assert made.state.model_author == leader.me.id, "it went on from where it was"
    assert hosting.attested == before
    assert "Aggregate: no answer" in said(made, leader.me.id)


def test_old_rounds_are_forgotten_but_what_proves_candidates_is_not(federation: Make) -> None:
    made = federation(5, retain_rounds=1, training=training(6, max_failed_rounds=9), tee={"epoch": 5})
    until_final(made, 3)
    made.until(Phase.COMMIT)
    for host, digest in attested.candidates(made.terms, made.state).items():
        data = made.store.get(digest, limit=10**6)
        record = attestation.read_record(attested.read_attestation(data).record)
        assert made.store.has(record.quote), host
        assert made.store.has(record.collateral), host
    evidence = made.store.get(made.state.model_evidence, limit=10**6)
    assert made.store.has(attested.sealed_digest(evidence))
    # Rounds that come to nothing make the model older, and it stays all the same.
    nodes, made.nodes = made.nodes, made.nodes[:3]
    standing = made.state.version
    while made.state.voids < 2:
        assert made.advance()
    assert made.state.version == standing
    assert made.store.has(attested.sealed_digest(evidence))
    made.nodes = nodes
    made.run(1500)
    assert made.state.version == 6


# who comes, goes, and is another


def test_a_newcomer_and_one_who_leaves_do_not_break_the_rosters(federation: Make) -> None:
    made = federation(5, newcomers=1, training=training(7))
    until_final(made, 2)
    made.ledger().submit(tiny.join(made, made.parties[5]))
    made.nodes.append(enclaved.host(made, 5))
    until_final(made, 4)
    assert 5 in made.state.model_set
    _status(made, 4, Standing.LEFT)
    made.run(1500)
    assert (made.state.version, outcomes(made)) == (7, [FINAL] * 7)
    assert [len(seats) for _, seats in made.state.rosters] == [5, 6, 5]


def _status(made: Tiny, id: int, standing: Standing) -> None:
    party = made.parties[id]
    nonce = made.state.nonces.get(party.address, 0)
    signature = party.sign(encoding.message_bytes(made.state.domain, "Status", nonce, standing))
    made.ledger().submit(msg.Status(id, standing, signature))


def _move(made: Tiny, motion: Motion, who: bytes, reason: bytes = bytes(32)) -> None:
    fields = (made.state.motions, motion, who, reason)
    data = encoding.message_bytes(made.state.domain, "Motion", *fields)
    ids = [m.id for m in made.state.members.values() if m.member and m.active]
    made.ledger().submit(msg.Move(motion, who, reason, tuple((i, made.parties[i].sign(data)) for i in ids)))


def test_an_enclave_started_after_two_changes_goes_through_all_rosters(federation: Make) -> None:
    made = federation(5, newcomers=1, training=training(7))
    until_final(made, 1)
    made.ledger().submit(tiny.join(made, made.parties[5]))
    made.nodes.append(enclaved.host(made, 5))
    until_final(made, 2)
    _status(made, 4, Standing.LEFT)
    until_final(made, 3)
    made.nodes[0].close()
    made.nodes[0] = tiny.moved(made.nodes[0])
    made.run(1500)
    assert made.state.version == 7
    assert set(attested.candidates(made.terms, made.state)) == {0, 1, 2, 3}


def test_a_host_is_excluded_after_members_have_sealed_to_its_enclave(federation: Make) -> None:
    made = federation(6, training=training(4))
    until_final(made, 1)
    while len(made.state.current.commits) < 3 or made.state.phase is not Phase.COMMIT:
        assert made.advance()
        if made.state.phase is Phase.BEACON:
            break
    before = attested.candidates(made.terms, made.state)
    _move(made, Motion.EXCLUDE, made.parties[0].address)
    assert attested.candidates(made.terms, made.state) == before
    made.run(1500)
    assert outcomes(made) == [FINAL] * 4
    assert set(attested.candidates(made.terms, made.state)) == {1, 2, 3}


def test_a_host_with_a_new_key_is_attested_anew(federation: Make) -> None:
    made = federation(6, newcomers=1, training=training(5))
    until_final(made, 1)
    new = made.parties[6]
    _move(made, Motion.REPLACE, new.address, (0).to_bytes(32, "big"))
    made.nodes[0].close()
    made.parties[0] = replace(new, sealing_key=made.parties[0].sealing_key, onion=made.parties[0].onion)
    made.nodes[0] = enclaved.host(made, 0)
    made.run(1500)
    assert made.state.version == 5
    assert outcomes(made)[2:] == [FINAL] * len(outcomes(made)[2:])


def test_two_of_five_vanish_at_once_and_come_back(federation: Make) -> None:
    """More than a third: enclaves have nobody to believe until these are back, and then go on."""
    made = federation(5, hosts=3, training=training(4, max_failed_rounds=50))
    until_final(made, 1)
    gone, made.nodes = made.nodes[3:], made.nodes[:3]
    for _ in range(400):
        assert made.advance()
    assert made.state.version == 1
    made.nodes += gone
    for id in (3, 4):
        if not made.state.members[id].active:
            _status(made, id, Standing.BACK)
    made.run(3000)
    assert made.state.version == 4


# hosts that lie about their enclaves


def forged(
    made: Tiny,
    id: int,
    *,
    measured: SgxMeasurement | None = None,
    debug: bool = False,
    nonce: bytes | None = None,
    days: int = 0,
    verified: int = 0,
    **statement: bytes,
) -> bytes:
    """Put an attestation of keys that its host made up into the store; gives its digest."""
    state = made.state
    said = Statement(
        federation=state.domain,
        terms=terms_digest(made.terms),
        roster=attested.rosters(state)[-1].digest,
        seal_key=sealing.public_key(b"k" * 32),
        signing_key=signatures.address(b"s" * 32),
        program=PROGRAM,
    )
    said = replace(said, **statement)
    question = nonce or attested.nonce(state, id)
    quoting = Simulated(measured or simulated_measurement(), lambda: made.now + days * 86400, debug=debug)
    evidence = quoting.quote(report_data(said, question))
    # A record as it would be if all were well; who forges one writes what it likes.
    good = Simulated(simulated_measurement(), lambda: made.now).quote(report_data(said, question))
    policy = made.nodes[0].enclosed._policy
    record = replace(
        attestation.verify(good, policy, made.now, said, question),
        quote=encoding.digest(evidence.quote),
        collateral=encoding.digest(evidence.collateral),
        verified=made.now + verified,
    )
    if not verified:
        with suppress(errors.Untrusted):
            record = attestation.verify(evidence, policy, made.now, said, question)
    for part in (evidence.quote, evidence.collateral):
        made.store.put(part)
    return bytes(made.store.put(encoding.encode(Attestation(record.encoded, encoding.encode(said)))))


def record(made: Tiny, id: int, digest: bytes, host: int | None = None, round: int | None = None) -> None:
    """Record an attestation, or with a `host` a voucher for its one."""
    round = made.state.round if round is None else round
    kind = RecordKind.ATTESTATION if host is None else RecordKind.VOUCHER
    number = attested.counted(made.state, kind, id if host is None else host, round)
    data = encoding.message_bytes(made.state.domain, "Record", round, number, digest)
    made.ledger().submit(msg.Record(round, number, id, digest, made.parties[id].sign(data)))


def _without_enclave(world: World) -> World:
    return replace(world, enclosure=None)


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "another program": ({"measured": SgxMeasurement(b"m" * 32, b"s" * 32, 1, 1)}, "does not name what runs"),
    "debug": ({"debug": True}, "debug mode"),
    "another federation": ({"federation": b"f" * 32}, "another federation"),
    "other terms": ({"terms": b"t" * 32}, "another terms"),
    "another roster": ({"roster": b"r" * 32}, "another roster"),
    "an old quote": ({"nonce": b"n" * 32}, "another nonce"),
    "expired collateral": ({"days": -60}, "expired"),
    "old collateral": ({"days": -8}, "days old"),
    "collateral of tomorrow": ({"days": 1}, "in the future"),
    "verified tomorrow": ({"verified": 86400}, "yet to come"),
    "verified long ago": ({"verified": -86400}, "in the future"),
}


@pytest.mark.parametrize("lie", LIES)
def test_nobody_vouches_for_a_host_that_lies_and_training_goes_on(federation: Make, lie: str) -> None:
    how, why = LIES[lie]
    made = federation(worlds={0: _without_enclave})
    record(made, 0, forged(made, 0, **how))
    made.run(1500)
    assert made.state.version == 3
    assert vouchers(made, 0, 1) == []
    for id in range(1, 5):
        assert why in said(made, id)
    # A host without an enclave costs an attempt, never a round.
    assert outcomes(made) == [FINAL] * 3


def test_a_good_attestation_is_vouched_for(federation: Make) -> None:
    """What the lies above are told apart from. In simulated mode a host can make it up: that is what it says."""
    made = federation(worlds={0: _without_enclave})
    record(made, 0, forged(made, 0))
    until_final(made, 1)
    assert sorted(vouchers(made, 0, 1)) == [0, 1, 2, 3, 4]


def test_a_quote_of_an_earlier_round_is_not_taken_for_this_one(federation: Make) -> None:
    made = federation(worlds={0: _without_enclave})
    digest = forged(made, 0)
    until_final(made, 1)
    record(made, 0, digest)
    made.run(1500)
    assert vouchers(made, 0, 2) == []
    assert "another nonce" in said(made, 1)


def test_an_attestation_of_another_host_is_not_taken(federation: Make) -> None:
    made = federation(worlds={0: _without_enclave})
    record(made, 0, attested.candidates(made.terms, made.state)[1])
    made.run(1500)
    assert vouchers(made, 0, 1) == []
    assert "another nonce" in said(made, 2)


@pytest.mark.parametrize("blob", [b"", b"junk", bytes(40_000)])
def test_junk_for_an_attestation_or_none_keeps_nobody_from_vouching_for_others(
    federation: Make, blob: bytes
) -> None:
    made = federation(worlds={0: _without_enclave}, tee={"epoch": 1})
    digest = bytes(32) if not blob else made.store.put(blob)
    record(made, 0, digest)
    until_final(made, 2)
    assert set(attested.candidates(made.terms, made.state)) == {1, 2, 3}
    assert len(blob) < 10_000 or all(not n.world.kept.has(digest) for n in made.nodes)
    made.run(1500)
    assert outcomes(made) == [FINAL] * 3


def test_a_simulated_quote_is_refused_where_hardware_is_asked_for(federation: Make) -> None:
    accept = Accept(enclaves=(simulated_measurement().mrenclave.hex(),))
    made = federation(tee={"accept": accept})
    assert attested.candidates(made.terms, made.state) == {}
    assert "another root" in said(made, 0)
    lax = enclaved.terms(made.parties[:5], hosts=4)
    node = made.nodes[0]
    assert node.enclosed is not None
    strict = node.enclosed._policy
    node.enclosed._policy = attestation.policy.policy_of(attested.tee_of(lax).accept)
    digest = forged(made, 0)
    node.enclosed._policy = strict
    record(made, 0, digest)
    made.run(1500)
    assert (made.state.phase, made.state.version) == (Phase.PAUSED, 0)
    assert "another root" in said(made, 4)
    assert made.state.current.commits == {}


# hosts that lie about results


def lies_once(made: Tiny, change: Callable[[Delivery], Delivery]) -> None:
    """Whoever leads the first attempt of the first round proposes what `change` makes of its delivery."""
    for node in made.nodes:
        inner = node.enclosed.release

        def release(state: Any, result: bytes, inner: Any = inner, node: Node = node) -> bytes:
            evidence = inner(state, result)
            if (state.round, state.current.attempt) != (1, 0):
                return bytes(evidence)
            delivery = attested.read_delivery(node.blobs.get(evidence))
            changed = encoding.encode(change(delivery))
            node.blobs.publish(state, changed)
            return encoding.digest(changed)

        node.enclosed.release = release


def _left_out(d: Delivery) -> Delivery:
    return replace(d, manifest=replace(d.manifest, entries=d.manifest.entries[1:]))


def _self_signed(d: Delivery) -> Delivery:
    account = signatures.account(b"s" * 32)
    data = encoding.message_bytes(d.result.federation, "Result", d.result.round, d.result.digest)
    return replace(d, signature=account.sign(data))


FORGERIES: dict[str, tuple[Callable[[Delivery], Delivery], str]] = {
    "a member is left out": (_left_out, "not that of the frozen set"),
    "another round": (lambda d: replace(d, manifest=replace(d.manifest, round=2)), "not that of the frozen"),
    "a reader is left out": (
        lambda d: replace(d, manifest=replace(d.manifest, readers=d.manifest.readers[:-1])),
        "not that of the frozen set",
    ),
    "too few signed": (lambda d: replace(d, signatures=d.signatures[:-1]), "are needed"),
    "somebody signed twice": (
        lambda d: replace(d, signatures=(d.signatures[0], *d.signatures[:-1])),
        "ascending",
    ),
    "signed by its host": (_self_signed, "not signed by the enclave"),
    "another result is signed": (
        lambda d: replace(d, result=replace(d.result, result=bytes(32))),
        "not signed by the enclave",
    ),
    "another attestation": (lambda d: replace(d, attestation=bytes(32)), "no candidate"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_delivery_is_refused_and_another_leader_finishes(federation: Make, forgery: str) -> None:
    change, why = FORGERIES[forgery]
    made = federation()
    lies_once(made, change)
    until_final(made, 1)
    first = next(e.id for e in made.chain.events if type(e).__name__ == "Elected")
    assert faults(made, first) == [Fault.REJECTED_PROPOSAL]
    assert made.state.model_author != first
    for id in {0, 1, 2, 3} - {first}:
        assert why in said(made, id)
    made.run()
    assert outcomes(made) == [FINAL] * 3


def test_the_delivery_of_an_earlier_round_is_refused(federation: Make) -> None:
    made = federation()
    until_final(made, 1)
    evidence, model = made.state.model_evidence, made.state.model
    for node in made.nodes:
        inner = node.enclosed.release
        node.enclosed.release = lambda state, result, inner=inner: (
            evidence if (state.round, state.current.attempt) == (2, 0) else inner(state, result)
        )
    until_final(made, 2)
    assert made.state.model != model
    elected = [e for e in made.chain.events if type(e).__name__ == "Elected" and e.round == 2]
    assert faults(made, elected[0].id) == [Fault.REJECTED_PROPOSAL]


def test_a_result_that_nobody_can_open_is_refused(federation: Make) -> None:
    made = federation()

    def withheld(delivery: Delivery) -> Delivery:
        made.store.discard(delivery.result.sealed)
        leader = made.nodes[made.state.current.leader]
        leader.blobs.share = lambda *_: False
        return delivery

    lies_once(made, withheld)
    until_final(made, 1)
    first = next(e.id for e in made.chain.events if type(e).__name__ == "Elected")
    assert faults(made, first) == [Fault.REJECTED_PROPOSAL]
    assert "proposed a model that nobody can fetch" in said(made, (first + 1) % 4)
    assert outcomes(made) == [FINAL]


# members that send what is none


class Bad(Wrapped):
    """A scheme whose owner seals something else than an update."""

    def seal(self, state: Any, update: Any, fetch: Any) -> Sealed:
        sealed: Sealed = self.inner.seal(state, replace(update, values=update.values * 2, examples=99), fetch)
        return sealed


def test_an_invalid_payload_counts_as_nothing_and_is_told(federation: Make) -> None:
    made = federation(worlds={4: lambda world: replace(world, scheme=Bad(world.scheme))})
    made.run()
    assert outcomes(made) == [FINAL] * 3
    assert made.state.model_set == frozenset(range(5))
    assert "update of member 4 invalid: context" in said(made, 0)
    plain = tiny.tiny(
        5,
        idle=frozenset({4}),
        selection=SelectionTerms(rule="none"),
        govern=GovernanceTerms(),
        training=training(),
    )
    plain.run()
    assert made.state.models == plain.state.models


class Partial(Wrapped):
    """A scheme whose owner seals to one enclave only."""

    def seal(self, state: Any, update: Any, fetch: Any) -> Sealed:
        enclaves = self.inner._enclaves
        self.inner._enclaves = lambda *given: dict(list(enclaves(*given).items())[:1])
        try:
            sealed: Sealed = self.inner.seal(state, update, fetch)
        finally:
            self.inner._enclaves = enclaves
        return sealed


def test_an_update_for_one_enclave_only_does_not_enter_the_set(federation: Make) -> None:
    made = federation(worlds={4: lambda world: replace(world, scheme=Partial(world.scheme))})
    until_final(made, 1)
    assert made.state.model_set == frozenset(range(4))
    assert "sealed to other enclaves" in said(made, 0)


class BadOnce(Bad):
    """One that does so in the first round only."""

    def seal(self, state: Any, update: Any, fetch: Any) -> Sealed:
        if state.round == 1:
            return super().seal(state, update, fetch)
        sealed: Sealed = self.inner.seal(state, update, fetch)
        return sealed


def test_a_set_that_the_rule_cannot_take_costs_a_round_and_no_enclave(federation: Make) -> None:
    """Of three updates one is invalid, and krum needs three."""
    made = federation(
        3,
        hosts=3,
        aggregation=AggregationTerms(rule="krum"),
        worlds={2: lambda world: replace(world, scheme=BadOnce(world.scheme))},
    )
    before = [n.enclosed._hosting.attested for n in made.nodes]
    made.until(Phase.COMMIT, 2)
    assert made.state.version == 0
    assert [n.enclosed._hosting.attested for n in made.nodes] == before
    assert "the rule of the terms cannot aggregate" in "".join(said(made, id) for id in range(3))
    made.run()
    assert made.state.version == 3


# records that mean nothing


def test_vouchers_that_come_late_twice_or_from_strangers_change_nothing(federation: Make) -> None:
    made = federation(5, newcomers=1, worlds={0: _without_enclave})
    digest = forged(made, 0)
    record(made, 0, digest)
    for node in made.nodes:
        node.enclosed.vouch = lambda *_: False
    for id in (0, 1, 2):
        record(made, id, digest, host=0)
    with pytest.raises(errors.AlreadySent):
        record(made, 1, bytes(32), host=0)
    made.ledger().submit(tiny.join(made, made.parties[5]))
    record(made, 5, digest, host=0)
    until_final(made, 1)
    record(made, 3, digest, host=0, round=1)
    record(made, 4, digest, host=0, round=1)
    made.until(Phase.COMMIT, 2)
    assert 0 not in attested.candidates(made.terms, made.state)
    with pytest.raises(errors.WrongRound):
        record(made, 3, digest, host=0, round=9)


def test_the_quorum_is_of_those_who_were_there_when_it_vouched(federation: Make) -> None:
    """Three join at once: what four vouched for stands, and nobody waits for an epoch."""
    made = federation(4, hosts=3, newcomers=3, training=training(5))
    until_final(made, 1)
    for id in (4, 5, 6):
        made.ledger().submit(tiny.join(made, made.parties[id]))
        made.nodes.append(enclaved.host(made, id))
    made.until(Phase.COMMIT, 3)
    assert len(made.state.current.roster) == 7
    assert set(attested.candidates(made.terms, made.state)) == {0, 1, 2}
    made.run(1500)
    assert outcomes(made) == [FINAL] * 5
