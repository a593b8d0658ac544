"""The audit of rounds under `tee`, over federations of `tests.enclaved`: as they were, and altered."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audits import (
    Altered,
    Blocks,
    audited,
    blocks_of,
    counts,
    failed,
    flipped,
    missing,
    renamed,
    said,
    verdicts,
)
from tests.enclaved import close, enclaved, host, until_final
from tests.quoted import ENCLAVE
from tests.tiny import Tiny, TinyTrainer, join

from hansa import attestation, encoding, errors
from hansa.app import TrainResult, TrainTask
from hansa.attestation import NO_PROTECTION, simulated_pki
from hansa.attestation.policy import policy_of
from hansa.attestation.simulated import Simulated
from hansa.audit import contents
from hansa.audit.blobs import FolderBlobs, StoreBlobs
from hansa.audit.report import Book
from hansa.cli import models
from hansa.crypto import sealing, signatures
from hansa.enclave.providers import simulated_measurement
from hansa.protocol import attested
from hansa.protocol import messages as msg
from hansa.protocol.attested import Delivery
from hansa.protocol.events import Elected, Ended, Entered, Proposed, Recorded
from hansa.protocol.model import to_arrays
from hansa.protocol.state import State
from hansa.records import MAX_MEMBERS, SUBJECTS, Limits, Phase, RecordKind, Standing
from hansa.stores import objects

SEALED = {"models opened"}
QUOTES = "quotes verified again"


@pytest.fixture(scope="module")
def run() -> Iterator[Tiny]:
    """Five members, three of them hosts, three rounds."""
    made = enclaved()
    made.run()
    yield made
    close(made)


@pytest.fixture
def copy(run: Tiny) -> Tiny:
    """The same with a store of its own."""
    other = objects.create("memory:///")
    for digest in run.store.digests():
        other.put(run.store.get(digest, limit=10**7))
    for key in run.store.list("manifests"):
        other.put_at(key, run.store.get_at(key, limit=99))
    return replace(run, store=other)


def blob(made: Tiny, digest: bytes) -> bytes:
    return bytes(made.store.get(digest, limit=10**7))


def ended(made: Tiny, round: int) -> State:
    """The state just before the end of a round."""
    return next(b.state for b in reversed(made.chain.blocks) if b.state.round == round and b.state.current.evidence
                and b.state.phase is Phase.VERIFY)  # fmt: skip


def delivery(made: Tiny, round: int) -> Delivery:
    return attested.read_delivery(blob(made, ended(made, round).current.evidence))


# honest federations


def test_an_honest_federation_passes(run: Tiny) -> None:
    report = audited(run)
    assert report.findings == ()
    assert missing(report) == set()
    assert {name: counts(report)[name] for name in contents.attestations.CHECKS} == {
        QUOTES: 3, "records by role": 18, "vouchers": 15,
    }  # fmt: skip
    assert {name: counts(report)[name] for name in contents.enclaves.CHECKS} == {
        "candidates": 9, "uploads checked": 15, "one set a round": 15,
        "deliveries": 3, "sealed models": 3, "models opened": 3,
    }  # fmt: skip


def test_a_simulation_is_called_one(run: Tiny) -> None:
    report = audited(run)
    assert verdicts(report)[QUOTES] == "attested"
    assert NO_PROTECTION in next(c.note for c in report.checks if c.name == QUOTES)
    assert f"the enclaves are {NO_PROTECTION}" in report.notes


def test_what_nobody_can_aggregate_again_is_said(run: Tiny) -> None:
    said = contents.unproven(run.terms, "whether it rains.")
    assert said.startswith("whether it rains. Nor whether the models are what the rule makes of the updates.")
    assert contents.unproven(replace(run.terms, tee=None), "") == ""


def test_without_a_key_only_models_stay_closed(run: Tiny) -> None:
    report = audited(run, keys=())
    assert report.findings == ()
    assert missing(report) == SEALED


def test_one_member_s_key_is_enough(run: Tiny) -> None:
    report = audited(run, keys=[4])
    assert report.findings == ()
    assert missing(report) == set()


def test_without_the_library_nothing_is_said(run: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise errors.Misconfigured("not installed")

    monkeypatch.setattr(contents.attestations, "library", none)
    with pytest.raises(errors.Misconfigured, match="not installed"):
        audited(run)


def test_enclaves_that_are_attested_again_are_followed() -> None:
    made = enclaved(rounds=8, tee={"epoch": 2})
    made.run()
    report = audited(made)
    assert report.findings == ()
    assert missing(report) == set()
    assert counts(report)[QUOTES] >= 9
    assert counts(report)["deliveries"] == 8


def test_a_roster_that_grows_is_followed() -> None:
    made = enclaved(rounds=6, newcomers=1, tee={"epoch": 2})
    until_final(made, 2)
    made.ledger(5).submit(join(made, made.parties[5]))
    made.nodes.append(host(made, 5))
    made.run(1000)
    assert len(made.state.rosters) == 2
    assert 5 in made.state.current.commits
    report = audited(made)
    assert report.findings == ()
    assert missing(report) == set()


def test_a_leader_that_vanishes_is_followed() -> None:
    made = enclaved(rounds=3, hosts=4)
    made.until(Phase.AGGREGATE, 2)
    gone = made.nodes[made.state.current.leader]
    made.nodes.remove(gone)
    made.run(1000)
    report = audited(made)
    assert made.state.version == 3
    assert report.findings == ()
    assert missing(report) == set()


def test_a_host_that_leaves_in_the_middle_of_a_round_is_followed() -> None:
    made = enclaved(6, rounds=3, hosts=4)
    made.until(Phase.AVAILABLE, 2)
    state, leaver = made.state, made.parties[3]
    fields = (state.nonces.get(leaver.address, 0), int(Standing.LEFT))
    signature = leaver.sign(encoding.message_bytes(state.domain, "Status", *fields))
    made.ledger(3).submit(msg.Status(3, Standing.LEFT, signature))
    made.run(1000)
    report = audited(made)
    assert made.state.version == 3
    assert len(made.state.rosters) == 2
    assert report.findings == ()
    assert missing(report) == set()


class Far(TinyTrainer):
    """Sends what is longer than the terms allow."""

    def train(self, task: TrainTask) -> TrainResult:
        return TrainResult({"w": task.base["w"] + np.float32(40.0)}, 10)


def test_what_an_enclave_threw_out_is_noted() -> None:
    made = enclaved(rounds=1, trainers={2: Far()}, tee={"max_norm": 9.0})
    made.run()
    report = audited(made)
    assert report.findings == ()
    assert "round 1: the update of member 2 counted for nothing: norm" in report.notes


def test_an_attestation_that_nobody_vouched_for_is_no_finding(copy: Tiny) -> None:
    junk = copy.store.put(b"junk")
    number = attested.counted(copy.state, RecordKind.ATTESTATION, 1, 3)
    report = audited(copy, events=added(copy, Recorded(3, number, 1, junk), round=3))
    assert report.findings == ()
    assert any(n.startswith("round 3, enclave of member 1: nobody vouched for it: ") for n in report.notes)
    missed = Recorded(3, number, 1, b"\7" * 32)
    assert missing(audited(copy, events=added(copy, missed, round=3))) == set()


def test_records_that_cannot_count_are_no_findings(run: Tiny) -> None:
    """One came after its round, one is about the enclaves of members with whom no round ever opened."""
    late = Recorded(1, attested.counted(run.state, RecordKind.VOUCHER, 1, 1), 1, b"\7" * 32)
    early = Recorded(
        0, attested.counted(run.state, RecordKind.VOUCHER, 1, 0) + SUBJECTS * MAX_MEMBERS, 1, b"\7" * 32
    )
    blocks = blocks_of(run)
    opened = next(k for k, (_, events) in enumerate(blocks) if any(isinstance(e, Entered) for e in events))
    blocks = [*blocks[:opened], (blocks[opened][0], [early]), *blocks[opened:], (run.now, [late])]
    report = audited(run, events=blocks)
    assert report.findings == ()
    assert any(n.startswith("2 records about enclaves count for nothing") for n in report.notes)


# blobs that are gone, or are others


def digests(made: Tiny) -> dict[str, bytes]:
    """One blob of each kind, of the second round where it belongs to one."""
    current = ended(made, 2).current
    proof = delivery(made, 2)
    found = attestation.read_record(attested.read_attestation(blob(made, proof.attestation)).record)
    upload = current.commits[1].digest
    return {
        "attestation": proof.attestation,
        "quote": found.quote,
        "collateral": found.collateral,
        "upload": upload,
        "grant": sealing.read_header(blob(made, upload)).grant,
        "delivery": current.evidence,
        "sealed model": proof.result.sealed,
        "model's grant": sealing.read_header(blob(made, proof.result.sealed)).grant,
    }


NAMED = {
    "attestation": {QUOTES, "vouchers", "candidates", "uploads checked", "deliveries"},
    "quote": {QUOTES, "vouchers", "candidates"},
    "collateral": {QUOTES, "vouchers", "candidates"},
    "upload": {"uploads checked"},
    "grant": {"uploads checked"},
    "delivery": {"deliveries"},
    "sealed model": {"sealed models", "models opened"},
    "model's grant": {"sealed models", "models opened"},
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_removed_blob_is_a_gap(run: Tiny, kind: str) -> None:
    store = Altered(run.store)
    store.gone = digests(run)[kind]
    report = audited(replace(run, store=store))
    assert report.findings == ()
    assert NAMED[kind] | {"blobs present"} <= missing(report)


@pytest.mark.parametrize("kind", NAMED)
def test_other_bytes_in_a_blob_s_place_are_found(run: Tiny, kind: str) -> None:
    store = Altered(run.store)
    store.gone, store.broken = digests(run)[kind], True
    assert NAMED[kind] - {"deliveries", "vouchers"} <= failed(audited(replace(run, store=store))) | {
        "uploads checked"
    }


@pytest.mark.parametrize("kind", NAMED)
def test_a_flipped_byte_in_the_folder_is_found(run: Tiny, kind: str, tmp_path: Path) -> None:
    """In the store alone, where the nodes' own copies still speak; and there too."""
    for part in ("store", "kept"):
        folder = objects.create(str(tmp_path / part))
        for source in (run.store, *(node.world.kept for node in run.nodes)):
            for digest in source.digests():
                folder.put(source.get(digest, limit=10**7))

    def read(limits: Any, book: Any) -> FolderBlobs:
        found = FolderBlobs(tmp_path, limits, book)
        found.scan()
        return found

    for key in run.store.list("manifests"):
        objects.create(str(tmp_path / "store")).put_at(key, run.store.get_at(key, limit=99))
    assert audited(run, blobs=read).findings == ()
    name = digests(run)[kind].hex()
    for part, checks in (("store", {"blobs hashed"}), ("kept", {"blobs hashed", *NAMED[kind]})):
        path = tmp_path / part / "blobs" / name[:2] / name
        path.write_bytes(flipped(path.read_bytes()))
        assert checks & failed(audited(run, blobs=read)) >= checks - {
            "deliveries",
            "vouchers",
            "uploads checked",
        }


