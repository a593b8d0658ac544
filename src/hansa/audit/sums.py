"""What the store holds of every round under scheme `secagg`: uploads, openings, halves, models.

Uploads, their sums and the form of the halves are checked without any key. What the halves open, the model that
follows from it and its release take the key of a member that they were sealed to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import cast

from hansa import encoding, errors
from hansa.audit.attestations import Attestations
from hansa.audit.blobs import KEPT, STORE
from hansa.audit.case import Case
from hansa.audit.decisions import History, Round
from hansa.audit.deliveries import delivered
from hansa.audit.roles import kind_of, name_of, recorded, state_of
from hansa.audit.rounds import AGGREGATES, RELEASES
from hansa.ports import Half, Opened, Summing
from hansa.protocol import attested, cohorts, secagg
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.events import Ended
from hansa.protocol.fold import evolve
from hansa.protocol.secagg import Opening
from hansa.protocol.state import State
from hansa.protocol.tee import reader_id
from hansa.records import Outcome, Phase, RecordKind

UPLOADS, OPENINGS, TOTALS = "uploads checked", "openings", "sums recomputed"
HALVES, OPENED = "halves of openings", "sums opened"
CHECKS = UPLOADS, OPENINGS, TOTALS, HALVES, OPENED, AGGREGATES, RELEASES
NO_KEY = "no key of a contributor is at hand"

Halves = tuple[list[Half], list[Half]]
"""Those of key centres, those of servers, in the order of the record."""


@dataclass(slots=True)
class Sums:
    """Goes through rounds in order; `model` is the last final one, if it could be had."""

    case: Case
    history: History
    attestations: Attestations | None = None
    model: Checkpoint | None = field(default=None)
    _own: dict[int, bytes] = field(default_factory=dict)

    def begin(self, made: Checkpoint | None) -> None:
        """The initial model; `made`: as the app makes it, if that is at hand."""
        self.model = self.case.initial(made)

    def check(self, round: Round) -> None:
        """Check one round's blobs; a final one moves `model` on."""
        state, ended = round.state, round.ended
        scheme = cast(Summing, self.case.keys.nobody())
        self.case.forgive(ended.round)
        self._uploads(state, scheme)
        halves = self._halves(state, scheme)
        if state.phase is not Phase.OPEN:
            return
        opening = self._opening(state, scheme)
        opened = self._open(state, ended, opening, halves)
        if ended.outcome != Outcome.FINAL:
            return
        self._aggregate(state, ended.model, opened)
        released = self._release(state, ended, opened, scheme)
        if self.model is None:
            # The next round's base, although this round did not lead to it.
            with self.case.book.attempt(AGGREGATES, f"round {state.round}"):
                self.model = self.case.decode(released or self.case.blobs.get(ended.model))

    # what needs no key

    def _uploads(self, state: State, scheme: Summing) -> None:
        """Every upload of V: under the certified key, its proof holds, its masked update is one."""
        blobs = self.case.blobs
        for id in sorted(state.current.available):
            subject = f"round {state.round}, member {id}"
            with self.case.book.attempt(UPLOADS, subject):
                digest = state.current.commits[id].digest
                blobs.require(digest, f"upload of {subject}", STORE, KEPT)
                blob = blobs.get(digest)
                for wire in scheme.references(blob):
                    blobs.require(wire, f"masked update of {subject}", STORE, KEPT)
                scheme.check(state, id, blob, blobs.get)
                self.case.book.passed(UPLOADS)

    def _opening(self, state: State, scheme: Summing) -> Opening | None:
        """What was voted is the opening of V, in cohorts of the least size or more; its sums come out again."""
        current, subject, blobs = state.current, f"round {state.round}", self.case.blobs
        opening = None
        blobs.require(current.result, f"opening of {subject}", STORE, KEPT)
        with self.case.book.attempt(OPENINGS, subject):
            opening = secagg.decode_opening(blobs.get(current.result))
            secagg.check_opening(opening, state)
            if current.evidence != current.result:
                raise errors.Untrusted("names other evidence than itself", digest=current.evidence)
            self.case.book.passed(OPENINGS)
        if opening is None:
            self.case.gap(TOTALS, f"{subject}: its opening is not at hand")
            return None
        with self.case.book.attempt(TOTALS, subject):
            for said, made in zip(opening.cohorts, scheme.combine(state, blobs.get), strict=True):
                if said != made:
                    raise errors.Untrusted(
                        "the uploads add up to other sums than were opened", digest=current.result
                    )
            self.case.book.passed(TOTALS)
        return opening

    def _halves(self, state: State, scheme: Summing) -> Halves:
        """Every half that was given is one of an accepted opening, sealed to those who may open it."""
        parties, halves = secagg.parties(self.case.terms, state), ([], [])  # type: tuple[secagg.Parties, Halves]
        for noted in recorded(self.history, RecordKind.OPENING, state.round):
            event = noted.event
            subject = f"round {state.round}, {name_of(parties, event.id)}"
            if not parties.colleagues(event.id):
                continue
            with self.case.book.attempt(HALVES, subject):
                if state.phase is not Phase.OPEN:
                    raise errors.Untrusted("given although no opening was accepted", digest=event.digest)
                self.case.blobs.require(event.digest, f"half of {subject}", STORE, KEPT)
                half = Half(event.id, self.case.blobs.get(event.digest))
                self._check_readers(state, scheme.check_half(state, state.round, half), event.digest)
                halves[event.id in parties.servers].append(half)
                self.case.book.passed(HALVES)
        return halves

    def _check_readers(self, state: State, readers: frozenset[int], digest: bytes) -> None:
        """Sealed to all of V, of the last model to who earned it too; or to enclaves. Raises `Untrusted`."""
        if self.case.terms.tee is not None:
            if readers != {reader_id(host) for host in attested.candidates(self.case.terms, state)}:
                raise errors.Untrusted("was sealed to others than the enclaves of its round", digest=digest)
            return
        must, may = state.current.available, set(state.current.available)
        if state.version + 1 == state.parameters.rounds:
            may |= {id for id in state.members if secagg.entitled(self.case.terms, state, id)}
        for ids, message in ((must - readers, "was not sealed to"), (readers - may, "was sealed also to")):
            if ids:
                raise errors.Untrusted(f"{message} members {', '.join(map(str, sorted(ids)))}", digest=digest)

    # what needs the key of a reader

    def _open(self, state: State, ended: Ended, opening: Opening | None, halves: Halves) -> Opened | None:
        """Both halves are proven to be those of the sums' keys; masks come off, and leave noise within bounds."""
        subject = f"round {state.round}"
        given = {secagg.parties(self.case.terms, state).colleagues(noted.event.id)
                 for noted in recorded(self.history, RecordKind.OPENING, state.round)} - {()}  # fmt: skip
        if len(given) < 2:
            if ended.outcome == Outcome.FINAL:
                self.case.book.found(HALVES, subject, "is final, and one half of its opening was never given")
            else:
                self.case.book.note(f"{subject} was burned: a half of its opening was never given")
            return None
        if opening is None or not all(halves):
            self.case.gap(OPENED, f"{subject}: its opening or a half of it is not at hand")
            return None
        if self.case.terms.tee is not None and not secagg.deliveries(self.case.terms, state, state.round):
            if ended.outcome == Outcome.FINAL:
                self.case.book.found(OPENED, subject, "is final, and no enclave recorded what it opened")
            else:
                self.case.book.note(f"{subject} was burned: no enclave opened its sums")
            return None
        with self.case.book.attempt(OPENED, subject):
            if self.attestations is None:
                opened = self._opened(state, opening, halves)
            else:
                opened = delivered(self.case, self.attestations, state)
            for text in opened.findings:
                self.case.book.note(f"{subject}: {text}")
            self.case.book.passed(OPENED)
            return opened
        return None

    def _opened(self, state: State, opening: Opening, halves: Halves) -> Opened:
        """What the first reader at hand opens; the others must come to its secret too.

        Raises `Unavailable` when no reader's key is at hand, `Untrusted` when it opens for none.
        """
        at, fetch = replace(state, model_evidence=state.current.result), self.case.blobs.get
        refusals: list[tuple[str, errors.Untrusted]] = []
        opened = None
        for id, pairs in self._readers(state, halves):
            scheme = cast(Summing, self.case.keys.scheme(id))
            for pair in pairs:
                try:
                    if opened is None:
                        opened = scheme.open(state, opening, pair, fetch)
                    elif scheme.secret(at, state.round, pair, fetch) != opened.secret:
                        raise errors.Untrusted("gives another secret")
                except errors.Untrusted as e:
                    given = " and ".join(self._name(state, half.author) for half in pair)
                    refusals.append((f"round {state.round}, halves of {given} to member {id}", e))
        if opened is None:
            raise refusals[0][1] if refusals else errors.Unavailable(NO_KEY)
        for subject, refusal in refusals:
            self.case.book.found(HALVES, subject, str(refusal), refusal.digest)
        return opened

    def _name(self, state: State, id: int) -> str:
        return name_of(secagg.parties(self.case.terms, state), id)

    def _readers(self, state: State, halves: Halves) -> Iterator[tuple[int, list[tuple[Half, Half]]]]:
        """Members at hand that the halves were sealed to, at once or later, and which halves go together.

        Standbys may have answered too: each of them goes together with the other side's first.
        """
        (centre, *more), (server, *others) = halves
        pairs = [(centre, server), *((half, server) for half in more), *((centre, half) for half in others)]
        scheme = cast(Summing, self.case.keys.nobody())
        sealed = frozenset.intersection(*(scheme.check_half(state, state.round, h) for h in (centre, server)))
        for id in sorted(self.case.keys.ids):
            if id in sealed and self._certified(state, id):
                yield id, pairs
            elif id not in sealed:
                yield from self._admitted(state, id, (centre, server))

    def _admitted(
        self, state: State, id: int, halves: tuple[Half, Half]
    ) -> Iterator[tuple[int, list[tuple[Half, Half]]]]:
        found, blobs = secagg.parties(self.case.terms, state), self.case.blobs
        for noted in recorded(self.history, RecordKind.READMISSION, state.round):
            if kind_of(noted)[1] == id and self._certified(state_of(self.history, noted.running), id):
                at = found.colleagues(noted.event.id) == found.servers
                halves = tuple(
                    replace(h, admissions=(*h.admissions, blobs.get(noted.event.digest))) if k == at else h
                    for k, h in enumerate(halves)
                )  # type: ignore[assignment]
        if all(half.admissions for half in halves):
            yield id, [halves]

    def _certified(self, state: State, id: int) -> bool:
        """Whether the key at hand is the one that counted for a member in a round."""
        if id not in self._own:
            scheme = cast(Summing, self.case.keys.scheme(id))
            self._own[id] = encoding.digest(scheme.public_key(state, self.case.blobs.get))
        return secagg.certified(state, secagg.parties(self.case.terms, state), id) == self._own[id]

    def _aggregate(self, state: State, digest: bytes, opened: Opened | None) -> None:
        """base + the sums of the accepted cohorts = the digest on the chain, bit for bit."""
        base, self.model = self.model, None
        subject = f"round {state.round}"
        self.case.blobs.require(digest, f"model of {subject}", KEPT)
        with self.case.book.attempt(AGGREGATES, subject):
            if opened is None or base is None or base.digest != state.model:
                self.case.gap(AGGREGATES, f"{subject}: its base is not at hand, or its sums are not opened")
                return
            first = None
            for taken in self._accepted(state):
                result = secagg.advance(self.case.terms, state, base, opened.sums, taken)
                first = first or result.digest
                if result.digest == digest:
                    self.case.book.passed(AGGREGATES)
                    self.model = result
                    return
            if first is None:
                raise errors.Untrusted("is final, and no cohort was accepted", digest=digest)
            message = f"the sums give {first.hex()}, the chain says {digest.hex()}"
            self.case.book.found(AGGREGATES, subject, message, first)

    def _accepted(self, state: State) -> Iterator[frozenset[int]]:
        """Which cohorts the model may have taken: those accepted in the end, or when its members voted, before."""
        if len(cohorts.split(state)) == 1:
            yield frozenset({0})
            return
        said = [n.event for n in recorded(self.history, RecordKind.COHORTS, state.round)]
        last: frozenset[int] = frozenset()
        for n in range(len(said), 0, -1):
            partly = {(int(e.kind), e.id): ((e.round, e.digest),) for e in said[:n]}
            taken = cohorts.accepted(replace(state, recorded=partly))
            if taken and taken != last:
                yield taken
            last = taken

    def _release(self, state: State, ended: Ended, opened: Opened | None, scheme: Summing) -> bytes:
        """Contributors sealed the model for who comes later; gives its bytes, none if they could not be had."""
        released, after, any_record = b"", evolve(state, ended), False
        for noted in recorded(self.history, RecordKind.RELEASE, state.round):
            event, any_record = noted.event, True
            subject = f"round {state.round}, member {event.id}"
            self.case.blobs.require(event.digest, f"sealed model of {subject}", STORE, KEPT)
            with self.case.book.attempt(RELEASES, subject):
                if event.id not in after.model_set:
                    raise errors.Untrusted("released a model without a part in it", digest=event.digest)
                blob = self.case.blobs.get(event.digest)
                if opened is None:
                    self.case.gap(RELEASES, f"{subject}: the sums of its round are not opened")
                    continue
                data = scheme.open_model(after, opened.secret, blob)
                if encoding.digest(data) != ended.model:
                    raise errors.Untrusted("is another model than the chain says", digest=event.digest)
                released = data
                self.case.book.passed(RELEASES)
        if not any_record and ended.round < self.history.state.model_round:
            self.case.gap(RELEASES, f"round {state.round}: no contributor released its model")
        return released
