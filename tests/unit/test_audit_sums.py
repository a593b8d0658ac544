"""The audit of rounds under `secagg`, over federations of `tests.sums`: records and blobs as they were, and altered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests import audits
from tests.audits import Altered, Blocks, counts, failed, flipped, missing, record, renamed, said
from tests.sums import published_primes, set_up, summed, until_final  # noqa: F401, a fixture
from tests.tiny import Tiny, TinyTrainer

from hansa import encoding
from hansa.app import TrainResult, TrainTask
from hansa.audit.report import Report
from hansa.crypto import double_trapdoor as dt
from hansa.node.centre import Centre
from hansa.protocol import secagg
from hansa.protocol.events import Ended, Event, Proposed, Recorded
from hansa.records import SUBJECTS, Outcome, Phase, RecordKind

SEALED = {"sums opened", "aggregates recomputed", "sealed models"}
SERVER, CENTRE = 5, 6
"""Ids in a federation of five members."""


def audited(made: Tiny, *parts: Any, **changes: Any) -> Report:
    """The checks of the scheme alone; `changes`: other terms of [secagg], or as `audits.audited` has them."""
    own = {name: changes.pop(name) for name in ("keys", "events") if name in changes}
    agreed = replace(made.terms, secagg=replace(made.terms.secagg, **changes))
    return audits.audited(made, *parts, agreed=agreed, **own)


@pytest.fixture(scope="module")
def run() -> Tiny:
    """Five members, one server, one key centre, three rounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dt, "set_up", set_up)
        made = summed(5)
        made.run()
    return made


# honest federations


@pytest.mark.parametrize("mode", ["masked", "direct"])
def test_an_honest_federation_passes(mode: str) -> None:
    made = summed(5, secagg={"mode": mode})
    made.run()
    report = audited(made)
    assert report.findings == ()
    assert missing(report) == set()
    counted = counts(report)
    assert counted["uploads checked"] == 15
    each = ("openings", "sums recomputed", "sums opened", "aggregates recomputed")
    assert {name: counted[name] for name in each} == dict.fromkeys(each, 3)
    assert counted["halves of openings"] == counted["one opening a round"] == 6
    assert counted["public keys"] == counted["certificates"] == 5
    assert counted["sealed models"] == 4
    assert counted["parameters"] == 1


def test_without_a_key_what_is_sealed_is_not_checked(run: Tiny) -> None:
    report = audited(run, keys=())
    assert report.findings == ()
    assert missing(report) == SEALED
    assert "no key of a contributor is at hand" in next(
        c.note for c in report.checks if c.name == "sums opened"
    )


@pytest.mark.parametrize("id", [SERVER, CENTRE])
def test_the_key_of_a_holder_of_a_half_opens_nothing(run: Tiny, id: int) -> None:
    report = audited(run, keys=[id])
    assert report.findings == ()
    assert missing(report) == SEALED


def test_one_member_s_key_is_enough(run: Tiny) -> None:
    report = audited(run, keys=[3])
    assert report.findings == ()
    assert missing(report) == set()


def test_a_member_s_key_opens_its_own_rounds_and_those_that_it_was_let_in_to() -> None:
    made = summed(5, rounds=8)
    sleeper = next(n for n in made.nodes if n.me.id == 4)
    until_final(made, 2)
    made.nodes.remove(sleeper)
    until_final(made, 5)
    made.nodes.append(sleeper)
    made.run(1000)
    report = audited(made)
    assert report.findings == ()
    assert missing(report) == set()
    assert counts(report)["re-entries"] == 2
    alone = audited(made, keys=[4])
    assert alone.findings == ()
    assert missing(alone) == SEALED
    assert counts(alone)["sums opened"] == 6, "not rounds 3 and 4; round 5 by what let it in"
    _altered_readmissions(made)


def _altered_readmissions(made: Tiny) -> None:
    events = made.chain.events
    asked = record(made, RecordKind.REENTRY)
    report = audited(made, events=[e for e in events if e != asked])
    assert "let in without having asked" in said(report)
    assert "let in without the right to it" in said(audited(made, max_reentries=0))
    assert "asked 1 times for a model that it missed; the terms allow 0" in said(
        audited(made, max_reentries=0)
    )
    place = next(k for k, e in enumerate(events) if isinstance(e, Recorded) and e.kind % SUBJECTS == 11)
    later = [*events[:place], *events[place + 1 :], events[place]]
    assert "a model that did not stand any more" in said(audited(made, events=later))
    report = audited(made, events=forged(made, record(made, RecordKind.READMISSION).digest))
    assert failed(report) == {"halves of openings"}
    assert "round 5, halves of key centre k0 and server s0 to member 4" in said(report)
    report = audited(made, events=forged(made, record(made, RecordKind.READMISSION).digest, at=60))
    assert failed(report) == {"re-entries"}


