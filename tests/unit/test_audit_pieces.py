"""Small pieces of the audit: reports, anchors, rows of the matrix, counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hansa import encoding, errors
from hansa.audit.anchors import Anchors, compare, read_anchors, write_anchors
from hansa.audit.blobs import KEPT, STORE, FolderBlobs
from hansa.audit.report import Book, Report, exit_code
from hansa.ledger.evm import Deployment
from hansa.protocol import events as ev
from hansa.protocol import messages as msg
from hansa.protocol import selection
from hansa.protocol.audit import check_row, counts, left_out, starved
from hansa.protocol.history import RoundStory
from hansa.protocol.state import RoundState, State
from hansa.records import Finding, Limits, Motion, Outcome, Parameters, Role, Slot, Standing
from hansa.stores import objects, parts

# reports


def book_of(*entries: str) -> Report:
    book = Book()
    for entry in entries:
        match entry:
            case "passed":
                book.passed("check")
            case "attested":
                book.attested("check", "the members")
            case "gap":
                book.gap("check", "a blob is missing")
            case "found":
                book.found("check", "round 1", "is wrong", b"\1" * 32)
            case "expected":
                book.expect("check")
    return book.report(anchored=False)


@pytest.mark.parametrize(
    ("entries", "verdict", "code"),
    [
        (["passed"], "verified", 0),
        (["attested"], "attested", 0),
        (["passed", "attested"], "attested", 0),
        (["passed", "gap"], "unavailable", 3),
        (["attested", "gap"], "unavailable", 3),
        (["passed", "gap", "found"], "failed", 1),
        (["expected"], "unavailable", 3),
        (["expected", "passed"], "verified", 0),
    ],
)
def test_the_worst_entry_is_the_verdict(entries: list[str], verdict: str, code: int) -> None:
    report = book_of(*entries)
    assert [check.verdict for check in report.checks] == [verdict]
    assert report.checks[0].count == sum(e in ("passed", "attested") for e in entries)
    assert exit_code(report) == code


def test_findings_keep_their_evidence() -> None:
    assert book_of("found").findings == (Finding("check", "round 1", "is wrong", b"\1" * 32),)


def test_a_note_names_the_first_of_many() -> None:
    book = Book()
    for round in (1, 2, 3):
        book.gap("check", f"round {round}")
    assert book.report(anchored=False).checks[0].note == "round 1 (and 2 more)"


@pytest.mark.parametrize(
    ("raised", "gaps", "verdict"),
    [
        (errors.Unavailable("gone"), True, "unavailable"),
        (errors.Unavailable("gone"), False, "failed"),
        (errors.Untrusted("bad", digest=b"\2" * 32), True, "failed"),
        (errors.Misconfigured("bad"), True, "failed"),
        (KeyError("x"), True, "failed"),
        (RecursionError(), True, "failed"),
    ],
)
def test_nothing_that_is_raised_passes(raised: Exception, gaps: bool, verdict: str) -> None:
    book = Book()
    with book.attempt("check", "subject", gaps=gaps):
        raise raised
    report = book.report(anchored=False)
    assert report.checks[0].verdict == verdict
    if isinstance(raised, errors.Untrusted):
        assert report.findings[0].evidence == b"\2" * 32


def test_an_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt), Book().attempt("check", "subject"):
        raise KeyboardInterrupt


# anchors

ANCHORS = Anchors(7, b"\1" * 20, b"\2" * 32, 2, b"\3" * 32)
DEPLOYMENT = Deployment(7, b"\1" * 20, 1, bytes(20), (), Parameters(digest=b"\2" * 32), bytes(32))
HASHES = {0: b"\5" * 32, 1: b"\4" * 32, 2: b"\3" * 32}


def test_anchors_are_read_as_written(tmp_path: Path) -> None:
    write_anchors(tmp_path / "a.toml", ANCHORS)
    assert read_anchors(tmp_path / "a.toml") == ANCHORS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[anchors]", "[anchor]", r"no table \[anchors\]"),
        ("block = 2\n", "", "exactly these keys"),
        ("block = 2", "blocks = 2", "exactly these keys"),
        ("block = 2", 'block = "2"', "block is not a whole number"),
        ("block = 2", "block = -2", "block is not a whole number"),
        ("block = 2", "block = true", "block is not a whole number"),
        ("0x0101", "0x01", "contract is not 20 bytes"),
        ("0x0202", "0xzz02", "terms is not 32 bytes"),
        ('"0x0303', '3 # "', "hash is not 32 bytes"),
        ("block = 2", "block 2", "is not TOML"),
    ],
)
def test_malformed_anchors_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.toml"
    write_anchors(path, ANCHORS)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(errors.Misconfigured, match=message):
        read_anchors(path)


def test_missing_anchors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="cannot read"):
        read_anchors(tmp_path / "none.toml")


def test_the_anchored_chain_holds() -> None:
    book = Book()
    assert compare(ANCHORS, DEPLOYMENT, HASHES, book)
    assert exit_code(book.report(anchored=True)) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"chain_id": 8},
        {"contract": bytes(20)},
        {"terms": bytes(32)},
        {"block": 1},
        {"block": 3},
        {"hash": bytes(32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_anchor_is_compared(changed: dict[str, object]) -> None:
    book = Book()
    assert not compare(replace(ANCHORS, **changed), DEPLOYMENT, HASHES, book)
    assert exit_code(book.report(anchored=False)) == 1


def test_blocks_after_the_anchor_are_not_anchored() -> None:
    book = Book()
    assert not compare(ANCHORS, DEPLOYMENT, {**HASHES, 3: bytes(32)}, book)
    assert exit_code(book.report(anchored=False)) == 0


# blobs


def blobs(folder: Path, limit: int = 100) -> tuple[FolderBlobs, Book]:
    book = Book()
    return FolderBlobs(folder, Limits(blob=limit), book), book


def keep(folder: Path, part: str, data: bytes, name: bytes | None = None) -> bytes:
    digest = name or encoding.digest(data)
    path = folder / part / "blobs" / digest.hex()[:2] / digest.hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def test_a_blob_comes_from_the_part_that_has_it_whole(tmp_path: Path) -> None:
    digest = keep(tmp_path, KEPT, b"data")
    assert blobs(tmp_path)[0].get(digest) == b"data"
    keep(tmp_path, STORE, b"other", digest)
    assert blobs(tmp_path)[0].get(digest) == b"data"


def test_bad_blobs_are_untrusted_and_missing_ones_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable):
        blobs(tmp_path)[0].get(bytes(32))
    digest = keep(tmp_path, STORE, b"other", b"\7" * 32)
    with pytest.raises(errors.Untrusted):
        blobs(tmp_path)[0].get(digest)
    large = keep(tmp_path, STORE, bytes(101))
    with pytest.raises(errors.Untrusted, match="101 bytes"):
        blobs(tmp_path)[0].get(large)


def test_every_file_is_hashed(tmp_path: Path) -> None:
    keep(tmp_path, STORE, b"one")
    keep(tmp_path, KEPT, b"two")
    good, book = blobs(tmp_path)
    good.scan()
    assert book.report(anchored=False).findings == ()
    digest = keep(tmp_path, KEPT, b"three", b"\7" * 32)
    scanned, book = blobs(tmp_path)
    scanned.scan()
    report = book.report(anchored=False)
    assert [f.subject for f in report.findings] == [f"kept/blobs/07/{digest.hex()}"]
    assert report.findings[0].evidence == encoding.digest(b"three")
    assert report.checks[0].count == 2


def test_a_large_blob_is_put_together_and_its_parts_are_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", 4)
    store = objects.create(str(tmp_path / STORE))
    digest = store.put(b"0123456789")
    held, book = blobs(tmp_path, limit=10)
    held.require(digest, "update", STORE)
    assert held.get(digest) == b"0123456789"
    held.scan()
    report = book.report(anchored=False)
    assert report.findings == ()
    assert [c.count for c in report.checks] == [1, 3]
    with pytest.raises(errors.Untrusted, match="10 bytes"):
        blobs(tmp_path, limit=9)[0].get(digest)

    store.put_at(parts.part_key(digest, encoding.digest(b"4567")), b"456x")
    held, book = blobs(tmp_path)
    with pytest.raises(errors.Untrusted, match="other bytes"):
        held.get(digest)
    held.scan()
    assert [f.evidence for f in book.report(anchored=False).findings] == [encoding.digest(b"456x")]
    store.delete(parts.part_key(digest, encoding.digest(b"4567")))
    with pytest.raises(errors.Unavailable):
        held.get(digest)


def test_a_required_blob_is_counted_once(tmp_path: Path) -> None:
    digest = keep(tmp_path, STORE, b"one")
    held, book = blobs(tmp_path)
    for _ in range(2):
        held.require(digest, "update", STORE, KEPT)
    (check,) = book.report(anchored=False).checks
    assert (check.count, check.verdict) == (1, "unavailable")
    assert "more" not in check.note


# rows of the matrix

VALUES, DOUBTS = [0.25, -1.0, 0.0], [False, False, True]
STATE = State(
    Parameters(digest=bytes(32)), frozenset(), bytes(20), bytes(32), bytes(32),
    current=RoundState(places=(3, 1, 0, 2)),
)  # fmt: skip
ROW = {"round": 4, "evaluator": 1, "metric": "loss", "targets": [0, 2, 3], "values": VALUES, "doubts": DOUBTS}
RANKING = selection.pack_ranking(selection.rank(VALUES, DOUBTS), DOUBTS)


def check(row: object, ranking: int = RANKING) -> None:
    data = encoding.encode(row)
    check_row(data, STATE, ev.BallotOpened(4, 1, ranking, False, encoding.digest(data)), "loss")


def test_a_row_that_gives_the_ballots_ranking_is_good() -> None:
    check(ROW)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"round": 3}, "round = 3"),
        ({"evaluator": 0}, "evaluator = 0"),
        ({"metric": "accuracy"}, "metric = 'accuracy'"),
        ({"targets": [0, 3, 2]}, "targets"),
        ({"values": [0.0, 0.25, -1.0]}, "another ranking"),
        ({"values": VALUES[:2]}, "one value"),
        ({"values": "abc"}, "one value"),
        ({"values": [True, 0.0, 0.0]}, "one value"),
        ({"doubts": [False, True, False]}, "another ranking"),
        ({"doubts": [0, 0, 1]}, "one value"),
        ({"more": 1}, "no row"),
    ],
)
def test_a_row_that_says_other_things_is_evidence(changed: dict[str, object], message: str) -> None:
    row = ROW | changed
    with pytest.raises(errors.Untrusted, match=message) as caught:
        check(row)
    assert caught.value.digest == encoding.digest(encoding.encode(row))


def test_a_row_must_be_a_record() -> None:
    with pytest.raises(errors.Untrusted, match="no row"):
        check([1, 2])


# counts and stories


@pytest.mark.parametrize(
    ("call", "events", "expected"),
    [
        (msg.Start(), [ev.Entered(1, 1, 5)], {}),
        (
            msg.Commits(1, ()),
            [ev.Committed(1, i, 0, bytes(32), 0) for i in range(3)],
            {"commitments": 3, "signatures": 3},
        ),
        (msg.Reveals(1, ()), [ev.Revealed(1, 0, bytes(32)), ev.BeaconSet(1, bytes(32))],
         {"beacon layers": 1, "beacons": 1}),
        (msg.Status(0, Standing.AWAY, b""), [ev.StandingChanged(0, 1)], {"signatures": 1}),
        (msg.Move(Motion.PAUSE, b"", b"", ((0, b""), (1, b""))), [], {"signatures": 2}),
        (
            msg.Accuse(Slot.VOTE, 0, 1, msg.Claim(0, b"", b"", b""), msg.Claim(0, b"", b"", b"")),
            [ev.Slashed(1, 0, 7)],
            {"signatures": 2, "penalties": 1},
        ),
        (msg.Join(b"", b"", b"", 0, Role.MEMBER, b""), [ev.Joined(b"", 0, b"", b"", 0, 0)],
         {"joins": 1, "signatures": 1}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_counts(call: msg.Call, events: list[ev.Event], expected: dict[str, int]) -> None:
    assert counts(call, events) == expected


def round_(
    number: int, selected: set[int], outcome: Outcome = Outcome.FINAL, committed: int = 3
) -> RoundStory:
    return RoundStory(number, frozenset(range(committed)), selected=frozenset(selected), outcome=outcome)


def test_only_final_rounds_leave_out() -> None:
    story = [round_(1, {0, 1}), round_(2, set(), Outcome.VOID), round_(3, {0}), round_(4, {0, 1, 2})]
    assert [left_out(story, id) for id in range(4)] == [0, 1, 2, 3]


def test_members_left_out_of_more_than_half_are_starved() -> None:
    story = [round_(1, {0, 1}), round_(2, {0}), round_(3, {0, 2}), round_(4, {0, 1})]
    assert starved(story) == {2: 3}
    absent = [round_(n, {0, 1}, committed=2) for n in (5, 6)]
    assert starved([*story, *absent]) == {2: 3}
