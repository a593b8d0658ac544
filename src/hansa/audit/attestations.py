"""What hosts and members recorded of enclaves under scheme `tee`: quotes verified again, and who vouched for them.

No key is needed: quotes, collateral and statements lie in the store as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hansa import attestation, errors
from hansa.attestation import Policy
from hansa.attestation.library import library
from hansa.attestation.policy import policy_of
from hansa.audit.blobs import KEPT, STORE
from hansa.audit.case import Case
from hansa.audit.decisions import History, Noted
from hansa.audit.roles import ROLES, kind_of, state_of
from hansa.protocol import attested
from hansa.protocol.state import State
from hansa.protocol.statements import read_statement
from hansa.protocol.terms import terms_digest
from hansa.records import MAX_MEMBERS, ZERO_DIGEST, Evidence, RecordKind, Role

ATTESTATIONS, VOUCHERS = "quotes verified again", "vouchers"
CHECKS = ATTESTATIONS, ROLES, VOUCHERS

Name = tuple[int, int]
"""Round and number of the record of an attestation; see `attested.about`."""


@dataclass(slots=True)
class Attestations:
    """All of a federation's. `good`: those that hold, with the times at which their hosts say that they verified them;
    `bad`: those that do not; `gone`: why others cannot be checked.

    `used`: the last round in which an attestation made its enclave a candidate. `vouched`: those that somebody
    vouched for, with the digest that was vouched for.
    """

    case: Case
    history: History
    policy: Policy
    used: dict[Name, int]
    vouched: set[tuple[Name, bytes]] = field(default_factory=set)
    good: dict[Name, int] = field(default_factory=dict)
    bad: set[Name] = field(default_factory=set)
    gone: dict[Name, errors.Unavailable] = field(default_factory=dict)

    def check(self) -> None:
        """Check all records about enclaves."""
        kinds = RecordKind.ATTESTATION, RecordKind.VOUCHER
        records = [n for n in self.history.records if kind_of(n)[0] in kinds and self._in_role(n)]
        vouchers = [n for n in records if kind_of(n)[0] == RecordKind.VOUCHER and self._counts(n)]
        self.vouched |= {(_name(noted), noted.event.digest) for noted in vouchers}
        made: dict[Name, bytes] = {}
        for noted in records:
            if kind_of(noted)[0] == RecordKind.ATTESTATION:
                made[_name(noted)] = noted.event.digest
                self._attestation(noted)
            elif self._counts(noted):
                self._voucher(noted, made.get(_name(noted)))
        idle = sum(not self._counts(noted) for noted in records)
        if idle:
            why = "they came late, or before the last member joined"
            self.case.book.note(f"{idle} records about enclaves count for nothing: {why}")

    def verdict(self, name: Name, digest: bytes, subject: str) -> None:
        """Raises `Untrusted` for an attestation that does not hold, `Unavailable` for one that is not at hand."""
        if name in self.bad:
            raise errors.Untrusted(f"{subject}, which does not hold", digest=digest)
        if name not in self.good:
            raise self.gone.get(name) or errors.Unavailable(f"{subject} that cannot be read")

    def candidate(self, state: State, host: int, digest: bytes) -> None:
        """What makes a candidate of a host's enclave must hold. Raises as `verdict`."""
        round, _ = attested.candidacies(self.case.terms, state)[host]
        self.verdict(_attestation(state, host, round), digest, "is a candidate by an attestation")

    def _in_role(self, noted: Noted) -> bool:
        """Hosts have their own enclaves attested, members vouch."""
        (kind, _), event = kind_of(noted), noted.event
        member = state_of(self.history, noted.running).members[event.id]
        own = kind == RecordKind.VOUCHER or (member.seated and _host(noted) == event.id)
        # Where sums are opened servers run the enclaves.
        hosts = kind == RecordKind.ATTESTATION and self.case.terms.secagg is not None
        if own and member.role is (Role.SERVER if hosts else Role.MEMBER) and _host(noted) is not None:
            self.case.book.passed(ROLES)
            return True
        what = f"recorded {RecordKind(kind).name} for round {event.round}, which is not its part"
        self.case.book.found(ROLES, f"member {event.id}", what, event.digest)
        return False

    def _counts(self, noted: Noted) -> bool:
        """Whether candidates can follow from a record."""
        event, host = noted.event, _host(noted)
        assert host is not None
        number = attested.counted(self.history.state, RecordKind(kind_of(noted)[0]), host, event.round)
        return event.round == noted.running and event.kind == number

    def _attestation(self, noted: Noted) -> None:
        """The archived evidence gives the record again, and binds what the ledger had to be bound."""
        event, name, book = noted.event, _name(noted), self.case.book
        subject = f"round {event.round}, enclave of member {event.id}"
        self.case.forgive(max(event.round, self.used.get(name, 0)))
        with book.attempt(ATTESTATIONS, subject):
            try:
                self.good[name] = self._verify(noted, subject)
            except (errors.Unavailable, errors.Untrusted) as e:
                if isinstance(e, errors.Untrusted):
                    self.bad.add(name)
                else:
                    self.gone[name] = e
                if (name, event.digest) in self.vouched:
                    raise
                book.note(f"{subject}: nobody vouched for it: {e}")
            else:
                if self.policy.mode == "simulated":
                    book.attested(ATTESTATIONS, f"{attestation.NO_PROTECTION}: their hosts' word")
                else:
                    book.passed(ATTESTATIONS)
        self.case.blobs.forgiven = ""

    def _verify(self, noted: Noted, subject: str) -> int:
        event, blobs = noted.event, self.case.blobs
        data = self._part(event.digest, f"attestation of {subject}", noted)
        found = attested.read_attestation(data)
        record, statement = attestation.read_record(found.record), read_statement(found.statement)
        for digest, what in ((record.quote, "quote"), (record.collateral, "collateral")):
            self._part(digest, f"{what} of {subject}", noted)
        evidence = Evidence(blobs.get(record.quote), blobs.get(record.collateral))
        attestation.reverify(record, evidence, self.policy, statement)
        state = state_of(self.history, event.round)
        seed = state.current.seed if event.round else ZERO_DIGEST
        nonce = attested.nonce_of(state.domain, event.round, event.kind, seed)
        if record.nonce != nonce:
            raise errors.Untrusted("answers another nonce than the ledger gave", digest=event.digest)
        if self._counts(noted):
            attested.check_statement(terms_digest(self.case.terms), state, statement)
            # Its host may have named a time at which the evidence held: it must have held when it was recorded.
            attestation.verify(evidence, self.policy, max(noted.time, record.verified), statement, nonce)
        return record.verified

    def _part(self, digest: bytes, subject: str, noted: Noted) -> bytes:
        """A blob of it; that of an enclave for which nobody vouched need not be there."""
        if (_name(noted), noted.event.digest) in self.vouched:
            self.case.blobs.require(digest, subject, STORE, KEPT)
        return self.case.blobs.get(digest)

    def _voucher(self, noted: Noted, made: bytes | None) -> None:
        """A member vouched for what its host had recorded, and it holds."""
        event = noted.event
        subject = f"round {event.round}, member {event.id} about the enclave of member {_host(noted)}"
        with self.case.book.attempt(VOUCHERS, subject):
            if made != event.digest:
                raise errors.Untrusted("vouched for what its host had not recorded", digest=event.digest)
            self.verdict(_name(noted), event.digest, "vouched for an attestation")
            attested.check_time(self.good[_name(noted)], noted.time)
            self.case.book.passed(VOUCHERS)


def attestations_of(case: Case, history: History) -> Attestations:
    """Those of a federation, checked. Raises `Misconfigured` where what verifies quotes is not installed."""
    library()
    used: dict[Name, int] = {}
    for state in (*(round.state for round in history.rounds), history.state):
        for host, (round, _) in attested.candidacies(case.terms, state).items():
            used[_attestation(state, host, round)] = state.round
    policy = policy_of(attested.tee_of(case.terms).accept)
    if policy.mode == "simulated":
        case.book.note(f"the enclaves are {attestation.NO_PROTECTION}")
    found = Attestations(case, history, policy, used)
    found.check()
    return found


def _host(noted: Noted) -> int | None:
    about = kind_of(noted)[1]
    return None if about is None else about % MAX_MEMBERS


def _attestation(state: State, host: int, round: int) -> Name:
    """The record of the attestation of a host's enclave that counts in a round."""
    return round, attested.counted(state, RecordKind.ATTESTATION, host, round)


def _name(noted: Noted) -> Name:
    """The record of the attestation that a record is, or vouches for."""
    return noted.event.round, noted.event.kind - kind_of(noted)[0] + RecordKind.ATTESTATION
