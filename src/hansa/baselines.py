"""What the federation is compared with: members alone, plain FedAvg, all data pooled.

FedAvg is that of McMahan et al. (arXiv 1602.05629) in floating point, without any of Hansa's protection and
independent of its integer code. All baselines use the trainer, the start and the seeds of the federation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hansa.app import EvaluateTask, Scalar, TrainResult, TrainTask, Values, member_name, training_seed
from hansa.attacks import Attack, Knowledge, distort_update, training_key
from hansa.ports import Trainer

POOLED: Final = "pooled/train"
TEST: Final = "test"
Metrics = dict[str, float]
Job = Generator[tuple[list[Values], list[TrainTask]], list[TrainResult], list[Values]]
"""Shows, once a round, the models that stand, and asks for training; ends with models."""

POINTS: Final = 12
"""Rounds after which the baselines are tested, at most: what a curve needs, and no more."""


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """One job: `members` called m0, m1, ...; one or more `rounds` from the model `base`; scale of attacks."""

    trainer: Trainer
    members: int
    rounds: int
    base: Values
    seed: int = 0
    params: tuple[tuple[str, Scalar], ...] = ()
    scale: int = 16


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric on the test set; `alone` by honest member.

    `own`: the models of `alone`, each on its member's own validation rows. `rounds`: some of them, the last among
    them; `curves`: the three means after each of these, the last of which are the fields of their names.
    """

    alone: tuple[float, ...]
    own: tuple[float, ...]
    alone_mean: float
    fedavg_unprotected: float
    pooled: float
    rounds: tuple[int, ...]
    curves: Mapping[str, tuple[float, ...]]


def compare(setup: Setup, attacks: Mapping[int, Attack], metric: str = "accuracy") -> Comparison:
    """All that the end table of a run sets beside the joint model; `metric` is one that `evaluate` returns.

    `alone` and `own` count honest members only: what a hostile one does alone is its own affair.
    """
    honest = [m for m in range(setup.members) if m not in attacks]
    jobs = (_pooled(setup), _fedavg(setup, attacks), _alone(setup, honest))
    rounds = points(setup.rounds)
    tested: list[list[list[float]]] = [[], [], []]

    def watch(round_number: int, standing: Sequence[list[Values]]) -> None:
        if round_number in rounds:
            for seen, models in zip(tested, standing, strict=True):
                seen.append([metrics[metric] for metrics in _test(setup, models)] if models else [])

    *_, models = _run(setup, jobs, watch)
    keys = [f"{member_name(m)}/validation" for m in honest]
    own = tuple(_evaluate(setup, key, [model])[0][metric] for key, model in zip(keys, models, strict=True))
    pooled, fedavg, alone = (
        tuple(float(np.mean(values)) if values else float("nan") for values in seen) for seen in tested
    )
    curves = {"alone_mean": alone, "fedavg_unprotected": fedavg, "pooled": pooled}
    return Comparison(
        tuple(tested[2][-1]), own, alone[-1], fedavg[-1], pooled[-1], rounds=rounds, curves=curves
    )


