"""The audit where enclaves open sums: deliveries as they were, and altered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests import enclaved
from tests.sums import inner, published_primes  # noqa: F401, a fixture
from tests.tiny import Tiny
from tests.unit.test_audit_sums import audited, failed, verdicts

from hansa import encoding
from hansa.protocol import attested, secagg
from hansa.protocol.events import Event, Recorded
from hansa.records import RecordKind


@pytest.fixture(scope="module")
def made() -> Tiny:
    federation = inner(rounds=2)
    federation.run()
    for _ in range(3):
        any([node.step() for node in federation.nodes])
    enclaved.close(federation)
    return federation


def test_every_check_holds_and_it_says_what_it_did_not_repeat(made: Tiny) -> None:
    report = audited(made)
    assert set(verdicts(report).values()) == {"verified"}
    assert any("were not verified again here" in note for note in report.notes)


def test_without_a_reader_s_key_what_is_sealed_is_not_checked(made: Tiny) -> None:
    report = audited(made, keys=())
    assert failed(report) == set()
    assert verdicts(report)["sums opened"] == verdicts(report)["aggregates recomputed"] == "unavailable"
    assert verdicts(report)["halves of openings"] == "verified"


def renamed(made: Tiny, kind: RecordKind, digest: bytes, **changes: object) -> list[Event]:
    """The events, one record of a kind in round 1 changed."""
    events: list[Event] = []
    for event in made.chain.events:
        if isinstance(event, Recorded) and (event.kind, event.round) == (kind, 1):
            event = replace(event, digest=digest, **changes)
        events.append(event)
    return events


def altered(made: Tiny, **changes: object) -> list[Event]:
    (digest,) = secagg.deliveries(made.terms, made.state, 1).values()
    delivery = attested.read_delivery(made.store.get(digest, limit=1 << 20))
    data = encoding.encode(replace(delivery, **changes))
    made.store.put(data)
    return renamed(made, RecordKind.DELIVERY, encoding.digest(data))


@pytest.mark.parametrize("part", ["result", "manifest", "signatures", "attestation"])
def test_a_delivery_that_no_attested_enclave_signed_is_found(made: Tiny, part: str) -> None:
    (digest,) = secagg.deliveries(made.terms, made.state, 1).values()
    delivery = attested.read_delivery(made.store.get(digest, limit=1 << 20))
    wrong = {
        "result": replace(delivery.result, result=bytes(32)),
        "manifest": replace(delivery.manifest, base=bytes(32)),
        "signatures": delivery.signatures[:-1],
        "attestation": bytes(32),
    }
    report = audited(made, events=altered(made, **{part: wrong[part]}))
    assert failed(report) == {"sums opened"}


def test_a_final_round_without_a_delivery_is_found(made: Tiny) -> None:
    events = [
        event
        for event in made.chain.events
        if not (isinstance(event, Recorded) and (event.kind, event.round) == (RecordKind.DELIVERY, 1))
    ]
    assert "sums opened" in failed(audited(made, events=events))


def test_a_member_that_records_a_delivery_is_found(made: Tiny) -> None:
    (digest,) = secagg.deliveries(made.terms, made.state, 1).values()
    report = audited(made, events=renamed(made, RecordKind.DELIVERY, digest, id=0))
    assert {"records by role", "sums opened"} <= failed(report)


def test_halves_that_are_sealed_to_others_than_the_round_s_enclaves_are_found(
    made: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa.audit.sums.reader_id", lambda host: host)
    assert "halves of openings" in failed(audited(made))
