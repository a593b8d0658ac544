"""A round in an enclave, from the members' side: what comes out, and that it is what `plaintext` makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests import enclaves
from tests.enclaves import (
    FEDERATION,
    LENGTH,
    Federation,
    Host,
    manifest_of,
    opened,
    payload_bytes,
    sealed,
    terms_of,
)

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.enclave.messages import Code
from hansa.node.enclosure import Rejected
from hansa.protocol import checkpoint, tee
from hansa.protocol.aggregation import Contribution
from hansa.protocol.contexts import model_context, readers_digest
from hansa.protocol.tee import Flaw
from hansa.records import AggregationTerms, Tee, Training

RULES = {
    "weighted-mean": {},
    "clipped-mean": {"clip_norm": 3.0},
    "median": {},
    "trimmed-mean": {"trim": 0.2},
    "krum": {"malicious": 1},
    "multi-krum": {"malicious": 1},
}


def run(made: Federation, host: Host, updates: dict | None = None, order: list[int] | None = None):
    given = made.updates() if updates is None else updates
    payloads = {id: sealed(made, u, [host]) for id, u in given.items()}
    manifest = manifest_of(made, payloads, [host])
    output = host.take(manifest, payloads, order)
    tee.check_result(output.result, output.signature, host.statement.signing_key, manifest)
    return output


@pytest.mark.parametrize("optimizer", ["none", "adam"])
@pytest.mark.parametrize("rule", RULES)
def test_the_result_is_that_of_plaintext_bit_for_bit(rule: str, optimizer: str) -> None:
    terms = terms_of(aggregation=AggregationTerms(rule=rule, optimizer=optimizer, **RULES[rule]))
    made = Federation(terms)
    host = made.host()
    output = run(made, host, order=[3, 1, 4, 0, 2])
    plain = made.plain(made.updates())
    assert opened(made, output, host, reader=2) == plain.data
    assert output.result.result == plain.digest != made.base.digest
    assert output.result.rule == rule
    assert output.result.invalid == ()


def test_ties_go_to_the_lower_id_in_whatever_order_payloads_come() -> None:
    made = Federation(terms_of(aggregation=AggregationTerms(rule="krum", malicious=1)))
    updates = {id: made.update(id, np.eye(LENGTH)[id] * 100) for id in made.members}
    output = run(made, made.host(), updates, order=[3, 1, 4, 0, 2])
    assert output.result.result == made.plain(updates).digest


def test_an_enclave_process_gives_the_same() -> None:
    made = Federation()
    host = made.host(process=True)
    output = run(made, host)
    host.enclosure.close()
    assert host.enclosure.mode == "simulated"
    assert output.result.result == made.plain(made.updates()).digest


@pytest.mark.parametrize("rule", ["weighted-mean", "trimmed-mean", "multi-krum"])
def test_an_invalid_payload_counts_as_nothing_and_is_reported(rule: str) -> None:
    made = Federation(terms_of(6, aggregation=AggregationTerms(rule=rule, **RULES[rule])), 6)
    host = made.host()
    updates = made.updates()
    payloads = {id: sealed(made, u, [host]) for id, u in updates.items()}
    payloads[2] = sealed(made, updates[2], [host], plain=payload_bytes(made, updates[2], signer=3))
    manifest = manifest_of(made, payloads, [host])
    output = host.take(manifest, payloads)
    tee.check_result(output.result, output.signature, host.statement.signing_key, manifest)
    del updates[2]
    assert output.result.invalid == ((2, Flaw.SIGNATURE),)
    assert output.result.result == made.plain(updates).digest


def test_a_payload_longer_than_the_terms_allow_is_invalid() -> None:
    made = Federation(terms_of(tee=Tee(max_norm=0.5)))
    bound = 2**15
    updates = made.updates(size=2)
    edge = np.zeros(LENGTH, np.int32)
    edge[7] = -bound
    beyond = edge.copy()
    beyond[3] = 1
    updates |= {1: made.update(1, edge), 3: made.update(3, beyond)}
    host = made.host()
    output = run(made, host, updates)
    del updates[3]
    assert output.result.invalid == ((3, Flaw.NORM),)
    assert output.result.result == made.plain(updates).digest


def test_a_second_candidate_goes_on_with_what_members_sent_once() -> None:
    made = Federation(terms_of(6), 6)
    hosts = [made.host(0), made.host(4)]
    updates = made.updates()
    payloads = {id: sealed(made, u, hosts) for id, u in updates.items()}
    # One member shares with the first candidate only; both have to find the same.
    alone = sealed(made, updates[5], hosts[:1])
    payloads[5] = alone
    manifest = manifest_of(made, payloads, hosts)
    outputs = [host.take(manifest, payloads) for host in hosts]
    first, second = (o.result for o in outputs)
    assert first.result == second.result
    assert first.invalid == second.invalid == ((5, Flaw.GRANT),)
    assert opened(made, outputs[1], hosts[1], reader=0) == opened(made, outputs[0], hosts[0], reader=0)
    assert first.sealed != second.sealed


def test_the_base_may_come_sealed_by_the_enclave_of_the_round_before() -> None:
    made = Federation()
    host = made.host()
    first = run(made, host)
    made.base = made.decoded(opened(made, first, host, 0))
    updates = {id: replace(u, version=1, base=made.base.digest) for id, u in made.updates(round=2).items()}
    payloads = {id: sealed(made, u, [host]) for id, u in updates.items()}
    manifest = manifest_of(made, payloads, [host], version=1)
    host.start(manifest)
    readers = readers_digest({m.id: m.seat.key for m in made.members.values()})
    host.enclosure.base(first.blob, author=0, readers=readers, grant=first.grant)
    for id, payload in payloads.items():
        host.enclosure.payload(id, payload.grant, payload.blob)
    output = host.enclosure.finish()
    assert output.result.result == made.plain(updates).digest
    assert opened(made, output, host, 1, version=2) == made.plain(updates).data
    assert first.result.result == made.base.digest


def test_an_older_base_counts_as_stale_as_in_plaintext() -> None:
    training = Training(min_members=5, mode="asynchronous", max_staleness=2)
    made = Federation(terms_of(training=training))
    host = made.host()
    updates = {id: replace(u, version=3) for id, u in made.updates().items()}
    updates[1] = replace(updates[1], version=1, base=b"o" * 32)
    payloads = {id: sealed(made, u, [host]) for id, u in updates.items()}
    output = host.take(manifest_of(made, payloads, [host], version=3), payloads)
    stale = [Contribution(u.member, u.examples, u.values, None, 3 - u.version) for u in updates.values()]
    assert output.result.result == checkpoint.advance(made.terms.aggregation, made.base, stale).digest


def test_a_repeated_question_gets_the_same_bytes() -> None:
    made = Federation()
    host = made.host()
    output = run(made, host)
    assert host.enclosure.finish() == output


def test_payloads_have_one_size_whatever_is_in_them() -> None:
    made = Federation()
    host = made.host()
    sizes = {
        len(sealed(made, made.update(1, values), [host]).blob)
        for values in (np.zeros(LENGTH), np.arange(LENGTH), made.updates()[1].values)
    }
    assert len(sizes) == 1


def test_the_model_reaches_its_readers_and_candidates_and_nobody_else() -> None:
    made = Federation()
    host = made.host(2)
    output = run(made, host)
    grant = sealing.read_grant(output.grant)
    assert grant.readers == [*range(5), tee.reader_id(2)]
    with pytest.raises(errors.Untrusted):
        sealing.open_sealed(output.blob, b"x" * 32, model_context(FEDERATION, 1, 2), limit=10**6)


def test_a_new_roster_is_taken_over_with_the_keys() -> None:
    made = Federation(terms_of(5), 6)
    founding = replace(made.roster, seats=made.roster.seats[:5])
    whole, made.roster = made.roster, founding
    host = made.host()
    following = replace(whole, version=1, previous=founding.digest)
    made.members.pop(5)
    host.enclosure.change(following, made.signed("Roster", 1, following.digest))
    statement = host.attest(b"n" * 32)
    assert statement.roster == following.digest
    assert statement.seal_key == host.statement.seal_key
    made.members[5] = enclaves.member(5)
    made.roster = following
    output = run(made, host)
    assert output.result.result == made.plain(made.updates()).digest


def test_a_new_start_has_new_keys() -> None:
    made = Federation()
    one, two = made.host().statement, made.host().statement
    assert one.seal_key != two.seal_key
    assert one.signing_key != two.signing_key
    assert one.roster == two.roster == made.roster.digest
    assert one.terms == encoding.digest(encoding.encode(made.terms))


def test_what_the_rule_cannot_take_ends_the_round_and_not_the_enclave() -> None:
    made = Federation(terms_of(aggregation=AggregationTerms(rule="krum", malicious=1)))
    host = made.host()
    updates = made.updates()
    payloads = {id: sealed(made, u, [host]) for id, u in updates.items()}
    payloads[2] = sealed(made, updates[2], [host], plain=b"nothing")
    with pytest.raises(Rejected) as e:
        host.take(manifest_of(made, payloads, [host]), payloads)
    assert e.value.code == Code.RULE
    assert run(made, host, made.updates(round=2)).result.round == 2


def test_all_payloads_invalid_give_no_result() -> None:
    made = Federation()
    host = made.host()
    payloads = {id: sealed(made, u, [host], plain=b"nothing") for id, u in made.updates().items()}
    with pytest.raises(Rejected) as e:
        host.take(manifest_of(made, payloads, [host]), payloads)
    assert e.value.code == Code.RULE