def test_signatures_are_read_from_a_folder_too(run: Tiny, tmp_path: Path) -> None:
    folder = objects.create(str(tmp_path / "store"))
    folder.put_at("manifests/aa/2/1", b"s" * 64)
    folder.put_at("manifests/aa/2/3", b"s" * 65)
    folder.put_at("manifests/aa/3/1", b"t" * 64)
    assert FolderBlobs(tmp_path, Limits(), Book()).named("manifests/aa/2", 64) == {"1": b"s" * 64}
    assert StoreBlobs(folder, Limits(), Book()).named("manifests/aa/2", 64) == {"1": b"s" * 64}
    assert FolderBlobs(tmp_path, Limits(), Book()).named("manifests/bb/2", 64) == {}


def forged(made: Tiny, digest: bytes, at: int | None = None) -> Blocks:
    """A federation that recorded a blob with one bit flipped, and whose members took it."""
    return renamed(made, digest, made.store.put(flipped(blob(made, digest), at)))


@pytest.mark.parametrize("kind", ["attestation", "upload", "delivery"])
@pytest.mark.parametrize("at", [None, -40, 5], ids=["middle", "end", "beginning"])
def test_a_forged_blob_that_everybody_took_is_found(copy: Tiny, kind: str, at: int | None) -> None:
    report = audited(copy, events=forged(copy, digests(copy)[kind], at))
    named = {"attestation": QUOTES, "upload": "uploads checked", "delivery": "deliveries"}
    # The inside of an upload only enclaves see: its digest in the set that was signed is another one.
    assert {named[kind], "deliveries"} & failed(report)


