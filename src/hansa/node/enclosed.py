"""Scheme `tee` as one node sees it: its own enclave, those of others, and the models that come of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hansa import attestation, encoding, errors
from hansa.attestation.policy import policy_of
from hansa.crypto import sealing
from hansa.crypto.signatures import recover
from hansa.node.blobs import Blobs
from hansa.node.enclosure import Enclosure
from hansa.node.models import Models
from hansa.node.recording import Records
from hansa.node.world import Findings, Identity, World
from hansa.ports import View
from hansa.protocol import attested
from hansa.protocol.attested import Candidate, Delivery
from hansa.protocol.enclave_plan import Knowledge
from hansa.protocol.state import State
from hansa.protocol.tee import Manifest, Roster, Signatures
from hansa.protocol.terms import terms_digest
from hansa.records import Evidence, Phase, RecordKind, Terms

_CLOCKS = 300
"""Seconds by which the clocks of two nodes may differ."""

SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Made:
    """A result that the own enclave gave: its digest on the chain."""

    digest: bytes


class Enclosed(Models):
    """The enclaves and models of one node."""

    def __init__(
        self, me: Identity, terms: Terms, world: World, blobs: Blobs, findings: Findings, records: Records
    ) -> None:
        super().__init__(me.id, terms, world, blobs)
        self.me = me
        self.records = records
        self.note = findings.note
        self._policy = policy_of(attested.tee_of(terms).accept)
        self._terms_digest = terms_digest(terms)
        self._enclosure: Enclosure | None = None
        self._knows: tuple[bytes, int] = b"", 0
        self._quoted: dict[bytes, bytes] = {}
        self._attested: set[bytes] = set()
        self._refused: set[bytes] = set()
        self._trusted: dict[bytes, Candidate] = {}
        self._named = 0

    def knowledge(self, state: State) -> Knowledge:
        """What the plan has to know."""
        leads = state.phase is Phase.AGGREGATE and state.current.leader == self.me.id
        try:
            trusted = self.known(state)
        except (errors.Unavailable, errors.Untrusted) as e:
            if isinstance(e, errors.Untrusted):
                self.note(f"round {state.round}: an enclave that others vouched for is not trusted here: {e}")
            trusted = {}
        found = attested.candidates(self.terms, state)
        return Knowledge(
            id=self.me.id,
            terms=self.terms,
            runs=self.world.enclosure is not None,
            attested=frozenset(self._attested),
            refused=frozenset(self._refused),
            trusted=bool(found) and trusted.keys() == found.keys(),
            named=self._named,
            signed="manifest" in self.world.journal.keys(state.round),
            signers=len(self._signatures(state, self._manifest(state))) if leads and trusted else 0,
        )

    # the own enclave

    def attest(self, view: View) -> bool:
        """Have the own enclave quoted, and record what came of it. Raises `Unavailable`, `Untrusted`."""
        state = view.state
        nonce = attested.nonce(state, self.me.id)
        number = attested.about(state, RecordKind.ATTESTATION, self.me.id)
        if nonce not in self._quoted:
            assert self.world.collateral is not None
            enclosure = self._running(state)
            statement, evidence = enclosure.attest(nonce, self.world.collateral)
            attested.check_statement(self._terms_digest, state, statement)
            record = attestation.verify(evidence, self._policy, view.now, statement, nonce)
            blob = encoding.encode(attested.Attestation(record.encoded, encoding.encode(statement)))
            self.blobs.publish(state, evidence.quote, evidence.collateral, blob)
            self._quoted = {nonce: encoding.digest(blob)}
            if record.mode == "simulated":
                self.note(f"the own enclave is {attestation.NO_PROTECTION}")
        self._attested.add(self._quoted[nonce])
        return self.records.record(view, state.round, number, self._quoted[nonce])

    def _running(self, state: State) -> Enclosure:
        """The own enclave, begun and told of the newest roster. Raises `Unavailable`, `Misconfigured`."""
        chain = attested.rosters(state)
        founding, at = self._knows
        if self._enclosure is None or founding != chain[0].digest:
            self.close()
            assert self.world.enclosure is not None
            enclosure = self.world.enclosure()
            enclosure.begin(self.me.id, state.domain, encoding.encode(self.terms), chain[0])
            self._enclosure, at = enclosure, 0
        for roster in chain[at + 1 :]:
            before = chain[roster.version - 1]
            hash = encoding.message_hash(state.domain, "Roster", roster.version, roster.digest)
            signatures = tuple(
                self._collected(f"rosters/{state.domain.hex()}/{roster.version}", before, hash)
            )
            self._enclosure.change(roster, signatures)
            at = roster.version
        self._knows = chain[0].digest, at
        return self._enclosure

    def close(self) -> None:
        """End the own enclave, with its keys."""
        if self._enclosure is not None:
            self._enclosure.close()
        self._enclosure = None
        self._attested.clear()
        self._quoted.clear()

    # those of others

    def vouch(self, view: View, hosts: Iterable[int]) -> bool:
        """Verify attestations of this round, and record those that are good. Raises `Unavailable`."""
        state, done = view.state, False
        waiting = attested.unvouched(state, self.me.id)
        for host in sorted(set(hosts) & waiting.keys()):
            digest = waiting[host]
            try:
                self._check_fresh(view, host, digest)
            except errors.Untrusted as e:
                self._refused.add(digest)
                self.note(
                    f"round {state.round}: the enclave of member {host} is refused: {e} {e.hint}".strip()
                )
                done = True
                continue
            number = attested.about(state, RecordKind.VOUCHER, host)
            done |= self.records.record(view, state.round, number, digest)
        return done

    def _check_fresh(self, view: View, host: int, digest: bytes) -> None:
        record, statement, evidence = self._archived(digest)
        nonce = attested.nonce(view.state, host)
        attested.check_statement(self._terms_digest, view.state, statement)
        # At the own time: what its host says of the time is only held against that.
        attestation.verify(evidence, self._policy, view.now, statement, nonce)
        if abs(record.verified - view.now) > max(view.state.parameters.durations) + _CLOCKS:
            raise errors.Untrusted("its record names another time than now", digest=digest)
        attestation.reverify(record, evidence, self._policy, statement)
        self._trusted[digest] = attested.candidate(host, self.blobs.get(digest))[0]

    def _archived(self, digest: bytes) -> tuple[attestation.Record, attestation.Statement, Evidence]:
        found = attested.read_attestation(self.blobs.get(digest))
        record = attestation.read_record(found.record)
        evidence = Evidence(self.blobs.get(record.quote), self.blobs.get(record.collateral))
        return record, attestation.read_statement(found.statement), evidence

    def known(self, state: State) -> dict[int, Candidate]:
        """The candidates of the running round, each verified here. Raises `Unavailable`, `Untrusted`."""
        found = {}
        for host, digest in attested.candidates(self.terms, state).items():
            if digest not in self._trusted:
                record, statement, evidence = self._archived(digest)
                attestation.reverify(record, evidence, self._policy, statement)
                if (statement.federation, statement.terms) != (state.domain, self._terms_digest):
                    raise errors.Untrusted("the enclave is for another federation", digest=digest)
                self._trusted[digest] = attested.candidate(host, self.blobs.get(digest))[0]
            found[host] = self._trusted[digest]
        return found

    # what members sign for enclaves

    def name_roster(self, state: State) -> bool:
        """Leave the own signature of the newest roster. Raises `Unavailable`."""
        roster = attested.rosters(state)[-1]
        data = encoding.message_bytes(state.domain, "Roster", roster.version, roster.digest)
        self.world.store.put_at(
            f"rosters/{state.domain.hex()}/{roster.version}/{self.me.id}", self.me.signer.sign(data)
        )
        self._named = roster.version
        return True

    def _manifest(self, state: State) -> Manifest:
        return attested.manifest(state, self.known(state))

    def name_set(self, state: State) -> bool:
        """Leave the own signature of the round's manifest: one a round, whatever becomes of the chain.

        Raises `Unavailable`, `Untrusted`.
        """
        journal, digest = self.world.journal, self._manifest(state).digest
        if journal.get(state.round, "manifest") is None:
            journal.put(state.round, {"manifest": digest})
        if journal.get(state.round, "manifest") != digest:
            self.note(f"round {state.round}: another set was signed before a reorganisation; this one is not")
            return False
        data = encoding.message_bytes(state.domain, "Manifest", state.round, digest)
        key = f"{self._sets(state)}/{self.me.id}"
        self.blobs.retention.named(state, key)
        self.world.store.put_at(key, self.me.signer.sign(data))
        return True

    def _sets(self, state: State) -> str:
        return f"manifests/{state.domain.hex()}/{state.round}"

    def _signatures(self, state: State, made: Manifest) -> Signatures:
        signed = encoding.message_hash(state.domain, "Manifest", made.round, made.digest)
        return tuple(self._collected(self._sets(state), attested.rosters(state)[-1], signed))

    def _collected(self, folder: str, roster: Roster, signed: bytes) -> Iterator[tuple[int, bytes]]:
        """Those signatures in a folder of the store that are what they should be, by members of a roster."""
        left = frozenset(self.world.store.list(folder))
        for seat in roster.seats:
            key = f"{folder}/{seat.id}"
            if key not in left:
                continue
            try:
                signature = self.world.store.get_at(key, limit=SIGNATURE_BYTES)
                if recover(signed, signature) == seat.address:
                    yield seat.id, signature
            except (errors.Unavailable, errors.Untrusted):
                continue

    # results

    def make(self, state: State) -> Made:
        """Have the own enclave aggregate the selected updates; keeps what there is to propose.

        Raises `Unavailable`, `Untrusted`.
        """
        journal = self.world.journal
        enclosure, known = self._enclosure, self.known(state)
        own = known.get(self.me.id)
        if enclosure is None or own is None or own.attestation not in self._attested:
            raise errors.Unavailable("the own enclave is no candidate of this round")
        made = attested.manifest(state, known)
        signatures = self._signatures(state, made)
        try:
            enclosure.start(made, signatures)
            enclosure.base(self.standing(state).data)
            for entry in made.entries:
                blob = self.blobs.get(entry.digest)
                enclosure.payload(entry.member, self.blobs.get(sealing.read_header(blob).grant), blob)
            output = enclosure.finish()
        except (errors.Unavailable, errors.Untrusted):
            # One that stopped on the way takes no second set of this round: the next one is attested anew.
            self.close()
            raise
        delivery = Delivery(made, signatures, output.result, output.signature, own.attestation)
        evidence = encoding.encode(delivery)
        self.blobs.publish(state, output.blob, output.grant, evidence)
        journal.put(state.round, {f"delivery/{output.result.result.hex()}": encoding.digest(evidence)})
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
        delivery = attested.read_delivery(self.blobs.get(current.evidence))
        attested.check_delivery(
            self.terms, state, delivery, self.known(state), current.leader, current.result
        )
        for id, flaw in delivery.result.invalid:
            self.note(
                f"round {state.round}: the enclave found the update of member {id} invalid: {flaw.name.lower()}"
            )
        return super().open_proposal(state)

    def sealed_in(self, evidence: bytes) -> bytes:
        """Digest of the sealed model that a delivery names. Raises `Untrusted`."""
        return attested.read_delivery(evidence).result.sealed
