"""The node's part of scheme `tee`, where clocks, collateral, the chain and the own enclave misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests import enclaved, tiny
from tests.enclaved import until_final
from tests.tiny import Tiny

from hansa import encoding, errors
from hansa.attestation.simulated import collected
from hansa.attestation.simulated_pki import Conditions
from hansa.node.enclosed import Enclosed
from hansa.node.hosting import Hosting
from hansa.node.signed import Signed
from hansa.ports import View
from hansa.protocol import attested
from hansa.protocol.tee import Roster
from hansa.records import Phase, RecordKind, Training
from hansa.stores import objects

DAY = 86_400


@pytest.fixture
def made() -> Iterator[Tiny]:
    """Five members, four of them hosts, in COMMIT of round 1, all attested."""
    found = enclaved.enclaved(hosts=4, tee={"epoch": 2})
    yield found
    enclaved.close(found)


def part(made: Tiny, id: int) -> Enclosed:
    found = made.nodes[id].enclosed
    assert found is not None
    return found


def hosting(made: Tiny, id: int) -> Hosting:
    found = part(made, id)._hosting
    assert found is not None
    return found


def view(made: Tiny, id: int = 0, **changes: Any) -> View:
    return replace(made.ledger(id).view(), **changes)


# time


def test_nobody_trains_with_enclaves_whose_collateral_has_expired(made: Tiny) -> None:
    now = view(made).now
    assert part(made, 4).knowledge(view(made)).fresh
    later = part(made, 4).knowledge(view(made, now=now + 365 * DAY))
    assert later.trusted
    assert not later.fresh
    assert not part(made, 0).knowledge(view(made)).ending
    assert part(made, 0).knowledge(view(made, now=now + 365 * DAY)).ending


def test_training_goes_on_after_a_long_pause_with_new_attestations(made: Tiny) -> None:
    until_final(made, 1)
    made.now += 40 * DAY
    made.run(1500)
    assert made.state.version == 3
    assert made.state.round > 3, "one round was lost to it"


@pytest.mark.parametrize(("ahead", "vouches"), [(250, True), (-7 * DAY // 2, True), (400, False)])
def test_a_host_whose_clock_differs(ahead: int, vouches: bool) -> None:
    """Collateral is as new as its clock; a member behind by what clocks differ takes it all the same."""
    made = enclaved.enclaved(hosts=4, silent=frozenset({0}))
    node = enclaved.host(made, 0)
    enclosed = node.enclosed
    assert enclosed is not None
    signed = Conditions(issued=made.now + ahead)
    enclosed.world = replace(enclosed.world, collateral=collected(made.clock, signed))
    enclosed.attest(view(made, now=made.now + ahead))
    until_final(made, 1)
    number = attested.counted(made.state, RecordKind.VOUCHER, 0, 1)
    assert ((number, 4) in made.state.recorded) is vouches
    node.close()
    enclaved.close(made)


# the own enclave


def test_a_quote_without_collateral_is_not_lost() -> None:
    """The maker's service does not answer for a while; the enclave answers a nonce once."""
    made = enclaved.enclaved(hosts=4, silent=frozenset({0}))
    node = enclaved.host(made, 0)
    enclosed = node.enclosed
    assert enclosed is not None
    fetch, fails = enclosed.world.collateral, [True]

    def collateral(quote: bytes) -> bytes:
        if fails:
            fails.pop()
            raise errors.Unavailable("no answer")
        assert fetch is not None
        return fetch(quote)

    enclosed.world = replace(enclosed.world, collateral=collateral)
    with pytest.raises(errors.Unavailable, match="no answer"):
        enclosed.attest(view(made))
    assert not enclosed.attest(view(made)), "it waits a little"
    made.now += 20
    assert enclosed.attest(view(made))
    assert attested.attested_in(made.state, 0, 1) is not None
    node.close()
    enclaved.close(made)


def test_an_enclave_that_cannot_begin_is_ended_and_not_tried_at_every_turn() -> None:
    made = enclaved.enclaved(hosts=4, silent=frozenset({0}))
    node = enclaved.host(made, 0)
    enclosed = node.enclosed
    assert enclosed is not None
    started = []

    def start() -> Any:
        started.append(enclaved.enclosure())
        return started[-1]

    enclosed._hosting = Hosting(0, replace(made.terms, tee=None), start, enclosed._sets)
    with pytest.raises(errors.Untrusted):
        enclosed.attest(view(made))
    for _ in range(5):
        enclosed.attest(view(made))
    assert len(started) == 1
    assert started[0].gone
    enclaved.close(made)


