"""Scheme `tee` as one node sees it: its own enclave, those of others, and the models that come of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hansa import attestation, encoding, errors
from hansa.attestation import collateral, quotes
from hansa.attestation.policy import policy_of
from hansa.node.blobs import Blobs
from hansa.node.hosting import Hosting
from hansa.node.models import Models
from hansa.node.recording import AGAIN, Records
from hansa.node.signed import Signed
from hansa.node.world import Findings, Identity, World
from hansa.ports import View
from hansa.protocol import attested
from hansa.protocol.attested import Candidate, Delivery
from hansa.protocol.enclave_plan import Knowledge
from hansa.protocol.state import State
from hansa.protocol.tee import Signatures
from hansa.protocol.terms import terms_digest
from hansa.records import Evidence, Phase, RecordKind, Terms


@dataclass(frozen=True, slots=True)
class Made:
    """A result that the own enclave gave: its digest on the chain."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class _Known:
    """A candidate that was verified here. `parts`: digests of the blobs that prove it. `expires`: Unix seconds."""

    candidate: Candidate
    parts: tuple[bytes, ...]
    expires: int


class Enclosed(Models):
    """The enclaves and models of one node."""

    def __init__(
        self, me: Identity, terms: Terms, world: World, blobs: Blobs, findings: Findings, records: Records
    ) -> None:
        super().__init__(me.id, terms, world, blobs)
        self.records = records
        self.note = findings.note
        self._policy = policy_of(attested.tee_of(terms).accept)
        self._terms_digest = terms_digest(terms)
        self._sets = Signed(me, world, blobs.retention)
        self._hosting = Hosting(me.id, terms, world.enclosure, self._sets) if world.enclosure else None
        self._quoted: tuple[bytes, bytes] | None = None
        self._rests = 0
        self._fresh: set[tuple[bytes, bytes]] = set()
        self._refused: set[bytes] = set()
        self._verified: dict[bytes, _Known] = {}
        self._named = 0
        self._signed: tuple[Phase, int] | None = None

    def turn(self, state: State) -> frozenset[bytes] | None:
        """A new round began. Gives the blobs that prove its candidates; None where some cannot be had now."""
        self._fresh.clear()
        self._refused.clear()
        self._named, self._signed = 0, None
        try:
            self.known(state)
        except (errors.Unavailable, errors.Untrusted):
            return None
        current = attested.candidates(self.terms, state).values()
        self._verified = {digest: self._verified[digest] for digest in current}
        needed = frozenset(part for known in self._verified.values() for part in known.parts)
        self.blobs.hold(needed)
        return needed

    def knowledge(self, view: View) -> Knowledge:
        """What the plan has to know. Raises `Unavailable`."""
        state = view.state
        found = attested.candidates(self.terms, state)
        if self._hosting and (why := self._hosting.loss()):
            self.note(
                f"round {state.round}: the own enclave has ended ({why}), and its keys with it; another one is "
                "attested, and counts from the next round on"
            )
        try:
            trusted = self.known(state)
        except (errors.Unavailable, errors.Untrusted) as e:
            if isinstance(e, errors.Untrusted):
                self.note(f"round {state.round}: an enclave that others vouched for is not trusted here: {e}")
            trusted = {}
        ends = {host: self._verified[digest].expires for host, digest in found.items() if host in trusted}
        if state.parameters.opens:
            leads = state.phase is Phase.OPEN and self.id in trusted
        else:
            leads = state.phase is Phase.AGGREGATE and state.current.leader == self.id and self.id in trusted
        return Knowledge(
            id=self.id,
            terms=self.terms,
            runs=self._hosting is not None,
            attested=self._hosting.attested if self._hosting else frozenset(),
            refused=frozenset(self._refused),
            trusted=bool(trusted),
            fresh=all(view.now <= end for end in ends.values()),
            ending=self.id in ends and ends[self.id] < view.now + sum(state.parameters.durations),
            named=self._named,
            signed=self._signed,
            signers=len(self._signatures(state)) if leads else 0,
        )

    # the own enclave

    def attest(self, view: View) -> bool:
        """Have the own enclave quoted, and record what came of it. Raises `Unavailable`, `Untrusted`."""
        state, hosting = view.state, self._hosting
        nonce = attested.nonce(state, self.id)
        assert hosting is not None
        if self._quoted is None or self._quoted[0] != nonce or self._quoted[1] not in hosting.attested:
            if view.now < self._rests:
                return False
            # What does not work now is not tried at every turn: it may have meant a new process.
            self._rests = view.now + max(1, min(state.parameters.durations) // AGAIN)
            self._quoted = nonce, self._attest(view, hosting, nonce)
            self._rests = 0
        number = attested.about(state, RecordKind.ATTESTATION, self.id)
        return self.records.record(view, state.round, number, self._quoted[1])

    def _attest(self, view: View, hosting: Hosting, nonce: bytes) -> bytes:
        state = view.state
        assert self.world.collateral is not None
        statement, evidence = hosting.quote(attested.rosters(state), nonce, self.world.collateral)
        attested.check_statement(self._terms_digest, state, statement)
        record = attestation.verify(evidence, self._policy, view.now, statement, nonce)
        blob = encoding.encode(attested.Attestation(record.encoded, encoding.encode(statement)))
        *_, digest = self.blobs.publish(state, evidence.quote, evidence.collateral, blob)
        if record.mode == "simulated":
            self.note(f"the own enclave is {attestation.NO_PROTECTION}")
        hosting.add(digest)
        return digest

    def close(self) -> None:
        """End the own enclave, with its keys."""
        if self._hosting is not None:
            self._hosting.close()

    # those of others

    def vouch(self, view: View, hosts: Iterable[int]) -> bool:
        """Verify attestations of this round, and record those that are good. Raises `Unavailable`, `Refused`."""
        state, done = view.state, False
        waiting = attested.unvouched(state, self.id)
        for host in sorted(set(hosts) & waiting.keys()):
            digest = waiting[host]
            try:
                self._check_fresh(view, host, digest)
            except errors.Unavailable as e:
                # Its host may withhold it; that is no reason to keep others waiting.
                self.note(
                    f"round {state.round}: the attestation of member {host} cannot be had yet: {e} {e.hint}".strip()
                )
            except errors.Untrusted as e:
                self._refused.add(digest)
                self.note(
                    f"round {state.round}: the enclave of member {host} is refused: {e} {e.hint}".strip()
                )
                done = True
            else:
                number = attested.about(state, RecordKind.VOUCHER, host)
                done |= self.records.record(view, state.round, number, digest)
        return done

    def _check_fresh(self, view: View, host: int, digest: bytes) -> None:
        nonce = attested.nonce(view.state, host)
        if (digest, nonce) in self._fresh:
            return
        record, statement, evidence = self._archived(digest)
        attested.check_statement(self._terms_digest, view.state, statement)
        attested.check_time(record.verified, view.now)
        # At the own time, or at its host's where that clock is ahead: collateral may be as new as that.
        now = max(view.now, record.verified)
        attestation.verify(evidence, self._policy, now, statement, nonce)
        self._verify(host, digest, record, statement, evidence)
        self._fresh.add((digest, nonce))

    def _archived(self, digest: bytes) -> tuple[attestation.Record, attestation.Statement, Evidence]:
        found = attested.read_attestation(self.blobs.get(digest, limit=attested.ATTESTATION_LIMIT))
        record = attestation.read_record(found.record)
        evidence = Evidence(
            self.blobs.get(record.quote, limit=quotes.LIMIT),
            self.blobs.get(record.collateral, limit=collateral.LIMIT),
        )
        return record, attestation.read_statement(found.statement), evidence

    def _verify(
        self,
        host: int,
        digest: bytes,
        record: attestation.Record,
        statement: attestation.Statement,
        evidence: Evidence,
    ) -> None:
        attestation.reverify(record, evidence, self._policy, statement)
        candidate = attested.candidate(host, self.blobs.get(digest))[0]
        self._verified[digest] = _Known(candidate, (digest, record.quote, record.collateral), record.expires)

    def known(self, state: State) -> dict[int, Candidate]:
        """The candidates of the running round, each verified here. Raises `Unavailable`, `Untrusted`.

        That a quote answers the nonce of its round, and the enclave knew the roster of then, a quorum vouched for.
        """
        found = {}
        for host, digest in attested.candidates(self.terms, state).items():
            if digest not in self._verified:
                record, statement, evidence = self._archived(digest)
                if (statement.federation, statement.terms) != (state.domain, self._terms_digest):
                    raise errors.Untrusted("the enclave is for another federation", digest=digest)
                self._verify(host, digest, record, statement, evidence)
            found[host] = self._verified[digest].candidate
        return found

    # what members sign for enclaves

    def name_rosters(self, state: State) -> bool:
        """See to the own signatures of rosters. Raises `Unavailable`."""
        chain = attested.rosters(state)
        put = self._sets.leave_rosters(chain)
        self._named = len(chain) - 1
        return put

    def name_set(self, state: State, quarter: int) -> bool:
        """See to the own signature of the round's manifest: of one only, whatever becomes of the chain.

        Raises `Unavailable`, `Untrusted`.
        """
        journal, digest = self.world.journal, attested.manifest(self.terms, state, self.known(state)).digest
        if journal.get(state.round, "manifest") is None:
            journal.put(state.round, {"manifest": digest})
        if journal.get(state.round, "manifest") != digest:
            self.note(f"round {state.round}: another set was signed before a reorganisation; this one is not")
            return False
        put = self._sets.leave_manifest(state, digest)
        self._signed = state.phase, quarter
        return put

    def _signatures(self, state: State) -> Signatures:
        made = attested.manifest(self.terms, state, self.known(state))
        return self._sets.of_manifest(state, attested.rosters(state)[-1], made)

    # results

    def make(self, state: State) -> Made:
        """Have the own enclave aggregate the selected updates; keeps what there is to propose.

        Raises `Unavailable`, `Untrusted`.
        """
        hosting, known = self._hosting, self.known(state)
        own = known.get(self.id)
        if hosting is None or own is None or own.attestation not in hosting.attested:
            raise errors.Unavailable("the own enclave is no candidate of this round")
        made, signatures = attested.manifest(self.terms, state, known), self._signatures(state)
        output = hosting.aggregate(
            attested.rosters(state), made, signatures, lambda: self.standing(state).data, self.blobs.get
        )
        delivery = Delivery(made, signatures, output.result, output.signature, own.attestation)
        evidence = encoding.encode(delivery)
        *_, digest = self.blobs.publish(state, output.blob, output.grant, evidence)
        key = f"delivery/{output.result.result.hex()}"
        if self.world.journal.get(state.round, key) is None:
            self.world.journal.put(state.round, {key: digest})
        return Made(output.result.result)

    def release(self, state: State, result: bytes) -> bytes:
        """Digest of the evidence of what the own enclave made: its result lies in the store already."""
        evidence = self.world.journal.get(state.round, f"delivery/{result.hex()}")
        if evidence is None:
            raise errors.Unavailable("the own enclave made no such result")
        return evidence

    def open_proposal(self, state: State) -> bytes:
        """The proposed model's bytes, kept. Raises `Unavailable`, and `Untrusted` if no attested enclave made it."""
        current = state.current
        assert current.leader is not None
        evidence = self.blobs.get(current.evidence, limit=attested.DELIVERY_LIMIT)
        delivery = attested.read_delivery(evidence)
        attested.check_delivery(
            self.terms, state, delivery, self.known(state), current.leader, current.result
        )
        for id, flaw in delivery.result.invalid:
            self.note(
                f"round {state.round}: the enclave found the update of member {id} invalid: {flaw.name.lower()}"
            )
        return super().open_proposal(state)