def resworn(made: Tiny, change: Callable[[bytes, bytes], tuple[bytes, bytes]], host: int = 1) -> Blocks:
    """As if an attestation had been of other evidence, and everything else had followed from that."""
    digest = attested.candidates(made.terms, ended(made, 1))[host]
    found = attested.read_attestation(blob(made, digest))
    record = attestation.read_record(found.record)
    quote, collateral = change(blob(made, record.quote), blob(made, record.collateral))
    record = replace(record, quote=made.store.put(quote), collateral=made.store.put(collateral))
    other = encoding.encode(replace(found, record=record.encoded))
    return renamed(made, digest, made.store.put(other))


def test_no_byte_of_a_quote_can_be_another(copy: Tiny) -> None:
    """A seeded sample; `tests.flips` has all bits of genuine ones."""
    size = len(blob(copy, digests(copy)["quote"]))
    for at in random.Random(5).sample(range(size), 50):
        report = audited(copy, keys=(), events=resworn(copy, lambda q, c, at=at: (flipped(q, at), c)))
        assert {QUOTES, "vouchers", "candidates"} <= failed(report), at


@pytest.mark.parametrize("part", ["tcb_info", "tcb_info_signature", "qe_identity", "pck_crl", "root_ca_crl"])
def test_no_byte_that_is_signed_in_collateral_can_be_another(copy: Tiny, part: str) -> None:
    collateral = blob(copy, digests(copy)["collateral"])
    value = json.dumps(json.loads(collateral)[part]).encode()
    start = collateral.index(value) + 1
    for at in random.Random(5).sample(range(start, start + len(value) - 2), 10):
        report = audited(copy, keys=(), events=resworn(copy, lambda q, c, at=at: (q, flipped(c, at))))
        assert {QUOTES, "vouchers", "candidates"} <= failed(report), at