class Poisoner(TinyTrainer):
    """Sends what makes the model worse, within the bounds of a value."""

    def train(self, task: TrainTask) -> TrainResult:
        return TrainResult({"w": task.base["w"] + np.float32(40.0)}, 10)


def test_burned_rounds_and_cohorts_are_followed() -> None:
    made = summed(8, rounds=4, trainers={2: Poisoner()})
    until_final(made, 3)
    report = audited(made)
    assert report.findings == ()
    assert missing(report) == set()
    assert made.state.burned
    assert counts(report)["aggregates recomputed"] == 3
    assert counts(report)["sums opened"] == 3 + len(made.state.burned)
    # A judgement less, and another model would have come out.
    cohort = [e for e in made.chain.events if isinstance(e, Recorded) and e.kind == RecordKind.COHORTS]
    events = [e for e in made.chain.events if e not in cohort]
    assert "is final, and no cohort was accepted" in said(audited(made, events=events))


def test_a_standby_s_half_is_opened_too() -> None:
    made = summed(5, servers=2)
    made.until(Phase.OPEN, 1)
    standby = next(n for n in made.nodes if n.me.id == 6)
    assert standby.centre.halve(standby.world.ledger.view())
    made.run()
    report = audited(made)
    assert report.findings == ()
    assert missing(report) == set()
    assert counts(report)["halves of openings"] == 7
    second = next(e for e in made.chain.events if isinstance(e, Recorded) and (e.kind, e.id) == (2, 6))
    report = audited(made, events=forged(made, second.digest, at=-20))
    assert failed(report) == {"halves of openings"}
    assert "round 1, halves of key centre k0 and server s1 to member 0" in said(report)
    assert counts(report)["aggregates recomputed"] == 3


# blobs that are gone, or are others


def digests(made: Tiny) -> dict[str, bytes]:
    """One blob of each kind, of the second round where it belongs to one."""
    state = next(b.state for b in made.chain.blocks if b.state.round == 2 and b.state.phase is Phase.OPEN)
    upload = state.current.commits[1].digest
    setup = record(made, RecordKind.SETUP).digest
    scheme = made.nodes[0].world.scheme
    return {
        "upload": upload,
        "wire": scheme.references(made.store.get(upload, limit=10**6))[0],
        "half": record(made, RecordKind.OPENING, 2).digest,
        "key": record(made, RecordKind.KEY).digest,
        "setup": setup,
        "dealt half": scheme.references(made.store.get(setup, limit=10**6))[1],
        "opening": state.current.result,
        "release": record(made, RecordKind.RELEASE, 2).digest,
    }


