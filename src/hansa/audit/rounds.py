"""What the store holds of every round: updates, rows of the matrix, evidence, models. All opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from hansa import encoding, errors, wiring
from hansa.audit.blobs import KEPT, STORE, Blobs
from hansa.audit.decisions import Round
from hansa.audit.report import Book
from hansa.crypto import sealing
from hansa.ports import Releasing, Scheme
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import timing
from hansa.protocol.aggregation import Contribution
from hansa.protocol.audit import check_row
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.state import State
from hansa.records import Limits, Outcome, Terms, Update

UPDATES, ROWS, EVIDENCE = "updates opened", "matrix rows", "evidence records"
AGGREGATES, RELEASES, INITIAL = "aggregates recomputed", "sealed models", "initial model"
NO_KEY = "sealed, and no key of a reader is at hand"

T = TypeVar("T")


class Keys:
    """The schemes of readers whose private keys are at hand."""

    def __init__(self, terms: Terms, keys: Mapping[int, bytes], limits: Limits) -> None:
        self._terms = terms
        self._keys = keys
        self._limits = limits
        self._schemes: dict[int, Scheme] = {}

    def first(self, readers: Mapping[int, bytes], use: Callable[[Scheme], T]) -> T:
        """What `use` gives with the scheme of the first of `readers` for whom it succeeds.

        An author may have sealed to some readers only. Raises `Unavailable` when no reader's key is at hand,
        `Untrusted` when none of them succeeds.
        """
        refusal: errors.Untrusted | None = None
        for id in sorted(readers.keys() & self._keys.keys()):
            if sealing.public_key(self._keys[id]) != readers[id]:
                continue
            try:
                return use(self._scheme(id))
            except errors.Untrusted as e:
                refusal = refusal or e
        raise refusal or errors.Unavailable(NO_KEY)

    def _scheme(self, id: int) -> Scheme:
        if id not in self._schemes:
            self._schemes[id] = wiring.scheme(
                self._terms,
                id=id,
                private_key=self._keys[id],
                entropy=_no_entropy,
                limits=self._limits,
            )
        return self._schemes[id]


def kept_from(terms: Terms, state: State) -> int:
    """The first round whose blobs the terms say are kept; 0 where all are."""
    return state.round - terms.retain_rounds if terms.retain_rounds else 0


def _no_entropy(label: str, _n: int) -> bytes:
    raise errors.Misconfigured(f"an audit seals nothing, and needs no entropy for {label}")


@dataclass(slots=True)
class Rounds:
    """Goes through rounds in order; `model` is the last final one, if it could be had.

    `kept_from` is the first round whose blobs the terms say are kept.
    """

    terms: Terms
    blobs: Blobs
    keys: Keys
    limits: Limits
    book: Book
    kept_from: int = 0
    model: Checkpoint | None = field(default=None)

    def begin(self, made: Checkpoint | None = None) -> None:
        """The initial model: canonical, with a fresh optimiser, and of the digest in the terms.

        `made` is the one that the app makes from the seed. Without it that is attested by every node that
        derived it before it trained.
        """
        self.book.expect(INITIAL, UPDATES, EVIDENCE, RELEASES, AGGREGATES)
        self._forgive(1)
        if self.kept_from > 1:
            self.book.note(f"blobs that no round from {self.kept_from} on used are {self.blobs.forgiven}")
        if made is not None:
            self._first(made)
            return
        with self.book.attempt(INITIAL, "version 0"):
            first = self._decode(self.blobs.get(self.terms.initial))
            if ckpt.initial(self.terms.aggregation, first.model).digest != self.terms.initial:
                raise errors.Untrusted("does not begin with a fresh optimiser", digest=self.terms.initial)
            self.model = first
            self.book.attested(INITIAL, "digest in the terms; its making from the seed was not repeated")

    def _first(self, made: Checkpoint) -> None:
        if made.digest == self.terms.initial:
            self.book.passed(INITIAL)
            self.model = made
        else:
            self.book.found(INITIAL, "version 0", "the app makes another one from the seed", made.digest)

    def check(self, round: Round) -> None:
        """Check one round's blobs; a final one moves `model` on."""
        state, ended = round.state, round.ended
        current = state.current
        self._forgive(ended.round)
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
            with self.book.attempt(AGGREGATES, f"round {state.round}"):
                self.model = self._decode(released or self.blobs.get(ended.model))

    def note_times(self, round: Round) -> None:
        """Flag training times that are out of proportion to the data."""
        slow = timing.outliers(round.state.current.commits)
        if slow:
            ids = ", ".join(map(str, sorted(slow)))
            self.book.note(f"round {round.ended.round}: training time out of proportion: members {ids}")

    def _forgive(self, round: int) -> None:
        window = self.terms.retain_rounds
        old = round < self.kept_from
        self.blobs.forgiven = f"not kept by the terms (retain_rounds = {window})" if old else ""

    def _gap(self, check: str, what: str) -> None:
        self.book.gap(check, what, forgotten=bool(self.blobs.forgiven))

    def _decode(self, data: bytes) -> Checkpoint:
        return ckpt.decode(data, self.terms.aggregation, self.terms.layout, self.limits)

    def _rows(self, state: State) -> None:
        for id, opened in sorted(state.current.opened.items()):
            subject = f"round {state.round}, evaluator {id}"
            self.blobs.require(opened.values, f"matrix row of {subject}", STORE)
            with self.book.attempt(ROWS, subject):
                check_row(self.blobs.get(opened.values), state, opened, self.terms.selection.metric)
                self.book.passed(ROWS)

    def _aggregate(self, state: State, digest: bytes, opened: _Opened) -> None:
        """base + selected updates = the digest on the chain, bit for bit."""
        base, self.model = self.model, None
        subject = f"round {state.round}"
        self.blobs.require(digest, f"model of {subject}", KEPT)
        with self.book.attempt(AGGREGATES, subject):
            result = self._advance(base, state, opened)
            if result is None:
                self._gap(AGGREGATES, f"{subject}: its base or one of its updates is not at hand")
            elif result.digest != digest:
                message = f"the selected updates give {result.digest.hex()}, the chain says {digest.hex()}"
                self.book.found(AGGREGATES, subject, message, result.digest)
            else:
                self.book.passed(AGGREGATES)
                self.model = result

    def _advance(self, base: Checkpoint | None, state: State, opened: _Opened) -> Checkpoint | None:
        contributions = opened.contributions(state.current.selected)
        if base is None or base.digest != state.model:
            for _ in contributions:
                pass
            return None
        try:
            result = ckpt.advance(self.terms.aggregation, base, contributions)
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
        self.blobs.require(current.evidence, f"evidence of {subject}", STORE, KEPT)
        with self.book.attempt(EVIDENCE, subject):
            data = self.blobs.get(current.evidence)
            sealed = ckpt.sealed_digest(data)
            if data != ckpt.evidence(self.terms.aggregation, state, sealed):
                raise errors.Untrusted("names other facts than the chain", digest=current.evidence)
            self.book.passed(EVIDENCE)
        if not sealed:
            self._gap(RELEASES, f"{subject}: no evidence says where its model lies")
            return b""
        self.blobs.require(sealed, f"sealed model of {subject}", STORE, KEPT)
        opened = b""
        with self.book.attempt(RELEASES, subject):
            opened = self._open_release(state, digest, self.blobs.get(sealed))
            self.book.passed(RELEASES)
        return opened

    def _open_release(self, state: State, digest: bytes, blob: bytes) -> bytes:
        readers, author = state.current.readers, state.current.leader
        assert author is not None

        def opened_by(scheme: Scheme) -> bytes:
            return cast(Releasing, scheme).open_release(
                state.domain, readers, author, state.version + 1, blob, self.blobs.both
            )

        opened = self.keys.first(readers, opened_by)
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
            with rounds.book.attempt(UPDATES, subject):
                digest = self.state.current.commits[id].digest
                rounds.blobs.require(digest, f"update of {subject}", STORE, KEPT)
                update = self._open(id, rounds.blobs.get(digest))
                rounds.book.passed(UPDATES)
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
        update = self.rounds.keys.first(
            self.state.current.readers,
            lambda scheme: scheme.check(self.state, id, blob, self.rounds.blobs.both),
        )
        assert update is not None, "this scheme shows no update"
        return update
