"""A federation of real nodes on the specification as ledger, with a trainer that takes no time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from hansa import encoding, wiring
from hansa.app import EvaluateTask, TrainResult, TrainTask
from hansa.crypto import sealing, signatures
from hansa.founding import Party
from hansa.founding import party as make_party
from hansa.ledger.specified import Specified, SpecifiedLedger
from hansa.node.daemon import Node
from hansa.node.journal import Journal, open_journal
from hansa.node.world import Identity, World
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol import plan, rules
from hansa.protocol.model import from_arrays
from hansa.protocol.terms import parameters as contract_parameters
from hansa.records import Governance, GovernanceTerms, Limits, Phase, Role, SelectionTerms, Terms, Training
from hansa.stores import objects

LENGTH = 12
START = 1_800_000_000

party = cache(make_party)
"""Parties are immutable, and an onion takes a thousand hashes."""


class TinyTrainer:
    """The model is a vector; training goes half way to the member's own target near a common one."""

    def __init__(self, seed: int = 0, noise: float = 0.05) -> None:
        self.seed, self.noise = seed, noise

    def _target(self, dataset: str) -> np.ndarray[Any, Any]:
        member = int(dataset.split("/")[0][1:])
        generator = np.random.default_rng([self.seed, member])
        return np.ones(LENGTH) + self.noise * generator.standard_normal(LENGTH)

    def initial(self, seed: int) -> dict[str, Any]:
        return {"w": np.full(LENGTH, seed / 8, np.float32)}

    def examples(self, dataset: str) -> int:
        return 10

    def train(self, task: TrainTask) -> TrainResult:
        w = task.base["w"]
        return TrainResult({"w": (w + (self._target(task.dataset) - w) / 2).astype(np.float32)}, 10)

    def train_many(self, tasks: Any) -> list[TrainResult]:
        return [self.train(t) for t in tasks]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        target = self._target(task.dataset)
        return [{"loss": float(np.square(m["w"] - target).sum())} for m in task.models]

    def evaluate_many(self, tasks: Any) -> list[list[dict[str, float]]]:
        return [self.evaluate(t) for t in tasks]

    def close(self) -> None: ...


def terms(parties: list[Party], **changes: Any) -> Terms:
    model, _ = from_arrays(TinyTrainer().initial(0), 16)
    seats = tuple("0x" + p.address.hex() for p in parties)
    made = Terms(
        name="tiny",
        app=bytes(32),
        scheme="plaintext",
        governance=Governance.PEERS,
        privacy="off",
        layout=model.layout,
        initial=bytes(32),
        initial_seed=0,
        training=Training(rounds=3, min_members=4, deadline=100),
        selection=SelectionTerms(rule="median-rank", assume_malicious=0.25),
        govern=GovernanceTerms(seats=seats),
    )
    made = replace(made, **changes)
    return replace(made, initial=ckpt.initial(made.aggregation, model).digest)


@dataclass
class Tiny:
    """Nodes, their chain, their clock, their store."""

    terms: Terms
    parties: list[Party]
    chain: Specified
    nodes: list[Node] = field(default_factory=list)
    now: int = START
    store: Any = None

    @property
    def state(self) -> Any:
        return self.chain.state

    def clock(self) -> int:
        return self.now

    def ledger(self, id: int = 0) -> SpecifiedLedger:
        return SpecifiedLedger(self.chain, self.parties[id].address, self.clock)

    def advance(self) -> bool:
        """One pass over the nodes, or a jump in time; False when the federation has come to rest."""
        if self.state.phase in (Phase.STOPPED, Phase.PAUSED):
            return False
        if any([node.step() for node in self.nodes]):
            self.now += 1
            return True
        wake = plan.next_wake(self.state, self.now)
        assert wake is not None, self.state.phase
        self.now = min([wake, *(n.busy_until for n in self.nodes if n.busy_until > self.now)])
        return True

    def run(self, passes: int = 500) -> None:
        for _ in range(passes):
            if not self.advance():
                return
        raise AssertionError(f"still in {self.state.phase.name} of round {self.state.round}")

    def until(self, phase: Phase, round: int | None = None, passes: int = 200) -> None:
        for _ in range(passes):
            if self.state.phase is phase and (round is None or self.state.round == round):
                return
            assert self.advance(), f"came to rest in {self.state.phase.name}"
        raise AssertionError(f"never reached {phase.name}, is in {self.state.phase.name}")


