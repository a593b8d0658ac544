"""A whole round under scheme `tee` (simulated enclaves) beside one under `plaintext`, both with the mean.

Real nodes with an empty trainer on the embedded chain, stores in memory; the enclaves are processes of their own.
Both federations run in turns in this one process, so that what else the machine does falls on both. Prints seconds a
round by the clock, and CPU seconds with those of the enclaves. Both make the same model, bit for bit, or this fails.
Usage: python benchmarks/tee_round.py [--parameters 1000000] [--members 10] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, wiring
from hansa.app import EvaluateTask, TrainResult, TrainTask, Values
from hansa.attestation.simulated import collected
from hansa.crypto import sealing
from hansa.crypto.signatures import account
from hansa.enclave.providers import simulated_measurement
from hansa.founding import party
from hansa.ledger.blocks import Genesis
from hansa.ledger.embedded import open_chain
from hansa.ledger.evm import EvmLedger, Fold, deploy
from hansa.node.daemon import Node
from hansa.node.enclosure import Enclosure, command
from hansa.node.journal import open_journal
from hansa.node.world import Identity, World
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol.model import from_arrays
from hansa.protocol.terms import parameters
from hansa.records import (
    Accept,
    AggregationTerms,
    Governance,
    GovernanceTerms,
    Limits,
    Role,
    SelectionTerms,
    Tee,
    Terms,
    Training,
)

SEATS = 4
START = 1_800_000_000
WANTED = 1.3


class EmptyTrainer:
    """Trains in no time: each member adds a vector of its own."""

    def __init__(self, size: int) -> None:
        self._size = size

    def initial(self, seed: int) -> Values:
        return {"w": np.zeros(self._size, np.float32)}

    def examples(self, dataset: str) -> int:
        return 100

    def train(self, task: TrainTask) -> TrainResult:
        return TrainResult({"w": task.base["w"] + self._delta(task.seed)}, 100)

    def _delta(self, seed: int) -> NDArray[np.float32]:
        return np.random.default_rng(seed).random(self._size, np.float32) * np.float32(1e-2)

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        return [self.train(t) for t in tasks]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        return [{"loss": 1.0}] * len(task.models)

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        return [self.evaluate(t) for t in tasks]

    def close(self) -> None: ...


@dataclass(slots=True)
class Federation:
    nodes: list[Node]
    fold: Fold
    enclosures: list[Enclosure]
    now: list[int]

    def cpu(self) -> float:
        """CPU seconds of this process and the enclaves so far."""
        return time.process_time() + sum(_cpu_of(e.pid) for e in self.enclosures)

    def round(self, version: int) -> None:
        """Step until a version stands."""
        while self.fold.view(lambda: self.now[0]).state.version < version:
            if not any([node.step() for node in self.nodes]):
                raise SystemExit(f"the federation is stuck: {[list(n.findings) for n in self.nodes]}")
            self.now[0] += 1


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def found(scheme: str, size: int, members: int, stack: ExitStack) -> Federation:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    parties = [party(0, f"m{i}") for i in range(members)]
    seats = tuple(p.address for p in parties[:SEATS])
    trainer = EmptyTrainer(size)
    model, _ = from_arrays(trainer.initial(0), 16)
    accept = Accept(root="simulation", enclaves=(simulated_measurement().mrenclave.hex(),))
    terms = Terms(
        name="round", app=bytes(32), scheme=scheme, governance=Governance.COMMITTEE, privacy="off",
        layout=model.layout, initial=bytes(32), initial_seed=0,
        training=Training(rounds=100, min_members=4, deadline=10_000),
        selection=SelectionTerms(rule="none"), aggregation=AggregationTerms(rule="weighted-mean"),
        govern=GovernanceTerms(invitation="vote", seats=tuple("0x" + s.hex() for s in seats), committee=SEATS),
        tee=Tee(accept=accept) if scheme == "tee" else None,
    )  # fmt: skip
    terms = replace(terms, initial=ckpt.initial(terms.aggregation, model).digest)
    chain = stack.enter_context(open_chain(folder / "chain.sqlite", Genesis(1, START)))
    now = [START + 1]

    def clock() -> int:
        chain.set_time(now[0])
        return now[0]

    clock()
    owner = account(parties[0].secret)
    deployment = deploy(chain, owner, parameters(terms), seats, terms.initial)
    fold = Fold(chain, deployment, interval=0.0)
    ledger = EvmLedger(chain, deployment, fold, owner, clock)
    ledger.submit(*(msg.Invite(p.address) for p in parties))
    domain = fold.view(clock).state.domain
    joins = []
    for p in parties:
        fields = (sealing.public_key(p.sealing_key), p.onion.head, 10, Role.MEMBER)
        joins.append(msg.Join(p.address, *fields, p.sign(encoding.message_bytes(domain, "Join", 0, *fields))))
    ledger.submit(*joins)
    made = Federation([], fold, [], now)

    def enclosure() -> Enclosure:
        started = Enclosure(command("simulated"), limit=Limits().blob)
        made.enclosures.append(started)
        return started

    store, kept = wiring.store("memory:///"), wiring.store("memory:///")
    for id, p in enumerate(parties):
        keys = {"private_key": p.sealing_key, "sign": p.sign, "entropy": p.entropy}
        world = World(
            ledger=EvmLedger(chain, deployment, fold, account(p.secret), clock),
            store=store,
            kept=kept,
            trainer=trainer,
            scheme=wiring.scheme(terms, id=id, limits=Limits(), **keys),
            journal=open_journal(folder / f"{p.name}.sqlite", domain, p.address, durable=False),
            entropy=p.entropy,
            enclosure=enclosure if scheme == "tee" and id < SEATS else None,
            collateral=collected(clock),
        )
        node = Node(Identity(id, p, p.onion, "d", "d"), terms, world)
        stack.callback(node.close)
        made.nodes.append(node)
    while any([node.step() for node in made.nodes]):
        now[0] += 1
    ledger.submit(msg.Start())
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {"plaintext": [], "tee": []}
    with ExitStack() as stack:
        made = {s: found(s, given.parameters, given.members, stack) for s in taken}
        for version in range(1, given.rounds + 1):
            for scheme, federation in made.items():
                wall, cpu = time.perf_counter(), federation.cpu()
                federation.round(version)
                taken[scheme].append((time.perf_counter() - wall, federation.cpu() - cpu))
            models = {f.fold.view(lambda: 0).state.model for f in made.values()}
            if len(models) != 1:
                raise SystemExit(f"round {version}: the two schemes made different models")
    print(
        f"{given.members} members, {given.parameters:,} parameters, weighted mean, {SEATS} seats; median of rounds 2 "
        f"to {given.rounds}; simulated: NO HARDWARE PROTECTION"
    )
    print(f"{'scheme':>10} {'seconds a round':>16} {'CPU seconds':>12}")
    medians = {}
    for scheme, rows in taken.items():
        medians[scheme] = [statistics.median(column) for column in zip(*rows[1:], strict=True)]
        print(f"{scheme:>10} {medians[scheme][0]:>16.2f} {medians[scheme][1]:>12.2f}")
    ratios = [t / p for t, p in zip(medians["tee"], medians["plaintext"], strict=True)]
    print(
        f"{'ratio':>10} {ratios[0]:>16.2f} {ratios[1]:>12.2f}   at most {WANTED} wanted; same models, bit for bit"
    )


if __name__ == "__main__":
    main()
