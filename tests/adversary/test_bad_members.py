"""Members that withhold, are too few, come, go, pause, resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.adversary.hostile import (
    ALL,
    Hiding,
    available,
    faults,
    findings,
    outcomes,
    selections,
    signed,
    without,
)
from tests.tiny import join, node, party, tiny

from hansa import encoding, errors
from hansa.protocol import messages as msg
from hansa.protocol.state import active_members, quorum
from hansa.records import Fault, GovernanceTerms, Motion, Phase, Standing, Training

BAD = 2
ONCE = Training(rounds=1, min_members=4, deadline=100)


def withhold(made, id: int, kind: str, rounds: frozenset[int]) -> None:
    """Member `id` sends no message of this kind in these rounds."""
    honest = made.nodes[id]
    send = honest.messages.send
    honest.messages.send = lambda k, state: False if k == kind and state.round in rounds else send(k, state)


def test_a_member_that_withholds_its_layer_is_out_and_comes_back():
    """The layer of the next round lies one hash deeper: the chain walks it forward by two."""
    made = tiny(selection=ALL, training=replace(ONCE, rounds=2))
    withhold(made, BAD, "reveal", frozenset({1}))
    made.until(Phase.AVAILABLE, 1)
    assert faults(made, BAD) == [Fault.WITHHELD_BEACON]
    assert BAD not in made.state.current.places
    made.run()
    assert BAD not in selections(made)[0]
    assert BAD in selections(made)[1]
    assert made.state.members[BAD].onion_round == 2
    assert outcomes(made) == [1, 1]


def test_who_withheld_its_layer_does_not_lead():
    for seed in range(3):
        made = tiny(5 + seed, training=ONCE)
        withhold(made, BAD, "reveal", frozenset({1}))
        made.run()
        assert outcomes(made) == [1]
        assert all(e.id != BAD for e in made.chain.events if type(e).__name__ == "Elected")


def test_a_false_layer_is_refused():
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.BEACON)
    layers = made.parties[0].onion._layers
    for wrong in (layers[-1], layers[-3], made.parties[1].onion._layers[-2], bytes(32)):
        with pytest.raises(errors.WrongPreimage):
            made.ledger().submit(msg.Reveals(1, (msg.Reveal(0, wrong),)))


def hidden_from(victims: set[int], members: int, **changes):
    """Member BAD shows its blobs only to those who are not victims."""
    secret: dict[bytes, bytes] = {}

    def world(id: int):
        def alter(w):
            if id in victims:
                return w
            return replace(w, store=Hiding(w.store, secret, author=id == BAD))

        return alter

    return tiny(members, worlds={i: world(i) for i in range(members)}, selection=ALL, **changes)


def test_a_blob_shown_to_a_quorum_only_reaches_everybody():
    """Seven verifiers, five must hold. The author shows its blob to five, itself among them, and then keeps
    silent: without help the two others could not vote, and each attempt would lack one approval."""
    made = hidden_from({0, 1}, 7, training=ONCE)
    for kind in ("precommit", "vote"):
        withhold(made, BAD, kind, frozenset({1}))
    made.run()
    assert outcomes(made) == [1]
    assert selections(made) == [frozenset(range(7))]
    assert all(faults(made, i) == [] for i in range(7) if i != BAD)
    reference = tiny(7, selection=ALL, training=ONCE)
    reference.run()
    assert made.state.model == reference.state.model


def test_a_blob_shown_to_too_few_stays_out():
    """Its friends are in league with it and pass nothing on."""
    made = hidden_from({0, 1, 3}, 5, training=ONCE)
    made.nodes[4].blobs.share = lambda state, quarter: False
    made.nodes[BAD].blobs.share = lambda state, quarter: False
    made.run()
    assert available(made) == [frozenset({0, 1, 3, 4})]
    assert faults(made, BAD) == [Fault.WITHHELD_BLOB]
    assert made.state.model == without(BAD, training=ONCE).state.model
    assert all("could not be fetched" in text for text in findings(made, {0, 1, 3}))


def test_a_grant_that_leaves_readers_out_keeps_the_update_out():
    """Some verifiers get the blob and no key to it: for them it is as good as missing."""
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.COMMIT)
    grants = made.nodes[BAD].world.scheme._grants
    own, digest = grants._own_grant, grants._digest

    def partial(domain, readers):
        grants._digest = lambda _: digest(readers)
        try:
            return own(domain, {i: k if i in (BAD, 4) else bytes(32) for i, k in readers.items()})
        finally:
            grants._digest = digest

    grants._own_grant = partial
    made.run()
    assert available(made) == [frozenset({0, 1, 3, 4})]
    assert faults(made, BAD) == [Fault.WITHHELD_BLOB]


def test_too_few_members_extend_the_phase_then_void_the_round_then_pause():
    made = tiny(
        5,
        silent=frozenset({0, 1}),
        training=replace(ONCE, max_failed_rounds=2),
        govern=GovernanceTerms(extensions=1, max_absent=9),
    )
    model = made.state.model
    made.run()
    assert made.state.phase is Phase.PAUSED
    assert outcomes(made) == [2, 2]
    assert made.state.model == model
    assert made.state.version == 0


def test_a_quorum_cannot_be_reached_by_three_of_five_verifiers():
    """Four commit; two of the five fall silent before the vote: no result becomes final."""
    made = tiny(training=replace(ONCE, max_failed_rounds=1), selection=ALL)
    made.until(Phase.AGGREGATE)
    made.nodes = made.nodes[:3]
    made.run()
    assert made.state.phase is Phase.PAUSED
    assert made.state.version == 0
    assert outcomes(made) == [2]


def test_silent_members_become_inactive_and_the_quorum_shrinks():
    made = tiny(
        6,
        silent=frozenset({5}),
        training=replace(ONCE, rounds=4),
        govern=GovernanceTerms(max_absent=2),
        selection=ALL,
    )
    made.run()
    assert made.state.phase is Phase.STOPPED
    assert not made.state.members[5].active
    assert active_members(made.state) == [0, 1, 2, 3, 4]
    assert made.state.current.roster == frozenset(range(5))


def test_a_federation_never_shrinks_below_its_minimum_by_absence():
    made = tiny(4, silent=frozenset({3}), govern=GovernanceTerms(max_absent=1), training=ONCE)
    made.run()
    assert made.state.phase is Phase.PAUSED
    assert made.state.members[3].active


def status(made, id: int, standing: Standing) -> None:
    nonce = made.state.nonces[made.state.members[id].address]
    signature = signed(made, id, "Status", nonce, int(standing))
    made.ledger().submit(msg.Status(id, standing, signature))


def test_members_go_away_come_back_and_leave_between_rounds():
    made = tiny(6, training=replace(ONCE, rounds=4))
    status(made, 5, Standing.AWAY)
    made.until(Phase.COMMIT, 2)
    assert made.state.current.roster == frozenset(range(5))
    status(made, 5, Standing.BACK)
    status(made, 4, Standing.LEFT)
    made.until(Phase.COMMIT, 3)
    assert made.state.current.roster == frozenset({0, 1, 2, 3, 5})
    made.run()
    assert outcomes(made) == [1, 1, 1, 1]
    # Member 5 was no reader of the model of round 2; the others seal it anew.
    assert {e.round for e in made.chain.events if type(e).__name__ == "Committed" and e.id == 5} == {1, 3, 4}


def test_a_status_cannot_be_replayed():
    made = tiny(6)
    nonce = made.state.nonces[made.state.members[5].address]
    away = msg.Status(5, Standing.AWAY, signed(made, 5, "Status", nonce, int(Standing.AWAY)))
    made.ledger().submit(away)
    status(made, 5, Standing.BACK)
    with pytest.raises(errors.BadSignature):
        made.ledger().submit(away)


@pytest.mark.parametrize("newcomers", [1, 5])
def test_newcomers_take_part_at_once_even_if_they_are_more_than_a_third(newcomers: int):
    """The model of round 2 is sealed to those who were there: without it, newcomers could not vote either."""
    made = tiny(5, training=replace(ONCE, rounds=4))
    made.until(Phase.COMMIT, 2)
    ids = range(5, 5 + newcomers)
    for id in ids:
        new = party(0, f"m{id}")
        made.parties.append(new)
        made.ledger().submit(msg.Invite(new.address))
        made.ledger().submit(join(made, new))
        made.nodes.append(node(made, id))
    made.run()
    assert outcomes(made) == [1, 1, 1, 1]
    assert made.state.current.roster == frozenset(range(5 + newcomers))
    for id in ids:
        committed = {e.round for e in made.chain.events if type(e).__name__ == "Committed" and e.id == id}
        assert committed == {3, 4}


def test_a_newcomer_is_not_fooled_about_the_model_that_stands():
    """A member seals another model to it; the store's operator leaves garbage beside that."""
    made = tiny(5, silent=frozenset({4}), training=replace(ONCE, rounds=4))
    made.until(Phase.COMMIT, 2)
    made.parties.append(new := party(0, "m5"))
    made.ledger().submit(msg.Invite(new.address))
    made.ledger().submit(join(made, new))
    newcomer = node(made, 5)
    made.until(Phase.COMMIT, 3)
    state, folder = made.state, f"welcome/{made.state.domain.hex()}/{made.state.round}"
    false = node(made, 4).world.scheme.release(state, state.version, b"another model")
    for blob in (false.blob, *false.attachments):
        made.store.put(blob)
    digest = encoding.digest(false.blob)
    for name, data in ((1, digest), (4, digest), ("x", b""), (77, bytes(32)), (2, b"short"), (3, bytes(33))):
        made.store.put_at(f"{folder}/{name}", data)
    with pytest.raises(errors.Unavailable, match="nobody has sealed the model"):
        newcomer.models.standing(state)
    made.nodes.append(newcomer)
    made.run()
    assert outcomes(made) == [1, 1, 1, 1]
    assert newcomer.models.standing(made.state).digest == made.state.model


