"""How well selection works: digits, eight members, two of them hostile and lying as evaluators, over many seeds.

Prints, for each seed: accepted hostile updates, the honest member selected least often, and accuracy of the
joint model beside FedAvg without attackers, FedAvg with them and no protection, and training alone. "Without
attackers" has two readings, and both are shown: all eight members honest, where the joint model lacks the data
of two, and the six honest members only. All sides run in this one process tree.
Usage: python benchmarks/selection.py [--seeds 10] [--rounds 20]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from hansa import attacks, baselines, simulation
from hansa.app import EvaluateTask
from hansa.config import load_federation
from hansa.protocol.model import to_arrays
from hansa.records import Outcome

APP = Path(__file__).parents[1] / "examples" / "digits"


@dataclass(frozen=True, slots=True)
class Row:
    seed: int
    accepted: int
    sent: int
    least_selected: float
    joint: float
    clean: float
    six: float
    unprotected: float
    alone: float
    seconds: float


def one(seed: int, rounds: int) -> Row:
    began = time.perf_counter()
    overrides = [f"simulation.seed={seed}", f"federation.initial_seed={seed}", f"training.rounds={rounds}"]
    file = load_federation(APP, overrides)
    with tempfile.TemporaryDirectory() as folder:
        run = simulation.start(file, Path(folder) / "run")
        state = run.play().state
        hostile = {
            i: attacks.parse(dict(file.simulation.malicious)[p.name])
            for i, p in enumerate(run.founding.parties)
            if p.name in dict(file.simulation.malicious)
        }
        final = [s for s in run.story if s.outcome is Outcome.FINAL]
        honest = [i for i in range(file.simulation.members) if i not in hostile]
        trainer, terms = run.founding.trainer, run.terms
        setup = baselines.Setup(
            trainer, file.simulation.members, rounds, trainer.initial(file.initial_seed),
            file.simulation.seed, terms.training.params, terms.layout.scale,
        )  # fmt: skip
        model = to_arrays(run.joint_model(state.model))
        joint = trainer.evaluate(EvaluateTask("test", (model,), terms.training.params, rounds))[0]["accuracy"]
        clean = baselines.fedavg(setup, {})["accuracy"]
        six = baselines.fedavg(setup, {}, absent=hostile)["accuracy"]
        compared = baselines.compare(setup, hostile)
        run.close()
    return Row(
        seed,
        sum(len(s.selected & hostile.keys()) for s in final),
        sum(len(s.committed & hostile.keys()) for s in final),
        min(sum(i in s.selected for s in final) / len(final) for i in honest),
        joint,
        clean,
        six,
        compared.fedavg_unprotected,
        compared.alone_mean,
        time.perf_counter() - began,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    rows: list[Row] = []
    head = f"{'seed':>5} {'accepted':>9} {'least selected':>15} {'joint':>7} {'FedAvg of 8':>12} {'of honest 6':>12}"
    print(f"{head} {'unprotected':>12} {'alone':>7} {'s':>5}")
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for r in pool.map(one, range(given.seeds), [given.rounds] * given.seeds):
            rows.append(r)
            print(
                f"{r.seed:>5} {r.accepted:>4}/{r.sent:<4} {r.least_selected:>14.0%} {r.joint:>7.3f} {r.clean:>12.3f}"
                f" {r.six:>12.3f}"
                f" {r.unprotected:>12.3f} {r.alone:>7.3f} {r.seconds:>5.0f}",
                flush=True,
            )
    accepted = sum(r.accepted for r in rows) / max(1, sum(r.sent for r in rows))
    print(f"hostile updates accepted: {accepted:.2%} (to reach: under 2 %)")
    print(f"honest member selected least often: {min(r.least_selected for r in rows):.0%} (to reach: 80 %)")
    for label, gaps in (
        ("FedAvg of all eight, honest", [r.joint - r.clean for r in rows]),
        ("FedAvg of the honest six", [r.joint - r.six for r in rows]),
    ):
        print(f"joint minus {label}: mean {np.mean(gaps):+.3f}, worst {min(gaps):+.3f} (to reach: -0.01)")
    gains = [r.joint - r.alone for r in rows]
    print(f"joint minus alone: mean {np.mean(gains):+.3f}, worst {min(gains):+.3f} (to reach: +0.10)")


if __name__ == "__main__":
    main()
