"""Leaders that lie, hold back, vanish or speak twice, and verifiers that do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.adversary.hostile import ALL, faults, findings, leaders, outcomes, signed
from tests.tiny import tiny

from hansa import errors
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol import selection
from hansa.records import AggregationTerms, Fault, Governance, GovernanceTerms, Phase, Slot, Training

ONCE = Training(rounds=1, min_members=4, deadline=100)


@pytest.fixture(scope="module")
def honest():
    made = tiny(selection=ALL, training=ONCE)
    made.run()
    return made


def wrong_model(made) -> ckpt.Checkpoint:
    """Another model of the right shape, as a checkpoint."""
    base = made.nodes[0].models.standing(made.state)
    return ckpt.initial(AggregationTerms(), replace(base.model, values=base.model.values + 99))


def release_of(made, leader: int, data: bytes) -> bytes:
    node = made.nodes[leader]
    sealed = node.world.scheme.release(made.state, made.state.version + 1, data)
    for blob in (sealed.blob, *sealed.attachments):
        made.store.put(blob)
    record = ckpt.evidence(made.terms.aggregation, made.state, ckpt.encoding.digest(sealed.blob))
    return bytes(made.store.put(record))


def propose(made, result: bytes, evidence: bytes) -> int:
    """The leader of this attempt proposes, once all have fixed their own results."""
    leader = made.state.current.leader
    node = next(n for n in made.nodes if n.me.id == leader)
    honestly, node.messages.send = node.messages.send, muted(node.messages.send)
    while len(made.state.current.precommits) < len(made.state.current.verifiers):
        assert made.advance()
    node.messages.send = honestly
    fields = (1, made.state.current.attempt, result, evidence)
    made.ledger().submit(msg.Propose(*fields, signed(made, leader, "Proposal", *fields)))
    return leader


def lying_leader(make):
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.AGGREGATE)
    result, evidence = make(made)
    leader = propose(made, result, evidence)
    made.run()
    return made, leader


def check_next_leader_delivers(made, leader: int, honest, fault: Fault) -> None:
    assert outcomes(made) == [1]
    assert made.state.model == honest.state.model
    assert fault in faults(made, leader)
    assert leaders(made)[0] == (1, leader)
    assert len(leaders(made)) == 2
    assert all(faults(made, i) == [] for i in range(5) if i != leader)


def test_a_leader_that_proposes_a_wrong_sum_is_rejected(honest):
    def make(made):
        wrong = wrong_model(made)
        return wrong.digest, release_of(made, made.state.current.leader, wrong.data)

    made, leader = lying_leader(make)
    check_next_leader_delivers(made, leader, honest, Fault.REJECTED_PROPOSAL)


def test_a_leader_that_names_the_right_sum_and_stores_another_is_rejected(honest):
    def make(made):
        data = wrong_model(made).data
        return honest.state.model, release_of(made, made.state.current.leader, data)

    made, leader = lying_leader(make)
    check_next_leader_delivers(made, leader, honest, Fault.REJECTED_PROPOSAL)
    others = findings(made, set(range(5)) - {leader})
    assert all(f"proposal of member {leader} refused" in text for text in others)


def test_a_leader_that_withholds_the_model_it_names_is_rejected(honest):
    """Those who waited for it must not pay as silent verifiers."""
    made, leader = lying_leader(lambda made: (honest.state.model, b"\7" * 32))
    check_next_leader_delivers(made, leader, honest, Fault.REJECTED_PROPOSAL)
    others = findings(made, set(range(5)) - {leader})
    assert all("nobody can fetch" in text for text in others)


@pytest.mark.parametrize(
    "junk", [b"", b"\x80", b"\xa1", bytes(2_000_000), bytes.fromhex("c4821b7fffffffffffffff01")]
)
def test_a_leader_whose_evidence_is_junk_is_rejected(honest, junk):
    made, leader = lying_leader(lambda made: (honest.state.model, bytes(made.store.put(junk))))
    check_next_leader_delivers(made, leader, honest, Fault.REJECTED_PROPOSAL)


def test_a_leader_cannot_propose_twice():
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.AGGREGATE)
    propose(made, b"a" * 32, b"e" * 32)
    leader = made.state.current.leader
    fields = (1, 0, b"b" * 32, b"e" * 32)
    second = msg.Propose(*fields, signed(made, leader, "Proposal", *fields))
    with pytest.raises(errors.WrongPhase):
        made.ledger().submit(second)
    assert made.state.current.result == b"a" * 32
    first = made.chain.events[-2]
    claims = [
        msg.Claim(0, r, b"e" * 32, signed(made, leader, "Proposal", 1, 0, r, b"e" * 32))
        for r in (first.result, b"b" * 32)
    ]
    made.ledger().submit(msg.Accuse(Slot.PROPOSAL, leader, 1, *claims))
    assert Fault.EQUIVOCATION in faults(made, leader)


def test_only_the_leader_proposes():
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.AGGREGATE)
    leader = made.state.current.leader
    other = next(i for i in range(5) if i != leader)
    fields = (1, 0, b"a" * 32, b"e" * 32)
    with pytest.raises(errors.TooEarly):
        made.ledger().submit(msg.Propose(*fields, signed(made, leader, "Proposal", *fields)))
    node = next(n for n in made.nodes if n.me.id == leader)
    node.messages.send = muted(node.messages.send)
    while len(made.state.current.precommits) < 4:
        assert made.advance()
    with pytest.raises(errors.NotLeader):
        made.ledger().submit(msg.Propose(*fields, signed(made, other, "Proposal", *fields)))
    with pytest.raises(errors.NotLeader):
        made.ledger().submit(msg.Propose(*fields, bytes(64)))


def test_a_leader_that_vanishes_is_replaced(honest):
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.AGGREGATE)
    leader = made.state.current.leader
    made.nodes = [n for n in made.nodes if n.me.id != leader]
    made.run()
    assert outcomes(made) == [1]
    assert made.state.model == honest.state.model
    assert faults(made, leader) == [Fault.ABSENT_LEADER]
    assert len({id for _, id in leaders(made)}) == 2


def test_a_verifier_votes_once():
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.AGGREGATE)
    propose(made, b"a" * 32, b"e" * 32)
    votes = [msg.Vote(0, ok, bytes(32), signed(made, 0, "Vote", 1, 0, b"a" * 32, ok)) for ok in (False, True)]
    assert made.ledger().dry_run(msg.Votes(1, 0, (votes[0], votes[0]))) == [0, 10]
    made.ledger().submit(msg.Votes(1, 0, (votes[0],)))
    for vote in votes:
        with pytest.raises(errors.AlreadySent):
            made.ledger().submit(msg.Votes(1, 0, (vote,)))
    assert made.state.current.votes == {0: False}


def test_a_lazy_verifier_cannot_approve_what_it_did_not_compute():
    """It copies the leader's result: its precommitment, fixed before, does not open to that."""
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.AGGREGATE)
    propose(made, b"a" * 32, b"e" * 32)
    approve = msg.Vote(0, True, bytes(32), signed(made, 0, "Vote", 1, 0, b"a" * 32, True))
    with pytest.raises(errors.WrongPrecommit):
        made.ledger().submit(msg.Votes(1, 0, (approve,)))
    salt = b"s" * 32
    late = selection.precommitment(made.state.domain, 1, 0, b"a" * 32, salt)
    with pytest.raises(errors.WrongPhase):
        made.ledger().submit(msg.Precommits(1, (msg.Precommit(0, late, bytes(64)),)))


