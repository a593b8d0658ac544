"""Scheme `mpc` among real nodes: who gets the model, and what becomes of those who share or compute wrongly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.dealt import Meeting, Replicated, Rows, dealt
from tests.tiny import LENGTH, Tiny

from hansa import encoding, errors
from hansa.protocol import mpc
from hansa.protocol.model import to_arrays
from hansa.protocol.mpc import Revealed
from hansa.records import Phase, RecordKind


def notes(made: Tiny, id: int) -> str:
    return "\n".join(made.nodes[id].findings)


def model_of(made: Tiny, id: int) -> Any:
    return to_arrays(made.nodes[id].models.standing(made.state).model)["w"]


def test_the_owners_get_the_model_and_the_parties_do_not() -> None:
    made, sessions = dealt()
    made.run()
    assert (made.state.phase, made.state.version) == (Phase.STOPPED, 1)
    assert made.state.model_set == {0, 1, 2, 3}
    for id in range(4):
        assert np.allclose(model_of(made, id), 1.5)
    for id in range(4, 7):
        with pytest.raises(errors.Unavailable):
            made.nodes[id].models.standing(made.state)
    assert all(s.looks >= 3 for s in sessions)


def test_no_package_opens_for_anybody_but_its_party() -> None:
    made, _ = dealt()
    made.until(Phase.AGGREGATE)
    state, fetch = made.state, made.nodes[0].blobs.get
    offer = mpc.read_offer(fetch(state.current.commits[0].digest), state, 0)
    for rank, digest in enumerate(offer.packages):
        for id in range(7):
            scheme: Any = made.nodes[id].world.scheme
            if id == 4 + rank:
                assert scheme.unpack(state, 0, fetch(digest), fetch).keys() == {"features"}
            else:
                with pytest.raises(errors.Untrusted):
                    scheme.unpack(state, 0, fetch(digest), fetch)


def test_an_owner_that_vanishes_after_sharing_does_not_stop_the_others() -> None:
    made, _ = dealt()
    made.until(Phase.AGGREGATE)
    made.nodes = [n for n in made.nodes if n.me.id != 3]
    made.run(1000)
    assert (made.state.phase, made.state.version) == (Phase.STOPPED, 1)
    assert np.allclose(model_of(made, 0), 1.5), "its rows count all the same"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: np.where(rows == rows, np.nan, rows), "values that are no numbers"),
        (lambda rows: np.full_like(rows, np.inf), "values that are no numbers"),
    ],
)
def test_rows_that_cannot_be_shared_stay_at_home(spoil: Any, said: str) -> None:
    made, _ = dealt(trainers={2: Rows(spoil)})
    made.run(1000)
    assert made.state.version == 1
    assert made.state.model_set == {0, 1, 3}
    assert said in notes(made, 2)
    with pytest.raises(errors.Unavailable):
        model_of(made, 2)


def short(self: Replicated, *args: Any) -> Any:
    """Deals shares of an array of another shape than it says."""
    made = Replicated().deal(*args)
    return replace(made, shares=tuple(s[:-16] for s in made.shares))


def test_shares_of_another_shape_are_refused_by_the_parties_and_their_owner_gets_nothing() -> None:
    made, _ = dealt(least=3)
    sharing: Any = made.nodes[1].world.sharing
    sharing.deal = short.__get__(sharing)
    made.run(1000)
    assert made.state.version == 1
    assert "shares of owner 1 refused: the share of features has" in notes(made, 4)
    assert np.allclose(model_of(made, 0), np.mean([0, 2, 3]))
    with pytest.raises(errors.Unavailable):
        model_of(made, 1)
    assert "party 4 refused the shares of owner 1" in notes(made, 0)


def test_a_share_that_is_not_the_one_committed_to_is_refused() -> None:
    """The owner commits to one share and seals another, with a flipped byte, to one party."""
    made, _ = dealt()
    scheme: Any = made.nodes[2].world.scheme
    pack = scheme.pack

    def flipped(state: Any, reader: int, shares: Any) -> Any:
        if reader == 5:
            shares = {name: bytes([share[0] ^ 1]) + share[1:] for name, share in shares.items()}
        return pack(state, reader, shares)

    scheme.pack = flipped
    made.run(1000)
    assert made.state.version == 1
    assert "the share of features is not the one that the owner committed to" in notes(made, 5)
    assert "shares of owner 2 refused" not in notes(made, 4), "its own share was good"
    assert np.allclose(model_of(made, 0), np.mean([0, 1, 3])), "but all parties must accept"


def test_an_offer_that_counts_other_rows_than_its_commitment_is_refused_by_all() -> None:
    made, _ = dealt()
    scheme: Any = made.nodes[2].world.scheme
    offer = scheme.offer
    scheme.offer = lambda state, rows, ids, dealt: offer(state, rows + 1, ids, dealt)
    made.run(1000)
    assert "counts other rows than its commitment" in notes(made, 0)
    assert made.state.model_set == {0, 1, 3}
    assert np.allclose(model_of(made, 0), np.mean([0, 1, 3]))


def test_a_package_sealed_to_another_reader_is_refused_by_all() -> None:
    made, _ = dealt()
    scheme: Any = made.nodes[2].world.scheme
    pack = scheme.pack
    scheme.pack = lambda state, reader, shares: pack(state, 4, shares)
    made.run(1000)
    assert "is sealed to others than party 5" in notes(made, 0)
    assert 2 not in made.state.model_set


def test_too_few_good_owners_train_nothing() -> None:
    made, _ = dealt(least=4)
    sharing: Any = made.nodes[1].world.sharing
    sharing.deal = short.__get__(sharing)
    made.run(2000)
    assert made.state.version == 0
    assert "all parties accept the shares of 3 owners, and min_members = 4" in notes(made, 4)


def test_a_package_of_another_round_does_not_open() -> None:
    made, _ = dealt()
    made.until(Phase.AGGREGATE)
    state, fetch = made.state, made.nodes[0].blobs.get
    offer = mpc.read_offer(fetch(state.current.commits[0].digest), state, 0)
    scheme: Any = made.nodes[4].world.scheme
    with pytest.raises(errors.Untrusted):
        scheme.unpack(replace(state, round=2), 0, fetch(offer.packages[0]), fetch)
    with pytest.raises(errors.Untrusted):
        scheme.unpack(state, 1, fetch(offer.packages[0]), fetch)


def test_a_party_that_holds_another_model_is_found_and_nothing_is_final() -> None:
    made, sessions = dealt()
    sessions[1].change = lambda shares: {n: bytes([s[0] ^ 1]) + s[1:] for n, s in shares.items()}
    made.run(2000)
    assert made.state.version == 0
    assert made.state.phase is Phase.PAUSED
    assert "hold different shares of the model" in notes(made, 4)


def test_a_party_that_sends_one_owner_other_shares_than_it_recorded_is_named() -> None:
    made, _ = dealt()
    scheme: Any = made.nodes[5].world.scheme
    pack = scheme.pack

    def other(state: Any, reader: int, shares: Any) -> Any:
        if reader == 0:
            shares = {n: bytes([s[0] ^ 1]) + s[1:] for n, s in shares.items()}
        return pack(state, reader, shares)

    scheme.pack = other
    made.run(1000)
    assert "party 5 sent owner 0 other shares of the model than it recorded" in notes(made, 0)
    assert made.state.version == 1, "three of four owners have a good model"
    with pytest.raises(errors.Unavailable):
        model_of(made, 0)


def test_reveals_that_the_terms_do_not_declare_are_refused_by_all_owners() -> None:
    for reveals in ((), (Revealed("hidden", 1, 11),), (Revealed("hidden", 1, 10), Revealed("labels", 0, 1))):
        made, _ = dealt(meeting=Meeting(reveals=reveals))
        made.run(2000)
        assert made.state.version == 0


def test_an_absent_party_stops_the_round_and_costs_no_owner_its_standing() -> None:
    made, sessions = dealt()
    sessions[2].absent = True
    made.run(2000)
    assert (made.state.version, made.state.phase) == (0, Phase.PAUSED)
    assert all(made.state.members[i].active for i in range(4))


def test_owners_wait_for_all_certificates() -> None:
    made, _ = dealt()
    assert mpc.complete(made.terms, made.state)
    assert {p: mpc.certificate(made.state, p) for p in (4, 5, 6)} == {
        4 + k: encoding.digest(b"certificate %d" % k) for k in range(3)
    }
    silent = replace(made.state, recorded={})
    assert not mpc.complete(made.terms, silent)


def test_an_address_that_a_stranger_wrote_over_is_put_back() -> None:
    made, sessions = dealt(meeting=Meeting(looks=6))
    made.until(Phase.AGGREGATE)
    while not mpc.everybody(made.state, RecordKind.INPUT):
        assert made.advance()
    made.advance()
    key = f"links/{made.state.domain.hex()}/1/4"
    made.store.put_at(key, bytes(64) + b"127.0.0.1:1")
    made.run(1000)
    assert made.state.version == 1
    assert made.store.get_at(key, limit=300)[64:] == sessions[0].address.encode()


def test_the_model_has_the_layout_of_the_terms() -> None:
    made, _ = dealt()
    made.run()
    assert model_of(made, 0).shape == (LENGTH,)
