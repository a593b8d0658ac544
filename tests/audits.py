"""The audit of rounds over federations of `tests.tiny`, as they were or altered, and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tests.adversary.hostile import Wrapped
from tests.tiny import Tiny, TinyTrainer

from hansa import errors
from hansa.audit.blobs import Blobs, StoreBlobs
from hansa.audit.case import Case, Keys, kept_from
from hansa.audit.contents import contents_of
from hansa.audit.decisions import History
from hansa.audit.report import Book, Report
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.events import Committed, Event, Proposed, Recorded
from hansa.protocol.model import from_arrays
from hansa.records import SUBJECTS, Limits, Terms

Blocks = list[tuple[int, list[Event]]]
"""Times of blocks and what happened in them."""


def blocks_of(made: Tiny) -> Blocks:
    return [(block.time, list(block.events)) for block in made.chain.blocks]


def audited(
    made: Tiny,
    keys: Iterable[int] = range(99),
    events: list[Event] | Blocks | None = None,
    *,
    agreed: Terms | None = None,
    blobs: Any = None,
) -> Report:
    """The checks of the scheme alone.

    `keys`: members whose keys are at hand; `events`: other ones than happened, in blocks or all in one; `agreed`:
    other terms; `blobs` makes what reads them of limits and book.
    """
    agreed = agreed or made.terms
    history, book = History(made.chain.blocks[0].state), Book()
    for time, happened in _blocks(made, events):
        history.fold(happened, time)
    hand = {id: p.sealing_key for id, p in enumerate(made.parties) if id in keys}
    read: Blobs = StoreBlobs(made.store, Limits(), book) if blobs is None else blobs(Limits(), book)
    kept = kept_from(agreed, history.state)
    contents = contents_of(Case(agreed, read, Keys(agreed, hand, Limits()), Limits(), book, kept), history)
    model, _ = from_arrays(TinyTrainer().initial(0), 16)
    contents.begin(ckpt.initial(agreed.aggregation, model))
    for round in history.rounds:
        contents.check(round)
    return book.report(anchored=False)


def _blocks(made: Tiny, events: list[Any] | None) -> Blocks:
    if events is None:
        return blocks_of(made)
    return events if events and isinstance(events[0], tuple) else [(made.now, events)]


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def failed(report: Report) -> set[str]:
    return {name for name, verdict in verdicts(report).items() if verdict == "failed"}


def missing(report: Report) -> set[str]:
    return {name for name, verdict in verdicts(report).items() if verdict == "unavailable"}


def counts(report: Report) -> dict[str, int]:
    return {check.name: check.count for check in report.checks}


def said(report: Report) -> str:
    return "\n".join(f"{f.check}, {f.subject}: {f.message}" for f in report.findings)


def record(made: Tiny, kind: int, round: int | None = None) -> Recorded:
    """The first record of a kind, whomever it is about."""
    found = (e for e in made.chain.events if isinstance(e, Recorded) and e.kind % SUBJECTS == kind)
    return next(e for e in found if round in (None, e.round))


class Altered(Wrapped):
    """A store without one blob, or with other bytes in its place."""

    gone = b""
    broken = False

    def has(self, digest: bytes) -> bool:
        return digest != self.gone or self.broken

    def get(self, digest: bytes, *, limit: int) -> bytes:
        if digest != self.gone:
            return self.inner.get(digest, limit=limit)
        if self.broken:
            raise errors.Untrusted("other bytes", digest=bytes(32))
        raise errors.Unavailable("not there")


def renamed(made: Tiny, before: bytes, after: bytes) -> Blocks:
    """What would have happened had everybody named another blob."""
    kinds = Recorded | Committed | Proposed

    def renamed(event: Event) -> Event:
        names = [n for n in ("digest", "result", "evidence") if getattr(event, n, None) == before]
        return replace(event, **dict.fromkeys(names, after)) if isinstance(event, kinds) else event

    return [(time, [renamed(event) for event in events]) for time, events in blocks_of(made)]


def flipped(data: bytes, at: int | None = None) -> bytes:
    """One bit of one byte is another; by default in the middle."""
    changed = bytearray(data)
    changed[len(data) // 2 if at is None else at] ^= 1
    return bytes(changed)