NAMED = {
    "upload": "uploads checked",
    "wire": "uploads checked",
    "half": "halves of openings",
    "key": "public keys",
    "setup": "parameters",
    "dealt half": "blobs present",
    "opening": "openings",
    "release": "sealed models",
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_removed_blob_is_a_gap(run: Tiny, kind: str) -> None:
    store = Altered(run.store)
    store.gone = digests(run)[kind]
    report = audited(replace(run, store=store))
    assert report.findings == ()
    assert {NAMED[kind], "blobs present"} <= missing(report)


@pytest.mark.parametrize("kind", [kind for kind in NAMED if kind != "dealt half"])
def test_other_bytes_in_a_blob_s_place_are_found(run: Tiny, kind: str) -> None:
    store = Altered(run.store)
    store.gone, store.broken = digests(run)[kind], True
    assert NAMED[kind] in failed(audited(replace(run, store=store)))


def forged(made: Tiny, digest: bytes, at: int | None = None) -> Blocks:
    """Events of a federation that recorded a blob with one bit flipped, and whose members took it."""
    return renamed(made, digest, made.store.put(flipped(made.store.get(digest, limit=10**7), at)))


@pytest.mark.parametrize("kind", [kind for kind in NAMED if kind not in {"dealt half", "wire"}])
@pytest.mark.parametrize("at", [None, -500, 5], ids=["middle", "end", "beginning"])
def test_a_forged_blob_that_everybody_took_is_found(run: Tiny, kind: str, at: int | None) -> None:
    size = len(run.store.get(digests(run)[kind], limit=10**7))
    report = audited(run, events=forged(run, digests(run)[kind], max(at, -size // 3) if at else at))
    deeper = {"half": {"sums opened"}, "opening": {"sums recomputed"}}
    assert ({NAMED[kind]} | deeper.get(kind, set())) & failed(report)


# records that should not be


def added(made: Tiny, *extra: Recorded) -> list[Event]:
    return [*made.chain.events, *extra]


def test_a_refusal_is_evidence(run: Tiny) -> None:
    refusal = Recorded(2, RecordKind.REFUSAL, CENTRE, b"\x07" * 32)
    report = audited(run, events=added(run, refusal))
    assert failed(report) == {"one opening a round"}
    assert "round 2: key centre k0 refused a second opening, 0707" in said(report)
    assert report.findings[0].evidence == b"\x07" * 32


@pytest.mark.parametrize("kind", ["SETUP", "OPENING", "REFUSAL", "CERTIFICATE", "READMISSION"])
def test_a_record_out_of_its_author_s_role_is_found(run: Tiny, kind: str) -> None:
    number = RecordKind[kind] + (SUBJECTS * 3 if kind in ("CERTIFICATE", "READMISSION") else 0)
    report = audited(run, events=added(run, Recorded(2, number, 1, b"\x07" * 32)))
    assert f"records by role, member 1: recorded {kind} for round 2" in said(report)


def test_a_half_that_no_opening_asked_for_is_found(run: Tiny) -> None:
    """Round 3 never came to its opening, and a half is recorded all the same."""
    events = [e for e in run.chain.events if not (isinstance(e, Ended) and e.round == 3)]
    place = next(k for k, e in enumerate(events) if isinstance(e, Proposed) and e.round == 3)
    half = record(run, RecordKind.OPENING, 3)
    state = run.chain.blocks[0].state
    end = Ended(3, Outcome.VOID, 2, run.state.models[2])
    report = audited(run, events=[*events[:place], half, end])
    assert state.round == 0
    assert "given although no opening was accepted" in said(report)


def test_a_certificate_of_a_key_that_the_member_never_recorded_is_found(run: Tiny) -> None:
    kind = secagg.about(RecordKind.CERTIFICATE, 1)
    report = audited(run, events=added(run, Recorded(3, kind, CENTRE, b"\x07" * 32)))
    assert failed(report) == {"certificates"}


def test_parameters_recorded_after_their_first_use_are_found(run: Tiny) -> None:
    setup = record(run, RecordKind.SETUP)
    events = [e for e in run.chain.events if e != setup]
    place = next(k for k, e in enumerate(events) if isinstance(e, Recorded) and e.kind == RecordKind.KEY)
    report = audited(run, events=[*events[: place + 1], setup, *events[place + 1 :]])
    assert "set-up: was recorded after the first public key" in said(report)


def test_a_model_that_does_not_follow_from_the_sums_is_found(run: Tiny) -> None:
    events = [
        replace(e, model=b"\x07" * 32) if isinstance(e, Ended) and e.round == 3 else e
        for e in run.chain.events
    ]
    report = audited(run, events=events)
    assert "aggregates recomputed" in failed(report)
    assert "round 3: the sums give" in said(report)


def test_sums_that_do_not_follow_from_the_uploads_are_found() -> None:
    """All verifiers, the key centre and the server agreed on them."""
    made = summed(5)
    made.run()
    digest = digests(made)["opening"]
    opening = secagg.decode_opening(made.store.get(digest, limit=10**6))
    (sums,) = opening.cohorts
    wrong = replace(opening, cohorts=(replace(sums, masked=encoding.digest(b"other")),))
    other = made.store.put(secagg.encode_opening(wrong))
    events = [
        replace(e, result=other, evidence=other) if isinstance(e, Proposed) and e.result == digest else e
        for e in made.chain.events
    ]
    report = audited(made, keys=(), events=events)
    assert failed(report) == {"sums recomputed"}
    assert [f.subject for f in report.findings] == ["round 2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda readers: readers - {1}, "was not sealed to members 1"),
        (lambda readers: readers | {4}, "was sealed also to members 4"),
    ],
)
def test_a_half_sealed_to_others_than_v_is_found(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[frozenset[int]], frozenset[int]], message: str
) -> None:
    """The first round goes without member 4, who has a certified key."""
    honest = Centre._readers
    monkeypatch.setattr(Centre, "_readers", lambda self, state: change(honest(self, state)))
    made = summed(5)
    made.nodes = [n for n in made.nodes if n.me.id != 4]
    until_final(made, 1)
    report = audited(made)
    assert failed(report) == {"halves of openings"}
    assert message in said(report)
    assert missing(report) <= SEALED
