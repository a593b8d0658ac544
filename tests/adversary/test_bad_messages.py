"""Messages that are stale, replayed, forged, doubled, out of phase, malformed, overwritten or held back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.adversary.hostile import (
    ALL,
    Ledger,
    faults,
    findings,
    item,
    outbox,
    outcomes,
    selections,
    signed,
)
from tests.tiny import join, tiny

from hansa import encoding, errors
from hansa.node import outbox as box
from hansa.protocol import messages as msg
from hansa.protocol.timing import pack_meta
from hansa.records import Fault, Phase, Role, Slot, Training

VICTIM, FORGER = 3, 2
ONCE = Training(rounds=1, min_members=4, deadline=100)
META = pack_meta(1, 1, 10)


@pytest.fixture(scope="module")
def honest():
    made = tiny(selection=ALL, training=ONCE)
    made.run()
    return made


def forged_commit(made, signer: int, named: int, **changes) -> msg.Commit:
    fields = {"round": made.state.round, "base": 0, "digest": b"f" * 32, "meta": META} | changes
    signature = signed(made, signer, "Commit", *fields.values())
    return msg.Commit(named, fields["base"], fields["digest"], fields["meta"], signature)


GARBAGE = {
    "nothing": b"",
    "no CBOR": b"\xff\xff",
    "another type": encoding.encode({"id": VICTIM}),
    "too few fields": encoding.encode([VICTIM]),
    "too long": bytes(5000),
    "just too long": encoding.encode([VICTIM, 0, bytes(1000), bytes(32), bytes(64)]),
    "negative id": encoding.encode([-1, 0, bytes(32), bytes(32), bytes(64)]),
    "huge id": encoding.encode([2**63, 0, bytes(32), bytes(32), bytes(64)]),
    "decimal bomb": bytes.fromhex("c4821b7fffffffffffffff01"),
    "compiled pattern": bytes.fromhex("d82361") + b"a",
    "nested lists": b"\x81" * 1000 + b"\x80",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_over_a_members_message_does_not_silence_it(honest, kind):
    """Anybody may write to the outbox. The victim still gets its own word to the chain, by itself."""
    made = tiny(selection=ALL, training=ONCE)
    victim = made.nodes[VICTIM]
    while "commit" not in victim.messages.delivered:
        victim.step()
    outbox(made, "commit", VICTIM, GARBAGE[kind])
    made.run()
    assert selections(made) == [frozenset(range(5))]
    assert made.state.model == honest.state.model
    assert any("outbox" in text and "malformed" in text for text in findings(made, {0, 1, 2, 4}))


@pytest.mark.parametrize(
    "slot", ["commit", "reveal", "availability", "precommit", "proposal-0", "vote-0", "ballot", "opening"]
)
def test_garbage_in_every_slot_stops_nobody(slot):
    phases = {"commit": Phase.COMMIT, "reveal": Phase.BEACON, "opening": Phase.REVEAL}
    phases |= {"proposal-0": Phase.AGGREGATE, "precommit": Phase.AGGREGATE, "vote-0": Phase.VERIFY}
    made = tiny(training=ONCE)
    made.until(phases.get(slot, Phase.AVAILABLE))
    for id in range(5):
        if slot.split("-")[0] not in {s.split(":")[0] for s in made.nodes[id].messages.delivered}:
            outbox(made, slot, id, b"\x80")
    for stranger in (77, 9999):
        outbox(made, slot, stranger, b"\x80")
    made.store.put_at(f"{box.folder(made.state, slot)}/x", b"no id")
    made.run()
    assert outcomes(made) == [1]


def overwritten(make):
    """A federation in which `make(made)` lies in the victim's place when commits are relayed."""
    made = tiny(selection=ALL, training=ONCE, idle=frozenset({VICTIM}))
    outbox(made, "commit", VICTIM, item(make(made)))
    made.run()
    assert outcomes(made) == [1]
    assert selections(made) == [frozenset({0, 1, 2, 4})]
    return made


def test_a_forged_commitment_is_refused():
    overwritten(lambda made: forged_commit(made, FORGER, VICTIM))


def test_a_commitment_under_another_members_name_is_refused():
    made = overwritten(lambda made: forged_commit(made, FORGER, FORGER))
    assert any("names member 2" in text for text in findings(made, range(5)))


def test_a_commitment_signed_for_another_round_is_refused():
    overwritten(lambda made: forged_commit(made, VICTIM, VICTIM, round=2))


