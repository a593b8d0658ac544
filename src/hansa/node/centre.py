"""What key centres and parameter servers do: make the parameters, certify keys, give their half once a round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from hansa import encoding, errors
from hansa.node import answers
from hansa.node.blobs import Blobs
from hansa.node.inner import Inner
from hansa.node.openings import opening_of
from hansa.node.recording import Records
from hansa.node.world import Findings, Identity, World
from hansa.ports import Half, Summing, View
from hansa.protocol import secagg
from hansa.protocol.state import State
from hansa.records import RecordKind, Terms


class Centre:
    """One holder of a half. It sees ciphertexts only: no update, no sum, no model."""

    def __init__(
        self,
        me: Identity,
        terms: Terms,
        world: World,
        blobs: Blobs,
        findings: Findings,
        records: Records,
        enclosed: Inner | None = None,
    ) -> None:
        self.me = me
        self.enclosed = enclosed
        self.records = records
        self.terms = terms
        self.world = world
        self.blobs = blobs
        self.note = findings.note
        self._scheme = cast(Summing, world.scheme)
        self._bad: set[tuple[int, bytes]] = set()

    def found(self, view: View) -> bool:
        """Make the parameters and deal the halves. What is made is journaled before it is recorded."""
        state = view.state
        digest = self.world.journal.get(0, "setup")
        if digest is None:
            made = self._scheme.found(state)
            self.blobs.publish(state, made.blob, *made.attachments)
            digest = encoding.digest(made.blob)
            self.world.journal.put(0, {"setup": digest})
            self.note(
                "the parameters are made and the halves dealt; the primes were kept nowhere, and are gone"
            )
        return self.records.record(view, 0, RecordKind.SETUP, digest)

    def certify(self, view: View, ids: frozenset[int]) -> bool:
        """Record the newest public keys of members, those that are good."""
        state = view.state
        done = False
        for id in sorted(ids):
            newest = secagg.latest(state, RecordKind.KEY, id)
            if newest is None or (id, newest[1]) in self._bad:
                continue
            try:
                self._scheme.check_key(state, id, self.blobs.get(newest[1]), self.blobs.get)
            except errors.Unavailable:
                continue
            except errors.Untrusted as e:
                self._bad.add((id, newest[1]))
                self.note(f"public key of member {id} refused: {e}")
                continue
            kind = secagg.about(RecordKind.CERTIFICATE, id)
            done |= self.records.record(view, state.round, kind, newest[1])
        return done

    def halve(self, view: View) -> bool:
        """Answer the accepted opening with the own half, once a round. A second set is refused, and recorded."""
        state, journal = view.state, self.world.journal
        asked = state.current.result
        before = journal.get(state.round, "asked")
        if before is not None and before != asked:
            return self._refuse(view, "another was answered")
        opening = opening_of(state, self.blobs)
        digest = journal.get(state.round, "half")
        if digest is None:
            if before is None:
                others = self._others(state)
                # What a colleague answers is the only one that may be answered here, whatever becomes of the chain.
                journal.put(state.round, {"asked": min(others.items())[1] if others else asked})
                if others:
                    return self._refuse(view, f"id {min(others)} answers another")
            self.blobs.retention.named(state, answers.place(state, self.me.id))
            answers.announce(self.me, self.world, state, asked)
            others = self._others(state)
            if others:
                return self._refuse(view, f"id {min(others)} answers another")
            if self.enclosed is None:
                blob = self._scheme.halve(state, opening, self._readers(state), self.blobs.get)
            else:
                enclaves = self.enclosed.enclaves(state)
                blob = self._scheme.halve(state, opening, frozenset(), self.blobs.get, enclaves)
            self.blobs.publish(state, blob)
            digest = encoding.digest(blob)
            journal.put(state.round, {"half": digest})
        return self.records.record(view, state.round, RecordKind.OPENING, digest)

    def _others(self, state: State) -> Mapping[int, bytes]:
        """What else than the accepted opening colleagues answer in the running round.

        Whom a motion excluded is not asked: else its word could keep all others from answering for ever.
        """
        colleagues = set(secagg.parties(self.terms, state).colleagues(self.me.id)) - {self.me.id}
        colleagues = {i for i in colleagues if state.members[i].address not in state.excluded}
        return answers.contrary(self.world, state, colleagues, state.current.result)

    def _refuse(self, view: View, why: str) -> bool:
        state = view.state
        self.note(f"round {state.round}: a second set of updates is to be opened: refused, {why}")
        return self.records.record(view, state.round, RecordKind.REFUSAL, state.current.result)

    def _readers(self, state: State) -> frozenset[int]:
        """The contributors; of the last model also who has earned it in earlier rounds."""
        last = state.version + 1 == state.parameters.rounds
        earned = (i for i, m in state.members.items() if last and m.member)
        return state.current.available | {i for i in earned if secagg.entitled(self.terms, state, i)}

    def readmit(self, view: View, ids: frozenset[int]) -> bool:
        """Seal the half of the standing model's opening to members that asked for it."""
        state = view.state
        group = secagg.parties(self.terms, state).colleagues(self.me.id)
        given, done = secagg.halves(state, state.model_round, group), False
        if not given:
            return False
        author = self.me.id if self.me.id in given else min(given)
        half = Half(author, self.blobs.get(given[author]))
        for id in sorted(ids):
            try:
                blob = self._scheme.admit(state, id, half, self.blobs.get)
            except errors.Untrusted as e:
                self.note(f"member {id} cannot be let in again: {e}")
                continue
            self.blobs.publish(state, blob)
            kind = secagg.about(RecordKind.READMISSION, id)
            done |= self.records.record(view, state.model_round, kind, encoding.digest(blob))
        return done