def test_no_byte_of_a_delivery_can_be_another(copy: Tiny) -> None:
    digest = digests(copy)["delivery"]
    for at in random.Random(5).sample(range(len(blob(copy, digest))), 50):
        assert "deliveries" in failed(audited(copy, keys=(), events=forged(copy, digest, at))), at


def added(made: Tiny, *extra: Any, round: int = 2) -> Blocks:
    """Blocks with one more, before the end of a round."""
    blocks = blocks_of(made)
    over = [k for k, (_, events) in enumerate(blocks) if any(isinstance(e, Ended) for e in events)]
    place = over[round - 1]
    return [*blocks[:place], (blocks[place][0], list(extra)), *blocks[place:]]


# attestations that are of something else


def sworn(
    made: Tiny, *, id: int = 1, verified: int = 0, measurement: Any = None, nonce: bytes = b"", **said: Any
) -> Blocks:
    """A host's enclave says something else, in a quote that is good, and all others vouch for it."""
    state = ended(made, 1)
    digest = attested.candidates(made.terms, state)[id]
    found = attested.read_attestation(blob(made, digest))
    record = attestation.read_record(found.record)
    statement = replace(attestation.read_statement(found.statement), **said)
    at, nonce = verified or record.verified, nonce or record.nonce
    measured = measurement or simulated_measurement()
    evidence = Simulated(measured, lambda: at).quote(attestation.report_data(statement, nonce))
    lax = replace(policy_of(made.terms.tee.accept), enclaves=(measured.mrenclave,))
    for data in (evidence.quote, evidence.collateral):
        made.store.put(data)
    again = attestation.verify(evidence, lax, at, statement, nonce)
    other = attested.Attestation(again.encoded, encoding.encode(statement))
    return renamed(made, digest, made.store.put(encoding.encode(other)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"federation": b"\7" * 32}, "the enclave is for another federation"),
        ({"terms": b"\7" * 32}, "the enclave is for another terms"),
        ({"roster": b"\7" * 32}, "the enclave is for another roster"),
        ({"nonce": b"\7" * 32}, "answers another nonce than the ledger gave"),
        ({"measurement": ENCLAVE}, "the policy does not name what runs there"),
        ({"verified": 1_700_000_000}, "the collateral expired"),
    ],
    ids=["federation", "terms", "roster", "nonce", "program", "time"],
)
def test_a_good_quote_of_something_else_is_found(copy: Tiny, change: dict[str, Any], message: str) -> None:
    report = audited(copy, keys=(), events=sworn(copy, **change))
    assert {QUOTES, "vouchers", "candidates"} <= failed(report)
    assert message in said(report)


