"""The enclave's decisions: what it takes, from whom, and what it signs.

It draws its keys when it begins and never writes them anywhere: when it ends they are gone, and a new one has to be
attested anew. Nothing of a host counts that the ledger's members have not signed, or sealed to these keys. The order
in which the host brings things, how often it tries, and what it says of the time make no difference.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hansa import encoding, errors
from hansa.crypto import sealing, signatures
from hansa.crypto.sealing import Source
from hansa.enclave import messages as msg
from hansa.enclave import oblivious, opening, rounds
from hansa.enclave.bulk import Bulk
from hansa.enclave.messages import Code, Refusal
from hansa.enclave.opening import Reader
from hansa.enclave.rounds import Round
from hansa.protocol import aggregation, checkpoint, optimizers, tee
from hansa.protocol.contexts import model_context, readers_digest, sums_context
from hansa.protocol.model import parameters
from hansa.protocol.payloads import payload_limit
from hansa.protocol.statements import Statement, report_data
from hansa.protocol.tee import Flaw, Manifest, Result
from hansa.protocol.terms import decode_terms, terms_digest
from hansa.records import ZERO_DIGEST, Limits, Terms

if TYPE_CHECKING:
    from hansa.enclave.summing import Summing

PROGRAM = "hansa-enclave/1"
"""Said in statements, for people. What runs is the measurement."""

_LIMITS = Limits()
_NONCES = 1 << 16
"""Nonces that one enclave answers."""

Quoting = Callable[[bytes], bytes]
"""A quote, in canonical form, over 64 bytes. Raises `Unavailable`."""


class Enclave:
    """An enclave for one federation and one host. Raises `Refusal` where it cannot begin."""

    def __init__(self, begun: msg.Begin, quote: Quoting) -> None:
        self._federation = begun.federation
        self._quote = quote
        self._terms = _usable(begun.terms)
        self._length = parameters(self._terms.layout)
        self._roster = begun.roster
        _check_founding(begun)
        self._reader = Reader(begun.host, secrets.token_bytes(sealing.KEY_BYTES))
        self._public_key = sealing.public_key(self._reader.private_key)
        self._account = signatures.account(secrets.token_bytes(32))
        self._nonces: set[bytes] = set()
        self._round: Round | None = None
        self._summing: Summing | None = None
        self._finished: tuple[msg.Finished, bytes] | None = None

    def change(self, message: msg.Change) -> msg.Done:
        """Go on to the next version of the roster."""
        try:
            tee.check_roster(message.roster)
            tee.check_successor(self._roster, message.roster, message.signatures)
        except errors.Untrusted as e:
            raise Refusal(Code.ROSTER) from e
        self._roster = message.roster
        return msg.Done()

    def attest(self, message: msg.Attest) -> msg.Attested:
        """A quote over the statement as it is now; a nonce gets one."""
        if message.nonce in self._nonces or len(self._nonces) >= _NONCES:
            raise Refusal(Code.NONCE)
        statement = Statement(
            federation=self._federation,
            terms=terms_digest(self._terms),
            roster=self._roster.digest,
            seal_key=self._public_key,
            signing_key=self._account.address,
            program=PROGRAM,
        )
        try:
            quote = self._quote(report_data(statement, message.nonce))
        except errors.HansaError as e:
            raise Refusal(Code.QUOTE) from e
        self._nonces.add(message.nonce)
        return msg.Attested(encoding.encode(statement), quote)

    def start(self, message: msg.Start) -> msg.Done:
        """Begin the round of a manifest. It is the only one of this round, and no earlier round can follow."""
        manifest = message.manifest
        if self._round is not None and manifest.round <= self._round.manifest.round:
            raise Refusal(Code.ROUND)
        try:
            tee.check_manifest(manifest)
            self._check_concerned(manifest)
            tee.check_quorum(self._roster, "Manifest", manifest.round, manifest.digest, message.signatures)
        except errors.Untrusted as e:
            raise Refusal(Code.MANIFEST) from e
        self._round = rounds.start(self._terms, manifest)
        self._finished = self._summing = None
        return msg.Done()

    def base(self, message: msg.Base, source: Source) -> msg.Done:
        """Take the checkpoint that the round builds on."""
        # A header with the names of all parameters, the model, two moments of its optimiser.
        limit = _LIMITS.record + 4096 + 20 * self._length
        bulk = _bulk(source, message.size, limit)
        round, terms = self._running(), self._terms
        try:
            data = opening.open_base(self._reader, round.manifest, message, bulk, limit)
            digest = round.manifest.base
            round.base = checkpoint.decode(data, terms.aggregation, terms.layout, _LIMITS, digest=digest)
        except errors.Untrusted as e:
            bulk.drain()
            raise Refusal(Code.BASE) from e
        return msg.Done()

    def payload(self, message: msg.Payload, source: Source) -> msg.Done:
        """Take a member's sealed update. What is invalid is the member's doing and counts as nothing."""
        bulk = _bulk(source, message.size, payload_limit(self._length))
        round = self._running()
        entry = round.waiting.get(message.member)
        if entry is None:
            bulk.drain()
            raise Refusal(Code.MEMBER)
        address = next(seat.address for seat in self._roster.seats if seat.id == entry.member)
        found = opening.open_payload(
            self._reader, round.manifest, entry, address, message.grant, bulk, self._length
        )
        if not isinstance(found, Flaw) and rounds.exceeds_norm(self._terms, found.values):
            found = Flaw.NORM
        del round.waiting[entry.member]
        if isinstance(found, Flaw):
            round.flaws[entry.member] = found
        else:
            rounds.add(self._terms, round, entry, found)
        return msg.Done()

    def opening(self, message: msg.Opening) -> msg.Done:
        """Take the opening that the manifest names; once a round."""
        from hansa.enclave import summing

        round = self._running()
        if round.manifest.summed is None or self._summing is not None:
            raise Refusal(Code.ORDER)
        self._summing = summing.begin(self._terms, round.manifest, message)
        return msg.Done()

    def half(self, message: msg.Half, source: Source) -> msg.Done:
        """Take one side's half of the opening."""
        from hansa.enclave import summing

        held = self._opening()
        bulk = _bulk(source, message.size, summing.half_limit(self._terms))
        summing.take_half(held, self._reader, message.side, bulk)
        return msg.Done()

    def masked(self, message: msg.Masked, source: Source) -> msg.Done:
        """Take the sum of a cohort's masked updates."""
        from hansa.enclave import summing

        held = self._opening()
        bulk = _bulk(source, message.size, summing.masked_limit(self._terms))
        summing.unmask(held, message.cohort, bulk)
        return msg.Done()

    def _opening(self) -> Summing:
        if self._summing is None:
            raise Refusal(Code.ORDER)
        return self._summing

    def finish(self) -> tuple[msg.Finished, bytes]:
        """The signed result of the round, and its checkpoint or sums, sealed: the same bytes whenever it is asked."""
        round = self._running()
        if self._finished is None and round.manifest.summed is not None:
            from hansa.enclave import summing

            package = summing.package(self._opening())
            context = sums_context(self._federation, round.manifest.round, self._reader.host)
            self._finished = self._signed(round, package, context, tee.readers_of(round.manifest))
            self._opening().totals.clear()
        if self._finished is None:
            if round.waiting or round.base is None:
                raise Refusal(Code.INCOMPLETE)
            delta = rounds.joint_update(self._terms, round)
            following = checkpoint.advance_by(self._terms.aggregation, round.base, delta)
            # The candidates read it too: whichever of them takes the next round has its base then.
            readers = {**tee.readers_of(round.manifest), **tee.sealed_to(round.manifest.candidates)}
            context = model_context(self._federation, round.manifest.version + 1, self._reader.host)
            self._finished = self._signed(round, following.data, context, readers)
            round.rows.clear()
        return self._finished

    def _running(self) -> Round:
        if self._round is None:
            raise Refusal(Code.ORDER)
        return self._round

    def _check_concerned(self, manifest: Manifest) -> None:
        """That a manifest is for this federation, roster and enclave, and its set one of the terms."""
        training, allowed = self._terms.training, self._terms.tee
        assert allowed is not None
        seated = {seat.id for seat in self._roster.seats}
        ages = [manifest.version - entry.version for entry in manifest.entries]
        sound = (
            manifest.federation == self._federation
            and (manifest.summed is not None) == bool(allowed.inner)
            and manifest.roster == self._roster.digest
            and dict(manifest.candidates).get(self._reader.host) == self._public_key
            and len(manifest.candidates) <= allowed.max_candidates
            and len(manifest.entries) >= training.min_members
            and all(entry.member in seated for entry in manifest.entries)
            and all(0 <= age <= training.max_staleness for age in ages)
            and all(
                age or entry.base == manifest.base for age, entry in zip(ages, manifest.entries, strict=True)
            )
        )
        if not sound:
            raise errors.Untrusted("the manifest is for another enclave, or its set is none of the terms")

    def _signed(
        self, round: Round, data: bytes, context: bytes, readers: Mapping[int, bytes]
    ) -> tuple[msg.Finished, bytes]:
        """The result of this round's `data`, which is sealed to `readers` in this context."""
        manifest, federation = round.manifest, self._federation
        secret, host = secrets.token_bytes(sealing.SECRET_BYTES), self._reader.host
        roster = readers_digest(tee.readers_of(manifest))
        grant = sealing.make_grant(secret, readers, sealing.grant_context(federation, roster, host))
        blob = sealing.seal(data, secret, encoding.digest(grant), context, entropy=secrets.token_bytes)
        result = Result(
            federation=federation,
            round=manifest.round,
            roster=manifest.roster,
            manifest=manifest.digest,
            base=manifest.base,
            result=encoding.digest(data),
            sealed=encoding.digest(blob),
            rule=self._terms.aggregation.rule,
            invalid=tuple(sorted(round.flaws.items())),
        )
        signed = encoding.message_bytes(federation, "Result", result.round, result.digest)
        return msg.Finished(result, self._account.sign(signed), grant, len(blob)), blob


