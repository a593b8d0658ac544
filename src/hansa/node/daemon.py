"""A node performs what its plan says. All that it must not lose or do twice goes through its journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hansa import encoding, errors
from hansa.app import EvaluateTask, TrainTask, training_seed
from hansa.node import late, outbox
from hansa.node.journal import Journal
from hansa.node.onion import Onion
from hansa.ports import Entropy, Ledger, Scheme, Signer, Store, Trainer, View
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol import plan, selection, stopping, timing
from hansa.protocol.aggregation import Contribution
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import from_arrays, parameters, to_arrays
from hansa.protocol.state import State, to_bitmap
from hansa.protocol.updates import check_usable, top_gamma
from hansa.protocol.wire import encode_item
from hansa.records import Limits, Phase, Terms, Update

KEEP_ROUNDS = 3
"""Rounds whose journal entries are kept."""

CACHE_VALUES = 16 * 1024 * 1024
"""Values of opened updates that a node keeps in memory within a round; the others are opened again."""

Step = plan.Step


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is: its id in the federation, its keys, and the names of its data."""

    id: int
    signer: Signer
    onion: Onion
    training_data: str
    validation_data: str
    trains: bool = True
    relay: bool = True
    frugal: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything a node reaches: ports only. `kept` is its own disk, `store` is shared by all."""

    ledger: Ledger
    store: Store
    kept: Store
    trainer: Trainer
    scheme: Scheme
    journal: Journal
    entropy: Entropy
    duration: Callable[[int], int] = field(default=lambda _examples: 0)
    limits: Limits = field(default_factory=Limits)


class Node:
    """One party. `step` takes every step that is possible now and says whether anything was done."""

    def __init__(self, me: Identity, terms: Terms, world: World) -> None:
        self.me = me
        self.terms = terms
        self.world = world
        self._round = 0
        self._delivered: set[str] = set()
        self._published = False
        self._shared: Phase | None = None
        self._fetched: tuple[set[bytes], set[bytes]] = (set(), set())
        self._checked: set[int] = set()
        self._opened: dict[int, Update] = {}
        self._refused: set[int] = set()
        self._spoiled: set[bytes] = set()
        self._judgement: dict[int, bool] = {}
        self._unfit = 0
        self._base: Checkpoint | None = None
        self.findings: list[str] = []

    def step(self) -> bool:
        """Perform the plan for the newest final block. Raises only what stops the node for good."""
        try:
            view = self.world.ledger.view()
            self._turn(view.state)
            late.notice(self.world.journal, self.terms.training, view.state, self.me.id)
            steps = plan.next_steps(view.state, self.knowledge(view), view.now)
        except errors.Unavailable as e:
            self._note(f"{e} {e.hint}".strip())
            return False
        done = False
        for step in steps:
            try:
                done |= self._perform(step, view)
            except (errors.Unavailable, errors.Untrusted) as e:
                self._note(f"{type(step).__name__}: {e} {e.hint}".strip())
            except errors.Refused:
                # Somebody else was faster, or the deadline passed meanwhile: the next view tells.
                done = True
            if done and isinstance(step, plan.Relay | plan.Choose | plan.Push):
                break
        return done

    def knowledge(self, view: View) -> plan.Knowledge:
        """What this node knows of the running round."""
        state = view.state
        entries = self.world.journal.keys(state.round)
        return plan.Knowledge(
            id=self.me.id,
            relay=self.me.relay,
            trains=self.me.trains and self._unfit != state.round,
            sent=frozenset(self._delivered),
            published=self._published,
            shared=self._shared,
            checked=frozenset(self._checked),
            refused=frozenset(self._refused),
            evaluated="ranking" in entries,
            aggregated="result" in entries,
            judgement=self._judgement.get(state.current.attempt),
            waiting=self._waiting(view),
        )

    def training_task(self, state: State) -> TrainTask:
        """What this node trains in the running round."""
        base = self.model(state)
        return TrainTask(
            dataset=self.me.training_data,
            base=to_arrays(base.model),
            seed=training_seed(self.terms.initial_seed, self.me.id, state.round),
            round=state.round,
            params=self.terms.training.params,
        )

    def model(self, state: State) -> Checkpoint:
        """The model that stands, opened and checked against the digest on the chain.

        Raises `Unavailable`, `Untrusted`.
        """
        if self._base is None or self._base.digest != state.model:
            self._base = self._load_model(state)
        return self._base

    def _turn(self, state: State) -> None:
        if state.round == self._round:
            return
        self._round = state.round
        self._delivered.clear()
        self._checked.clear()
        self._opened.clear()
        self._refused.clear()
        self._spoiled.clear()
        self._judgement.clear()
        self._published = False
        self._shared = None
        self._fetched = (set(), self._fetched[0])
        self.world.journal.forget(state.round - KEEP_ROUNDS)

    def _note(self, text: str) -> None:
        if text not in self.findings:
            self.findings.append(text)

    def _perform(self, step: Step, view: View) -> bool:
        state = view.state
        match step:
            case plan.Train():
                return self._train(view)
            case plan.Send(kind):
                return self._send(kind, state)
            case plan.Publish():
                return self._publish(state)
            case plan.Fetch(ids):
                return self._fetch(state, ids)
            case plan.Share():
                return self._share(state)
            case plan.Evaluate():
                return self._evaluate(state)
            case plan.Aggregate():
                return self._aggregate(state)
            case plan.Judge():
                return self._judge(view)
            case plan.Relay(kind, own):
                return self._relay(kind, own, view)
            case plan.Choose(threshold, cut):
                self.world.ledger.submit(msg.Select(state.round, threshold, cut))
                return True
            case plan.Push():
                self.world.ledger.submit(msg.Advance(state.round))
                return True

    # what a member does

    def _train(self, view: View) -> bool:
        state, journal = view.state, self.world.journal
        if journal.get(state.round, "commit") is None:
            try:
                update, residual = self._late_update(state) or self._train_update(view)
            except errors.Untrusted as e:
                self._note(f"round {state.round}: own training gave no usable update: {e}")
                self._unfit = state.round
                return True
            training = self.terms.training
            if self.world.ledger.view().state.round != state.round:
                overdue = late.entries(training, update, late=True)
                if overdue:
                    journal.put(state.round, {**overdue, "residual": residual})
                return True
            sealed = self.world.scheme.seal(state, update)
            digest = encoding.digest(sealed.blob)
            meta = timing.pack_meta(update.timestamp, update.millis, update.examples)
            fields = (state.round, update.version, digest, meta)
            commit = msg.Commit(self.me.id, *fields[1:], self._sign(state, "Commit", *fields))
            blobs = {f"blob/{i}": blob for i, blob in enumerate((sealed.blob, *sealed.attachments))}
            kept = late.entries(training, update, late=False)
            journal.put(state.round, {**blobs, **kept, "residual": residual, "commit": encode_item(commit)})
        self._deliver("commit", state)
        return True

    def _late_update(self, state: State) -> tuple[Update, bytes] | None:
        length = parameters(self.terms.layout)
        found = late.find(
            self.world.journal, self.terms.training, state, KEEP_ROUNDS, self.world.limits, length
        )
        return found and (replace(found[0], round=state.round), found[1])

    def _train_update(self, view: View) -> tuple[Update, bytes]:
        state, training = view.state, self.terms.training
        result = self.world.trainer.train(self.training_task(state))
        delta = ckpt.difference(self.model(state).model, result.values)
        indices, values, residual = None, delta, b""
        if training.gamma < 1:
            before = self.world.journal.latest("residual", state.round) if training.error_feedback else None
            indices, values, rest = top_gamma(
                delta, np.frombuffer(before, np.int32) if before else None, training.gamma
            )
            residual = rest.tobytes()
        update = Update(
            federation=state.domain,
            round=state.round,
            member=self.me.id,
            version=state.version,
            base=state.model,
            examples=result.examples,
            millis=self.world.duration(result.examples),
            timestamp=view.now,
            length=len(delta),
            values=values,
            indices=indices,
        )
        return update, residual

    def _publish(self, state: State) -> bool:
        journal = self.world.journal
        for key in sorted(k for k in journal.keys(state.round) if k.startswith("blob/")):
            blob = journal.get(state.round, key)
            assert blob is not None
            self.world.store.put(blob)
        self._published = True
        return True

    def _fetch(self, state: State, ids: frozenset[int]) -> bool:
        check = self.terms.training.time_check
        odd = timing.outliers(state.current.commits) if check != "off" else frozenset()
        for id in sorted(odd & ids):
            self._note(f"round {state.round}: training time of member {id} is out of proportion to its data")
        before = len(self._checked) + len(self._refused)
        for id in sorted(ids):
            try:
                if id in odd and check == "reject":
                    raise errors.Untrusted("training time is out of proportion to its data")
                self._update(state, id)
                self._checked.add(id)
            except errors.Unavailable:
                continue
            except errors.Untrusted as e:
                self._refused.add(id)
                self._note(f"round {state.round}: update of member {id} refused: {e}")
        return len(self._checked) + len(self._refused) > before

    def _update(self, state: State, id: int) -> Update:
        """A member's update of this round, opened and checked. Raises `Unavailable`, `Untrusted`."""
        if id not in self._opened:
            blob = self._get(state.current.commits[id].digest)
            update = self.world.scheme.check(state, id, blob, self._get)
            check_usable(update, self.terms.training.gamma)
            if sum(u.values.size for u in self._opened.values()) + update.values.size > CACHE_VALUES:
                return update
            self._opened[id] = update
        return self._opened[id]

    def _get(self, digest: bytes) -> bytes:
        """A blob from the own disk, else from the store; kept from then on."""
        try:
            return self.world.kept.get(digest, limit=self.world.limits.blob)
        except (errors.Unavailable, errors.Untrusted):
            pass
        try:
            blob = self.world.store.get(digest, limit=self.world.limits.blob)
        except errors.Untrusted as e:
            # The store's fault, not the author's: it may yet give the right bytes.
            raise errors.Unavailable(f"the store gives other bytes than asked for: {e}") from e
        self.world.kept.put(blob)
        self._fetched[0].add(digest)
        return blob

    def _share(self, state: State) -> bool:
        store, put = self.world.store, 0
        for digest in sorted(self._fetched[0] | self._fetched[1]):
            if not store.has(digest):
                store.put(self._get(digest))
                put += 1
        self._shared = state.phase
        return put > 0

    def _evaluate(self, state: State) -> bool:
        targets = selection.targets_of(
            state.current.places, state.current.places.index(self.me.id), state.parameters.targets
        )
        seen = [id for id in targets if id in self._checked]
        base = self.model(state)
        candidates = [ckpt.candidate(base.model, self._update(state, id)) for id in seen]
        task = EvaluateTask(
            dataset=self.me.validation_data,
            models=tuple(to_arrays(m) for m in (base.model, *candidates)),
            params=self.terms.training.params,
            round=state.round,
        )
        before, *after = self.world.trainer.evaluate(task)
        judged = dict(zip(seen, after, strict=True))
        metric = self.terms.selection.metric
        values = [stopping.gain(metric, before, judged[id]) if id in judged else 0.0 for id in targets]
        doubts = [id not in judged for id in targets]
        best = self.world.journal.latest("best", state.round)
        stop, best = stopping.wish(self.terms.training, metric, before, best)
        row = {"round": state.round, "evaluator": self.me.id, "metric": metric, "targets": list(targets),
               "values": values, "doubts": doubts}  # fmt: skip
        ranking = selection.pack_ranking(selection.rank(values, doubts), doubts)
        entries = {
            "ranking": ranking.to_bytes(32, "big"),
            "stop": bytes([stop]),
            "values": encoding.encode(row),
            "best": best,
        }
        self.world.journal.put(state.round, entries)
        return True

    # what a verifier and a leader do

    def _aggregate(self, state: State) -> bool:
        self.world.journal.put(state.round, {"result": self._fold(state).digest})
        return True

    def _fold(self, state: State) -> Checkpoint:
        contributions = (self._contribution(state, id) for id in sorted(state.current.selected))
        result = ckpt.advance(self.terms.aggregation, self.model(state), contributions)
        self.world.kept.put(result.data)
        return result

    def _contribution(self, state: State, id: int) -> Contribution:
        update = self._update(state, id)
        return Contribution(
            member=id,
            examples=update.examples,
            staleness=state.version - update.version,
            values=update.values,
            indices=update.indices,
        )

    def _judge(self, view: View) -> bool:
        state, current = view.state, view.state.current
        own = self.world.journal.get(state.round, "result")
        if own is None:
            missing = current.selected - self._checked
            return self._fetch(state, missing) if missing else self._aggregate(state)
        if own == current.result and state.parameters.precommit and self.me.id not in current.precommits:
            # Without a precommitment an approval does not count: stay silent.
            return False
        try:
            self._open_proposal(state)
            verdict = own == current.result
        except errors.Unavailable:
            # A leader may name a model and withhold it: those who waited for it must not pay for that.
            if plan.elapsed(state, view.now) < 0.5:
                raise
            self._note(f"round {state.round}: member {current.leader} proposed a model that nobody can fetch")
            verdict = False
        except errors.Untrusted as e:
            self._note(f"round {state.round}: proposal of member {current.leader} refused: {e}")
            verdict = False
        self._judgement[current.attempt] = verdict
        return True

    def _open_proposal(self, state: State) -> bytes:
        current = state.current
        assert current.leader is not None
        data = self._released(
            state, current.evidence, current.readers, current.leader, state.version + 1, current.result
        )
        self.world.kept.put(data)
        return data

    def _released(
        self,
        state: State,
        evidence: bytes,
        readers: Mapping[int, bytes],
        author: int,
        version: int,
        digest: bytes,
    ) -> bytes:
        sealed = self._get(ckpt.sealed_digest(self._get(evidence)))
        data = self.world.scheme.open_release(state.domain, readers, author, version, sealed, self._get)
        if encoding.digest(data) != digest:
            raise errors.Untrusted("the released model is not the one that was proposed", digest=digest)
        return data

    def _load_model(self, state: State) -> Checkpoint:
        if state.model_author is None:
            model, _ = from_arrays(
                self.world.trainer.initial(self.terms.initial_seed), self.terms.layout.scale
            )
            base = ckpt.initial(self.terms.aggregation, model)
            if base.digest != state.model:
                raise errors.Untrusted(
                    "the initial model that the app makes here is not the one of the terms",
                    hint="Use the library versions that the federation agreed on.",
                )
            self.world.kept.put(base.data)
            return base
        try:
            data = self.world.kept.get(state.model, limit=self.world.limits.blob)
        except (errors.Unavailable, errors.Untrusted):
            data = self._released(
                state,
                state.model_evidence,
                state.model_readers,
                state.model_author,
                state.version,
                state.model,
            )
            self.world.kept.put(data)
        return ckpt.decode(data, self.terms.aggregation, self.terms.layout, self.world.limits)

    # messages

    def _sign(self, state: State, name: str, *values: object) -> bytes:
        return self.me.signer.sign(encoding.message_hash(state.domain, name, *values))

    def _slot(self, kind: str, state: State) -> str:
        return f"{kind}:{state.current.attempt}" if kind in ("proposal", "vote") else kind

    def _send(self, kind: str, state: State) -> bool:
        slot = self._slot(kind, state)
        self.world.journal.once(state.round, slot, lambda: encode_item(self._make(kind, state)))
        if kind == "opening":
            self.world.store.put(self._entry(state, "values"))
        self._deliver(kind, state)
        return True

    def _deliver(self, kind: str, state: State) -> None:
        slot = self._slot(kind, state)
        data = self.world.journal.get(state.round, slot)
        assert data is not None
        outbox.put(self.world.store, state, slot, self.me.id, data)
        self._delivered.add(slot)

    def _entry(self, state: State, key: str) -> bytes:
        value = self.world.journal.get(state.round, key)
        if value is None:
            raise errors.Unavailable(f"the journal lacks {key!r} of round {state.round}")
        return value

    def _salt(self, state: State, kind: str) -> bytes:
        key = f"salt/{kind}"
        return self.world.journal.once(
            state.round, key, lambda: self.world.entropy(f"{key}/{state.round}", 32)
        )

    def _make(self, kind: str, state: State) -> object:
        current, me, round = state.current, self.me.id, state.round
        match kind:
            case "reveal":
                return msg.Reveal(me, self.me.onion.layer(state.members[me], round))
            case "availability":
                for id in sorted(current.revealed - self._checked - self._refused):
                    self._note(f"round {round}: update of member {id} could not be fetched in time")
                held = to_bitmap(self._checked & current.revealed)
                words = [(held >> (256 * k)) & (2**256 - 1) for k in range(4)]
                return msg.Availability(me, held, self._sign(state, "Availability", round, words))
            case "ballot":
                commitment = selection.ballot_commitment(
                    state.domain, round, me, *self._vote_of(state), self._salt(state, "ballot")
                )
                return msg.Ballot(me, commitment, self._sign(state, "Ballot", round, commitment))
            case "opening":
                place = current.places.index(me)
                return msg.Opening(me, place, *self._vote_of(state), self._salt(state, "ballot"))
            case "precommit":
                result, salt = self._entry(state, "result"), self._salt(state, "precommit")
                commitment = selection.precommitment(state.domain, round, me, result, salt)
                return msg.Precommit(me, commitment, self._sign(state, "Precommit", round, commitment))
            case "proposal":
                result = self._entry(state, "result")
                evidence = self._release(state, result)
                fields = (round, current.attempt, result, evidence)
                return msg.Propose(*fields, self._sign(state, "Proposal", *fields))
            case _:
                approve = self._judgement[current.attempt]
                salt = self._salt(state, "precommit") if approve else bytes(32)
                signature = self._sign(state, "Vote", round, current.attempt, current.result, approve)
                return msg.Vote(me, approve, salt, signature)

    def _vote_of(self, state: State) -> tuple[int, bool, bytes]:
        ranking = int.from_bytes(self._entry(state, "ranking"), "big")
        stop = self._entry(state, "stop") == b"\x01"
        return ranking, stop, encoding.digest(self._entry(state, "values"))

    def _release(self, state: State, result: bytes) -> bytes:
        try:
            data = self.world.kept.get(result, limit=self.world.limits.blob)
        except (errors.Unavailable, errors.Untrusted):
            data = self._fold(state).data
        sealed = self.world.scheme.release(state, state.version + 1, data)
        for blob in (sealed.blob, *sealed.attachments):
            self.world.store.put(blob)
        evidence = ckpt.evidence(self.terms.aggregation, state, encoding.digest(sealed.blob))
        return self.world.store.put(evidence)

    # relaying

    def _waiting(self, view: View) -> dict[str, frozenset[int]]:
        state = view.state
        first = plan.relay_rank(state, self.me.id) < plan.RELAYS
        late = plan.elapsed(state, view.now) >= 0.25
        waiting: dict[str, frozenset[int]] = {}
        for kind in plan.kinds_of(state):
            slot = self._slot(kind, state)
            awaited = plan.expected(state, kind)
            if not awaited:
                continue
            if self.me.relay and (first or late):
                found = outbox.senders(self.world.store, state, slot) & awaited
                waiting[kind] = frozenset(
                    id for id in found if not self._spoiled or not self._is_spoiled(state, slot, id)
                )
            if slot in self._delivered and encoding.digest(self._entry(state, slot)) not in self._spoiled:
                waiting[kind] = waiting.get(kind, frozenset()) | (awaited & {self.me.id})
        return waiting

    def _is_spoiled(self, state: State, slot: str, id: int) -> bool:
        try:
            return encoding.digest(outbox.get(self.world.store, state, slot, id)) in self._spoiled
        except (errors.Unavailable, errors.Untrusted):
            return True

    def _relay(self, kind: str, own: bool, view: View) -> bool:
        state = view.state
        slot = self._slot(kind, state)
        ids = {self.me.id} if own else self._waiting(view).get(kind, frozenset())
        # The outbox is open to all: somebody may have put other bytes over the own message.
        mine = {self.me.id: self._entry(state, slot)} if slot in self._delivered else {}
        relayed = outbox.relay(
            self.world.ledger, self.world.store, state, kind, slot, sorted(ids), mine, dry_run=self.me.frugal
        )
        self._spoiled |= relayed.spoiled
        for text in relayed.findings:
            self._note(text)
        return relayed.sent or bool(relayed.spoiled)
