"""A small run, and copies of it that somebody has tampered with: the audit must see each."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest

from hansa import encoding, errors, runfolder, simulation
from hansa.audit import Report, anchors_of, audit, exit_code, read_anchors, write_anchors
from hansa.audit.chain import read_chain
from hansa.audit.decisions import Round
from hansa.audit.report import Book
from hansa.config import load_federation
from hansa.crypto.sealing import read_header
from hansa.ledger import artefact, blocks
from hansa.ledger.embedded import Entry, open_chain, read_journal
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import election, fold, items, selection
from hansa.protocol.model import decode_model, to_safetensors
from hansa.records import Limits, Model
from hansa.summary import finish

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
SETTINGS = [
    "training.rounds=2",
    "training.params={ lr = 0.3, epochs = 1 }",
    "training.min_members=4",
    "selection.keep=4",
    "simulation.members=5",
    'simulation.malicious={ m3 = "sign-flip:5" }',
]


def make(folder: Path, seed: int = 0, *, unclosed: Path | None = None) -> Path:
    """A finished run; `unclosed`: where to leave it as it is before its chain is closed."""
    run = simulation.start(load_federation(EXAMPLE, [*SETTINGS, f"simulation.seed={seed}"]), folder)
    run.play()
    finish(run, seconds=0.0)
    if unclosed is not None:
        shutil.copytree(folder, unclosed)
    run.close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("audit") / "run")


@pytest.fixture(scope="module")
def rounds(run: Path) -> list[Round]:
    return read_chain(run, runfolder.read_record(run), Book()).rounds


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def failed(report: Report) -> set[str]:
    return {name for name, verdict in verdicts(report).items() if verdict == "failed"}


def missing(report: Report) -> set[str]:
    return {name for name, verdict in verdicts(report).items() if verdict == "unavailable"}


def blob(part: str, digest: bytes) -> Path:
    return Path(part) / "blobs" / digest.hex()[:2] / digest.hex()


def referenced(run: Path, last: Round) -> dict[str, bytes]:
    """Digest of one blob of each kind in the last round."""
    current = last.state.current
    update = current.commits[min(current.selected)].digest
    return {
        "update": update,
        "grant": read_header((run / blob("store", update)).read_bytes()).grant,
        "row": current.opened[min(current.opened)].values,
        "evidence": current.evidence,
        "sealed model": ckpt.sealed_digest((run / blob("store", current.evidence)).read_bytes()),
        "model": last.ended.model,
        "initial model": last.state.models[0],
    }


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# an honest run


def test_an_honest_run_passes_and_is_left_as_it_was(run: Path) -> None:
    before, heard = files_of(run), []
    report = audit(run, progress=lambda name, n: heard.append((name, n)))
    assert report.findings == ()
    assert {n: v for n, v in verdicts(report).items() if v != "verified"} == {"initial model": "attested"}
    assert exit_code(report) == 0
    assert not report.anchored
    assert ("aggregates recomputed", 2) in heard
    assert files_of(run) == before


def test_it_counts_what_it_checked(run: Path) -> None:
    """Five members, two rounds, everybody present."""
    counted = {check.name: check.count for check in audit(run).checks}
    each = ("commitments", "beacon layers", "availability bitmaps", "ballots", "ballot openings",
            "precommitments", "votes", "updates opened", "matrix rows")  # fmt: skip
    assert {name: counted[name] for name in each} == dict.fromkeys(each, 10)
    once = ("beacons", "available sets", "selections", "elections", "proposals", "round endings",
            "evidence records", "sealed models", "aggregates recomputed")  # fmt: skip
    assert {name: counted[name] for name in once} == dict.fromkeys(once, 2)
    assert counted["joins"] == counted["keys"] == 5
    assert counted["signatures"] == 5 + 5 * 10 + 2
    assert counted["exported model"] == 1


# anchors


def test_anchors_saved_after_the_run_hold(run: Path, tmp_path: Path) -> None:
    write_anchors(tmp_path / "anchors.toml", anchors_of(run))
    report = audit(run, read_anchors(tmp_path / "anchors.toml"))
    assert report.anchored
    assert exit_code(report) == 0


@pytest.fixture(scope="module")
def unclosed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that is killed right after its last round; its seed is another one."""
    folder = tmp_path_factory.mktemp("unclosed")
    make(folder / "run", 1, unclosed=folder / "unclosed")
    return folder / "unclosed"


def test_a_forged_run_agrees_with_itself_but_not_with_the_anchors(run: Path, unclosed: Path) -> None:
    forged = unclosed.with_name("run")
    assert exit_code(audit(forged)) == 0
    report = audit(forged, anchors_of(run))
    assert failed(report) == {"anchors"}
    assert exit_code(report) == 1
    assert not report.anchored


