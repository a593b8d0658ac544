"""Scheme `secagg` as one member sees it: sums instead of updates, opened together, and the models that come of it.

With `enclosed` an attested enclave opens them in the members' place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from hansa import encoding, errors
from hansa.app import EvaluateTask
from hansa.node.blobs import Blobs
from hansa.node.evaluating import evaluate
from hansa.node.inner import Inner
from hansa.node.models import initial_model
from hansa.node.recording import Records
from hansa.node.released import halves_of, model_of, secret_of
from hansa.node.world import Findings, Identity, World
from hansa.ports import Opened, Summing, View
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import cohorts, secagg, stopping
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import to_arrays
from hansa.protocol.opening_plan import Knowledge
from hansa.protocol.secagg import Opening
from hansa.protocol.state import State
from hansa.records import RecordKind, Terms

REJECT = bytes(32)


@dataclass(frozen=True, slots=True)
class Result:
    """What a leader proposes: the opening that it asks for."""

    data: bytes

    @property
    def digest(self) -> bytes:
        """Its name on the chain."""
        return encoding.digest(self.data)


class Openings:
    """The keys, sums and models of one node."""

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
        self._base: Checkpoint | None = None
        self._opened: tuple[bytes, Opened] | None = None
        self._key: tuple[bytes, bytes] | None = None

    def knowledge(self, state: State, sent: frozenset[str]) -> Knowledge:
        """What the plan has to know."""
        entries = self.world.journal.keys(state.round)
        return Knowledge(
            id=self.me.id,
            terms=self.terms,
            parties=secagg.parties(self.terms, state),
            key=self._own_key(state),
            opened=_name("cohorts", state) in entries,
            decided=_name("decided", state) in entries,
            held=state.model_author is None or self.world.kept.has(state.model),
            sent=sent,
        )

    # keys

    def _own_key(self, state: State) -> bytes | None:
        setup = secagg.setup(state, secagg.parties(self.terms, state))
        if setup is None or not state.members[self.me.id].member:
            return None
        if self._key is None or self._key[0] != setup:
            try:
                self._key = setup, self.blobs.keep(self._scheme.public_key(state, self.blobs.get))
            except errors.Unavailable:
                return None
        return self._key[1]

    def enrol(self, view: View) -> bool:
        """Publish and record the own public key."""
        state = view.state
        key = self._own_key(state)
        if key is None:
            return False
        self.blobs.publish(state, self.blobs.get(key), first=key)
        return self.records.record(view, state.round, RecordKind.KEY, key)

    # sums, as verifiers and leaders have them

    def standing(self, state: State) -> Checkpoint:
        """The model that stands. Raises `Unavailable` where it was opened without this member, `Untrusted`."""
        if self._base is None or self._base.digest != state.model:
            self._base = self._load(state)
        return self._base

    def _load(self, state: State) -> Checkpoint:
        if self.enclosed is not None:
            return self.enclosed.standing(state)
        if state.model_author is None:
            return initial_model(self.terms, self.world, self.blobs)
        try:
            data = self.world.kept.get(state.model, limit=self.world.limits.blob)
        except (errors.Unavailable, errors.Untrusted):
            data = model_of(self._scheme, self.terms, state, self.me.id, self.blobs.get)
            self.blobs.keep(data, state.model)
        return ckpt.decode(
            data, self.terms.aggregation, self.terms.layout, self.world.limits, digest=state.model
        )

    def fold(self, state: State) -> Result:
        """What the selected updates add up to. Raises `Unavailable`, `Untrusted`."""
        sums = self._scheme.combine(state, self.blobs.get)
        data = secagg.encode_opening(secagg.make_opening(state, sums))
        self.blobs.keep(data)
        return Result(data)

    def release(self, state: State, result: bytes) -> bytes:
        """Publish what is proposed; gives its digest, since an opening is its own evidence."""
        return published(self.world, self.blobs, state, result, self.fold)

    def open_proposal(self, state: State) -> bytes:
        """The proposed opening. Raises `Unavailable`, and `Untrusted` if it is none of this round."""
        data = self.blobs.get(state.current.result)
        secagg.check_opening(secagg.decode_opening(data), state)
        return data

    # the opening

    def _open(self, state: State) -> Opened:
        if self._opened is None or self._opened[0] != state.current.result:
            if self.enclosed is not None:
                opened = self.enclosed.opened(state)
            else:
                opening = secagg.decode_opening(self.blobs.get(state.current.result))
                halves = halves_of(self.terms, state, state.round, self.me.id, self.blobs.get)
                opened = self._scheme.open(state, opening, halves, self.blobs.get)
            for text in opened.findings:
                self.note(f"round {state.round}: {text}")
            self._opened = state.current.result, opened
        return self._opened[1]

    def open(self, state: State) -> bool:
        """Open the sums of all cohorts and judge each by the own validation data; fix which are good."""
        opened, base = self._open(state), self.standing(state)
        good = [k for k, total in enumerate(opened.sums) if total is not None]
        candidates = [self._after(state, base, opened, frozenset({k})) for k in good]
        task = EvaluateTask(
            dataset=self.me.validation_data,
            models=tuple(to_arrays(c.model) for c in (base, *candidates)),
            params=self.terms.training.params,
            round=state.round,
        )
        before, *after = evaluate(self.world.trainer, task, self.note)
        approved = frozenset(
            k
            for k, metrics in zip(good, after, strict=True)
            if before is None or self._passes(before, metrics)
        )
        for k in sorted(set(good) - approved):
            self.note(f"round {state.round}: the sum of cohort {k} makes the model worse on the own data")
        self.world.journal.put(state.round, {_name("cohorts", state): cohorts.encode_approvals(approved)})
        return True

    def _passes(self, before: dict[str, float], after: dict[str, float] | None) -> bool:
        metric, tolerance = self.terms.selection.metric, secagg.secagg_of(self.terms).tolerance
        return after is not None and stopping.gain(metric, before, after) >= -tolerance * abs(before[metric])

    def _after(self, state: State, base: Checkpoint, opened: Opened, taken: frozenset[int]) -> Checkpoint:
        """The model after the sums of these cohorts."""
        return secagg.advance(self.terms, state, base, opened.sums, taken)

    def approve(self, view: View) -> bool:
        """Record which cohorts are good."""
        state = view.state
        approved = self.world.journal.get(state.round, _name("cohorts", state))
        assert approved is not None
        return self.records.record(view, state.round, RecordKind.COHORTS, approved)

    def decide(self, state: State) -> bool:
        """Fix the digest to vote for: the model after the accepted cohorts; zero where there is none."""
        groups = cohorts.split(state)
        if len(groups) > 1:
            taken = cohorts.accepted(state)
        else:
            approved = self.world.journal.get(state.round, _name("cohorts", state))
            taken = frozenset({0}) if approved == cohorts.encode_approvals(frozenset({0})) else frozenset()
        digest = REJECT
        if taken:
            digest = self.blobs.keep(self._after(state, self.standing(state), self._open(state), taken).data)
        self.world.journal.put(state.round, {_name("decided", state): digest})
        return True

    def vote(self, state: State) -> bytes:
        """The digest that was fixed."""
        digest = self.world.journal.get(state.round, _name("decided", state))
        assert digest is not None
        return digest

    # the model of a round that is over

    def release_model(self, view: View) -> bool:
        """Seal the standing model for those that are let in later, and record where it lies."""
        state = view.state
        secret = secret_of(self._scheme, self.terms, state, self.me.id, self.blobs.get)
        blob = self._scheme.seal_model(state, secret, self.standing(state).data)
        self.blobs.publish(state, blob)
        return self.records.record(view, state.model_round, RecordKind.RELEASE, encoding.digest(blob))

    def reenter(self, view: View) -> bool:
        """Ask for the standing model. The own public key stands for the request."""
        state = view.state
        return self.records.record(
            view, state.model_round, RecordKind.REENTRY, self._own_key(state) or REJECT
        )


def published(
    world: World, blobs: Blobs, state: State, result: bytes, fold: Callable[[State], Result]
) -> bytes:
    """Put what is proposed into the store, as it was kept or made again; gives its digest."""
    try:
        data = world.kept.get(result, limit=world.limits.blob)
    except (errors.Unavailable, errors.Untrusted):
        data = fold(state).data
    blobs.publish(state, data)
    return encoding.digest(data)


def opening_of(state: State, blobs: Blobs) -> Opening:
    """The accepted opening of the running round, held against the chain. Raises `Unavailable`, `Untrusted`."""
    opening = secagg.decode_opening(blobs.get(state.current.result))
    secagg.check_opening(opening, state)
    return opening


def _name(what: str, state: State) -> str:
    """A journal key of the opening that is asked for: after a reorganisation it may be another one."""
    return f"{what}/{state.current.result.hex()[:16]}"