@pytest.mark.parametrize(
    "claim", [{"mode": "hardware"}, {"status": "SWHardeningNeeded"}, {"tee": "tdx"}, {"platform": b"\7" * 32}]
)
def test_a_record_that_says_otherwise_than_its_evidence_is_found(copy: Tiny, claim: dict[str, Any]) -> None:
    digest = attested.candidates(copy.terms, ended(copy, 1))[1]
    found = attested.read_attestation(blob(copy, digest))
    record = replace(attestation.read_record(found.record), **claim)
    other = copy.store.put(encoding.encode(replace(found, record=record.encoded)))
    report = audited(copy, keys=(), events=renamed(copy, digest, other))
    assert {QUOTES, "vouchers", "candidates"} <= failed(report)
    assert f"the record does not follow from its evidence: {next(iter(claim))}" in said(report)


@pytest.mark.parametrize(
    ("days", "message"), [(1, "in the future"), (-8, "7.0 days are allowed"), (-60, "expired")]
)
def test_collateral_that_did_not_hold_then_is_found(copy: Tiny, days: int, message: str) -> None:
    """The record says that it did."""
    now = copy.now + days * 86_400
    other = simulated_pki.collateral(simulated_pki.simulation(), "sgx", now, simulated_pki.Conditions())
    report = audited(copy, keys=(), events=resworn(copy, lambda quote, _: (quote, other)))
    assert {QUOTES, "vouchers", "candidates"} <= failed(report)
    assert message in said(report)


def test_members_that_vouched_for_a_time_yet_to_come_are_found(copy: Tiny) -> None:
    """A host's clock may be ahead of a member's, by five minutes."""
    report = audited(copy, keys=(), events=sworn(copy, verified=copy.now + 86_400))
    assert failed(report) - {"deliveries"} == {"vouchers"}
    assert said(report).count("its record names a time that is yet to come") == 5
    soon = audited(copy, keys=(), events=sworn(copy, verified=copy.now + 200))
    assert failed(soon) <= {"deliveries"}, "one may be of the enclave as it was"


def test_a_replayed_attestation_is_found(copy: Tiny) -> None:
    """One of the first round is recorded again in the second, and all vouch for it; that of the first still holds."""
    digest = attested.candidates(copy.terms, ended(copy, 1))[1]
    kinds = RecordKind.ATTESTATION, RecordKind.VOUCHER
    of, about = (attested.counted(copy.state, kind, 1, 3) for kind in kinds)
    again = [Recorded(3, of, 1, digest), *(Recorded(3, about, id, digest) for id in range(5))]
    report = audited(copy, keys=(), events=added(copy, *again, round=3))
    assert failed(report) == {QUOTES, "vouchers"}
    assert {f.subject for f in report.findings} == {
        "round 3, enclave of member 1",
        *(f"round 3, member {id} about the enclave of member 1" for id in range(5)),
    }
    assert "answers another nonce than the ledger gave" in said(report)


# records that should not be


def test_a_voucher_for_what_no_host_recorded_is_found(run: Tiny) -> None:
    about = attested.counted(run.state, RecordKind.VOUCHER, 1, 3)
    report = audited(run, events=added(run, Recorded(3, about, 4, b"\7" * 32), round=3))
    assert failed(report) == {"vouchers"}
    assert "round 3, member 4 about the enclave of member 1: vouched for what its host had not" in said(
        report
    )


@pytest.mark.parametrize(
    ("kind", "about", "by"),
    [
        (RecordKind.ATTESTATION, 4, 4),
        (RecordKind.ATTESTATION, 1, 2),
        (RecordKind.ATTESTATION, None, 1),
        (RecordKind.VOUCHER, None, 1),
    ],
    ids=["no host", "another's", "nobody's", "about nobody"],
)
def test_a_record_out_of_its_author_s_role_is_found(
    run: Tiny, kind: RecordKind, about: int | None, by: int
) -> None:
    number = kind if about is None else attested.counted(run.state, kind, about, 3)
    report = audited(run, events=added(run, Recorded(3, number, by, b"\7" * 32), round=3))
    assert failed(report) == {"records by role"}
    assert f"member {by}: recorded {kind.name} for round 3" in said(report)


