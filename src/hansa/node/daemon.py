"""A node performs what its plan says. All that it must not lose or do twice goes through its journal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hansa import encoding, errors
from hansa.app import EvaluateTask, TrainTask, training_seed
from hansa.node import late
from hansa.node.blobs import Blobs
from hansa.node.centre import Centre
from hansa.node.computing import Computer
from hansa.node.enclosed import Enclosed
from hansa.node.evaluating import evaluate
from hansa.node.inner import Inner
from hansa.node.messages import Messages, proposal_of
from hansa.node.models import Models, result_key
from hansa.node.openings import Openings
from hansa.node.owning import Owner
from hansa.node.recording import Records
from hansa.node.retention import Retention
from hansa.node.world import Findings, Identity, World
from hansa.ports import Sealed, View
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import enclave_plan, mpc_plan, opening_plan, plan, selection, stopping, timing
from hansa.protocol import messages as msg
from hansa.protocol.model import parameters, to_arrays
from hansa.protocol.state import State
from hansa.protocol.updates import top_gamma
from hansa.protocol.wire import decode_item, encode_item
from hansa.records import Phase, Terms, Update

UNFIT = "own training gave no usable update"
"""What a node says of a round in which it sends nothing for that reason."""

KEEP_ROUNDS = 3
"""Rounds whose journal entries are kept, at least."""

Step = plan.Step


class Node:
    """One party. `step` takes every step that is possible now and says whether anything was done.

    `busy_until`: when the training under way is over, on a virtual clock.
    """

    def __init__(self, me: Identity, terms: Terms, world: World) -> None:
        self.me = me
        self.terms = terms
        self.world = world
        self._round = 0
        self._published = self._welcomed = False
        self._unfit = 0
        self._trained: late.Trained | None = None
        self.busy_until = 0
        findings = Findings()
        self.findings = findings.texts
        self.news = findings.news
        self._note = findings.note
        self.retention = Retention(terms, world, findings, me.id)
        self.blobs = Blobs(terms, world, findings, self.retention)
        self.openings: Openings | None = None
        self.enclosed: Enclosed | None = None
        self.owner: Owner | None = None
        self.computer: Computer | None = None
        self.models: Models | Openings | Owner
        if terms.secagg is not None:
            records, inner = Records(me, world), None
            if terms.tee is not None:
                self.enclosed = inner = Inner(me, terms, world, self.blobs, findings, records)
            self.openings = self.models = Openings(me, terms, world, self.blobs, findings, records, inner)
            self.centre = Centre(me, terms, world, self.blobs, findings, records, inner)
        elif terms.tee is not None:
            self.enclosed = Enclosed(me, terms, world, self.blobs, findings, Records(me, world))
            self.models = self.enclosed
        elif terms.mpc is not None:
            self.owner = self.models = Owner(me, terms, world, self.blobs, findings)
            if world.session is not None:
                self.computer = Computer(me, terms, world, self.blobs, findings, Records(me, world))
        else:
            self.models = Models(me.id, terms, world, self.blobs)
        self.messages = Messages(me, world, self.blobs, self.models, findings)

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

    def close(self) -> None:
        """End the own enclave or session, if there is one."""
        if self.enclosed is not None:
            self.enclosed.close()
        if self.world.session is not None:
            self.world.session.close()

    @property
    def computing(self) -> bool:
        """Whether something is under way that takes real time, and not the ledger's."""
        return self.computer is not None and self.computer.busy

    def knowledge(self, view: View) -> plan.Knowledge:
        """What this node knows of the running round."""
        state = view.state
        entries = self.world.journal.keys(state.round)
        sent = frozenset(self.messages.delivered | self.messages.withheld)
        return plan.Knowledge(
            id=self.me.id,
            relay=self.me.relay,
            trains=self.me.trains and self._unfit != state.round,
            sent=sent,
            welcomed=self._welcomed,
            published=self._published,
            shared=self.blobs.shared,
            checked=frozenset(self.blobs.checked),
            refused=frozenset(self.blobs.refused),
            evaluated="ranking" in entries,
            aggregated=state.phase is Phase.AGGREGATE and result_key(state) in entries,
            judgement=self.messages.judgement.get(proposal_of(state))
            if state.phase is Phase.VERIFY
            else None,
            waiting=self.messages.waiting(view),
            opening=self.openings.knowledge(state, sent) if self.openings else None,
            enclave=self.enclosed.knowledge(view) if self.enclosed else None,
            computing=self._computing(state),
        )

    def _computing(self, state: State) -> mpc_plan.Knowledge | None:
        if self.owner is None:
            return None
        return self.owner.knowledge(state, self.computer.certificate if self.computer else None)

    def training_task(self, state: State) -> TrainTask:
        """What this node trains in the running round."""
        base = self.models.standing(state)
        return TrainTask(
            dataset=self.me.training_data,
            base=to_arrays(base.model),
            seed=training_seed(self.terms.initial_seed, self.me.id, state.round),
            round=state.round,
            params=self.terms.training.params,
        )

    def _turn(self, state: State) -> None:
        if state.round == self._round:
            return
        self._round = state.round
        self._published = self._welcomed = False
        self.blobs.turn()
        self.messages.turn()
        self.world.journal.forget(state.round - self._keep_rounds())
        self.retention.turn(state, self.enclosed.turn(state) if self.enclosed else frozenset())

    def _perform(self, step: Step, view: View) -> bool:
        state = view.state
        match step:
            case plan.Welcome():
                holder = self.enclosed or self.models
                assert isinstance(holder, Models)
                holder.welcome(state)
                self._welcomed = True
                return True
            case plan.Train():
                return self._train(view) if self.owner is None else self._offer(view)
            case plan.Send(kind):
                return self.messages.send(kind, state)
            case plan.Publish():
                return self._publish(state)
            case plan.Fetch(ids):
                return self.blobs.fetch(state, ids)
            case plan.Share(quarter):
                return self.blobs.share(state, quarter)
            case plan.Evaluate():
                return self._evaluate(state)
            case plan.Aggregate():
                return self._aggregate(state)
            case plan.Judge():
                return self._judge(view)
            case plan.Relay(kind, own):
                return self.messages.relay(kind, own, view)
            case plan.Choose(threshold, cut):
                return self._call(msg.Select(state.round, threshold, cut), view)
            case plan.Push():
                return self._call(msg.Advance(state.round), view)
            case (
                enclave_plan.Attest()
                | enclave_plan.Vouch()
                | enclave_plan.NameRosters()
                | enclave_plan.NameSet()
                | enclave_plan.Deliver()
            ):
                return self._perform_enclosed(step, view)
            case mpc_plan.Certify() | mpc_plan.Accept() | mpc_plan.Compute() | mpc_plan.Reconstruct():
                return self._perform_computing(step, view)
            case _:
                return self._perform_opening(step, view)

    def _perform_enclosed(self, step: enclave_plan.Step, view: View) -> bool:
        enclosed = self.enclosed
        assert enclosed is not None
        match step:
            case enclave_plan.Attest():
                return enclosed.attest(view)
            case enclave_plan.Vouch(hosts):
                return enclosed.vouch(view, hosts)
            case enclave_plan.NameRosters():
                return enclosed.name_rosters(view.state)
            case enclave_plan.NameSet(quarter):
                return enclosed.name_set(view.state, quarter)
            case enclave_plan.Deliver():
                assert isinstance(enclosed, Inner)
                return enclosed.deliver(view)

    def _perform_computing(self, step: mpc_plan.Step, view: View) -> bool:
        owner, computer = self.owner, self.computer
        assert owner is not None
        if isinstance(step, mpc_plan.Reconstruct):
            return owner.reconstruct(view.state)
        assert computer is not None
        match step:
            case mpc_plan.Certify():
                return computer.certify(view)
            case mpc_plan.Accept():
                return computer.accept(view)
            case mpc_plan.Compute():
                return computer.compute(view)

    def _perform_opening(self, step: opening_plan.Step, view: View) -> bool:
        openings, centre = self.openings, self.centre
        assert openings is not None
        match step:
            case opening_plan.Found():
                return centre.found(view)
            case opening_plan.Certify(ids):
                return centre.certify(view, ids)
            case opening_plan.Halve():
                return centre.halve(view)
            case opening_plan.Readmit(ids):
                return centre.readmit(view, ids)
            case opening_plan.Enrol():
                return openings.enrol(view)
            case opening_plan.Reenter():
                return openings.reenter(view)
            case opening_plan.Open():
                return openings.open(view.state)
            case opening_plan.Approve():
                return openings.approve(view)
            case opening_plan.Decide():
                return openings.decide(view.state)
            case opening_plan.Release():
                return openings.release_model(view)

    def _call(self, call: msg.Select | msg.Advance, view: View) -> bool:
        """What anybody may send. Raises `Refused`, `Unavailable`."""
        flights = self.messages.flights
        if call in flights.away(view):
            return False
        try:
            self.world.ledger.submit(call)
        except errors.TooEarly:
            raise
        except errors.Refused:
            flights.depart(call, view)
            raise
        flights.depart(call, view)
        return True

    # what a member does

    def _train(self, view: View) -> bool:
        state, journal = view.state, self.world.journal
        if journal.get(state.round, "commit") is None:
            try:
                trained = self._trained_for(view)
            except errors.NotAsked:
                self._unfit = state.round
                return True
            except (errors.Untrusted, errors.AppFailed) as e:
                # The node has other duties in this round; the next one may go better.
                self._note(f"round {state.round}: {UNFIT}: {e} {e.hint}".strip())
                self._unfit = state.round
                return True
            self.busy_until = trained.ready
            if trained.ready > view.now:
                return False
            if self.world.ledger.view().state.round != state.round:
                return True
            update = replace(trained.update, round=state.round)
            late.write(journal, self.terms.training, replace(trained, update=update))
            sealed = self.world.scheme.seal(state, update, self.blobs.get)
            meta = timing.pack_meta(update.timestamp, update.millis, update.examples)
            self._commit(state, sealed, update.version, meta, {"residual": trained.residual})
            self._trained = None
        self.messages.deliver("commit", state)
        return True

    def _commit(
        self, state: State, sealed: Sealed, version: int, meta: int, entries: dict[str, bytes]
    ) -> None:
        """Sign the commitment to what was sealed, and journal both."""
        journal, fields = self.world.journal, (state.round, version, encoding.digest(sealed.blob), meta)
        commit = msg.Commit(self.me.id, *fields[1:], self.messages.sign(state, "Commit", *fields))
        entries |= {f"blob/{i}": blob for i, blob in enumerate((sealed.blob, *sealed.attachments))}
        entries["commit"] = encode_item(commit)
        journal.put(state.round, {k: v for k, v in entries.items() if k not in journal.keys(state.round)})

    def _offer(self, view: View) -> bool:
        """Share the own rows, where the scheme trains on shares."""
        state, owner = view.state, self.owner
        assert owner is not None
        if self.world.journal.get(state.round, "commit") is None:
            try:
                sealed, rows = owner.offer(state)
            except (errors.Misconfigured, errors.AppFailed) as e:
                self._note(f"round {state.round}: the own rows cannot be shared: {e} {e.hint}".strip())
                self._unfit = state.round
                return True
            self._commit(state, sealed, state.version, timing.pack_meta(view.now, 0, rows), {})
        self.messages.deliver("commit", state)
        return True

    def _trained_for(self, view: View) -> late.Trained:
        """The update for this round: one that no earlier round took, the one in the making, or a new one."""
        state, training, length = view.state, self.terms.training, parameters(self.terms.layout)
        rounds = self._keep_rounds()
        found = late.find(self.world.journal, training, state, rounds, self.world.limits, length)
        if found is None and self._trained is not None and self._trained.update.round == state.round:
            found = self._trained
        if found is None:
            found = self._trained = self._train_update(view)
            late.write(self.world.journal, training, found)
        return found

    def _keep_rounds(self) -> int:
        """Rounds whose journal entries are kept: an update may be as old as the terms allow."""
        return max(KEEP_ROUNDS, self.terms.training.max_staleness)

    def _train_update(self, view: View) -> late.Trained:
        state, training = view.state, self.terms.training
        result = self.world.trainer.train(self.training_task(state))
        delta = ckpt.difference(self.models.standing(state).model, result.values)
        indices, values, residual = None, delta, b""
        if training.gamma < 1:
            before = self.world.journal.latest("residual", state.round) if training.error_feedback else None
            indices, values, rest = top_gamma(
                delta, np.frombuffer(before, np.int32) if before else None, training.gamma
            )
            residual = rest.tobytes()
        millis = self.world.duration(result.examples)
        update = Update(
            federation=state.domain,
            round=state.round,
            member=self.me.id,
            version=state.version,
            base=state.model,
            examples=result.examples,
            millis=millis,
            timestamp=view.now,
            length=len(delta),
            values=values,
            indices=indices,
        )
        return late.Trained(update, residual, view.now + (millis // 1000 if self.world.virtual else 0))

    def _publish(self, state: State) -> bool:
        journal = self.world.journal
        keys = sorted(k for k in journal.keys(state.round) if k.startswith("blob/"))
        blobs = (journal.get(state.round, key) for key in keys)
        commit = decode_item("commit", journal.get(state.round, "commit") or b"")
        assert isinstance(commit, msg.Commit)
        self.blobs.publish(state, *(blob for blob in blobs if blob is not None), first=commit.digest)
        self._published = True
        return True

    def _evaluate(self, state: State) -> bool:
        targets = selection.targets_of(
            state.current.places, state.current.places.index(self.me.id), state.parameters.targets
        )
        seen = [id for id in targets if id in self.blobs.checked]
        base = self.models.standing(state)
        candidates = [ckpt.candidate(base.model, self.blobs.update(state, id)) for id in seen]
        task = EvaluateTask(
            dataset=self.me.validation_data,
            models=tuple(to_arrays(m) for m in (base.model, *candidates)),
            params=self.terms.training.params,
            round=state.round,
        )
        before, *after = evaluate(self.world.trainer, task, self._note)
        judged = {id: found for id, found in zip(seen, after, strict=True) if before and found}
        metric = self.terms.selection.metric
        values = [stopping.gain(metric, before or {}, judged[id]) if id in judged else 0.0 for id in targets]
        doubts = [id not in judged for id in targets]
        best = self.world.journal.latest("best", state.round)
        stop = False
        if before:
            stop, best = stopping.wish(self.terms.training, metric, before, best)
        row = {"round": state.round, "evaluator": self.me.id, "metric": metric, "targets": list(targets),
               "values": values, "doubts": doubts}  # fmt: skip
        ranking = selection.pack_ranking(selection.rank(values, doubts), doubts)
        entries = {
            "ranking": ranking.to_bytes(32, "big"),
            "stop": bytes([stop]),
            "values": encoding.encode(row),
            **({} if best is None else {"best": best}),
        }
        self.world.journal.put(state.round, entries)
        return True

    # what a verifier and a leader do

    def _aggregate(self, state: State) -> bool:
        models = self.models
        made = models.make(state) if isinstance(models, Enclosed) else models.fold(state)
        self.world.journal.put(state.round, {result_key(state): made.digest})
        return True

    def _judge(self, view: View) -> bool:
        state, current = view.state, view.state.current
        # What an enclave made is proven by its signature, and cannot be made again here.
        proven = isinstance(self.models, Enclosed)
        own = current.result if proven else self.world.journal.get(state.round, result_key(state))
        if own is None:
            missing = current.selected - self.blobs.checked
            return self.blobs.fetch(state, missing) if missing else self._aggregate(state)
        if own == current.result and state.parameters.precommit and self.me.id not in current.precommits:
            # Without a precommitment an approval does not count: stay silent.
            return False
        try:
            self.models.open_proposal(state)
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
        self.messages.judgement[proposal_of(state)] = verdict
        return True
