"""One cell of a sweep: run it in a folder that is thrown away, and measure."""

from __future__ import annotations

import resource
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hansa import attacks, baselines, errors, simulation
from hansa.app import EvaluateTask, Values, member_name
from hansa.baselines import TEST, Setup
from hansa.comparison import plan
from hansa.comparison.plan import NONE, REFERENCES, Cell, federation
from hansa.config import FederationFile
from hansa.founding import found
from hansa.ports import Store, Trainer
from hansa.protocol.model import to_arrays
from hansa.protocol.wire import ITEM_LIMIT
from hansa.records import Outcome, Terms

BACKDOOR = "test/backdoor"


@dataclass(frozen=True, slots=True)
class Task:
    """A cell and what a worker needs for it; `work`: a folder that nobody else uses."""

    cell: Cell
    app: Path
    settings: tuple[str, ...]
    hostile: tuple[str, ...]
    work: Path


@dataclass(frozen=True, slots=True)
class Result:
    """What a cell measured; None where it has no meaning, as for a reference, or could not be had.

    accuracy: of the last model on rows that no member holds. attack_success: share of triggered rows of other labels
    that it takes for the backdoor's. hostile_sent, hostile_accepted: updates of hostile members committed and selected
    in final rounds; honest_sent, honest_left_out: those of honest ones. cpu_seconds: of the run with its enclaves,
    without loading the app. stored_bytes: all that lay in the store at its end.
    """

    accuracy: float
    loss: float
    attack_success: float | None = None
    rounds: int | None = None
    failed_rounds: int | None = None
    finished: bool = True
    hostile_sent: int | None = None
    hostile_accepted: int | None = None
    honest_sent: int | None = None
    honest_left_out: int | None = None
    cpu_seconds: float = 0.0
    stored_bytes: int | None = None
    gas: int | None = None


def prepare(_: None) -> Callable[[Task], dict[str, Any]]:
    """What a worker process answers tasks with."""
    return answer


def answer(task: Task) -> dict[str, Any]:
    """The cell's record: its result, or the error that it ended with."""
    try:
        result = measure(task)
        return {**asdict(task.cell), "status": "done", **asdict(result)}
    except errors.HansaError as e:
        return failure(task.cell, str(e))
    except Exception as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        return failure(task.cell, f"{type(e).__name__}: {e} ({Path(where.filename).name}:{where.lineno})")
    finally:
        shutil.rmtree(task.work, ignore_errors=True)


def failure(cell: Cell, error: str) -> dict[str, Any]:
    """The record of a cell that has no result."""
    return {**asdict(cell), "status": "failed", "error": error}


def measure(task: Task) -> Result:
    """Run the cell. Raises what its run raises."""
    cell = task.cell
    shutil.rmtree(task.work, ignore_errors=True)
    hostile = {} if cell.attack == NONE else dict.fromkeys(task.hostile, cell.attack)
    table = ", ".join(f'{name} = "{attack}"' for name, attack in hostile.items())
    seeded = (f"simulation.seed={cell.seed}", f"federation.initial_seed={cell.seed}")
    file = federation(task.app, cell.system, task.settings, (*seeded, f"simulation.malicious={{{table}}}"))
    return _reference(cell, file) if cell.system in REFERENCES else _run(cell, file, task.work)


def _run(cell: Cell, file: FederationFile, work: Path) -> Result:
    made = simulation.start(file, work)
    try:
        began = _cpu()
        view = made.play()
        model = made.founding.trainer.initial(file.initial_seed)
        if view.state.version:
            model = to_arrays(made.joint_model(view.state.model))
        tested = _tested(cell, made.founding.trainer, model, made.terms)
        gas = sum(made.gas().values())
    finally:
        made.close()
    names = [p.name for p in made.founding.parties]
    hostile = {names.index(name) for name, _ in file.simulation.malicious}
    final = [s for s in made.story if s.outcome is Outcome.FINAL]
    return Result(
        **tested,
        rounds=len(final),
        failed_rounds=sum(s.outcome not in (None, Outcome.FINAL) for s in made.story),
        finished=len(final) == made.terms.training.rounds,
        hostile_sent=sum(len(s.committed & hostile) for s in final),
        hostile_accepted=sum(len(s.selected & hostile) for s in final),
        honest_sent=sum(len(s.committed - hostile) for s in final),
        honest_left_out=sum(len(s.left_out - hostile) for s in final),
        cpu_seconds=round(_cpu() - began, 2),
        stored_bytes=_stored(work / "store", made.store),
        gas=gas,
    )


def _stored(folder: Path, store: Store) -> int:
    """Bytes in the store: files, and messages, which a simulation keeps in memory."""
    messages = (store.get_at(key, limit=ITEM_LIMIT) for key in store.list("outbox"))
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) + sum(map(len, messages))


def _reference(cell: Cell, file: FederationFile) -> Result:
    founding = found(file)
    trainer, terms = founding.trainer, founding.terms
    try:
        began = _cpu()
        setup = Setup(
            trainer=trainer,
            members=file.simulation.members,
            rounds=terms.training.rounds,
            base=trainer.initial(file.initial_seed),
            seed=terms.initial_seed,
            params=terms.training.params,
            scale=terms.layout.scale,
        )
        hostile = dict(file.simulation.malicious)
        by_id = {
            m: attacks.parse(hostile[n]) for m in range(setup.members) if (n := member_name(m)) in hostile
        }
        models = _models(cell.system, setup, by_id)
        each = [_tested(cell, trainer, model, terms) for model in models]
    finally:
        trainer.close()
    tested = {key: _mean([one[key] for one in each]) for key in each[0]}
    return Result(**tested, cpu_seconds=round(_cpu() - began, 2))


def _models(reference: str, setup: Setup, hostile: dict[int, attacks.Attack]) -> list[Values]:
    match reference:
        case plan.FEDAVG:
            return [baselines.fedavg_model(setup, hostile)]
        case plan.POOLED:
            return [baselines.pooled_model(setup)]
    return baselines.alone(setup, range(setup.members))


def _mean(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _tested(cell: Cell, trainer: Trainer, model: Values, terms: Terms) -> dict[str, Any]:
    def test(dataset: str) -> dict[str, float]:
        return trainer.evaluate(
            EvaluateTask(dataset, (model,), terms.training.params, terms.training.rounds)
        )[0]

    found = test(TEST)
    if "accuracy" not in found:
        raise errors.Misconfigured(
            "the app's evaluate gives no accuracy", hint='Return {"loss": ..., "accuracy": ...} from it.'
        )
    success = None
    if cell.attack.partition(":")[0] == "backdoor":
        success = test(BACKDOOR)["accuracy"]
    elif cell.attack == NONE:
        try:
            success = test(BACKDOOR)["accuracy"]
        except errors.Misconfigured:
            success = None  # an app whose data take no trigger, which only the attack needs
    return {"accuracy": found["accuracy"], "loss": found["loss"], "attack_success": success}


def _cpu() -> float:
    """Processor seconds of this process and of the children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
