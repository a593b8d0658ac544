"""Scheme `mpc` as an owner of rows sees it: shares go out, the trained model comes back, and nobody else has either."""

from __future__ import annotations

from typing import Any, cast

from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.app import EvaluateTask
from hansa.node.blobs import Blobs
from hansa.node.evaluating import evaluate
from hansa.node.models import initial_model
from hansa.node.openings import REJECT, Result
from hansa.node.world import Findings, Identity, World
from hansa.ports import Dealing, Owning, Sealed, Sharing
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import mpc, mpc_plan, stopping
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import from_arrays, to_arrays
from hansa.protocol.mpc import Delivery, Settlement
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
            lambda n: self.world.entropy(f"noise/{state.round}", n),
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
        try:
            data = self.world.kept.get(result, limit=self.world.limits.blob)
        except (errors.Unavailable, errors.Untrusted):
            data = self.fold(state).data
        self.blobs.publish(state, data)
        return encoding.digest(data)

    def open_proposal(self, state: State) -> bytes:
        """The proposed settlement, if it is what comes of the records. Raises `Unavailable`, `Untrusted`."""
        data = self.blobs.get(state.current.result)
        self._check(state, self._settled(state))
        return data

    def _settled(self, state: State) -> Settlement:
        made = mpc.settle(self.terms, state, self.blobs.get)
        if encoding.digest(encoding.encode(made)) != state.current.result:
            raise errors.Untrusted("the proposed settlement is not what comes of the parties' records")
        return made

    def _check(self, state: State, made: Settlement) -> None:
        """Each package for this owner opens to the shares that its party named."""
        if self.me.id in made.owners:
            for party, digest in made.deliveries:
                self._shares(
                    state, party, mpc.read_delivery(self.blobs.get(digest), state, party, made.owners)
                )
        for party, refused in mpc.refusals(state, self.blobs.get).items():
            for r in refused:
                self.note(
                    f"round {state.round}: party {party} refused the shares of owner {r.owner}: {r.reason}"
                )

    def _shares(self, state: State, party: int, delivery: Delivery) -> dict[str, bytes]:
        """A party's shares of the model, held against what it recorded. Raises `Untrusted`."""
        package = self.blobs.get(dict(delivery.packages)[self.me.id])
        shares = self._scheme.unpack(state, party, package, self.blobs.get)
        rank = mpc.parties(state).index(party)
        if self._sharing.components(mpc.job(state), rank, shares) != delivery.components:
            raise errors.Untrusted(f"party {party} sent other shares of the model than it recorded")
        return shares

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
        made = self._settled(state)
        digest = REJECT
        if self.me.id in made.owners:
            parts = [
                self._shares(state, party, mpc.read_delivery(self.blobs.get(d), state, party, made.owners))
                for party, d in made.deliveries
            ]
            arrays = self._sharing.reconstruct(mpc.job(state), parts)
            digest = self._judged(state, arrays)
        self.world.journal.put(state.round, {_name("decided", state): digest})
        return True

    def _judged(self, state: State, arrays: dict[str, NDArray[Any]]) -> bytes:
        model, saturated = from_arrays(arrays, self.terms.layout.scale)
        made = ckpt.make(model, self.standing(state).state)
        if saturated:
            self.note(f"round {state.round}: {saturated} values of the model are too large for its scale")
        models = tuple(to_arrays(m) for m in (self.standing(state).model, model))
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
