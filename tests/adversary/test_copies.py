"""Copies: of updates and ballots before their authors show them, and of signatures in a second form."""

from __future__ import annotations

import coincurve
import pytest
from eth_hash.auto import keccak
from tests.adversary.hostile import ALL, faults, outcomes, selections, signed
from tests.tiny import tiny

from hansa.crypto.signatures import address, recover
from hansa.protocol import messages as msg
from hansa.records import Fault, Phase, Training

ONCE = Training(rounds=1, min_members=4, deadline=100)
COPYCAT, VICTIM = 2, 0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HIGHEST = ORDER // 2


def test_no_update_can_be_read_before_all_are_committed():
    """All members have trained, sealed and committed; the store still holds messages only."""
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.BEACON)
    assert len(made.state.current.commits) == 5
    assert made.store.list("outbox")
    for commit in made.state.current.commits.values():
        assert not made.store.has(commit.digest)
    assert made.store.list("blobs") == []
    made.until(Phase.AGGREGATE)
    for commit in made.state.current.commits.values():
        assert made.store.has(commit.digest)


def test_a_copied_ballot_commitment_cannot_be_opened():
    """A commitment tells nothing, so it can be copied. It binds its author's id, so the copy never opens."""
    made = tiny(training=ONCE)
    made.until(Phase.AVAILABLE)
    honest = made.nodes[COPYCAT].messages.send
    made.nodes[COPYCAT].messages.send = lambda kind, state: (
        kind not in ("ballot", "opening") and honest(kind, state)
    )
    while VICTIM not in made.state.current.ballots:
        assert made.advance()
        sent = made.nodes[VICTIM].world.journal.get(1, "ballot")
        if sent is not None and COPYCAT not in made.state.current.ballots:
            commitment = made.nodes[VICTIM].messages._make("ballot", made.state, {}).commitment
            signature = signed(made, COPYCAT, "Ballot", 1, commitment)
            made.ledger().submit(msg.Ballots(1, (msg.Ballot(COPYCAT, commitment, signature),)))
    made.until(Phase.REVEAL)
    assert made.state.current.ballots[COPYCAT] == made.state.current.ballots[VICTIM]
    theirs = made.nodes[VICTIM].messages._make("opening", made.state, {})
    place = made.state.current.places.index(COPYCAT)
    copied = msg.Opening(COPYCAT, place, theirs.ranking, theirs.stop, theirs.values, theirs.salt)
    assert made.ledger().dry_run(msg.Openings(1, (theirs, copied))) == [0, 16]
    made.run()
    assert outcomes(made) == [1]
    assert faults(made, COPYCAT) == [Fault.WITHHELD_BALLOT]
    assert faults(made, VICTIM) == []


def test_who_does_not_open_its_ballot_is_not_selected():
    made = tiny(training=ONCE)
    honest = made.nodes[COPYCAT].messages.send
    made.nodes[COPYCAT].messages.send = lambda kind, state: kind != "opening" and honest(kind, state)
    made.run()
    assert outcomes(made) == [1]
    assert faults(made, COPYCAT) == [Fault.WITHHELD_BALLOT]
    assert COPYCAT not in selections(made)[0]


@pytest.fixture(scope="module")
def edge():
    """A key that signs a message with the highest allowed s: its twin, the lowest high s, fits 255 bits too."""
    message = keccak(b"a message")
    nonce = 12345
    point = coincurve.PrivateKey.from_int(nonce).public_key.point()
    r, parity = point[0] % ORDER, point[1] & 1
    secret = (HIGHEST * nonce - int.from_bytes(message, "big")) * pow(r, -1, ORDER) % ORDER
    return secret.to_bytes(32, "big"), message, r, parity


def compact(r: int, s: int, parity: int) -> bytes:
    return r.to_bytes(32, "big") + (parity << 255 | s).to_bytes(32, "big")


def test_a_signature_has_no_second_form(edge):
    """(r, n - s) with the other parity is valid ECDSA for the same key and message; it is refused (EIP-2)."""
    secret, message, r, parity = edge
    assert recover(message, compact(r, HIGHEST, parity)) == address(secret)
    twin = r.to_bytes(32, "big") + (ORDER - HIGHEST).to_bytes(32, "big") + bytes([1 - parity])
    key = coincurve.PublicKey.from_signature_and_message(twin, message, hasher=None)
    assert keccak(key.format(compressed=False)[1:])[12:] == address(secret)
    assert ORDER - HIGHEST < 2**255
    assert recover(message, compact(r, ORDER - HIGHEST, 1 - parity)) is None
