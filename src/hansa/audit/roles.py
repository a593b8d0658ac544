"""What key centres, servers and members recorded for scheme `secagg`, each in its role and in its order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from hansa import errors
from hansa.audit.blobs import KEPT, STORE
from hansa.audit.case import Case
from hansa.audit.decisions import History, Noted
from hansa.ports import Half, Summing
from hansa.protocol import secagg
from hansa.protocol.secagg import Parties
from hansa.protocol.state import State
from hansa.records import SUBJECTS, RecordKind

PARAMETERS, ROLES, PUBLIC = "parameters", "records by role", "public keys"
CERTIFICATES, ONCE, REENTRIES = "certificates", "one opening a round", "re-entries"
CHECKS = PARAMETERS, ROLES, PUBLIC, CERTIFICATES, ONCE


def name_of(parties: Parties, id: int) -> str:
    """What findings call a holder of a half: as a simulation does."""
    if id in parties.centres:
        return f"key centre k{parties.centres.index(id)}"
    return f"server s{parties.servers.index(id)}" if id in parties.servers else f"member {id}"


def kind_of(noted: Noted) -> tuple[int, int | None]:
    """Kind of a record, and the id that it is about, if it is about one."""
    about, kind = divmod(noted.event.kind, SUBJECTS)
    return kind, about - 1 if about else None


def recorded(history: History, kind: RecordKind, round: int | None = None) -> Iterator[Noted]:
    """Records of a kind, whomever they are about, in their order; those for one round only, if it is given."""
    for noted in history.records:
        if kind_of(noted)[0] == kind and round in (None, noted.event.round):
            yield noted


def state_of(history: History, round: int) -> State:
    """The state at the end of a round; of one that goes on, now; before the first, as in the first."""
    ended = {r.ended.round: r.state for r in history.rounds}
    return ended.get(max(round, 1), history.state)


def check_roles(case: Case, history: History) -> None:
    """Check set-up, certificates, halves and re-entries over the whole record."""
    scheme = cast(Summing, case.keys.nobody())
    _setup(case, history, scheme)
    _authors(case, history)
    _keys(case, history, scheme)
    _once(case, history)
    for noted in recorded(history, RecordKind.READMISSION):
        _readmission(case, history, noted, scheme)
    _requests(case, history)


def _setup(case: Case, history: History, scheme: Summing) -> None:
    """The first key centre's parameters hold, and were recorded before anybody used them."""
    state, blobs = state_of(history, 0), case.blobs
    with case.book.attempt(PARAMETERS, "set-up"):
        digest = secagg.setup(state, secagg.parties(case.terms, state))
        if digest is None:
            raise errors.Unavailable("the key centre has not recorded its parameters")
        blobs.require(digest, "set-up", STORE, KEPT)
        scheme.check_setup(state, blobs.get)
        for part in scheme.references(blobs.get(digest)):
            blobs.require(part, "sealed half of the set-up", STORE, KEPT)
        order = [kind_of(noted)[0] for noted in history.records]
        if RecordKind.KEY in order[: order.index(RecordKind.SETUP)]:
            raise errors.Untrusted("was recorded after the first public key", digest=digest)
        case.book.passed(PARAMETERS)


def _authors(case: Case, history: History) -> None:
    """What only key centres and servers may record is recorded by nobody else."""
    for noted in history.records:
        kind, event = kind_of(noted)[0], noted.event
        parties = secagg.parties(case.terms, state_of(history, noted.running))
        holders = parties.centres + parties.servers
        allowed: dict[int, tuple[int, ...]] = {
            RecordKind.SETUP: parties.centres[:1],
            RecordKind.CERTIFICATE: parties.centres,
            RecordKind.OPENING: holders,
            RecordKind.READMISSION: holders,
            RecordKind.REFUSAL: holders,
            RecordKind.DELIVERY: parties.servers,
        }
        if kind not in allowed:
            continue
        if event.id in allowed[kind]:
            case.book.passed(ROLES)
        else:
            what = f"recorded {RecordKind(kind).name} for round {event.round}, which is not its part"
            case.book.found(ROLES, name_of(parties, event.id), what, event.digest)


