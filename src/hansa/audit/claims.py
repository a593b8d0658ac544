"""What a run says of itself, held against its chain: app, keys, settings, model file, metrics, summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from hansa import app, encoding, errors, runfolder
from hansa.audit.decisions import History
from hansa.audit.report import Book
from hansa.crypto import sealing
from hansa.project import app_digest, is_project
from hansa.protocol.audit import left_out, starved
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.history import RoundStory, names_of
from hansa.protocol.model import to_safetensors
from hansa.protocol.terms import terms_digest
from hansa.records import Limits, Outcome, Role, Terms
from hansa.runfolder import RunRecord

APP, RECORD, KEYS, CONSENTS = "app", "run record", "keys", "consents"
EXPORT, METRICS, SUMMARY = "exported model", "metrics", "summary"


def check_app(folder: Path, record: RunRecord, book: Book) -> None:
    """The app's code is the one that the terms pin."""
    book.expect(APP)
    flower = is_project(folder / "app")
    if not flower and not (folder / "app" / "federation.toml").is_file():
        book.gap(APP, "app/federation.toml is missing")
    file = app.file_of(folder / "app", record.terms.app)
    if not flower and not (folder / "app" / file).is_file():
        book.gap(APP, f"app/{file} is missing")
        return
    with book.attempt(APP, "app" if flower else f"app/{file}"):
        found = app_digest(folder / "app", file)
        if found != record.terms.app:
            raise errors.Untrusted(f"is not the app of the terms, {record.terms.app.hex()}", digest=found)
        book.passed(APP)
    if flower:
        book.note("arrays.safetensors and what a strategy makes of the agreed models are the run's own word")


def check_record(record: RunRecord, history: History, book: Book) -> None:
    """Settings of the simulation agree with themselves and with the chain's roster."""
    members = sum(m.role is Role.MEMBER for m in history.state.members.values())
    with book.attempt(RECORD, "run.cbor", gaps=False):
        settings = json.loads(record.settings)
        facts = (
            ("members", record.members, members),
            ("settings.members", settings["members"], record.members),
            ("settings.seed", settings["seed"], record.seed),
            ("settings.malicious", dict(settings["malicious"]), dict(record.malicious)),
        )
        for name, said, fact in facts:
            if said != fact:
                raise errors.Untrusted(f"{name} is {said}, not {fact}")
        book.passed(RECORD)
    book.note("no evidence: other settings of the simulation, the nodes' journals")


def read_keys(folder: Path, history: History, book: Book) -> Mapping[int, bytes]:
    """The simulation's sealing keys, each held against the public key on the chain."""
    if not (folder / "keys.cbor").is_file():
        book.gap(KEYS, "there is no keys.cbor: sealed contents cannot be opened")
        return {}
    good: dict[int, bytes] = {}
    with book.attempt(KEYS, "keys.cbor", gaps=False):
        for id, key in sorted(runfolder.read_keys(folder).items()):
            member = history.state.members.get(id)
            if member is None or sealing.public_key(key) != member.key:
                book.found(KEYS, f"member {id}", "the key is not that of the public key on the chain")
            else:
                good[id] = key
                book.passed(KEYS)
    return good


def check_export(folder: Path, model: Checkpoint | None, history: History, book: Book) -> None:
    """model.safetensors is made, byte for byte, from the model on the chain."""
    if not history.state.version:
        book.note("no round is final, so there is no model to export")
        return
    book.expect(EXPORT)
    path = folder / "model.safetensors"
    if not path.is_file():
        book.gap(EXPORT, "there is no model.safetensors: the run has not ended, or it was removed")
        return
    if model is None or model.digest != history.state.model:
        book.gap(EXPORT, "the final model is not at hand")
        return
    with book.attempt(EXPORT, "model.safetensors", gaps=False):
        if path.stat().st_size > Limits().blob:
            raise errors.Untrusted("is larger than any model may be")
        data = path.read_bytes()
        if data != to_safetensors(model.model):
            message = f"is not the model {model.digest.hex()} of the chain"
            raise errors.Untrusted(message, digest=encoding.digest(data))
        book.passed(EXPORT)


