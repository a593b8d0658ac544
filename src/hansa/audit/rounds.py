"""What the store holds of every round: updates, rows of the matrix, evidence, models. All opened again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

from hansa import encoding, errors
from hansa.audit.blobs import KEPT, STORE
from hansa.audit.case import Case
from hansa.audit.decisions import Round
from hansa.ports import Releasing, Scheme
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.aggregation import Contribution
from hansa.protocol.audit import check_row
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.state import State
from hansa.records import Outcome, Update

UPDATES, ROWS, EVIDENCE = "updates opened", "matrix rows", "evidence records"
AGGREGATES, RELEASES = "aggregates recomputed", "sealed models"
CHECKS = UPDATES, EVIDENCE, RELEASES, AGGREGATES


@dataclass(slots=True)
class Rounds:
    """Goes through rounds in order; `model` is the last final one, if it could be had."""

    case: Case
    model: Checkpoint | None = field(default=None)

    def begin(self, made: Checkpoint | None) -> None:
        """The initial model; `made`: as the app makes it, if that is at hand."""
        self.model = self.case.initial(made)

    def check(self, round: Round) -> None:
        """Check one round's blobs; a final one moves `model` on."""
        state, ended = round.state, round.ended
        current = state.current
        self.case.forgive(ended.round)
        self._rows(state)
        opened = _Opened(self, state)
        for _ in opened.updates(current.available - current.selected):
            pass
        if ended.outcome != Outcome.FINAL:
            for _ in opened.updates(current.available & current.selected):
                pass
            return
        self._aggregate(state, ended.model, opened)
        released = self._release(state, ended.model)
        if self.model is None:
            # The next round's base, although this round did not lead to it.
            with self.case.book.attempt(AGGREGATES, f"round {state.round}"):
                self.model = self.case.decode(released or self.case.blobs.get(ended.model))

    def _rows(self, state: State) -> None:
        for id, opened in sorted(state.current.opened.items()):
            subject = f"round {state.round}, evaluator {id}"
            self.case.blobs.require(opened.values, f"matrix row of {subject}", STORE)
            with self.case.book.attempt(ROWS, subject):
                check_row(self.case.blobs.get(opened.values), state, opened, self.case.terms.selection.metric)
                self.case.book.passed(ROWS)

    def _aggregate(self, state: State, digest: bytes, opened: _Opened) -> None:
        """base + selected updates = the digest on the chain, bit for bit."""
        base, self.model = self.model, None
        subject = f"round {state.round}"
        self.case.blobs.require(digest, f"model of {subject}", KEPT)
        with self.case.book.attempt(AGGREGATES, subject):
            result = self._advance(base, state, opened)
            if result is None:
                self.case.gap(AGGREGATES, f"{subject}: its base or one of its updates is not at hand")
            elif result.digest != digest:
                message = f"the selected updates give {result.digest.hex()}, the chain says {digest.hex()}"
                self.case.book.found(AGGREGATES, subject, message, result.digest)
            else:
                self.case.book.passed(AGGREGATES)
                self.model = result

    def _advance(self, base: Checkpoint | None, state: State, opened: _Opened) -> Checkpoint | None:
        contributions = opened.contributions(state.current.selected)
        if base is None or base.digest != state.model:
            for _ in contributions:
                pass
            return None
        try:
            result = ckpt.advance(self.case.terms.aggregation, base, contributions)
        except errors.Untrusted:
            if opened.incomplete:
                return None
            raise
        return None if opened.incomplete else result

    def _release(self, state: State, digest: bytes) -> bytes:
        """The evidence names this round's facts, and the sealed model that it names opens to the digest.

        Gives the model's bytes, none if they could not be had.
        """
        current, subject = state.current, f"round {state.round}"
        sealed = b""
        self.case.blobs.require(current.evidence, f"evidence of {subject}", STORE, KEPT)
        with self.case.book.attempt(EVIDENCE, subject):
            data = self.case.blobs.get(current.evidence)
            sealed = ckpt.sealed_digest(data)
            if data != ckpt.evidence(self.case.terms.aggregation, state, sealed):
                raise errors.Untrusted("names other facts than the chain", digest=current.evidence)
            self.case.book.passed(EVIDENCE)
        if not sealed:
            self.case.gap(RELEASES, f"{subject}: no evidence says where its model lies")
            return b""
        self.case.blobs.require(sealed, f"sealed model of {subject}", STORE, KEPT)
        opened = b""
        with self.case.book.attempt(RELEASES, subject):
            opened = self._open_release(state, digest, self.case.blobs.get(sealed))
            self.case.book.passed(RELEASES)
        return opened

    def _open_release(self, state: State, digest: bytes, blob: bytes) -> bytes:
        readers, author = state.current.readers, state.current.leader
        assert author is not None

        def opened_by(scheme: Scheme) -> bytes:
            return cast(Releasing, scheme).open_release(
                state.domain, readers, author, state.version + 1, blob, self.case.blobs.both
            )

        opened = self.case.keys.first(readers, opened_by)
        found = encoding.digest(opened)
        if found != digest:
            raise errors.Untrusted(f"opens to {found.hex()}, the chain says {digest.hex()}", digest=found)
        return opened


@dataclass(slots=True)
class _Opened:
    """Opens updates of one round, each once; `incomplete` says that one could not be."""

    rounds: Rounds
    state: State
    incomplete: bool = False

    def updates(self, ids: Iterable[int]) -> Iterator[Update]:
        """Those that open and are what their members committed to; the others go to the book."""
        rounds = self.rounds
        for id in sorted(ids):
            subject = f"round {self.state.round}, member {id}"
            update = None
            with rounds.case.book.attempt(UPDATES, subject):
                digest = self.state.current.commits[id].digest
                rounds.case.blobs.require(digest, f"update of {subject}", STORE, KEPT)
                update = self._open(id, rounds.case.blobs.get(digest))
                rounds.case.book.passed(UPDATES)
            if update is None:
                self.incomplete = True
            else:
                yield update

    def contributions(self, ids: Iterable[int]) -> Iterator[Contribution]:
        """The same as the aggregation rule takes them."""
        for update in self.updates(ids):
            yield Contribution(
                member=update.member,
                examples=update.examples,
                staleness=self.state.version - update.version,
                values=update.values,
                indices=update.indices,
            )

    def _open(self, id: int, blob: bytes) -> Update:
        update = self.rounds.case.keys.first(
            self.state.current.readers,
            lambda scheme: scheme.check(self.state, id, blob, self.rounds.case.blobs.both),
        )
        assert update is not None, "this scheme shows no update"
        return update