def tiny(
    members: int = 5,
    trainers: Mapping[int, Any] | None = None,
    stores: Mapping[int, Any] | None = None,
    relays: frozenset[int] | None = None,
    worlds: Mapping[int, Callable[[World], World]] | None = None,
    idle: frozenset[int] = frozenset(),
    silent: frozenset[int] = frozenset(),
    server: bool = False,
    **changes: Any,
) -> Tiny:
    """A federation in COMMIT of round 1.

    `trainers`, `stores`: those of single members; `worlds` alters all that a node reaches. `idle` members do
    not train, `silent` ones have no node at all. `server`: one more id, that of a server.
    """
    parties = [party(0, f"m{i}") for i in range(members)]
    if server:
        parties.append(replace(party(0, f"m{members}"), role=Role.SERVER))
    agreed = terms(parties, **changes)
    owner = parties[0].address
    domain = encoding.domain_separator(1, bytes(20), encoding.digest(encoding.encode(agreed)))
    seats = {
        Governance.COMMITTEE: [p.address for p in parties],
        Governance.SERVER: [p.address for p in parties if p.role is Role.SERVER],
    }.get(agreed.governance, [])
    state = rules.found(contract_parameters(agreed), seats, owner, domain, agreed.initial)
    made = Tiny(agreed, parties, Specified(state), store=objects.create("memory:///"))
    made.ledger().submit(*(msg.Invite(p.address) for p in parties))
    made.ledger().submit(*(join(made, p) for p in parties), msg.Start())
    for id in range(len(parties)):
        if id in silent:
            continue
        alter = (worlds or {}).get(id)
        trainer, store = (trainers or {}).get(id), (stores or {}).get(id)
        made.nodes.append(node(made, id, trainer, store, relays, alter=alter, trains=id not in idle))
    return made


def join(made: Tiny, p: Party, nonce: int = 0) -> msg.Join:
    """A signed request to join, or to register keys anew."""
    fields = (sealing.public_key(p.sealing_key), p.onion.head, 10, p.role)
    signature = p.sign(encoding.message_bytes(made.state.domain, "Join", nonce, *fields))
    return msg.Join(p.address, *fields, signature)


def node(
    made: Tiny,
    id: int,
    trainer: Any = None,
    store: Any = None,
    relays: frozenset[int] | None = None,
    *,
    alter: Callable[[World], World] | None = None,
    trains: bool = True,
    journal: Journal | None = None,
) -> Node:
    """A node of member `id`; without a `journal` it starts with an empty one."""
    p = made.parties[id]
    keys = {"private_key": p.sealing_key, "sign": p.sign}
    scheme = wiring.scheme(made.terms, id=id, **keys, entropy=p.entropy, limits=Limits())
    trains = trains and p.role is Role.MEMBER
    relay = relays is None or id in relays
    me = Identity(id, p, p.onion, f"m{id}/train", f"m{id}/validation", trains=trains, relay=relay)
    world = World(
        ledger=made.ledger(id),
        store=store or made.store,
        kept=objects.create("memory:///"),
        trainer=trainer or TinyTrainer(),
        scheme=scheme,
        journal=journal or open_journal(None, made.state.domain, p.address),
        entropy=p.entropy,
    )
    return Node(me, made.terms, alter(world) if alter else world)


def moved(old: Node, **changes: Any) -> Node:
    """The same party anew, in a world changed in these fields."""
    return Node(old.me, old.terms, replace(old.world, **changes))


__all__ = ["LENGTH", "Tiny", "TinyTrainer", "join", "moved", "node", "party", "signatures", "terms", "tiny"]
