"""What one sees of a federation from outside: its chain, read as any node reads it, and the models it agrees on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from examples.cluster.place import Place

from hansa import errors, federation, wiring
from hansa.app import EvaluateTask
from hansa.ledger.evm import Fold
from hansa.ledger.rpc import Endpoint
from hansa.ports import View
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import plan
from hansa.protocol.events import Event
from hansa.protocol.history import RoundStory, tell
from hansa.protocol.model import to_arrays
from hansa.protocol.state import State
from hansa.records import Limits, Model, Terms


@dataclass(slots=True)
class Watch:
    """A federation seen through its chain and its members' folders. Make one with `watch`."""

    place: Place
    terms: Terms
    fold: Fold
    ids: tuple[int, ...] = ()
    """What the contract calls m0, m1, ...: they joined side by side."""
    story: tuple[RoundStory, ...] = ()
    accuracy: dict[int, float] = field(default_factory=dict)
    """By version, on rows that no member has."""

    def note(self, event: Event, _block: int) -> None:
        """Fold an event into the story."""
        self.story = tell(self.story, event)

    def look(self) -> View:
        """The federation now; measures a version that is new. Raises `Unavailable`."""
        view = self.fold.view(lambda: int(time.time()))
        if view.state.version and view.state.version not in self.accuracy:
            model = self.model(view.state)
            if model is not None:
                task = EvaluateTask("test", (to_arrays(model),), self.terms.training.params)
                self.accuracy[view.state.version] = self.place.engine.evaluate(task)[0]["accuracy"]
        return view

    def awaited(self, state: State) -> str:
        """Whose messages the chain waits for."""
        kinds = {kind: plan.expected(state, kind) for kind in plan.kinds_of(state)}
        return "; ".join(f"{kind} of {self.names(ids)}" for kind, ids in kinds.items() if ids)

    def names(self, ids: Iterable[int]) -> str:
        """Several members, in their own order."""
        return " ".join(f"m{place}" for place in sorted(map(self.ids.index, ids)))

    def model(self, state: State) -> Model | None:
        """The model that stands, from the first member that holds it; None while nobody does."""
        for i in range(len(self.place.addresses)):
            kept = wiring.store(str(self.place.own(i) / "home" / "kept"))
            try:
                data = kept.get(state.model, limit=Limits().blob)
            except errors.Unavailable:
                continue
            return ckpt.decode(data, self.terms.aggregation, self.terms.layout, Limits()).model
        return None


def watch(place: Place, name: str, rpc: str) -> Watch:
    """Begin to watch the federation called `name`. Raises `Unavailable`, `Untrusted`."""
    address = federation.read_address(name)
    endpoint = Endpoint(rpc, address.chain_id)
    found = federation.find(wiring.store(str(place.store)), endpoint, address)
    fold = Fold(endpoint, found.deployment, interval=0.25)
    made = Watch(place, found.terms, fold)
    fold.observe(made.note)
    known = fold.view(lambda: 0).state.ids
    made.ids = tuple(known[bytes.fromhex(address[2:])] for address in place.addresses)
    return made
