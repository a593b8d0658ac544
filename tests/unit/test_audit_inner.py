"""The audit where enclaves open sums: deliveries as they were, and altered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests import enclaved
from tests.audits import Blocks, audited, blocks_of, failed, verdicts
from tests.sums import inner, published_primes  # noqa: F401, a fixture
from tests.tiny import Tiny

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


def test_every_check_holds_and_simulated_quotes_are_their_hosts_word(made: Tiny) -> None:
    report = audited(made)
    found = verdicts(report)
    assert found.pop("quotes verified again") == "attested"
    assert set(found.values()) == {"verified"}


def test_without_a_reader_s_key_what_is_sealed_is_not_checked(made: Tiny) -> None:
    report = audited(made, keys=())
    assert failed(report) == set()
    assert verdicts(report)["sums opened"] == verdicts(report)["aggregates recomputed"] == "unavailable"
    assert verdicts(report)["halves of openings"] == "verified"


def changed(made: Tiny, change: Callable[[Recorded], list[Recorded]]) -> Blocks:
    """What happened, with another delivery in round 1."""

    def of(event: Event) -> list[Event]:
        kind = RecordKind.DELIVERY
        if isinstance(event, Recorded) and (event.kind, event.round) == (kind, 1):
            return [*change(event)]
        return [event]

    return [(time, [new for event in events for new in of(event)]) for time, events in blocks_of(made)]


def altered(made: Tiny, **changes: Any) -> Blocks:
    (digest,) = secagg.deliveries(made.terms, made.state, 1).values()
    delivery = attested.read_delivery(made.store.get(digest, limit=1 << 20))
    data = encoding.encode(replace(delivery, **changes))
    made.store.put(data)
    return changed(made, lambda event: [replace(event, digest=encoding.digest(data))])


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
    assert "sums opened" in failed(audited(made, events=changed(made, lambda _: [])))


def test_a_member_that_records_a_delivery_is_found(made: Tiny) -> None:
    report = audited(made, events=changed(made, lambda event: [replace(event, id=0)]))
    assert {"records by role", "sums opened"} <= failed(report)


def test_halves_that_are_sealed_to_others_than_the_round_s_enclaves_are_found(
    made: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa.audit.sums.reader_id", lambda host: host)
    assert "halves of openings" in failed(audited(made))
