"""What a round costs that is neither training nor evaluation: ledger, signatures, sealing, store, protocol.

Real nodes with an empty trainer, a store in memory (`--store folder`: on disk) and file journals, on the
embedded chain and on anvil; all in this one process. Prints milliseconds and gas a member-round, the gas by
call, and beside it Flower's simulation with an empty client when `flwr[simulation]==1.41.0` is installed and
`--vs-flower` is given.
Usage: python benchmarks/round.py [--members 10,32,100] [--rounds 5] [--governance committee|peers]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import flower_empty
from hansa import encoding, wiring
from hansa.app import EvaluateTask, TrainResult, TrainTask, Values
from hansa.crypto import sealing
from hansa.crypto.signatures import account
from hansa.founding import party
from hansa.ledger.blocks import Genesis
from hansa.ledger.embedded import open_chain
from hansa.ledger.evm import EvmLedger, Fold, deploy
from hansa.ledger.rpc import Endpoint, Rpc
from hansa.node.daemon import Node
from hansa.node.journal import open_journal
from hansa.node.world import Identity, World
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol.model import from_arrays
from hansa.protocol.terms import parameters
from hansa.records import Governance, GovernanceTerms, Limits, Role, SelectionTerms, Terms, Training
from hansa.simulation import gas_by_call

sys.path.insert(0, str(Path(__file__).parents[1]))

PARAMETERS = 5_000
COMMITTEE = 7
TARGETS = {("embedded", 10): 20, ("embedded", 32): 14, ("embedded", 100): 12,
           ("anvil", 10): 6, ("anvil", 32): 5, ("anvil", 100): 5}  # fmt: skip
GAS_TARGETS = {10: 180_000, 100: 90_000}


class EmptyTrainer:
    """Trains in no time: every member adds the same small vector; every model is as good as any other."""

    delta = np.random.default_rng(0).normal(0, 1e-3, PARAMETERS).astype(np.float32)

    def initial(self, seed: int) -> Values:
        return {"w": np.zeros(PARAMETERS, np.float32)}

    def examples(self, dataset: str) -> int:
        return 100

    def train(self, task: TrainTask) -> TrainResult:
        return TrainResult({"w": task.base["w"] + self.delta}, 100)

    def train_many(self, tasks: Sequence[TrainTask]) -> list[TrainResult]:
        return [self.train(t) for t in tasks]

    def evaluate(self, task: EvaluateTask) -> list[dict[str, float]]:
        return [{"loss": 1.0}] * len(task.models)

    def evaluate_many(self, tasks: Sequence[EvaluateTask]) -> list[list[dict[str, float]]]:
        return [self.evaluate(t) for t in tasks]

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Cost:
    members: int
    first: float
    round: float
    gas: int
    by_call: dict[str, int]


@contextmanager
def chain(kind: str, folder: Path) -> Iterator[tuple[Rpc, Callable[[], int]]]:
    if kind == "embedded":
        start = 1_800_000_000
        with open_chain(folder / "chain.sqlite", Genesis(1, start)) as embedded:
            embedded.set_time(start + 1)
            yield embedded, lambda: start + 1
    else:
        from tests.anvil import ZERO_FEE, anvil

        with anvil(*ZERO_FEE) as url:
            yield Endpoint(url, 31337), lambda: int(time.time())


def measure(
    kind: str,
    members: int,
    rounds: int,
    governance: Governance,
    precommit: bool,
    stores: str = "memory",
    rule: str = "median-rank",
) -> Cost:
    parties = [party(0, f"m{i}") for i in range(members)]
    seats = [p.address for p in parties[:COMMITTEE]] if governance is Governance.COMMITTEE else []
    trainer = EmptyTrainer()
    model, _ = from_arrays(trainer.initial(0), 16)
    terms = Terms(
        name="round", app=bytes(32), scheme="plaintext", governance=governance, privacy="off",
        layout=model.layout, initial=bytes(32), initial_seed=0,
        training=Training(rounds=rounds, min_members=4, deadline=3600),
        selection=SelectionTerms(rule=rule, assume_malicious=0.25),
        govern=GovernanceTerms(seats=tuple("0x" + s.hex() for s in seats), precommit=precommit),
    )  # fmt: skip
    terms = replace(terms, initial=ckpt.initial(terms.aggregation, model).digest)
    with tempfile.TemporaryDirectory() as name, chain(kind, Path(name)) as (rpc, clock):
        folder = Path(name)
        owner = account(parties[0].secret)
        deployment = deploy(rpc, owner, parameters(terms), tuple(seats), terms.initial)
        fold = Fold(rpc, deployment, interval=1.0)
        domain = fold.view(clock).state.domain
        ledger = EvmLedger(rpc, deployment, fold, owner, clock)
        ledger.submit(*(msg.Invite(p.address) for p in parties))
        joins = []
        for p in parties:
            fields = (sealing.public_key(p.sealing_key), p.onion.head, 10, Role.MEMBER)
            signature = p.sign(encoding.message_bytes(domain, "Join", 0, *fields))
            joins.append(msg.Join(p.address, *fields, signature))
        ledger.submit(*joins)
        ledger.submit(msg.Start())
        where = {
            "memory": ("memory:///", "memory:///"),
            "folder": (str(folder / "store"), str(folder / "kept")),
        }
        store, kept = (wiring.store(url) for url in where[stores])
        nodes = []
        for id, p in enumerate(parties):
            scheme = wiring.scheme(
                terms, id=id, private_key=p.sealing_key, sign=p.sign, entropy=p.entropy, limits=Limits(),
            )  # fmt: skip
            journal = open_journal(folder / f"{p.name}.sqlite", domain, p.address, durable=False)
            own = EvmLedger(rpc, deployment, fold, account(p.secret), clock)
            world = World(own, store, kept, trainer, scheme, journal, p.entropy)
            nodes.append(Node(Identity(id, p, p.onion, "d", "d"), terms, world))
        before: dict[str, int] = {}
        seconds = []
        for version in range(1, rounds + 1):
            began = time.perf_counter()
            while fold.view(clock).state.version < version:
                for node in nodes:
                    node.step()
            seconds.append(time.perf_counter() - began)
            if version == 1:
                # The first round writes to empty storage, which costs four times as much.
                before = gas_by_call(rpc)
        after = gas_by_call(rpc)
    spent = {k: (v - before.get(k, 0)) // ((rounds - 1) * members) for k, v in after.items()}
    spent = {k: v for k, v in spent.items() if v}
    later = statistics.median(seconds[1:])
    return Cost(members, 1e3 * seconds[0] / members, 1e3 * later / members, sum(spent.values()), spent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", default="10,32,100")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chains", default="embedded,anvil")
    parser.add_argument("--governance", choices=["committee", "peers"], default="committee")
    parser.add_argument("--store", choices=["memory", "folder"], default="memory")
    parser.add_argument("--no-precommit", action="store_true")
    parser.add_argument("--vs-flower", action="store_true")
    given = parser.parse_args()
    governance = Governance[given.governance.upper()]
    sizes = [int(n) for n in given.members.split(",")]
    if given.vs_flower:
        flower_empty.require()
    flower = {n: flower_empty.milliseconds(n, given.rounds) for n in sizes if given.vs_flower}
    print(
        f"governance {given.governance}, {PARAMETERS} parameters, store in {given.store}, rounds 2 to {given.rounds}"
    )
    head = f"{'chain':>9} {'members':>8} {'ms first round':>15} {'ms a member-round':>18} {'to reach':>9}"
    print(f"{head} {'gas a member-round':>19} {'to reach':>9}" + ("  Flower ms" if given.vs_flower else ""))
    details: list[tuple[str, Any]] = []
    for kind in given.chains.split(","):
        for members in sizes:
            c = measure(kind, members, given.rounds, governance, not given.no_precommit, given.store)
            line = (
                f"{kind:>9} {members:>8} {c.first:>15.1f} {c.round:>18.1f} {TARGETS.get((kind, members), '-'):>9}"
                f" {c.gas:>19,} {GAS_TARGETS.get(members, '-'):>9}"
            )
            if given.vs_flower:
                line += f" {flower[members]:>10.1f}"
            print(line, flush=True)
            details.append((f"{kind} {members}", c.by_call))
    print("\ngas a member-round, by call")
    for label, by_call in details:
        print(
            f"  {label:>13}: "
            + ", ".join(f"{k} {v:,}" for k, v in sorted(by_call.items(), key=lambda x: -x[1]))
        )


if __name__ == "__main__":
    main()