def cut(folder: Path, last: Round) -> None:
    """Take the last round away, and everything that tells of it, as a careful forger would."""
    genesis, entries = read_journal(folder / "chain.sqlite")
    kept = list(takewhile(lambda entry: not commits_to(entry, last.ended.round), entries))
    (folder / "chain.sqlite").unlink()
    with open_chain(folder / "chain.sqlite", genesis) as chain:
        for entry in kept[1:]:
            chain.mine(entry.transactions, entry.timestamp)
        chain.checkpoint()
    (folder / "summary.json").unlink()
    (folder / "metrics.jsonl").unlink()
    model = decode_model((folder / blob("kept", last.state.model)).read_bytes(), Limits())
    (folder / "model.safetensors").write_bytes(to_safetensors(model))


def commits_to(entry: Entry, round: int) -> bool:
    """Whether a block holds commitments of a round."""
    calls = [artefact.decode_call(blocks.decode(raw).data) for raw in entry.transactions if len(raw) < 20_000]
    return any(name == "commits" and arguments[0] == round for name, arguments in calls)


def test_a_truncated_run_agrees_with_itself_but_not_with_the_anchors(
    run: Path, copy: Path, rounds: list[Round]
) -> None:
    cut(copy, rounds[-1])
    assert exit_code(audit(copy)) == 0
    report = audit(copy, anchors_of(run))
    assert failed(report) == {"anchors"}
    assert exit_code(report) == 1


def test_what_comes_after_the_anchor_is_not_anchored(run: Path, copy: Path, rounds: list[Round]) -> None:
    cut(copy, rounds[-1])
    report = audit(run, anchors_of(copy))
    assert exit_code(report) == 0
    assert not report.anchored
    assert any("after the anchor" in note for note in report.notes)


# one flipped byte