def _keys(case: Case, history: History, scheme: Summing) -> None:
    """Certificates name keys that the members recorded themselves before; those keys are proven."""
    made: set[tuple[int, bytes]] = set()
    proven: set[tuple[int, bytes]] = set()
    for noted in history.records:
        (kind, about), event = kind_of(noted), noted.event
        if kind == RecordKind.KEY:
            made.add((event.id, event.digest))
        if kind != RecordKind.CERTIFICATE or about is None:
            continue
        subject = f"member {about}, round {event.round}"
        if (about, event.digest) not in made:
            message = "names no public key that the member recorded before"
            case.book.found(CERTIFICATES, subject, message, event.digest)
            continue
        case.book.passed(CERTIFICATES)
        if (about, event.digest) in proven:
            continue
        proven.add((about, event.digest))
        with case.book.attempt(PUBLIC, subject):
            case.blobs.require(event.digest, f"public key of member {about}", STORE, KEPT)
            state = state_of(history, noted.running)
            scheme.check_key(state, about, case.blobs.get(event.digest), case.blobs.get)
            case.book.passed(PUBLIC)
    waiting = sorted({id for id, digest in made if (id, digest) not in proven})
    if waiting:
        case.book.note(f"public keys that nobody certified: of members {', '.join(map(str, waiting))}")


def _once(case: Case, history: History) -> None:
    """The contract takes one half a holder and round; a holder that was asked for a second one said so."""
    for _ in recorded(history, RecordKind.OPENING):
        case.book.passed(ONCE)
    for noted in recorded(history, RecordKind.REFUSAL):
        event = noted.event
        name = name_of(secagg.parties(case.terms, state_of(history, noted.running)), event.id)
        message = f"{name} refused a second opening, {event.digest.hex()}"
        case.book.found(ONCE, f"round {event.round}", message, event.digest)


def _readmission(case: Case, history: History, noted: Noted, scheme: Summing) -> None:
    """A half was sealed to one more member, who had asked for the model that stood, and had the right to."""
    event, (_, member) = noted.event, kind_of(noted)
    state = state_of(history, noted.running)
    parties = secagg.parties(case.terms, state)
    group = parties.colleagues(event.id)
    if member is None or not group:
        return
    subject = f"round {event.round}, member {member}, by {name_of(parties, event.id)}"
    case.forgive(event.round)
    with case.book.attempt(REENTRIES, subject):
        if event.round != noted.standing:
            raise errors.Untrusted("let in to a model that did not stand any more", digest=event.digest)
        before = history.records[: history.records.index(noted)]
        asked = (event.round, RecordKind.REENTRY, member)
        if asked not in {(n.event.round, n.event.kind, n.event.id) for n in before}:
            raise errors.Untrusted("let in without having asked", digest=event.digest)
        if member not in secagg.reentering(state, case.terms):
            raise errors.Untrusted("let in without the right to it", digest=event.digest)
        case.blobs.require(event.digest, f"admission of {subject}", STORE, KEPT)
        given = secagg.halves(state, event.round, group)
        if not given:
            raise errors.Untrusted("let in to a half that nobody gave", digest=event.digest)
        author = event.id if event.id in given else min(given)
        half = Half(author, case.blobs.get(given[author]))
        scheme.check_admission(state, half, case.blobs.get(event.digest), member)
        case.book.passed(REENTRIES)
    case.blobs.forgiven = ""


def _requests(case: Case, history: History) -> None:
    most = secagg.secagg_of(case.terms).max_reentries
    for (kind, id), records in sorted(history.state.recorded.items()):
        if kind == RecordKind.REENTRY and len(records) > most:
            message = f"asked {len(records)} times for a model that it missed; the terms allow {most}"
            case.book.found(REENTRIES, f"member {id}", message)
