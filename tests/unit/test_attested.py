"""Who runs an attested enclave, by the ledger alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests import tiny
from tests.vouched import GOOD, OTHER, attests, founded, joined, opened, says

from hansa import encoding, errors
from hansa.crypto import signatures
from hansa.protocol import attested
from hansa.protocol import events as ev
from hansa.protocol.attested import Attestation, Candidate, Delivery
from hansa.protocol.fold import evolve
from hansa.protocol.state import State
from hansa.protocol.statements import Statement
from hansa.protocol.tee import Result
from hansa.protocol.terms import terms_digest
from hansa.protocol.timing import pack_meta
from hansa.records import Motion, RecordKind, Standing, Terms

# candidates


def test_a_quorum_makes_a_candidate_from_the_next_round_on() -> None:
    terms, state = founded(4)
    state = opened(attests(attests(state, 0, 3), 1, 2))
    assert attested.candidates(terms, state) == {0: GOOD}
    assert attested.candidacies(terms, state) == {0: (0, GOOD)}
    state = attests(state, 1, 3)
    assert attested.candidates(terms, state) == {0: GOOD}
    assert attested.candidates(terms, opened(state)) == {0: GOOD, 1: GOOD}


def test_an_epoch_ends() -> None:
    terms, state = founded(4, epoch=3)
    state = attests(state, 0, 4)
    assert [bool(attested.candidates(terms, opened(state, round))) for round in (1, 2, 3, 4)] == [
        True,
        True,
        True,
        False,
    ]


def test_only_what_is_recorded_in_its_round_counts() -> None:
    terms, state = founded(4)
    state = opened(says(attests(state, 0, 2), 3, 0, OTHER))
    state = says(state, 2, 0, GOOD, round=0)
    assert attested.candidates(terms, opened(state)) == {}
    state = says(state, 0, 0, GOOD, RecordKind.ATTESTATION)
    late = opened(state)
    for id in range(4):
        late = says(late, id, 0, GOOD, round=1)
    assert attested.candidates(terms, opened(late)) == {}


def test_a_voucher_is_about_one_host_and_one_attestation() -> None:
    terms, state = founded(4)
    state = says(state, 0, 0, GOOD, RecordKind.ATTESTATION)
    state = says(state, 1, 1, GOOD, RecordKind.ATTESTATION)
    for id in range(4):
        state = says(state, id, 0, OTHER)
        state = says(state, id, 2, GOOD)
    state = opened(state)
    assert attested.candidates(terms, state) == {}


def test_strangers_vouch_for_nothing() -> None:
    terms, state = founded(4)
    state = opened(attests(state, 0, 2))
    state = joined(attests(state, 0, 2), 4)
    state = says(says(state, 4, 0, GOOD), 77, 0, GOOD)
    assert attested.unvouched(state, 4) == {}
    assert attested.unvouched(state, 3) == {0: GOOD}
    assert attested.candidates(terms, opened(state)) == {}


def test_the_quorum_is_that_of_the_roster_which_vouched() -> None:
    terms, state = founded(4)
    state = opened(attests(state, 0, 3))
    for id in (4, 5, 6):
        state = joined(state, id)
    state = opened(state)
    assert len(state.current.roster) == 7
    assert attested.candidates(terms, state) == {0: GOOD}
    # Of seven, three are too few now.
    assert attested.candidates(terms, opened(attests(state, 1, 3))) == {0: GOOD}
    assert attested.candidates(terms, opened(attests(state, 1, 5))) == {0: GOOD, 1: GOOD}


def test_an_older_attestation_stands_while_the_newest_has_no_quorum() -> None:
    terms, state = founded(4, epoch=3)
    state = opened(attests(state, 0, 3), 2)
    state = opened(attests(state, 0, 2, OTHER))
    assert attested.candidacies(terms, state) == {0: (0, GOOD)}
    assert attested.candidates(terms, opened(state)) == {}
    state = opened(attests(state, 0, 3, b"n" * 32))
    assert attested.candidacies(terms, state) == {0: (3, b"n" * 32)}


def test_no_more_enclaves_than_the_terms_allow() -> None:
    terms, state = founded(4, max_candidates=2)
    for host in range(3):
        state = attests(state, host, 3)
    assert set(attested.candidates(terms, opened(state))) == {0, 1}


@pytest.mark.parametrize("event", ["excluded", "left", "away", "replaced"])
def test_the_candidates_of_a_round_do_not_change_while_it_runs(event: str) -> None:
    terms, state = founded(5)
    for host in range(3):
        state = attests(state, host, 4)
    state = opened(state)
    before = attested.candidates(terms, state)
    roster = attested.rosters(state)[-1]
    match event:
        case "replaced":
            who = tiny.party(0, "m9").address
            state = evolve(state, ev.Carried(0, int(Motion.REPLACE), who, (0).to_bytes(32, "big")))
        case _:
            standing = {"excluded": Standing.EXCLUDED, "left": Standing.LEFT, "away": Standing.AWAY}[event]
            state = evolve(state, ev.StandingChanged(0, int(standing)))
    assert attested.candidates(terms, state) == before
    assert attested.rosters(state)[-1] == roster
    state = opened(state)
    assert set(attested.candidates(terms, state)) == ({0, 1, 2} if event == "replaced" else {1, 2})
    assert attested.rosters(state)[-1].previous == roster.digest


# before the first round


def test_each_roster_before_the_first_round_has_records_of_its_own() -> None:
    """Also one of the same number of members, after one has left and another has come."""
    terms, state = founded(5)
    first = attests(state, 0, 5)
    numbers = {attested.about(first, RecordKind.ATTESTATION, 0)}
    swapped = joined(evolve(first, ev.StandingChanged(4, int(Standing.LEFT))), 5)
    numbers.add(attested.about(swapped, RecordKind.ATTESTATION, 0))
    assert len(numbers) == 2
    assert attested.nonce(swapped, 0) != attested.nonce(first, 0)
    assert attested.attested_in(swapped, 0, 0) is None
    assert attested.due(terms, swapped, 0, frozenset({GOOD}), ending=False)
    assert attested.candidates(terms, opened(swapped)) == {}
    assert attested.candidates(terms, opened(first)) == {0: GOOD}


def test_nonces_differ_by_round_host_federation_and_beacon() -> None:
    _, state = founded(4)
    later = opened(state)
    nonces = {
        attested.nonce(state, 0),
        attested.nonce(state, 1),
        attested.nonce(later, 0),
        attested.nonce(opened(later), 0),
        attested.nonce(replace(later, domain=b"d" * 32), 0),
        attested.nonce(replace(later, current=replace(later.current, seed=b"s" * 32)), 0),
    }
    assert len(nonces) == 6


# who is to be attested, and when


def test_when_an_enclave_is_due() -> None:
    terms, state = founded(4, epoch=3)
    none: frozenset[bytes] = frozenset()
    runs = frozenset({GOOD})

    def due(state: State, id: int = 0, current: frozenset[bytes] = runs, ending: bool = False) -> bool:
        return attested.due(terms, state, id, current, ending=ending)

    assert due(state, current=none)
    assert not due(state, id=3), "no seat"
    assert not due(says(state, 0, 0, GOOD, RecordKind.ATTESTATION), current=none), "once a round"
    state = attests(state, 0, 3)
    assert not due(opened(state))
    assert due(opened(state), ending=True)
    assert due(opened(state), current=none), "another enclave runs"
    assert [due(opened(state, round)) for round in (1, 2, 3, 4)] == [False, True, True, True]
    unvouched = opened(says(founded(4)[1], 0, 0, GOOD, RecordKind.ATTESTATION))
    assert due(unvouched)


def test_nobody_is_attested_for_a_roster_that_is_too_small_to_begin() -> None:
    terms, state = founded(2, hosts=2)
    assert not attested.due(terms, state, 0, frozenset(), ending=False)
    for id in (2, 3):
        state = joined(state, id)
    assert attested.due(terms, state, 0, frozenset(), ending=False)


# rosters


def test_rosters_are_a_chain_with_a_version_for_each_change() -> None:
    _, state = founded(4)
    before = attested.rosters(state)
    state = opened(state)
    assert attested.rosters(state) == before
    state = opened(joined(opened(state), 4), 4)
    assert [since for since, _ in state.rosters] == [1, 3]
    first, second = attested.rosters(state)
    assert (second.version, second.previous, len(second.seats)) == (1, first.digest, 5)
    # Back to the first members: a third version.
    third = attested.rosters(opened(evolve(state, ev.StandingChanged(4, int(Standing.LEFT)))))[2]
    assert third.seats == first.seats
    assert third.previous == second.digest


# what enclaves say


def statement(state: State, terms: Terms, **changes: Any) -> Statement:
    said = Statement(
        state.domain, terms_digest(terms), attested.rosters(state)[-1].digest, b"k" * 32, b"a" * 20, "p"
    )
    return replace(said, **changes)


@pytest.mark.parametrize("field", ["federation", "terms", "roster"])
def test_an_enclave_for_something_else_is_refused(field: str) -> None:
    terms, state = founded(4)
    attested.check_statement(terms_digest(terms), state, statement(state, terms))
    with pytest.raises(errors.Untrusted, match=f"for another {field}$"):
        attested.check_statement(
            terms_digest(terms), state, replace(statement(state, terms), **{field: b"x" * 32})
        )


def test_a_candidate_out_of_its_attestation() -> None:
    terms, state = founded(4)
    data = encoding.encode(Attestation(b"r", encoding.encode(statement(state, terms))))
    found, said = attested.candidate(2, data)
    assert found == Candidate(2, encoding.digest(data), b"k" * 32, b"a" * 20)
    assert said == statement(state, terms)
    short = statement(state, terms, signing_key=b"a" * 21)
    with pytest.raises(errors.Untrusted, match="20 bytes"):
        attested.candidate(2, encoding.encode(Attestation(b"r", encoding.encode(short))))
    with pytest.raises(errors.Untrusted, match="limit"):
        attested.read_attestation(bytes(attested.ATTESTATION_LIMIT + 1))


def test_times_may_differ_by_what_clocks_do() -> None:
    attested.check_time(1_300, 1_000)
    attested.check_time(0, 1_000_000)
    with pytest.raises(errors.Untrusted, match="yet to come"):
        attested.check_time(1_301, 1_000)


# deliveries


def frozen() -> tuple[Terms, State, dict[int, Candidate]]:
    """A round whose set is frozen, its candidates 0 and 1."""
    terms, state = founded(4)
    for host in (0, 1):
        state = attests(state, host, 3)
    state = opened(state)
    for id in range(4):
        meta = pack_meta(1000 + id, 5, 10 + id)
        state = evolve(state, ev.Committed(1, id, 0, encoding.digest(b"%d" % id), meta))
    state = evolve(state, ev.Selected(1, 0b1111))
    known = {host: Candidate(host, GOOD, b"%032d" % host, _enclave(host).address) for host in (0, 1)}
    return terms, state, known


def _enclave(host: int) -> Any:
    return signatures.account(b"%032d" % (host + 1))


def delivered(
    terms: Terms, state: State, known: dict[int, Candidate], host: int = 0, signers: int = 3, **result: Any
) -> Delivery:
    made = attested.manifest(terms, state, known)
    data = encoding.message_bytes(state.domain, "Manifest", made.round, made.digest)
    signed = tuple((id, tiny.party(0, f"m{id}").sign(data)) for id in range(signers))
    said = Result(
        federation=state.domain,
        round=made.round,
        roster=made.roster,
        manifest=made.digest,
        base=made.base,
        result=OTHER,
        sealed=bytes(32),
        rule=terms.aggregation.rule,
        invalid=(),
    )
    said = replace(said, **result)
    sealed = _enclave(host).sign(encoding.message_bytes(state.domain, "Result", said.round, said.digest))
    return Delivery(made, signed, said, sealed, known[host].attestation)


def test_the_manifest_is_what_the_ledger_froze() -> None:
    terms, state, known = frozen()
    made = attested.manifest(terms, state, known)
    assert [(e.member, e.digest, e.examples, e.millis, e.timestamp) for e in made.entries] == [
        (id, encoding.digest(b"%d" % id), 10 + id, 5, 1000 + id) for id in range(4)
    ]
    assert (made.round, made.version, made.base) == (1, 0, state.model)
    assert made.roster == attested.rosters(state)[-1].digest
    assert made.candidates == ((0, b"%032d" % 0), (1, b"%032d" % 1))
    assert dict(made.readers) == state.current.readers
    fewer = attested.manifest(terms, evolve(state, ev.Selected(1, 0b0111)), known)
    assert fewer.digest != made.digest


def test_a_good_delivery_and_all_that_is_refused() -> None:
    terms, state, known = frozen()
    good = delivered(terms, state, known)

    def check(delivery: Delivery, leader: int = 0, result: bytes = OTHER, terms: Terms = terms) -> None:
        data = encoding.encode(delivery)
        assert attested.sealed_digest(data) == delivery.result.sealed
        attested.check_delivery(terms, state, attested.read_delivery(data), known, leader, result)

    check(good)
    with pytest.raises(errors.Untrusted, match="another result"):
        check(good, result=GOOD)
    with pytest.raises(errors.Untrusted, match="not signed by the enclave"):
        check(good, leader=1)
    with pytest.raises(errors.Untrusted, match="no candidate"):
        check(good, leader=2)
    with pytest.raises(errors.Untrusted, match="no candidate"):
        check(replace(good, attestation=OTHER))
    with pytest.raises(errors.Untrusted, match="2 members signed, 3 are needed"):
        check(delivered(terms, state, known, signers=2))
    with pytest.raises(errors.Untrusted, match="another rule"):
        check(delivered(terms, state, known, rule="krum"))
    with pytest.raises(errors.Untrusted, match="another round, set or model"):
        check(delivered(terms, state, known, base=GOOD))
    with pytest.raises(errors.Untrusted, match="not in the set"):
        check(delivered(terms, state, known, invalid=((9, 2),)))
    for changed in (
        replace(good.manifest, entries=good.manifest.entries[1:]),
        replace(good.manifest, readers=good.manifest.readers[1:]),
        replace(good.manifest, candidates=good.manifest.candidates[:1]),
        replace(good.manifest, federation=GOOD),
    ):
        with pytest.raises(errors.Untrusted, match="not that of the frozen set"):
            check(replace(good, manifest=changed))
    with pytest.raises(errors.Untrusted, match="limit"):
        attested.read_delivery(bytes(attested.DELIVERY_LIMIT + 1))