def test_an_upload_for_others_than_the_candidates_is_found(run: Tiny) -> None:
    """One quorum of vouchers less, and the round has fewer candidates than members sealed to."""
    about = attested.counted(run.state, RecordKind.VOUCHER, 2, 0)
    lost = [e for e in run.chain.events if isinstance(e, Recorded) and e.kind == about][:2]
    blocks = [(time, [e for e in events if e not in lost]) for time, events in blocks_of(run)]
    report = audited(run, events=blocks)
    assert {"uploads checked", "deliveries", "sealed models"} <= failed(report)
    assert "sealed to other enclaves than those of this round" in said(report)
    assert "is sealed to others than members and candidates" in said(report)


# deliveries


def delivered(made: Tiny, round: int = 2, **changes: Any) -> Blocks:
    """As if a round's delivery had been changed, and all had taken it."""
    other = made.store.put(encoding.encode(replace(delivery(made, round), **changes)))
    return renamed(made, ended(made, round).current.evidence, other)


def signed(
    made: Tiny, digest: bytes, round: int, ids: Sequence[int] = range(4)
) -> tuple[tuple[int, bytes], ...]:
    data = encoding.message_bytes(made.state.domain, "Manifest", round, digest)
    return tuple((id, made.parties[id].sign(data)) for id in ids)


def test_a_delivery_of_another_enclave_is_found(copy: Tiny) -> None:
    known = attested.candidates(copy.terms, ended(copy, 2))
    other = next(d for d in known.values() if d != delivery(copy, 2).attestation)
    report = audited(copy, events=delivered(copy, attestation=other))
    assert failed(report) == {"deliveries"}
    assert "is no candidate of this round" in said(report)


def test_a_result_that_another_enclave_signed_is_found(copy: Tiny) -> None:
    """Its sealed model opens all the same: it is that on the chain."""
    made = delivery(copy, 2)
    data = encoding.message_bytes(copy.state.domain, "Result", 2, made.result.digest)
    report = audited(copy, events=delivered(copy, signature=signatures.account(b"\7" * 32).sign(data)))
    assert failed(report) == {"deliveries"}
    assert "not signed by the enclave that was attested" in said(report)


def test_the_delivery_of_another_leader_is_found(run: Tiny) -> None:
    """The chain elected somebody else."""
    leader = ended(run, 2).current.leader
    blocks = [
        (
            time,
            [
                replace(e, id=(leader + 1) % 3) if isinstance(e, Elected) and e.round == 2 else e
                for e in events
            ],
        )
        for time, events in blocks_of(run)
    ]
    assert "deliveries" in failed(audited(run, keys=(), events=blocks))


def test_a_set_without_one_member_that_a_forged_quorum_signed_is_found(copy: Tiny) -> None:
    """They had signed the right one too: that is a second set."""
    made = delivery(copy, 2).manifest
    less = replace(made, entries=made.entries[1:])
    report = audited(copy, events=delivered(copy, manifest=less, signatures=signed(copy, less.digest, 2)))
    assert failed(report) == {"deliveries", "one set a round"}
    assert "round 2: the manifest is not that of the frozen set" in said(report)
    assert [f.subject for f in report.findings if f.check == "one set a round"] == [
        f"round 2, member {id}" for id in range(4)
    ]
    assert made.digest.hex() in said(report)
    assert less.digest.hex() in said(report)


def test_a_sealed_model_that_was_cut_is_found(copy: Tiny) -> None:
    """The enclave had signed for it whole; members took what they got."""
    made = delivery(copy, 2)
    cut = copy.store.put(blob(copy, made.result.sealed)[:-1])
    report = audited(copy, keys=(), events=delivered(copy, result=replace(made.result, sealed=cut)))
    assert failed(report) == {"deliveries", "sealed models"}


def test_too_few_signatures_are_found(copy: Tiny) -> None:
    made = delivery(copy, 2)
    report = audited(copy, events=delivered(copy, signatures=made.signatures[:3]))
    assert failed(report) == {"deliveries"}
    assert "3 members signed, 4 are needed" in said(report)


