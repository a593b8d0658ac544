"""What the store holds of every round under scheme `mpc`: offers, packages, what parties recorded, the model.

All but the shares themselves is checked without any key. What a party could open takes its key; the model takes that
of an owner, and SPU to put its shares together.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from hansa import encoding, errors, wiring
from hansa.audit.blobs import KEPT, STORE
from hansa.audit.case import Case
from hansa.audit.decisions import Round
from hansa.node.delivered import arrays_of
from hansa.ports import Dealing, Sharing
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import mpc
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import from_arrays
from hansa.protocol.mpc import Offer, Settlement
from hansa.protocol.state import State
from hansa.records import Outcome, RecordKind

CERTIFICATES, OFFERS, SHARES = "certificates of parties", "offers checked", "shares opened"
ACCEPTANCES, DELIVERIES, SETTLEMENTS = "words on shares", "deliveries", "settlements made again"
MODELS = "models put together"
CHECKS = CERTIFICATES, OFFERS, SHARES, ACCEPTANCES, DELIVERIES, SETTLEMENTS, MODELS
UNSEEN = (
    "whether the model is what training makes of the rows. The computing parties alone work on them; that those who "
    "hold the same components hold the same bytes is all that shows they computed alike."
)
NO_KEY = "no key of its reader is at hand"


@dataclass(slots=True)
class Shares:
    """Goes through rounds in order; `model` is the last final one, if it could be had."""

    case: Case
    model: Checkpoint | None = field(default=None)

    def begin(self, made: Checkpoint | None) -> None:
        """The initial model; `made`: as the app makes it, if that is at hand."""
        self.model = self.case.initial(made)

    def check(self, round: Round) -> None:
        """Check one round's blobs; a final one moves `model` on."""
        state, ended = round.state, round.ended
        self.case.forgive(ended.round)
        for party in mpc.parties(state):
            self._certificate(state, party)
        for owner in sorted(state.current.available):
            self._offer(state, owner)
        self._records(state)
        if ended.outcome == Outcome.FINAL:
            self._final(state, ended.model)

    def _certificate(self, state: State, party: int) -> None:
        subject = f"round {state.round}, party {party}"
        with self.case.book.attempt(CERTIFICATES, subject):
            digest = mpc.certificate(state, party)
            if digest is None:
                raise errors.Untrusted("has recorded no certificate of its links")
            self.case.blobs.require(digest, f"certificate of {subject}", STORE, KEPT)
            self.case.blobs.get(digest)
            self.case.book.passed(CERTIFICATES)

    # what owners shared

    def _offer(self, state: State, owner: int) -> None:
        subject, blobs = f"round {state.round}, owner {owner}", self.case.blobs
        offer: Offer | None = None
        with self.case.book.attempt(OFFERS, subject):
            digest = state.current.commits[owner].digest
            blobs.require(digest, f"offer of {subject}", STORE, KEPT)
            data = blobs.get(digest)
            read = mpc.read_offer(data, state, owner)
            for package in read.packages:
                blobs.require(package, f"package of {subject}", STORE, KEPT)
            self.case.keys.nobody().check(state, owner, data, blobs.both)
            self.case.book.passed(OFFERS)
            offer = read
        if offer is None:
            return
        for rank, party in enumerate(mpc.parties(state)):
            with self.case.book.attempt(SHARES, f"{subject}, for party {party}"):
                self._opened(state, offer, rank, party)
                self.case.book.passed(SHARES)

    def _opened(self, state: State, offer: Offer, rank: int, party: int) -> None:
        """A package opens to the shares that its owner committed to; or its party refused it. Raises `Untrusted`."""
        scheme = self._scheme(party)
        fetch = self.case.blobs.get
        shares = scheme.unpack(state, offer.owner, fetch(offer.packages[rank]), fetch)
        found = {name: encoding.digest(share) for name, share in shares.items()}
        refused = {r.owner for r in mpc.refusals(state, fetch).get(party, ())}
        if found != {part.name: part.shares[rank] for part in offer.parts} and offer.owner not in refused:
            raise errors.Untrusted(
                f"holds other shares than its owner committed to, and party {party} accepted them",
                digest=offer.packages[rank],
            )

    def _scheme(self, id: int) -> Dealing:
        if id not in self.case.keys.ids:
            raise errors.Unavailable(NO_KEY)
        return cast(Dealing, self.case.keys.scheme(id))

    # what parties recorded

    def _records(self, state: State) -> None:
        blobs, rank = self.case.blobs, mpc.parties(state)
        for party, digest in sorted(mpc.recorded(state, RecordKind.INPUT).items()):
            subject = f"round {state.round}, party {party}"
            blobs.require(digest, f"word of {subject}", STORE, KEPT)
            with self.case.book.attempt(ACCEPTANCES, subject):
                said = mpc.read_acceptance(blobs.get(digest), state, party)
                for refused in said.refused:
                    self.case.book.note(
                        f"{subject} refused the shares of owner {refused.owner}: {refused.reason}"
                    )
                self.case.book.passed(ACCEPTANCES)
        for party, digest in sorted(mpc.recorded(state, RecordKind.OUTPUT).items()):
            subject = f"round {state.round}, party {party}"
            blobs.require(digest, f"delivery of {subject}", STORE, KEPT)
            with self.case.book.attempt(DELIVERIES, subject):
                made = mpc.read_delivery(blobs.get(digest), state, party, mpc.accepted(state, blobs.get))
                if tuple(n for n, _ in made.components) != self._numbers(rank.index(party)):
                    raise errors.Untrusted("names other components than a party of its rank holds")
                for owner, package in made.packages:
                    blobs.require(package, f"model of {subject} for owner {owner}", STORE, KEPT)
                mpc.check_report(self.case.terms, party, mpc.read_report(blobs.get(made.report)))
                self.case.book.passed(DELIVERIES)

    def _numbers(self, rank: int) -> tuple[int, ...]:
        """Components that a rank holds: under ABY3 its own and the next one's, else its own."""
        copies = 2 if mpc.mpc_of(self.case.terms).protocol == "ABY3" else 1
        return tuple(sorted((rank + i) % len(self.case.terms.govern.seats) for i in range(copies)))

    def _final(self, state: State, digest: bytes) -> None:
        self.model, subject = None, f"round {state.round}"
        settled: Settlement | None = None
        self.case.blobs.require(state.current.result, f"settlement of {subject}", STORE, KEPT)
        with self.case.book.attempt(SETTLEMENTS, subject):
            made = mpc.settle(self.case.terms, state, self.case.blobs.get)
            found = encoding.digest(encoding.encode(made))
            if found != state.current.result or state.current.evidence != found:
                raise errors.Untrusted("is not what comes of the parties' records", digest=found)
            self.case.book.passed(SETTLEMENTS)
            settled = made
        self.case.blobs.require(digest, f"model of {subject}", KEPT)
        with self.case.book.attempt(MODELS, subject):
            if settled is None:
                raise errors.Unavailable("its settlement could not be made again")
            model = self._put_together(state, settled)
            if model.digest != digest:
                raise errors.Untrusted(
                    f"the parties' shares give {model.digest.hex()}, the chain says {digest.hex()}",
                    digest=model.digest,
                )
            self.case.book.passed(MODELS)
            self.model = model
        if self.model is None:
            # What owners kept of it, if anything: the digest that they voted names it.
            with suppress(errors.Unavailable, errors.Untrusted):
                self.model = self.case.decode(self.case.blobs.get(digest))

    def _put_together(self, state: State, made: Settlement) -> Checkpoint:
        """The model out of the shares of each owner whose key is at hand; all must come to the same."""
        sharing = wiring.sharing(self.case.terms)
        owners = [owner for owner in made.owners if owner in self.case.keys.ids]
        if not owners:
            raise errors.Unavailable("no key of an owner is at hand")
        try:
            first, *others = (self._model(state, made, owner, sharing) for owner in owners)
        except errors.Misconfigured as e:
            raise errors.Unavailable(f"{e} {e.hint}") from e
        if any(model.digest != first.digest for model in others):
            raise errors.Untrusted("the parties sent owners shares of different models")
        return first

    def _model(self, state: State, made: Settlement, owner: int, sharing: Sharing) -> Checkpoint:
        arrays = arrays_of(self._scheme(owner), sharing, state, made, owner, self.case.blobs.get)
        model, _ = from_arrays(arrays, self.case.terms.layout.scale)
        return ckpt.initial(self.case.terms.aggregation, model)