def test_an_enclave_on_rosters_that_the_chain_does_not_have_is_started_anew(made: Tiny) -> None:
    own, chain = hosting(made, 0), attested.rosters(made.state)
    before = own.attested
    assert before
    first = own._running(chain)
    assert own.attested == before
    first.close()
    second = own._running(chain)
    assert second is not first
    assert not second.gone
    other = Roster(chain[0].federation, 0, chain[0].previous, chain[0].seats[:4])
    assert own._running((other,)) is not second
    assert second.gone
    assert own.attested == frozenset()


def test_an_enclave_goes_on_after_signatures_of_a_later_roster_were_missing() -> None:
    made = enclaved.enclaved(hosts=4, newcomers=2, training=Training(rounds=9, min_members=3, deadline=100))
    own = hosting(made, 0)
    chain = attested.rosters(made.state)
    for id in (5, 6):
        until_final(made, made.state.version + 1)
        made.ledger().submit(tiny.join(made, made.parties[id]))
        made.nodes.append(enclaved.host(made, id))
    until_final(made, 4)
    chain = attested.rosters(made.state)
    assert len(chain) == 3
    own.close()
    folder = f"rosters/{made.state.domain.hex()}/2"
    kept = {key: made.store.get_at(key, limit=64) for key in made.store.list(folder)}
    for key in kept:
        made.store.put_at(key, bytes(64))
    with pytest.raises(
        errors.Unavailable, match="0 of 6 members of roster 1 have signed the next one, 5 are needed"
    ):
        own._running(chain)
    for key, data in kept.items():
        made.store.put_at(key, data)
    own._running(chain)
    assert own._told == chain[2]
    enclaved.close(made)


# signatures


def test_one_manifest_a_round_is_signed_whatever_becomes_of_the_chain(made: Tiny) -> None:
    made.until(Phase.AGGREGATE)
    state = made.state
    for _ in range(3):
        made.advance()
    key = f"manifests/{state.domain.hex()}/1/4"
    before = made.store.get_at(key, limit=64)
    fewer = replace(state, current=replace(state.current, selected=frozenset({0, 1, 2})))
    assert not part(made, 4).name_set(fewer, 3)
    assert made.store.get_at(key, limit=64) == before
    assert any("another set was signed" in text for text in made.nodes[4].findings)
    made.nodes[4].world.journal.forget(10**6)
    assert not part(made, 4).name_set(fewer, 3)
    assert made.store.get_at(key, limit=64) == before


def test_a_signature_is_left_again_after_a_crash_or_a_loss(made: Tiny) -> None:
    made.until(Phase.AGGREGATE)
    for id in range(5):
        part(made, id).name_set(made.state, 0)
    key = f"manifests/{made.state.domain.hex()}/1/4"
    made.store.delete(key)
    assert made.nodes[4].world.journal.get(1, "manifest") is not None
    member = tiny.moved(made.nodes[4]).enclosed
    assert member is not None
    assert member.name_set(made.state, 0), "killed between its journal and the store"
    good = made.store.get_at(key, limit=64)
    assert not member.name_set(made.state, 1)
    for lost in (bytes(64), good[:-1], good + b"\0"):
        made.store.put_at(key, lost)
        assert member.name_set(made.state, 1)
        assert made.store.get_at(key, limit=64) == good


def test_a_member_signs_all_rosters_that_it_missed(made: Tiny) -> None:
    sets, state = part(made, 4)._sets, made.state
    chain = list(attested.rosters(state))
    for seats in (chain[0].seats[:4], chain[0].seats, chain[0].seats[1:]):
        chain.append(Roster(state.domain, len(chain), chain[-1].digest, seats))
    assert sets.leave_rosters(tuple(chain))
    folder = f"rosters/{state.domain.hex()}"
    # It was not on the roster that the third one follows on.
    assert made.store.list(folder) == [f"{folder}/1/4", f"{folder}/3/4"]
    assert not sets.leave_rosters(tuple(chain))
    made.store.delete(f"{folder}/1/4")
    assert sets.leave_rosters(tuple(chain))
    other = Signed(
        replace(made.nodes[4].me, signer=made.parties[0]), made.nodes[4].world, made.nodes[4].retention
    )
    assert not other.leave_rosters(tuple(chain)), "the id has another key now"