ROWS = {
    "journal": ("journal", "transactions"),
    "journal hash": ("journal", "hash"),
    "journal root": ("journal", "root"),
    "block header": ("blocks", "header"),
    "receipts": ("blocks", "receipts"),
    "state": ("nodes", "value"),
    "transaction index": ("sent", "hash"),
    "genesis": ("genesis", "value"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_changed_row_of_the_chain_is_found(copy: Path, kind: str) -> None:
    table, column = ROWS[kind]
    database = sqlite3.connect(copy / "chain.sqlite")
    (rows,) = database.execute(f"select count(*) from {table}").fetchone()
    query = f"select {column} from {table} order by 1 limit 1 offset {rows // 2}"
    (value,) = database.execute(query).fetchone()
    changed = bytearray(value)
    changed[len(changed) // 2] ^= 1
    with database:
        database.execute(f"update {table} set {column} = ? where {column} = ?", (bytes(changed), value))
    database.close()
    assert exit_code(audit(copy)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_byte_anywhere_in_the_chains_file_is_found(copy: Path, seed: int) -> None:
    path = copy / "chain.sqlite"
    flip(path, random.Random(seed).randrange(path.stat().st_size))
    assert exit_code(audit(copy)) == 1


BLOBS = [
    *((part, kind) for part in ("store", "kept") for kind in ("update", "grant", "evidence", "sealed model")),
    ("store", "row"),
    ("kept", "model"),
    ("kept", "initial model"),
]


def test_a_flipped_byte_in_any_blob_is_found(copy: Path, rounds: list[Round]) -> None:
    digests = referenced(copy, rounds[-1])
    paths = [copy / blob(part, digests[kind]) for part, kind in BLOBS]
    for path in paths:
        flip(path, path.stat().st_size // 2)
    report = audit(copy)
    found = {f.subject: f.evidence for f in report.findings if f.check == "blobs hashed"}
    assert found == {str(p.relative_to(copy)): encoding.digest(p.read_bytes()) for p in paths}
    assert exit_code(report) == 1


@pytest.mark.parametrize(("part", "kind"), BLOBS)
def test_a_removed_blob_is_a_gap(copy: Path, rounds: list[Round], part: str, kind: str) -> None:
    path = copy / blob(part, referenced(copy, rounds[-1])[kind])
    path.unlink()
    report = audit(copy)
    assert missing(report)
    assert exit_code(report) == 3


@pytest.mark.parametrize(
    ("name", "check"),
    [("model.safetensors", "exported model"), ("app/app.py", "app"), ("keys.cbor", "keys")],
)
def test_a_flipped_byte_in_a_file_is_found(copy: Path, name: str, check: str) -> None:
    flip(copy / name, (copy / name).stat().st_size // 2)
    assert check in failed(audit(copy))


def test_a_flipped_byte_in_the_terms_is_found(copy: Path) -> None:
    data = (copy / "run.cbor").read_bytes()
    terms = encoding.encode(runfolder.read_record(copy).terms)
    start = data.index(terms)
    for at in random.Random(0).sample(range(len(terms)), 3):
        changed = bytearray(data)
        changed[start + at] ^= 1
        (copy / "run.cbor").write_bytes(bytes(changed))
        assert exit_code(audit(copy)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"members": 6},
        {"seed": 1},
        {"malicious": {}},
        {"settings": "{"},
    ],
    ids=str,
)
def test_other_settings_of_the_simulation_are_found(copy: Path, change: dict[str, object]) -> None:
    runfolder.write_record(copy, replace(runfolder.read_record(copy), **change))
    assert "run record" in failed(audit(copy))


@pytest.mark.parametrize("field", ["contract", "owner", "model", "block", "seats"])
def test_another_deployment_is_found(copy: Path, field: str) -> None:
    record = runfolder.read_record(copy)
    values = {
        "contract": bytes(20),
        "owner": bytes(20),
        "model": bytes(32),
        "block": 2,
        "seats": (bytes(20),),
    }
    changed = replace(record.deployment, **{field: values[field]})
    runfolder.write_record(copy, replace(record, deployment=changed))
    assert "contract" in failed(audit(copy))


@pytest.mark.parametrize(
    ("name", "old", "new", "check"),
    [
        ("summary.json", '"rounds": 2', '"rounds": 3', "summary"),
        ("summary.json", '"failed_rounds": 0', '"failed_rounds": 1', "summary"),
        ("summary.json", '"deploy": ', '"deploy": 1', "summary"),
        ("metrics.jsonl", '"left_out": ["m3"]', '"left_out": ["m1"]', "metrics"),
    ],
)
def test_a_run_that_misreports_its_chain_is_found(
    copy: Path, name: str, old: str, new: str, check: str
) -> None:
    text = (copy / name).read_text()
    assert old in text
    (copy / name).write_text(text.replace(old, new))
    assert check in failed(audit(copy))


def test_a_message_that_lies_in_the_store_is_no_evidence(copy: Path) -> None:
    path = copy / "store" / "outbox" / "f" / "1" / "commit" / "0"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"forged")
    assert exit_code(audit(copy)) == 0


# what cannot be checked, or not even read


def test_without_keys_sealed_contents_are_not_checked(copy: Path) -> None:
    (copy / "keys.cbor").unlink()
    report = audit(copy)
    assert missing(report) == {"keys", "updates opened", "sealed models", "aggregates recomputed"}
    assert {c.count for c in report.checks if c.name in missing(report)} == {0}
    assert exit_code(report) == 3


@pytest.mark.parametrize("name", ["model.safetensors", "app/app.py", "app/federation.toml"])
def test_a_missing_file_is_a_gap(copy: Path, name: str) -> None:
    (copy / name).unlink()
    report = audit(copy)
    assert missing(report)
    assert exit_code(report) == 3


@pytest.mark.parametrize("name", ["run.cbor", "chain.sqlite", "keys.cbor", "metrics.jsonl", "summary.json"])
@pytest.mark.parametrize(
    "content", [b"\xff" * 100, b"[]\n", b'{"round": 1}\n'], ids=["bytes", "list", "object"]
)
def test_garbage_is_a_finding(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    assert exit_code(audit(copy)) == 1


def test_a_run_that_was_not_closed_is_not_wholly_checked(unclosed: Path) -> None:
    report = audit(unclosed)
    assert report.findings == ()
    assert missing(report) == {"chain file", "contract's state"}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match=r"run\.cbor is missing"):
        audit(tmp_path)


def test_a_stray_file_among_the_blobs_is_found(copy: Path) -> None:
    (copy / "store" / "blobs" / "note.txt").write_text("not a blob")
    assert failed(audit(copy)) == {"blobs hashed"}


# lies that the whole federation agreed on


@pytest.fixture(scope="module")
def conspiracy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All verifiers add one to the first value of the model, all evaluators vote against their own rows."""
    honest, ranked = ckpt.advance, selection.rank

    def advance(*given: object) -> ckpt.Checkpoint:
        result = honest(*given)
        values = result.model.values.copy()
        values[0] += 1
        return ckpt.make(Model(result.model.layout, values), result.state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ckpt, "advance", advance)
        patch.setattr(selection, "rank", lambda values, doubts: ranked(values, doubts)[::-1])
        return make(tmp_path_factory.mktemp("conspiracy") / "run")


def test_a_wrong_aggregate_is_found_although_all_verifiers_approved(conspiracy: Path) -> None:
    report = audit(conspiracy)
    assert failed(report) == {"aggregates recomputed", "matrix rows"}
    wrong = [f for f in report.findings if f.check == "aggregates recomputed"]
    assert [f.subject for f in wrong] == ["round 1", "round 2"]
    assert all(len(f.evidence) == 32 for f in wrong)


BLIND: dict[str, tuple[object, str, Callable[..., object]]] = {
    "signatures": (items, "recover", lambda *_: None),
    "elections": (election, "draw", lambda _, weights: max(weights)),
    "selections": (selection, "select", lambda state, *_: state.current.available),
    "ballots": (selection, "ballot_commitment", lambda *_: bytes(32)),
    "beacon": (election, "layer_hash", lambda *_: 0),
}


@pytest.mark.parametrize("part", BLIND)
def test_the_rules_decide_everything_anew(run: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An auditor whose rules differ in one part disagrees with the contract: it did look."""
    monkeypatch.setattr(*BLIND[part])
    assert "transactions decided" in failed(audit(run))


def test_what_the_contract_holds_is_compared(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reputation stands in no event: only the contract's getters show that an auditor counts otherwise."""
    monkeypatch.setattr(fold, "GAIN_VOTED", fold.GAIN_VOTED + 8)
    report = audit(run)
    assert "contract's state" in failed(report)
