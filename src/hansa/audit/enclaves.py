"""What the store holds of every round under `tee`: uploads, who signed which set, what an enclave made of it.

All but the models is checked without any key; these take the key of a member. Single updates are sealed to enclaves,
so that nobody can aggregate again: that a result follows from its updates rests on quotes and signatures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from hansa import encoding, errors
from hansa.audit.attestations import Attestations
from hansa.audit.blobs import KEPT, STORE
from hansa.audit.case import Case
from hansa.audit.decisions import History, Round
from hansa.crypto import sealing
from hansa.crypto.signatures import SIGNATURE_BYTES, recover
from hansa.ports import Releasing, Scheme
from hansa.protocol import attested, tee
from hansa.protocol.attested import Candidate, Delivery
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.state import State
from hansa.protocol.tee import Seat
from hansa.records import Outcome

CANDIDATES, UPLOADS, ONCE = "candidates", "uploads checked", "one set a round"
DELIVERIES, RELEASES, OPENED = "deliveries", "sealed models", "models opened"
CHECKS = CANDIDATES, UPLOADS, ONCE, DELIVERIES, RELEASES, OPENED
NO_CANDIDATE = "the attestation of a candidate is not at hand"
UNSEEN = (
    "whether the models are what the rule makes of the updates. Enclaves alone see single updates; that they ran the "
    "program of the terms is what their quotes say."
)
Known = dict[int, Candidate]


@dataclass(slots=True)
class Enclaves:
    """Goes through rounds in order; `model` is the last final one, if it could be had."""

    case: Case
    history: History
    attestations: Attestations
    model: Checkpoint | None = field(default=None)

    def begin(self, made: Checkpoint | None) -> None:
        """The initial model; `made`: as the app makes it, if that is at hand."""
        self.model = self.case.initial(made)

    def check(self, round: Round) -> None:
        """Check one round's blobs; a final one moves `model` on."""
        state = round.state
        self.case.forgive(state.round)
        known = self._candidates(state)
        self._uploads(state)
        self._signed_once(state, known)
        if round.ended.outcome == Outcome.FINAL:
            self._final(state, round.ended.model, known)

    def _final(self, state: State, digest: bytes, known: Known | None) -> None:
        self.model = None
        subject = f"round {state.round}"
        delivery = self._delivery(state, digest, known)
        self.case.blobs.require(digest, f"model of {subject}", KEPT)
        if delivery is None:
            self.case.gap(RELEASES, f"{subject}: no delivery says where its model lies")
            self.case.gap(OPENED, f"{subject}: no delivery says where its model lies")
            return
        self._release(state, delivery, known)
        with self.case.book.attempt(OPENED, subject):
            self.model = self.case.decode(self._opened(state, digest, delivery))
            self.case.book.passed(OPENED)

    def _candidates(self, state: State) -> Known | None:
        """The round's enclaves as members knew them, if all are at hand; each rests on evidence that holds."""
        known: Known | None = {}
        for host, digest in attested.candidates(self.case.terms, state).items():
            subject = f"round {state.round}, enclave of member {host}"
            named = None
            with self.case.book.attempt(CANDIDATES, subject):
                named = attested.candidate(host, self.case.blobs.get(digest))[0]
                self.attestations.candidate(state, host, digest)
                self.case.book.passed(CANDIDATES)
            if named is None:
                known = None
            elif known is not None:
                known[host] = named
        return known

    def _uploads(self, state: State) -> None:
        """Every upload of the frozen set has the size of one, and is sealed to exactly the round's candidates."""
        blobs, scheme = self.case.blobs, self.case.keys.nobody()
        for id in sorted(state.current.available):
            subject = f"round {state.round}, member {id}"
            with self.case.book.attempt(UPLOADS, subject):
                digest = state.current.commits[id].digest
                blobs.require(digest, f"upload of {subject}", STORE, KEPT)
                blob = blobs.get(digest)
                for grant in scheme.references(blob):
                    blobs.require(grant, f"grant of {subject}", STORE, KEPT)
                scheme.check(state, id, blob, blobs.get)
                self.case.book.passed(UPLOADS)

    def _signed_once(self, state: State, known: Known | None) -> None:
        """No member signed two sets of one round: neither in what leaders proposed nor in what lies in the store."""
        subject, book = f"round {state.round}", self.case.book
        with book.attempt(ONCE, subject):
            proposed = list(self._proposed(state))
            sets = {delivery.manifest.digest for delivery in proposed}
            if known and state.current.selected:
                sets.add(attested.manifest(self.case.terms, state, known).digest)
            left = self.case.blobs.named(f"manifests/{state.domain.hex()}/{state.round}", SIGNATURE_BYTES)
            for seat in attested.rosters(state)[-1].seats:
                stored = left.get(str(seat.id), b"")
                given = {stored, *(dict(delivery.signatures).get(seat.id, b"") for delivery in proposed)}
                signed = {d for d in sets for signature in given if _signs(seat, state, d, signature)}
                if stored and sets and not any(_signs(seat, state, d, stored) for d in sets):
                    who = f"what lies in the store as the signature of member {seat.id}"
                    book.note(f"{subject}: {who} is of no set that is known")
                if len(signed) > 1:
                    both = " and ".join(sorted(digest.hex() for digest in signed))
                    book.found(ONCE, f"{subject}, member {seat.id}", f"signed two sets: {both}")
                elif signed:
                    book.passed(ONCE)

    def _proposed(self, state: State) -> Iterator[Delivery]:
        """What leaders proposed in a round, accepted or not, as far as it can be read."""
        for event in self.history.proposed:
            if event.round == state.round:
                try:
                    yield attested.read_delivery(self.case.blobs.get(event.evidence))
                except (errors.Unavailable, errors.Untrusted):
                    continue

    def _delivery(self, state: State, digest: bytes, known: Known | None) -> Delivery | None:
        """A quorum signed the frozen set, and the leader's attested enclave the result that became final."""
        current, subject, blobs = state.current, f"round {state.round}", self.case.blobs
        assert current.leader is not None
        delivery = None
        blobs.require(current.evidence, f"delivery of {subject}", STORE, KEPT)
        with self.case.book.attempt(DELIVERIES, subject):
            delivery = attested.read_delivery(blobs.get(current.evidence))
            if known is None:
                self.case.gap(DELIVERIES, f"{subject}: {NO_CANDIDATE}")
                return delivery
            attested.check_delivery(self.case.terms, state, delivery, known, current.leader, digest)
            for id, flaw in delivery.result.invalid:
                reason = flaw.name.lower()
                self.case.book.note(f"{subject}: the update of member {id} counted for nothing: {reason}")
            self.case.book.passed(DELIVERIES)
        return delivery

    def _release(self, state: State, delivery: Delivery, known: Known | None) -> None:
        """The sealed model is there, sealed to the round's readers and candidates, and to nobody else."""
        subject, blobs = f"round {state.round}", self.case.blobs
        with self.case.book.attempt(RELEASES, subject):
            blobs.require(delivery.result.sealed, f"sealed model of {subject}", STORE, KEPT)
            blob = blobs.get(delivery.result.sealed)
            header = sealing.read_header(blob)
            if len(blob) != sealing.sealed_size(header.length):
                raise errors.Untrusted(
                    "its size is not that of a sealed model", digest=delivery.result.sealed
                )
            blobs.require(header.grant, f"grant of the model of {subject}", STORE, KEPT)
            readers = sealing.read_grant(blobs.get(header.grant)).readers
            if known is None:
                self.case.gap(RELEASES, f"{subject}: {NO_CANDIDATE}")
                return
            if readers != sorted({*state.current.readers, *map(tee.reader_id, known)}):
                raise errors.Untrusted("is sealed to others than members and candidates", digest=header.grant)
            self.case.book.passed(RELEASES)

    def _opened(self, state: State, digest: bytes, delivery: Delivery) -> bytes:
        """The model as a reader at hand opens it. Raises `Unavailable`, `Untrusted`."""
        readers, author = state.current.readers, state.current.leader
        assert author is not None
        blob = self.case.blobs.get(delivery.result.sealed)

        def opened_by(scheme: Scheme) -> bytes:
            return cast(Releasing, scheme).open_release(
                state.domain, readers, author, state.version + 1, blob, self.case.blobs.get
            )

        opened = self.case.keys.first(readers, opened_by)
        found = encoding.digest(opened)
        if found != digest:
            raise errors.Untrusted(f"opens to {found.hex()}, the chain says {digest.hex()}", digest=found)
        return opened


def _signs(seat: Seat, state: State, digest: bytes, signature: bytes) -> bool:
    """Whether a signature is that of a seat over the manifest of this digest for the running round."""
    signed = encoding.message_hash(state.domain, "Manifest", state.round, digest)
    return recover(signed, signature) == seat.address
