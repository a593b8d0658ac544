"""The facts of a run folder, read again and again while another process may be at work in it. Nothing is locked.

What a report needs of a folder besides its chain:

seconds.jsonl       seconds of this machine's clock by phase, one line a round
audit.json          what the last `hansa audit` said
report.html         the page
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hansa import encoding, errors, runfolder
from hansa.audit.case import Keys
from hansa.audit.report import Report
from hansa.ledger.embedded import Chain, looked_at
from hansa.ledger.evm import Fold
from hansa.ports import Scheme
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.history import names_of
from hansa.records import Limits, Terms
from hansa.report.chronicle import Chronicle, Clocks, Spending
from hansa.report.evidence import VERDICTS
from hansa.report.facts import Audited, Check, Facts, Row
from hansa.report.flow import UNKNOWN, Volume
from hansa.report.making import Gathered, make
from hansa.stores import parts
from hansa.summary import SUMMARY

AUDIT, SECONDS, PAGE, CHAIN = "audit.json", "seconds.jsonl", "report.html", "chain.sqlite"
CELLS = 120_000
"""Values of the evaluation matrix on one page, at most: what a file of two megabytes can hold."""

ROW_LIMIT = 256 * 1024
"""Bytes of a row of the matrix, at most: a thousand targets take a tenth of that."""


@dataclass(slots=True)
class _Reopened:
    """An `Rpc` that is a newer snapshot of the chain at each reading."""

    chain: Chain | None = None

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See `Rpc.request`."""
        assert self.chain is not None
        return self.chain.request(method, params)

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """See `Rpc.batch`."""
        assert self.chain is not None
        return self.chain.batch(calls)


@dataclass(slots=True)
class _Blobs:
    """Sizes and rows of blobs of the folder's store, each looked at once. None: it is not there."""

    store: Path
    scheme: Scheme | None
    sizes: dict[bytes, int] = field(default_factory=dict)
    rows: dict[bytes, Row] = field(default_factory=dict)
    sealed: dict[bytes, bytes] = field(default_factory=dict)
    attached: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)

    def size(self, digest: bytes) -> int:
        """Bytes of a blob, 0 where it is not."""
        if digest not in self.sizes:
            whole = self.store / parts.blob_key(digest)
            pieces = [whole] if whole.is_file() else list((self.store / parts.folder(digest)).glob("*"))
            found = sum(piece.stat().st_size for piece in pieces if piece.is_file())
            if not found:
                return 0
            self.sizes[digest] = found
        return self.sizes[digest]

    def whole(self, digest: bytes) -> int:
        """Bytes of what a member sealed, with its attachments; those of a large blob are small, and not looked for."""
        if digest not in self.attached:
            data = self._small(digest)
            if data is None or self.scheme is None:
                return self.size(digest)
            with suppress(errors.Untrusted):
                self.attached[digest] = self.scheme.references(data)
        return self.size(digest) + sum(self.size(d) for d in self.attached.get(digest, ()))

    def row(self, evaluator: int, digest: bytes) -> Row | None:
        """A row of the matrix, if it is one."""
        if digest not in self.rows:
            data = self._small(digest)
            row = None if data is None else row_of(evaluator, data)
            if row is None:
                return None
            self.rows[digest] = row
        return self.rows[digest]

    def model(self, evidence: bytes) -> int:
        """Bytes of the sealed model that an evidence record names, 0 where it names none, as that of a sum."""
        if evidence not in self.sealed:
            data = self._small(evidence)
            if data is None:
                return 0
            with suppress(errors.Untrusted):
                self.sealed[evidence] = ckpt.sealed_digest(data)
        return self.whole(self.sealed[evidence]) if evidence in self.sealed else 0

    def _small(self, digest: bytes) -> bytes | None:
        path = self.store / parts.blob_key(digest)
        if not path.is_file() or path.stat().st_size > ROW_LIMIT:
            return None
        return path.read_bytes()


