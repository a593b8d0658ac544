"""Whom a federation under `tee` waits for, as status, a node's log and `hansa start` say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests import tiny
from tests.enclaved import close, host, terms
from tests.tiny import Tiny

from hansa import encoding, errors
from hansa.cli.founding import _check_enclaves
from hansa.ledger.specified import Specified
from hansa.protocol import attested, awaiting, rules, unattested
from hansa.protocol import messages as msg
from hansa.protocol.terms import parameters
from hansa.records import Phase, RecordKind
from hansa.stores import objects


@pytest.fixture
def made() -> Iterator[Tiny]:
    """Five members have joined, of whom 0, 1 and 2 have seats; no node runs."""
    parties = [tiny.party(0, f"m{i}") for i in range(5)]
    agreed = terms(parties)
    domain = encoding.domain_separator(1, bytes(20), encoding.digest(encoding.encode(agreed)))
    seats = [bytes.fromhex(text[2:]) for text in agreed.govern.seats]
    state = rules.found(parameters(agreed), seats, parties[0].address, domain, agreed.initial)
    it = Tiny(agreed, parties, Specified(state), store=objects.create("memory:///"))
    it.ledger().submit(*(msg.Invite(p.address) for p in parties))
    it.ledger().submit(*(tiny.join(it, p) for p in parties))
    yield it
    close(it)


def settle(made: Tiny, *ids: int) -> None:
    """Nodes of these members run until they have nothing to do before the start."""
    made.nodes += [host(made, id) for id in ids]
    while any([node.step() for node in made.nodes]):
        made.now += 1


def said(made: Tiny, id: int) -> str:
    return awaiting.sentence(made.terms, made.state, id, made.now)


def test_before_the_start_hosts_and_members_that_are_awaited_are_named(made: Tiny) -> None:
    assert awaiting.awaited(made.terms, made.state) == {unattested.ATTESTATION: {0, 1, 2}}
    assert said(made, 4) == "no enclave is attested yet; waiting for the attestation of m0, m1, m2."
    with pytest.raises(errors.Unavailable, match="none is attested by 4 of 5 members; waiting for the attes"):
        _check_enclaves(made.terms, made.state)
    settle(made, 0, 3)
    assert awaiting.awaited(made.terms, made.state) == {
        unattested.ATTESTATION: {1, 2},
        unattested.VOUCHER: {1, 2, 4},
    }
    assert list(awaiting.remarks(made.terms, made.state, 0)) == ["its enclave has 2 of 4 vouchers"]
    assert list(awaiting.remarks(made.terms, made.state, 3)) == []
    assert list(awaiting.remarks(made.terms, made.state, 2)) == [
        "its enclave is not attested",
        "has not vouched for the enclave of m0",
    ]
    with pytest.raises(errors.Unavailable, match="vouchers of m1, m2, m4") as caught:
        _check_enclaves(made.terms, made.state)
    assert "hansa status" in caught.value.hint


def test_with_one_enclave_that_a_quorum_vouched_for_training_can_start(made: Tiny) -> None:
    settle(made, 0, 1, 3, 4)
    assert attested.vouched(made.state).keys() == {0, 1}
    _check_enclaves(made.terms, made.state)
    assert said(made, 3) == "ready: waiting for the owner to start the first round"
    assert said(made, 2) == ""
    assert list(awaiting.remarks(made.terms, made.state, 0)) == [
        f"its enclave is attested ({attested.NO_PROTECTION})"
    ]
    made.ledger().submit(msg.Start())
    assert attested.candidates(made.terms, made.state).keys() == {0, 1}
    assert awaiting.awaited(made.terms, made.state) == {}
    _check_enclaves(made.terms, made.state)


def test_who_has_not_vouched_is_not_ready_though_training_could_start(made: Tiny) -> None:
    settle(made, 0, 1, 2, 3)
    assert attested.vouched(made.state).keys() == {0, 1, 2}
    assert said(made, 4) == ""
    assert said(made, 3).startswith("ready")


def test_a_voucher_for_something_else_is_none(made: Tiny) -> None:
    settle(made, 0, 3)
    kind, other = attested.about(made.state, RecordKind.VOUCHER, 0), b"\1" * 32
    data = encoding.message_bytes(made.state.domain, "Record", 0, kind, other)
    made.ledger(1).submit(msg.Record(0, kind, 1, other, made.parties[1].sign(data)))
    assert attested.vouchers(made.state, 0) == {0, 3}
    assert list(awaiting.remarks(made.terms, made.state, 0)) == ["its enclave has 2 of 4 vouchers"]


def test_who_joins_makes_attestations_void_and_is_awaited(made: Tiny) -> None:
    settle(made, 0, 1, 2, 3, 4)
    newcomer = tiny.party(0, "m5")
    made.parties.append(newcomer)
    made.ledger().submit(msg.Invite(newcomer.address))
    made.ledger().submit(tiny.join(made, newcomer))
    assert awaiting.awaited(made.terms, made.state) == {unattested.ATTESTATION: {0, 1, 2}}
    with pytest.raises(errors.Unavailable, match="none is attested by 5 of 6"):
        _check_enclaves(made.terms, made.state)


def test_a_round_without_an_enclave_says_so(made: Tiny) -> None:
    made.ledger().submit(msg.Start())
    assert made.state.phase is Phase.COMMIT
    assert awaiting.awaited(made.terms, made.state) == {unattested.ATTESTATION: {0, 1, 2}}
    assert said(made, 4).startswith("round 1: no enclave counts as attested, so nobody can seal an update")


def test_seats_that_have_not_joined_are_named(made: Tiny) -> None:
    stranger = "0x" + "ab" * 20
    agreed = replace(made.terms, govern=replace(made.terms.govern, seats=(stranger,)))
    assert awaiting.missing(agreed, made.state) == (stranger,)
    assert awaiting.missing(made.terms, made.state) == ()


def test_before_enough_have_joined_nothing_but_members_is_awaited() -> None:
    parties = [tiny.party(0, f"m{i}") for i in range(5)]
    agreed = terms(parties, least=5)
    domain = encoding.domain_separator(1, bytes(20), encoding.digest(encoding.encode(agreed)))
    seats = [bytes.fromhex(text[2:]) for text in agreed.govern.seats]
    state = rules.found(parameters(agreed), seats, parties[0].address, domain, agreed.initial)
    made = Tiny(agreed, parties, Specified(state), store=objects.create("memory:///"))
    made.ledger().submit(*(msg.Invite(p.address) for p in parties))
    made.ledger().submit(*(tiny.join(made, p) for p in parties[:2]))
    assert awaiting.awaited(made.terms, made.state) == {}
    assert said(made, 0).startswith("waiting for members to join: 2 have, 5 are needed")
    with pytest.raises(errors.Unavailable, match="2 have, 5 are needed"):
        _check_enclaves(made.terms, made.state)