def test_a_minority_of_false_votes_decides_nothing(honest):
    """One of five rejects whatever is proposed."""
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.VERIFY)
    result = made.state.current.result
    vote = msg.Vote(1, False, bytes(32), signed(made, 1, "Vote", 1, 0, result, False))
    made.ledger().submit(msg.Votes(1, 0, (vote,)))
    assert made.state.phase is Phase.VERIFY
    made.run()
    assert outcomes(made) == [1]
    assert len(leaders(made)) == 1
    assert made.state.model == honest.state.model


def test_silent_verifiers_pay_and_the_leader_does_not():
    made = tiny(selection=ALL, training=ONCE)
    made.until(Phase.VERIFY)
    leader = made.state.current.leader
    silent = sorted(set(range(5)) - {leader})[:2]
    made.nodes = [n for n in made.nodes if n.me.id not in silent]
    attempt = made.state.current.attempt
    while made.state.current.attempt == attempt and made.state.phase is Phase.VERIFY:
        made.advance()
    assert faults(made, leader) == []
    assert [faults(made, i) for i in silent] == [[Fault.SILENT_VERIFIER]] * 2


def test_every_leader_absent_voids_rounds_and_then_pauses():
    """A committee that never leads: after `attempts` leaders each round is void, after three it is paused."""
    made = tiny(
        selection=ALL, training=replace(ONCE, max_failed_rounds=2), govern=GovernanceTerms(attempts=3)
    )
    for node in made.nodes:
        node.messages.send = muted(node.messages.send)
    model = made.state.model
    made.run()
    assert made.state.phase is Phase.PAUSED
    assert outcomes(made) == [2, 2]
    assert made.state.model == model
    by_round = [id for round, id in leaders(made) if round == 1]
    assert len(by_round) == len(set(by_round)) == 3
    assert all(faults(made, id).count(Fault.ABSENT_LEADER) for id in by_round)


def muted(send):
    return lambda kind, state: False if kind == "proposal" else send(kind, state)


def test_an_absent_server_voids_the_round_and_pauses():
    made = tiny(
        server=True,
        silent=frozenset({5}),
        governance=Governance.SERVER,
        selection=ALL,
        training=replace(ONCE, max_failed_rounds=1),
    )
    made.run()
    assert made.state.phase is Phase.PAUSED
    assert outcomes(made) == [2]
