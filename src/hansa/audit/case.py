"""What the checks of rounds share: terms, blobs, keys of readers, the book, and what need not be kept any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hansa import errors, wiring
from hansa.audit.blobs import Blobs
from hansa.audit.report import Book
from hansa.crypto import sealing
from hansa.ports import Scheme
from hansa.protocol import checkpoint as ckpt
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.state import State
from hansa.records import Limits, Terms

INITIAL = "initial model"
NO_KEY = "sealed, and no key of a reader is at hand"

T = TypeVar("T")


class Keys:
    """The schemes of readers whose private keys are at hand."""

    def __init__(self, terms: Terms, keys: Mapping[int, bytes], limits: Limits) -> None:
        self._terms = terms
        self._keys = keys
        self._limits = limits
        self._schemes: dict[int, Scheme] = {}
        self.ids = frozenset(keys)

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
                return use(self.scheme(id))
            except errors.Untrusted as e:
                refusal = refusal or e
        raise refusal or errors.Unavailable(NO_KEY)

    def scheme(self, id: int) -> Scheme:
        """The scheme of somebody whose key is at hand."""
        if id not in self._schemes:
            self._schemes[id] = self._made(id, self._keys[id])
        return self._schemes[id]

    def nobody(self) -> Scheme:
        """A scheme that can check what needs no key."""
        return self._made(-1, bytes(32))

    def _made(self, id: int, key: bytes) -> Scheme:
        return wiring.scheme(
            self._terms,
            id=id,
            private_key=key,
            sign=_no_signature,
            entropy=_no_entropy,
            limits=self._limits,
        )


def kept_from(terms: Terms, state: State) -> int:
    """The first round whose blobs the terms say are kept; 0 where all are."""
    return state.round - terms.retain_rounds if terms.retain_rounds else 0


def _no_signature(_data: bytes) -> bytes:
    raise errors.Misconfigured("an audit signs nothing")


def _no_entropy(label: str, _n: int) -> bytes:
    raise errors.Misconfigured(f"an audit seals nothing, and needs no entropy for {label}")


@dataclass(frozen=True, slots=True)
class Case:
    """`kept_from` is the first round whose blobs the terms say are kept."""

    terms: Terms
    blobs: Blobs
    keys: Keys
    limits: Limits
    book: Book
    kept_from: int = 0

    def initial(self, made: Checkpoint | None) -> Checkpoint | None:
        """The initial model: canonical, with a fresh optimiser, and of the digest in the terms.

        `made` is the one that the app makes from the seed. Without it that is attested by every node that
        derived it before it trained.
        """
        self.forgive(1)
        if self.kept_from > 1:
            self.book.note(f"blobs that no round from {self.kept_from} on used are {self.blobs.forgiven}")
        if made is not None:
            return self._first(made)
        with self.book.attempt(INITIAL, "version 0"):
            first = self.decode(self.blobs.get(self.terms.initial))
            if ckpt.initial(self.terms.aggregation, first.model).digest != self.terms.initial:
                raise errors.Untrusted("does not begin with a fresh optimiser", digest=self.terms.initial)
            self.book.attested(INITIAL, "digest in the terms; its making from the seed was not repeated")
            return first
        return None

    def _first(self, made: Checkpoint) -> Checkpoint | None:
        if made.digest == self.terms.initial:
            self.book.passed(INITIAL)
            return made
        self.book.found(INITIAL, "version 0", "the app makes another one from the seed", made.digest)
        return None

    def forgive(self, round: int) -> None:
        """From here on blobs of this round are looked at: they may be missing if it is old enough."""
        window = self.terms.retain_rounds
        old = round < self.kept_from
        self.blobs.forgiven = f"not kept by the terms (retain_rounds = {window})" if old else ""

    def gap(self, check: str, what: str) -> None:
        """Something of the round could not be checked."""
        self.book.gap(check, what, forgotten=bool(self.blobs.forgiven))

    def decode(self, data: bytes) -> Checkpoint:
        """A model's canonical bytes. Raises `Untrusted`."""
        return ckpt.decode(data, self.terms.aggregation, self.terms.layout, self.limits)