class RunFacts:
    """Facts of a run folder. Each `read` goes on from the block where the one before ended.

    Raises `Misconfigured` when it is no run or one of another version, `Unavailable` when it has no chain yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begin()

    def _begin(self) -> None:
        self._record = read_run_record(self.folder)
        self._rpc = _Reopened()
        self._chronicle, self._spending, self._clocks = Chronicle(), Spending(), Clocks()
        self._blobs = _Blobs(self.folder / "store", _nobody(self._record.terms))
        self._fold = Fold(self._rpc, self._record.deployment)
        self._fold.observe(self._chronicle)

    def read(self) -> Facts:
        """How the run stands now; another run may have taken the folder. Raises `Unavailable`, `Untrusted`."""
        with snapshot(self.folder) as chain:
            self._rpc.chain = chain
            if read_run_record(self.folder) != self._record or chain.height < self._spending.block:
                self._begin()
                self._rpc.chain = chain
            record, chronicle = self._record, self._chronicle
            view = self._fold.view(lambda: chain.time)
            while self._fold.turns:
                self._begin()
                self._rpc.chain, chronicle = chain, self._chronicle
                view = self._fold.view(lambda: chain.time)
            self._spending.read(chain, view.block, chronicle)
            clock = self._clocks.read(chain, {block for block, _, _ in chronicle.entered})
            start = chain.genesis.timestamp
        self._rpc.chain = None
        checks, audited = _audit(self.folder, view.block_hash)
        return make(
            Gathered(
                subject=str(self.folder),
                terms=record.terms,
                view=view,
                chronicle=chronicle,
                names=names_of(view.state) | dict(enumerate(record.names)),
                chain_id=record.deployment.chain_id,
                contract=record.deployment.contract,
                clock=clock,
                start=start,
                absent=self._absent(),
                run=True,
                running=in_use(self.folder),
                seed=record.seed,
                hostile=record.malicious,
                metrics=tuple(runfolder.read_metrics(self.folder)),
                summary=_finished(self.folder, view.state.model),
                spending=self._spending,
                blobs=self._volumes(),
                matrices=self._matrices(),
                seconds=_seconds(self.folder),
                checks=checks,
                audited=audited,
            )
        )

    def _volumes(self) -> tuple[Volume, Volume, Volume]:
        updates = [d for of_round in self._chronicle.updates.values() for d in of_round.values()]
        rows = [d for of_round in self._chronicle.ballots.values() for d in of_round.values()]
        return (
            _volume(map(self._blobs.whole, updates)),
            _volume(map(self._blobs.size, rows)),
            _volume(map(self._blobs.model, self._chronicle.evidence.values())),
        )

    def _shown(self) -> list[int]:
        """Rounds whose matrices are shown: all, or the newest and others at even steps, as far as a page can hold."""
        ballots = self._chronicle.ballots
        targets = self._record.terms.selection.targets
        cells = sum(len(of_round) * min(targets, len(of_round)) for of_round in ballots.values())
        step = max(1, math.ceil(cells / CELLS))
        return sorted(ballots)[::-1][::step][::-1]

    def _matrices(self) -> dict[int, tuple[Row, ...]]:
        made = {}
        for round in self._shown():
            found = (self._blobs.row(id, digest) for id, digest in self._chronicle.ballots[round].items())
            rows = sorted((row for row in found if row is not None), key=lambda row: row.evaluator)
            if rows:
                made[round] = tuple(rows)
        return made

    def _absent(self) -> tuple[str, ...]:
        shown, held = len(self._shown()), len(self._chronicle.ballots)
        if shown < held:
            return (f"The evaluation matrix is shown for {shown} of {held} rounds, to keep this file small.",)
        return ()


def _volume(sizes: Iterable[int]) -> Volume:
    """How many blobs there are, and their bytes; unknown where there is none."""
    found = [size for size in sizes if size]
    return Volume(len(found), sum(found)) if found else UNKNOWN


def _nobody(terms: Terms) -> Scheme | None:
    """The scheme in the hands of nobody; None where an extra lacks that it needs."""
    try:
        return Keys(terms, {}, Limits()).nobody()
    except errors.Misconfigured:
        return None


def read_run_record(folder: Path) -> runfolder.RunRecord:
    """The record of a run. Raises `Misconfigured` for a folder that holds none, or one of another version."""
    if not (folder / "run.cbor").is_file():
        raise errors.Misconfigured(
            f"{folder} holds no run: run.cbor is missing", hint="Name the folder that `hansa run` wrote."
        )
    try:
        return runfolder.read_record(folder)
    except errors.Untrusted as e:
        raise errors.Misconfigured(
            f"the record of {folder} cannot be read: {e}",
            hint="Another version of Hansa may have made this run, and its files are as they were: use that version,"
            " or open the report.html that it left.",
        ) from e


@contextmanager
def snapshot(folder: Path) -> Iterator[Chain]:
    """The chain as it is now, all of it at one moment."""
    path = folder / CHAIN
    if not path.exists():
        raise errors.Unavailable(f"the run in {folder} has no chain yet", hint="Go on with it by --resume.")
    with looked_at(path) as chain:
        yield chain


def in_use(folder: Path) -> bool:
    """Whether a process is at work in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def row_of(evaluator: int, data: bytes) -> Row | None:
    """A row out of the store, which anybody may have written; the audit holds it against its ballot."""
    try:
        row = encoding.decode(data)
        targets, values, doubts = row["targets"], row["values"], row["doubts"]
        found = tuple(
            None if doubt or not math.isfinite(value) else float(f"{value:.3g}")
            for value, doubt in zip(values, doubts, strict=True)
        )
        if len(found) != len(targets) or not all(type(t) is int for t in targets):
            return None
        return Row(evaluator, tuple(targets), found)
    except (errors.Untrusted, KeyError, TypeError, ValueError):
        return None


