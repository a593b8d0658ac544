from __future__ import annotations

import pytest
from tests.tiny import tiny

from hansa import errors, motions
from hansa.motions import Proposed
from hansa.protocol.state import replaced_id
from hansa.records import ZERO_DIGEST, Motion

NEW = b"\x01" * 20
EXCLUDE = Proposed(Motion.EXCLUDE, NEW, ZERO_DIGEST)


@pytest.fixture
def made():
    """Five members in round 1."""
    return tiny(5, silent=frozenset(range(5)))


def sign(made, what: Proposed, *ids: int) -> None:
    for id in ids:
        motions.sign(made.store, made.state, what, id, made.parties[id])


def test_a_quorum_of_signatures_carries_a_motion(made):
    sign(made, EXCLUDE, 4, 0, 2)
    (motion,) = motions.open_motions(made.store, made.state)
    assert motion.what == EXCLUDE
    assert motions.missing(made.state, motion) == 1
    sign(made, EXCLUDE, 3)
    (motion,) = motions.open_motions(made.store, made.state)
    assert motions.missing(made.state, motion) == 0
    made.ledger().submit(motions.carried(motion))
    assert NEW in made.state.excluded
    # Its number is used up: what was signed under it is worth nothing.
    assert motions.open_motions(made.store, made.state) == []


def test_what_is_no_good_signature_of_a_member_does_not_count(made):
    sign(made, EXCLUDE, 0)
    (good,) = made.store.list(f"motions/{made.state.domain.hex()}")
    folder, signature = good.rsplit("/", 1)[0], made.store.get_at(good, limit=64)
    for name in ("1", "9", "01", "00", "1024", "x", "1/2"):
        made.store.put_at(f"{folder}/{name}", signature)
    made.store.put_at(f"{folder}/2", signature[:-1])
    made.store.put_at(f"{folder}/3", signature + b"\x00")
    parent = folder.rsplit("/", 1)[0]
    strange = (
        f"7-{NEW.hex()}-{ZERO_DIGEST.hex()}",
        f"1-{NEW.hex()}-00",
        f"01-{NEW.hex()}-{ZERO_DIGEST.hex()}",
    )
    for name in strange:
        made.store.put_at(f"{parent}/{name}/0", signature)
    (motion,) = motions.open_motions(made.store, made.state)
    assert motion.signatures == {0: signature}


def test_a_signature_is_not_taken_for_another_motion(made):
    sign(made, EXCLUDE, 0)
    (good,) = made.store.list(f"motions/{made.state.domain.hex()}")
    made.store.put_at(good.replace("/1-", "/0-"), made.store.get_at(good, limit=64))
    assert [m.what for m in motions.open_motions(made.store, made.state)] == [EXCLUDE]


def test_what_could_not_be_carried_now_is_neither_signed_nor_shown(made):
    resume = Proposed(Motion.RESUME, bytes(20), ZERO_DIGEST)
    with pytest.raises(errors.WrongPhase):
        sign(made, resume, 0)
    unknown = Proposed(Motion.REPLACE, NEW, (9).to_bytes(32, "big"))
    assert replaced_id(unknown.reason) == 9
    with pytest.raises(errors.NotMember):
        sign(made, unknown, 0)
    assert motions.open_motions(made.store, made.state) == []


def test_a_reason_is_shown_on_one_line_without_control_characters(made):
    digest = motions.explain(made.store, "sells\n\x1b[2Jupdates\u202e")
    assert motions.reason_of(made.store, digest) == "sells  [2Jupdates "
    assert motions.reason_of(made.store, motions.explain(made.store, " ")) == ""
    assert "does not have" in motions.reason_of(made.store, b"\x02" * 32)
    with pytest.raises(errors.Misconfigured):
        motions.explain(made.store, "x" * 2001)


def test_motions_of_one_meaning_have_one_name(made):
    assert motions.name_of(made.state, EXCLUDE) == motions.name_of(made.state, EXCLUDE)
    other = Proposed(Motion.INVITE, NEW, ZERO_DIGEST)
    assert motions.name_of(made.state, EXCLUDE) != motions.name_of(made.state, other)
