"""The audit of a run folder, from its first byte to its exported model."""

from __future__ import annotations

from pathlib import Path

from hansa import errors, runfolder
from hansa.audit import claims
from hansa.audit.anchors import Anchors, compare
from hansa.audit.blobs import FolderBlobs
from hansa.audit.case import Case, Keys, kept_from
from hansa.audit.chain import read_chain
from hansa.audit.contents import contents_of, note_times, unproven
from hansa.audit.decisions import History
from hansa.audit.report import Book, Progress, Report
from hansa.protocol.history import names_of
from hansa.records import Limits
from hansa.runfolder import RunRecord

UNPROVEN = (
    "whether this is the run that you think it is. The folder agrees with itself; whoever made it may have made "
    "all of it up. Anchors from elsewhere settle that: --trust FILE."
)
CHAIN_FILE, RECORD_FILE = "chain.sqlite", "run.cbor"


def audit(folder: Path, anchors: Anchors | None = None, progress: Progress | None = None) -> Report:
    """Check all that a run folder claims, offline, trusting nothing in it but what can be derived again.

    With `anchors` the chain must be the one that the user knows from elsewhere; without them the report
    says no more than that the folder agrees with itself. `progress` hears the name of a check and how many
    things have passed it. Raises `Misconfigured` when the folder holds no run; whatever else is wrong with
    it is a finding.
    """
    for name in (RECORD_FILE, CHAIN_FILE):
        if not (folder / name).is_file():
            raise errors.Misconfigured(
                f"{folder} holds no run: {name} is missing", hint="Name the folder that `hansa run` wrote."
            )
    book, limits = Book(progress), Limits()
    blobs = FolderBlobs(folder, limits, book)
    record: RunRecord | None = None
    book.expect(claims.RECORD)
    with book.attempt(claims.RECORD, RECORD_FILE, gaps=False):
        record = runfolder.read_record(folder)
    history: History | None = None
    if record is not None:
        with book.attempt(claims.RECORD, "terms", gaps=False):
            history = read_chain(folder, record, book)
    anchored = False
    if record is not None and history is not None:
        if anchors is not None:
            anchored = compare(anchors, record.deployment, history.hashes, book)
        _contents(folder, record, history, blobs, limits, book)
    blobs.scan()
    reason = "" if anchored else UNPROVEN
    if record is not None:
        reason = unproven(record.terms, reason)
    return book.report(anchored=anchored, unproven=reason)


def _contents(
    folder: Path, record: RunRecord, history: History, blobs: FolderBlobs, limits: Limits, book: Book
) -> None:
    claims.check_record(record, history, book)
    claims.check_app(folder, record, book)
    keys = claims.read_keys(folder, history, book)
    kept = kept_from(record.terms, history.state)
    case = Case(record.terms, blobs, Keys(record.terms, keys, limits), limits, book, kept)
    contents = contents_of(case, history)
    contents.begin(None)
    for round in history.rounds:
        contents.check(round)
        note_times(round, book)
    claims.check_export(folder, contents.model, history, book)
    claims.check_metrics(folder, history, book)
    claims.check_summary(folder, record, history, book)
    claims.note_starved(history, names_of(history.state), record.malicious, book)
