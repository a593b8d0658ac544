"""Scheme `mpc` as an owner of rows sees it: shares go out, the trained model comes back, and nobody else has either."""

from __future__ import annotations

from typing import cast

from hansa import encoding
from hansa.app import EvaluateTask
from hansa.node.blobs import Blobs
from hansa.node.delivered import model_of, settled, shares_of
from hansa.node.evaluating import evaluate
from hansa.node.models import initial_model
from hansa.node.openings import REJECT, Result, published
from hansa.node.world import Findings, Identity, World
from hansa.ports import Dealing, Owning, Sealed, Sharing
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import mpc, mpc_plan, stopping
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import to_arrays
from hansa.protocol.mpc import Settlement
from hansa.protocol.state import State
from hansa.records import Terms


class Owner:
    """The rows, shares and model of one node; a party uses it to lead."""

    def __init__(self, me: Identity, terms: Terms, world: World, blobs: Blobs, findings: Findings) -> None:
        self.me = me
        self.terms = terms
        self.world = world
        self.blobs = blobs
        self.note = findings.note
        self._scheme = cast(Dealing, world.scheme)
        self._base: Checkpoint | None = None

    def knowledge(self, state: State, certificate: bytes | None) -> mpc_plan.Knowledge:
        """What the plan has to know."""
        decided = _name("decided", state) in self.world.journal.keys(state.round)
        return mpc_plan.Knowledge(self.me.id, self.terms, certificate, decided)

    @property
    def _sharing(self) -> Sharing:
        assert self.world.sharing is not None
        return self.world.sharing

    # what an owner shares

    def offer(self, state: State) -> tuple[Sealed, int]:
        """The own rows in shares, and how many they are. Raises `Misconfigured` for rows that cannot be shared."""
        trainer = cast(Owning, self.world.trainer)
        table = trainer.table(
            self.me.training_data,
            mpc.mpc_of(self.terms),
            self.terms.training.min_members,
            self.world.entropy(f"noise/{state.round}", 32),
        )
        dealt = [self._sharing.deal(mpc.job(state), name, array) for name, array in table.arrays.items()]
        return self._scheme.offer(state, table.rows, table.ids, dealt), table.rows

    # the settlement, as the leader makes it and owners check it

    def fold(self, state: State) -> Result:
        """What comes of the parties' records. Raises `Unavailable`, `Untrusted`."""
        made = Result(encoding.encode(mpc.settle(self.terms, state, self.blobs.get)))
        self.blobs.keep(made.data)
        return made

    def release(self, state: State, result: bytes) -> bytes:
        """Publish what is proposed; gives its digest, since a settlement is its own evidence."""
        return published(self.world, self.blobs, state, result, self.fold)

    def open_proposal(self, state: State) -> bytes:
        """The proposed settlement, if it is what comes of the records. Raises `Unavailable`, `Untrusted`."""
        data = self.blobs.get(state.current.result)
        self._check(state, settled(self.terms, state, self.blobs.get))
        return data

    def _check(self, state: State, made: Settlement) -> None:
        """Each package for this owner opens to the shares that its party named."""
        fetch = self.blobs.get
        for party, digest in made.deliveries if self.me.id in made.owners else ():
            delivery = mpc.read_delivery(fetch(digest), state, party, made.owners)
            shares_of(self._scheme, self._sharing, state, delivery, self.me.id, fetch)
        for party, refused in mpc.refusals(state, fetch).items():
            for r in refused:
                self.note(
                    f"round {state.round}: party {party} refused the shares of owner {r.owner}: {r.reason}"
                )

    # the model

    def standing(self, state: State) -> Checkpoint:
        """The model that stands. Raises `Unavailable` for whom it was not delivered to, `Untrusted`."""
        if self._base is None or self._base.digest != state.model:
            self._base = self._load(state)
        return self._base

    def _load(self, state: State) -> Checkpoint:
        if state.model_author is None:
            return initial_model(self.terms, self.world, self.blobs)
        data = self.world.kept.get(state.model, limit=self.world.limits.blob)
        terms = self.terms
        return ckpt.decode(data, terms.aggregation, terms.layout, self.world.limits, digest=state.model)

    def reconstruct(self, state: State) -> bool:
        """Put the shares together, look at the model on the own validation rows, fix what to vote."""
        digest = REJECT
        if self.me.id in settled(self.terms, state, self.blobs.get).owners:
            made, saturated = model_of(
                self._scheme, self._sharing, self.terms, state, self.me.id, self.blobs.get
            )
            if saturated:
                self.note(f"round {state.round}: {saturated} values of the model are too large for its scale")
            digest = self._judged(state, made)
        self.world.journal.put(state.round, {_name("decided", state): digest})
        return True

    def _judged(self, state: State, made: Checkpoint) -> bytes:
        models = tuple(to_arrays(m) for m in (self.standing(state).model, made.model))
        task = EvaluateTask(self.me.validation_data, models, self.terms.training.params, state.round)
        before, after = evaluate(self.world.trainer, task, self.note)
        if before is not None and after is None:
            self.note(f"round {state.round}: the trained model cannot be evaluated on the own rows: refused")
            return REJECT
        if before is not None and after is not None and stopping.gain("loss", before, after) < 0:
            self.note(
                f"round {state.round}: the trained model is worse on the own rows than the untrained one"
            )
        return self.blobs.keep(made.data)

    def vote(self, state: State) -> bytes:
        """The digest that was fixed."""
        digest = self.world.journal.get(state.round, _name("decided", state))
        assert digest is not None
        return digest


def _name(what: str, state: State) -> str:
    """A journal key about the settlement that stands: after a reorganisation it may be another one."""
    return f"{what}/{state.current.result.hex()[:16]}"