def test_a_second_set_in_a_proposal_that_failed_is_found(copy: Tiny) -> None:
    made = delivery(copy, 2)
    less = replace(made.manifest, entries=made.manifest.entries[1:])
    second = replace(made, manifest=less, signatures=signed(copy, less.digest, 2, [3]))
    digest = copy.store.put(encoding.encode(second))
    blocks = []
    for time, events in blocks_of(copy):
        mine = next((e for e in events if isinstance(e, Proposed) and e.round == 2), None)
        blocks.append((time, [*([replace(mine, evidence=digest)] if mine else []), *events]))
    report = audited(copy, events=blocks)
    assert failed(report) == {"one set a round"}
    assert [f.subject for f in report.findings] == ["round 2, member 3"]


def test_a_second_signed_set_in_the_store_is_found(copy: Tiny) -> None:
    """The delivery has the first one."""
    state, made = ended(copy, 2), delivery(copy, 2)
    junk = signed(copy, b"\7" * 32, 2)[1][1]
    copy.store.put_at(f"manifests/{state.domain.hex()}/2/1", junk)
    report = audited(copy)
    assert report.findings == ()
    assert (
        "round 2: what lies in the store as the signature of member 1 is of no set that is known"
        in report.notes
    )
    less = replace(made.manifest, entries=made.manifest.entries[1:])
    taken = delivered(copy, manifest=less, signatures=signed(copy, less.digest, 2, [0, 2, 3, 4]))
    copy.store.put_at(f"manifests/{state.domain.hex()}/2/1", signed(copy, less.digest, 2, [1])[0][1])
    report = audited(copy, events=taken)
    assert {f.subject for f in report.findings if f.check == "one set a round"} == {
        f"round 2, member {id}" for id in (0, 2, 3, 4)
    }


def test_a_model_that_the_chain_does_not_name_is_found(run: Tiny) -> None:
    blocks = [
        (time, [replace(e, model=b"\7" * 32) if isinstance(e, Ended) and e.round == 3 else e for e in events])
        for time, events in blocks_of(run)
    ]
    report = audited(run, events=blocks)
    assert failed(report) == {"deliveries", "models opened"}
    assert "the chain says 0707" in said(report)


# what was forgotten


OLD = {"uploads checked", "deliveries", "sealed models", "models opened", "blobs present"}


@pytest.mark.parametrize(("rounds", "quotes"), [(5, set()), (8, {QUOTES, "vouchers", "candidates"})])
def test_what_the_terms_let_nodes_forget_is_no_finding(rounds: int, quotes: set[str]) -> None:
    """Enclaves of the first round are candidates up to the fifth: what attests them is kept as long."""
    made = enclaved(rounds=rounds, retain_rounds=2, tee={"epoch": 5})
    made.run()
    report = audited(made)
    assert report.findings == ()
    assert missing(report) == OLD | quotes
    notes = [c.note for c in report.checks if c.name in {"uploads checked", "deliveries"} | quotes]
    assert all("not kept by the terms (retain_rounds = 2)" in note for note in notes)
    assert counts(report)["deliveries"] >= 3


def test_what_attests_an_enclave_in_use_may_not_be_forgotten() -> None:
    """Its record is older than the terms keep; its last use is not."""
    made = enclaved(rounds=4, retain_rounds=1, tee={"epoch": 9})
    made.run()
    digest = delivery(made, 4).attestation
    quote = attestation.read_record(attested.read_attestation(blob(made, digest)).record).quote
    upload = ended(made, 4).current.commits[1].digest
    for check, gone in ((QUOTES, quote), ("uploads checked", upload)):
        store = Altered(made.store)
        store.gone = gone
        note = next(c.note for c in audited(replace(made, store=store)).checks if c.name == check)
        assert "not there" in note


# the current model, for whoever has a key


def test_the_current_model_opens_with_a_member_s_key(run: Tiny) -> None:
    data = models.released(run.state, run.terms, run.store, 3, run.parties[3].sealing_key)
    assert to_arrays(models.current(run.state, data, run.terms))["w"].shape == (12,)
    with pytest.raises(errors.Untrusted):
        models.released(run.state, run.terms, run.store, 3, run.parties[2].sealing_key)