def _json(path: Path) -> dict[str, Any]:
    """An object out of a file, empty where there is none or it is torn."""
    try:
        found = json.loads(runfolder.read_file(path))
    except (errors.HansaError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _finished(folder: Path, model: bytes) -> dict[str, Any]:
    """What the run said at its end, if it has not gone on since."""
    found = _json(folder / SUMMARY)
    return found if found.get("model_digest") == model.hex() else {}


def _seconds(folder: Path) -> dict[str, float]:
    total: dict[str, float] = {}
    for row in runfolder.read_lines(folder / SECONDS):
        for phase, seconds in row.get("seconds", {}).items():
            total[phase] = round(total.get(phase, 0.0) + seconds, 3)
    return total


def _audit(folder: Path, head: bytes) -> tuple[tuple[Check, ...], Audited | None]:
    """What the last audit said, if the chain has not gone on since."""
    told = _json(folder / AUDIT)
    if told.get("head") != head.hex():
        return (), None
    try:
        checks = tuple(
            Check(str(c["name"]), c["verdict"], int(c["count"]), str(c["note"]))
            for c in told["checks"]
            if c["verdict"] in VERDICTS
        )
        findings = tuple(f"{x['check']}, {x['subject']}: {x['message']}" for x in told["findings"])
        at, program, unproven = int(told["at"]), str(told["program"]), str(told["unproven"])
        return checks, Audited(at, program, told["anchored"] is True, unproven, findings)
    except (KeyError, TypeError, ValueError):
        return (), None


def note_audit(folder: Path, report: Report) -> None:
    """Keep what an audit said beside the run, for its report. Raises `Unavailable`."""
    with snapshot(folder) as chain:
        head = chain.block(chain.height).header.hash.hex()
    told = {"head": head, "at": int(time.time()), "program": f"hansa {version('hansa')}"}
    text = json.dumps(told | runfolder.as_json(report), indent=2) + "\n"
    runfolder.write_atomically(folder / AUDIT, text.encode())