def motion(made, kind: Motion, who: bytes, signers: list[int]) -> msg.Move:
    fields = (made.state.motions, int(kind), who, bytes(32))
    return msg.Move(kind, who, bytes(32), tuple((i, signed(made, i, "Motion", *fields)) for i in signers))


def test_a_member_is_excluded_by_vote_and_stays_out():
    made = tiny(6, training=replace(ONCE, rounds=3))
    made.until(Phase.AGGREGATE)
    who = made.state.members[BAD].address
    others = [0, 1, 3, 4, 5]
    assert quorum(6) == 5
    with pytest.raises(errors.TooFewSigners):
        made.ledger().submit(motion(made, Motion.EXCLUDE, who, others[:4]))
    made.ledger().submit(motion(made, Motion.EXCLUDE, who, others))
    made.until(Phase.COMMIT, 2)
    assert BAD not in made.state.current.roster
    with pytest.raises(errors.NotInvited):
        made.ledger().submit(join(made, made.parties[BAD], nonce=made.state.nonces[who]))
    made.run()
    assert outcomes(made) == [1, 1, 1]
    assert all(BAD not in chosen for chosen in selections(made)[1:])


def test_a_motion_cannot_be_replayed_or_padded():
    made = tiny(5)
    pause = motion(made, Motion.PAUSE, bytes(20), [0, 1, 2, 3])
    twice = replace(pause, signatures=(pause.signatures[0],) * 4)
    with pytest.raises(errors.UnorderedSigners):
        made.ledger().submit(twice)
    forged = replace(pause, signatures=(*pause.signatures[:3], (4, pause.signatures[3][1])))
    with pytest.raises(errors.BadSignature):
        made.ledger().submit(forged)
    made.ledger().submit(pause)
    with pytest.raises(errors.BadSignature):
        made.ledger().submit(pause)


@pytest.mark.parametrize("phase", [Phase.COMMIT, Phase.AVAILABLE, Phase.VERIFY])
def test_a_paused_federation_goes_on_after_a_vote(phase):
    made = tiny(5, training=replace(ONCE, rounds=2))
    made.until(phase)
    made.ledger().submit(motion(made, Motion.PAUSE, bytes(20), [0, 1, 2, 3]))
    assert not any(n.step() for n in made.nodes)
    made.ledger().submit(motion(made, Motion.RESUME, bytes(20), [1, 2, 3, 4]))
    made.run()
    assert made.state.phase is Phase.STOPPED
    assert outcomes(made) == [1, 1]


def test_a_vote_stops_a_federation():
    made = tiny(5)
    made.until(Phase.AGGREGATE)
    made.ledger().submit(motion(made, Motion.STOP, bytes(20), [0, 1, 2, 3]))
    made.run()
    assert made.state.phase is Phase.STOPPED