def test_a_commitment_to_a_model_of_the_future_is_refused():
    overwritten(lambda made: forged_commit(made, VICTIM, VICTIM, base=5))


def test_a_commitment_to_a_model_that_is_too_old_is_refused():
    made = tiny(selection=ALL, training=replace(ONCE, rounds=2), idle=frozenset({VICTIM}))
    made.until(Phase.COMMIT, 2)
    with pytest.raises(errors.StaleBase):
        made.ledger().submit(msg.Commits(2, (forged_commit(made, VICTIM, VICTIM, base=0),)))
    made.ledger().submit(msg.Commits(2, (forged_commit(made, VICTIM, VICTIM, base=1),)))


def test_a_commitment_of_another_federation_is_refused():
    """Same members, same keys, same round; other terms, hence another domain."""
    other = tiny(selection=ALL, training=replace(ONCE, rounds=2))
    assert other.state.domain != tiny(selection=ALL, training=ONCE).state.domain
    overwritten(lambda made: forged_commit(other, VICTIM, VICTIM))


def test_messages_of_an_earlier_round_cannot_be_replayed():
    made = tiny(training=replace(ONCE, rounds=2))
    made.until(Phase.COMMIT, 2)
    sent: dict[str, bytes] = {}
    for slot in ("commit", "reveal", "availability", "ballot", "opening", "precommit", "vote:0"):
        data = made.nodes[0].world.journal.get(1, slot)
        assert data is not None
        sent[slot] = data
    kinds = {"commit": Phase.COMMIT, "reveal": Phase.BEACON, "availability": Phase.AVAILABLE}
    kinds |= {"ballot": Phase.AVAILABLE, "opening": Phase.REVEAL, "precommit": Phase.AGGREGATE}
    kinds |= {"vote:0": Phase.VERIFY}
    for slot, phase in kinds.items():
        made.until(phase, 2)
        kind = slot.split(":")[0]
        outbox(made, "replayed", 0, sent[slot])
        before = made.state
        relayed = box.relay(
            made.ledger(1), made.store, before, kind, "replayed", [0], {}, again=set(), dry_run=False
        )
        assert not relayed.sent
        assert made.state is before
    made.run()
    assert outcomes(made) == [1, 1]


CALLS = {
    Phase.COMMIT: lambda made: msg.Commits(1, (forged_commit(made, 0, 0),)),
    Phase.BEACON: lambda made: msg.Reveals(1, (msg.Reveal(0, made.parties[0].onion._layers[-2]),)),
    Phase.AVAILABLE: lambda made: msg.Availabilities(
        1, (msg.Availability(0, 31, signed(made, 0, "Availability", 1, [31, 0, 0, 0])),)
    ),
    Phase.AGGREGATE: lambda made: msg.Propose(1, 0, b"r" * 32, b"e" * 32, bytes(64)),
    Phase.VERIFY: lambda made: msg.Votes(
        1,
        0,
        (msg.Vote(0, False, bytes(32), signed(made, 0, "Vote", 1, 0, made.state.current.result, False)),),
    ),
}


@pytest.mark.parametrize("belongs", CALLS)
@pytest.mark.parametrize("now", [Phase.COMMIT, Phase.BEACON, Phase.AVAILABLE, Phase.AGGREGATE, Phase.VERIFY])
def test_a_message_out_of_its_phase_changes_nothing(belongs, now):
    if belongs is now:
        return
    made = tiny(selection=ALL, training=ONCE)
    made.until(now)
    before = made.state
    with pytest.raises(errors.WrongPhase):
        made.ledger().submit(CALLS[belongs](made))
    assert made.state is before


def test_a_doubled_message_counts_once():
    made = tiny(selection=ALL, training=ONCE)
    first, second = forged_commit(made, 0, 0), forged_commit(made, 0, 0, digest=b"g" * 32)
    assert made.ledger().dry_run(msg.Commits(1, (first, first, second))) == [0, 10, 10]
    made.ledger().submit(msg.Commits(1, (first, first, second)))
    assert len(made.state.current.commits) == 1
    with pytest.raises(errors.AlreadySent):
        made.ledger().submit(msg.Commits(1, (second,)))