def test_signatures_that_are_none_do_not_reach_the_enclave(made: Tiny) -> None:
    made.until(Phase.AGGREGATE)
    state, sets = made.state, part(made, 0)._sets
    for id in range(5):
        part(made, id).name_set(state, 0)
    folder = f"manifests/{state.domain.hex()}/1"
    made.store.put_at(f"{folder}/0", made.store.get_at(f"{folder}/1", limit=64))
    made.store.put_at(f"{folder}/77", bytes(64))
    made.store.put_at(f"{folder}/x", bytes(64))
    manifest = attested.manifest(made.terms, state, part(made, 0).known(state))
    found = sets.of_manifest(state, attested.rosters(state)[-1], manifest)
    assert [id for id, _ in found] == [1, 2, 3, 4]
    # Once a quorum is there nobody is asked again.
    for key in made.store.list(folder):
        made.store.delete(key)
    assert sets.of_manifest(state, attested.rosters(state)[-1], manifest) == found


# those of others


def test_an_attestation_that_a_quorum_took_is_verified_here_too(made: Tiny) -> None:
    """By who joins, or starts again: with the archived evidence, at the recorded time."""
    fresh = tiny.moved(made.nodes[4])
    enclosed = fresh.enclosed
    assert enclosed is not None
    assert set(enclosed.known(made.state)) == {0, 1, 2, 3}
    again = tiny.moved(made.nodes[4]).enclosed
    assert again is not None
    again._terms_digest = bytes(32)
    with pytest.raises(errors.Untrusted, match="another federation"):
        again.known(made.state)
    strict = tiny.moved(made.nodes[4]).enclosed
    assert strict is not None
    strict._policy = replace(strict._policy, enclaves=(bytes(32),))
    with pytest.raises(errors.Untrusted, match="does not name what runs there"):
        strict.known(made.state)
    assert not strict.knowledge(view(made)).trusted


def test_what_proves_candidates_is_put_back_into_a_store_that_lost_it() -> None:
    """Also rounds after it was fetched."""
    made = enclaved.enclaved(
        hosts=4, tee={"epoch": 9}, training=Training(rounds=9, min_members=3, deadline=100)
    )
    until_final(made, 4)
    made.until(Phase.COMMIT, 5)
    for node in made.nodes:
        node.step()
    digests = list(attested.candidates(made.terms, made.state).values())
    for digest in digests:
        made.store.discard(digest)
    made.nodes[4].blobs.share(made.state, 1)
    assert all(made.store.has(digest) for digest in digests)
    enclaved.close(made)


def test_nothing_is_deleted_by_whom_candidates_are_not_proven_to(made: Tiny) -> None:
    until_final(made, 1)
    made.until(Phase.COMMIT, 2)
    needed = part(made, 4).turn(made.state)
    assert needed is not None
    assert set(attested.candidates(made.terms, made.state).values()) < needed
    fresh = tiny.moved(made.nodes[4], kept=objects.create("memory:///"))
    for digest in needed:
        made.store.discard(digest)
    assert fresh.enclosed is not None
    assert fresh.enclosed.turn(made.state) is None


def test_a_huge_blob_for_an_attestation_is_not_fetched(made: Tiny) -> None:
    big = made.store.put(bytes(attested.ATTESTATION_LIMIT + 1))
    with pytest.raises(errors.Unavailable, match="limit"):
        part(made, 4)._archived(big)
    assert not made.nodes[4].world.kept.has(big)
    quote = encoding.encode(attested.Attestation(bytes(10), bytes(10)))
    with pytest.raises(errors.Untrusted):
        part(made, 4)._archived(made.store.put(quote))


# sealed updates


def test_a_host_reads_a_sealed_update_once_a_round_and_others_read_it_again(made: Tiny) -> None:
    made.until(Phase.AGGREGATE, 1)
    digest = made.state.current.commits[4].digest
    hosts, member = made.nodes[1].blobs, made.nodes[4].blobs
    found = member.get(digest)
    for blobs in (hosts, member):
        blobs.world.kept.discard(digest)
    made.store.discard(digest)
    assert hosts.get(digest) == found
    with pytest.raises(errors.Unavailable):
        hosts.get(digest, limit=len(found) - 1)
    with pytest.raises(errors.Unavailable):
        member.get(digest)
    hosts.turn()
    with pytest.raises(errors.Unavailable):
        hosts.get(digest)


def test_a_host_keeps_no_more_in_memory_than_it_may(made: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa.node.blobs.CACHE_BYTES", 100)
    blobs = made.nodes[0].blobs
    blobs.turn()
    for k, size in enumerate((60, 60, 40)):
        blobs._keep_sealed(bytes([k]) * 32, bytes(size))
        blobs._keep_sealed(bytes([k]) * 32, bytes(size))
    assert blobs._sealed == {bytes(32): bytes(60), bytes([2]) * 32: bytes(40)}