def _bulk(source: Source, size: int, limit: int) -> Bulk:
    """What follows a message, if its seal may hold that much. Nothing is read or set aside before."""
    if size > sealing.sealed_size(limit):
        raise Refusal(Code.TOO_LARGE)
    return Bulk(source, size)


def _usable(data: bytes) -> Terms:
    """The terms, if an enclave can work under them. Raises `Refusal`."""
    try:
        terms = decode_terms(data)
        length, chosen = parameters(terms.layout), terms.aggregation
        aggregation.check_weights(chosen)
        if chosen.rule == "clipped-mean":
            aggregation.clip_bound(chosen, terms.layout.scale)
        optimizers.initial_state(chosen, 0, terms.layout.scale)
    except (errors.Untrusted, errors.Misconfigured) as e:
        raise Refusal(Code.TERMS) from e
    known = chosen.rule in (*rounds.STREAMING, *oblivious.RULES)
    if terms.scheme != "tee" or terms.tee is None or terms.training.gamma != 1 or not known:
        raise Refusal(Code.TERMS)
    if terms.tee.inner not in ("", "secagg") or (terms.secagg is None) == bool(terms.tee.inner):
        raise Refusal(Code.TERMS)
    if terms.tee.inner and chosen.rule not in rounds.STREAMING:
        raise Refusal(Code.TERMS)
    if not 0 < length <= _LIMITS.parameters:
        raise Refusal(Code.TERMS)
    return terms


def _check_founding(begun: msg.Begin) -> None:
    """That the first roster is a first one of this federation. Raises `Refusal`."""
    roster = begun.roster
    try:
        tee.check_roster(roster)
    except errors.Untrusted as e:
        raise Refusal(Code.ROSTER) from e
    if (roster.federation, roster.version, roster.previous) != (begun.federation, 0, ZERO_DIGEST):
        raise Refusal(Code.ROSTER)