def test_a_message_after_the_deadline_is_too_late():
    made = tiny(selection=ALL, training=ONCE, silent=frozenset(range(5)))
    made.now = made.state.deadline - 1
    assert made.ledger().dry_run(msg.Commits(1, (forged_commit(made, 0, 0),))) == [0]
    made.now = made.state.deadline
    with pytest.raises(errors.DeadlinePassed):
        made.ledger().submit(msg.Commits(1, (forged_commit(made, 0, 0),)))


def test_a_join_cannot_be_replayed_or_forged():
    made = tiny()
    again = join(made, made.parties[0])
    with pytest.raises(errors.BadSignature):
        made.ledger().submit(again)
    stolen = replace(join(made, made.parties[1], nonce=1), who=made.parties[0].address)
    with pytest.raises(errors.BadSignature):
        made.ledger().submit(stolen)


def test_a_join_cannot_take_another_role():
    made = tiny()
    server = replace(made.parties[0], role=Role.SERVER)
    with pytest.raises(errors.WrongRole):
        made.ledger().submit(join(made, server, nonce=1))


def dropping(id: int):
    """A relay that leaves one member's messages out of every batch."""

    def change(call):
        if not hasattr(call, "items"):
            return call
        items = tuple(i for i in call.items if i.id != id)
        return replace(call, items=items) if items else None

    return lambda world: replace(world, ledger=Ledger(world.ledger, change))


def test_censoring_relays_cannot_leave_a_member_out(honest):
    """All relays but the victim drop its messages: after three quarters of a phase it sends them itself."""
    worlds = {i: dropping(VICTIM) for i in range(5) if i != VICTIM}
    made = tiny(worlds=worlds, relays=frozenset({0, 1, 2, 4}), selection=ALL, training=ONCE)
    made.run()
    assert selections(made) == [frozenset(range(5))]
    assert made.state.model == honest.state.model
    assert faults(made, VICTIM) == []


def test_one_honest_relay_is_enough(honest):
    worlds = {i: dropping(VICTIM) for i in (0, 1, 2)}
    made = tiny(worlds=worlds, relays=frozenset({0, 1, 2, 4}), selection=ALL, training=ONCE)
    made.run()
    assert made.state.model == honest.state.model
    assert faults(made, VICTIM) == []


def claims(made, id: int, name: str, first: tuple, second: tuple) -> list[msg.Claim]:
    made_claims = []
    for attempt, x, y in (first, second):
        last = {"Vote": lambda y: y[-1] == 1, "Commit": lambda y: int.from_bytes(y, "big")}.get(name, bytes)(
            y
        )
        made_claims.append(msg.Claim(attempt, x, y, signed(made, id, name, 1, attempt, x, last)))
    return made_claims


YES, NO = (1).to_bytes(32, "big"), bytes(32)
DOUBLES = {
    Slot.COMMIT: ("Commit", (0, b"a" * 32, bytes(32)), (0, b"b" * 32, bytes(32))),
    Slot.PROPOSAL: ("Proposal", (0, b"a" * 32, b"e" * 32), (0, b"b" * 32, b"e" * 32)),
    Slot.VOTE: ("Vote", (0, b"a" * 32, YES), (0, b"a" * 32, NO)),
}


@pytest.mark.parametrize("slot", DOUBLES)
def test_who_signs_twice_for_one_slot_can_be_accused_by_anybody(slot):
    made = tiny(training=ONCE)
    a, b = claims(made, FORGER, *DOUBLES[slot])
    before = made.state.members[FORGER].reputation
    made.ledger(0).submit(msg.Accuse(slot, FORGER, 1, a, b))
    assert faults(made, FORGER) == [Fault.EQUIVOCATION]
    assert made.state.members[FORGER].reputation == before - before * 250 // 1000
    with pytest.raises(errors.AlreadySent):
        made.ledger(0).submit(msg.Accuse(slot, FORGER, 1, b, a))


@pytest.mark.parametrize("slot", DOUBLES)
def test_an_accusation_without_proof_fails(slot):
    made = tiny(training=ONCE)
    a, b = claims(made, FORGER, *DOUBLES[slot])
    with pytest.raises(errors.NotEquivocation):
        made.ledger(0).submit(msg.Accuse(slot, FORGER, 1, a, a))
    with pytest.raises(errors.BadSignature):
        made.ledger(0).submit(msg.Accuse(slot, VICTIM, 1, a, b))
    with pytest.raises(errors.BadSignature):
        made.ledger(0).submit(msg.Accuse(slot, FORGER, 1, a, replace(b, signature=bytes(64))))
    assert faults(made, FORGER) == faults(made, VICTIM) == []