def points(rounds: int) -> tuple[int, ...]:
    """At most `POINTS` of the rounds 1 to `rounds`, spread evenly, the first and the last of them included."""
    n = min(rounds, POINTS)
    return tuple(sorted({rounds, *(1 + (rounds - 1) * k // max(n - 1, 1) for k in range(n))}))


def alone(setup: Setup, members: Sequence[int]) -> list[Values]:
    """Each member's model, trained for all rounds on its own rows only."""
    return _run(setup, [_alone(setup, members)])[0]


def pooled(setup: Setup) -> Metrics:
    """Test metrics of one model trained for all rounds on the training rows of all members together."""
    return _test(setup, [pooled_model(setup)])[0]


def pooled_model(setup: Setup) -> Values:
    """The model of `pooled`."""
    return _run(setup, [_pooled(setup)])[0][0]


def fedavg(setup: Setup, attacks: Mapping[int, Attack], absent: Collection[int] = ()) -> Metrics:
    """Test metrics of the mean of all updates, weighted by rows, `attacks` (by member) included.

    Members in `absent` take no part.
    """
    return _test(setup, [fedavg_model(setup, attacks, absent)])[0]


def fedavg_model(setup: Setup, attacks: Mapping[int, Attack], absent: Collection[int] = ()) -> Values:
    """The model of `fedavg`."""
    return _run(setup, [_fedavg(setup, attacks, absent)])[0][0]


def _run(
    setup: Setup,
    jobs: Sequence[Job],
    watch: Callable[[int, Sequence[list[Values]]], None] = lambda *_: None,
) -> list[list[Values]]:
    """The models that come of each job. All train in step, so that workers have enough to do.

    `watch` sees, after each round, its number and the models of each job.
    """
    standing = [next(job) for job in jobs]
    for round_number in range(1, setup.rounds + 1):
        done = iter(setup.trainer.train_many([task for _, tasks in standing for task in tasks]))
        for k, job in enumerate(jobs):
            try:
                standing[k] = job.send([next(done) for _ in standing[k][1]])
            except StopIteration as end:
                standing[k] = end.value, []
        watch(round_number, [models for models, _ in standing])
    return [models for models, _ in standing]


def _alone(setup: Setup, members: Sequence[int]) -> Job:
    models = {m: setup.base for m in members}
    for round_number in range(1, setup.rounds + 1):
        tasks = [_task(setup, f"{member_name(m)}/train", models[m], m, round_number) for m in members]
        results = yield list(models.values()), tasks
        models = {m: result.values for m, result in zip(members, results, strict=True)}
    return list(models.values())


def _pooled(setup: Setup) -> Job:
    model = setup.base
    for round_number in range(1, setup.rounds + 1):
        (result,) = yield [model], [_task(setup, POOLED, model, setup.members, round_number)]
        model = result.values
    return [model]


def _fedavg(setup: Setup, attacks: Mapping[int, Attack], absent: Collection[int] = ()) -> Job:
    model = setup.base
    present = [m for m in range(setup.members) if m not in absent]
    published: list[NDArray[np.int32]] = []
    for round_number in range(1, setup.rounds + 1):
        tasks = [
            _task(setup, training_key(attacks.get(m), member_name(m)), model, m, round_number)
            for m in present
        ]
        results = yield [model], tasks
        start = _flat(model)
        updates = {m: _flat(result.values) - start for m, result in zip(present, results, strict=True)}
        fixed = {m: _fixed(update, setup.scale) for m, update in updates.items()}
        honest = [update for m, update in fixed.items() if m not in attacks]
        known = Knowledge([fixed[m] for m in sorted(attacks)], honest, published)
        for m, attack in attacks.items():
            generator = np.random.Generator(np.random.PCG64(training_seed(setup.seed, m, round_number)))
            sent = distort_update(attack, fixed[m], setup.scale, generator, known)
            updates[m] = sent.astype(np.float64) * 2.0**-setup.scale
        published = honest
        weights = np.array([result.examples for result in results], dtype=np.float64)
        model = _shaped(start + np.average(np.stack(list(updates.values())), axis=0, weights=weights), model)
    return [model]


def _task(setup: Setup, dataset: str, base: Values, member: int, round_number: int) -> TrainTask:
    seed = training_seed(setup.seed, member, round_number)
    return TrainTask(dataset, base, seed, round_number, setup.params)


def _test(setup: Setup, models: Sequence[Values]) -> list[Metrics]:
    return _evaluate(setup, TEST, models)


def _evaluate(setup: Setup, dataset: str, models: Sequence[Values]) -> list[Metrics]:
    return setup.trainer.evaluate(EvaluateTask(dataset, tuple(models), setup.params, setup.rounds))


def _flat(values: Values) -> NDArray[np.float64]:
    return np.concatenate([values[name].ravel() for name in sorted(values)]).astype(np.float64)


def _fixed(update: NDArray[np.float64], scale: int) -> NDArray[np.int32]:
    limits = np.iinfo(np.int32)
    scaled = np.nan_to_num(np.rint(update * 2.0**scale))
    fixed: NDArray[np.int32] = np.clip(scaled, limits.min, limits.max).astype(np.int32)
    return fixed


def _shaped(flat: NDArray[np.float64], like: Values) -> Values:
    values: Values = {}
    start = 0
    for name in sorted(like):
        size = like[name].size
        values[name] = flat[start : start + size].reshape(like[name].shape).astype(np.float32)
        start += size
    return values