def check_metrics(folder: Path, history: History, book: Book) -> None:
    """What metrics.jsonl says of the chain is so. Accuracies are not measured again."""
    path = folder / runfolder.METRICS
    if not path.is_file():
        return
    ended = {r.round: r for r in history.story if r.outcome is not None}
    names = names_of(history.state)
    seen = set()
    with book.attempt(METRICS, path.name, gaps=False):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # torn by a crash; if it was a round's, its line is missing below
            story = ended[row["round"]]
            if row["kind"] == "round":
                seen.add(row["round"])
                _compare(f"round {row['round']}", row, _round_line(names, story), METRICS, book)
            else:
                facts = _member_line(names, story, row["member"])
                _compare(f"round {row['round']}, {row['member']}", row, facts, METRICS, book)
        if missing := ended.keys() - seen:
            book.gap(METRICS, f"no line for rounds {sorted(missing)}")
    book.note(
        "losses and accuracies in metrics.jsonl and summary.json, times, gas and bytes of rounds are the run's own word"
    )


def _round_line(names: Mapping[int, str], r: RoundStory) -> dict[str, Any]:
    assert r.outcome is not None
    return {
        "outcome": r.outcome.name.lower(),
        "version": r.version,
        "leader": names[r.leaders[-1]] if r.leaders else None,
        "selected": [names[i] for i in sorted(r.selected)],
        "left_out": [names[i] for i in sorted(r.left_out)],
    }


def _member_line(names: Mapping[int, str], r: RoundStory, name: str) -> dict[str, Any]:
    id = next(i for i, known in names.items() if known == name)
    return {
        "committed": id in r.committed,
        "selected": id in r.selected,
        "led": id in r.leaders[-1:],
        "slashed": [fault.name.lower() for who, fault in r.slashed if who == id],
    }


def check_summary(folder: Path, record: RunRecord, history: History, book: Book) -> None:
    """What summary.json says of the chain is so. Accuracies and seconds are not measured again."""
    path = folder / "summary.json"
    if not path.is_file():
        return
    with book.attempt(SUMMARY, "summary.json", gaps=False):
        said = json.loads(runfolder.read_file(path))
        state, story = history.state, history.story
        names = names_of(state)
        members = {id: names[id] for id, m in sorted(state.members.items()) if m.role is Role.MEMBER}
        final = sum(r.outcome is Outcome.FINAL for r in story)
        facts: dict[str, Any] = {
            "name": record.terms.name,
            "scheme": record.terms.scheme,
            "seed": record.seed,
            "planned": record.terms.training.rounds,
            "rounds": state.version,
            "failed_rounds": sum(r.outcome is not None for r in story) - final,
            "model_digest": state.model.hex(),
            "left_out": {name: left_out(story, id) for id, name in members.items()},
            "gas": sum(history.gas.values()),
            "gas_by_call": dict(history.gas),
        }
        _compare("summary.json", said, facts, SUMMARY, book)
        for (id, name), row in zip(members.items(), said["members"], strict=True):
            reputation, out = state.members[id].reputation, left_out(story, id)
            facts = {"name": name, "reputation": reputation, "left_out": out}
            _compare(f"summary.json, {name}", row, facts, SUMMARY, book)


def _compare(subject: str, said: Mapping[str, Any], facts: Mapping[str, Any], check: str, book: Book) -> None:
    for name, fact in facts.items():
        if said[name] == fact:
            book.passed(check)
        else:
            book.found(check, subject, f"{name} is {said[name]!r}, the chain says {fact!r}")


def check_consents(
    history: History, terms: Terms, fetch: Callable[[bytes], bytes], names: Mapping[int, str], book: Book
) -> None:
    """What a member signed as consent must be a page that names these terms."""
    named = terms_digest(terms).hex().encode()
    for id, digest in history.consents.items():
        with book.attempt(CONSENTS, f"member {id}"):
            if named not in fetch(digest):
                raise errors.Untrusted("agreed to something that does not name these terms", digest=digest)
            book.passed(CONSENTS)
    without = [names[id] for id in names if id not in history.consents]
    if without:
        book.note(f"no consent on the chain: {', '.join(without)}")


def note_starved(history: History, names: Mapping[int, str], hostile: Collection[str], book: Book) -> None:
    """Flag members that were left out more often than not, but for those known to be hostile."""
    for id, rounds in starved(history.story).items():
        name = names[id]
        if name not in hostile:
            book.note(f"{name} was left out in {rounds} rounds, more than half of those that it trained for")
