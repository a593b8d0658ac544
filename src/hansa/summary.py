"""The end of a run: what it achieved and against what, as a frozen value, as JSON, and the model.

Nothing here knows which members a simulation made hostile, but the label beside a member's name: why a
member was left out is told by the chain alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import safetensors.numpy

from hansa import attacks, baselines, errors, runfolder
from hansa.app import EvaluateTask, Values
from hansa.audit.anchors import Anchors
from hansa.ports import Owning
from hansa.protocol.attested import NO_PROTECTION, protection
from hansa.protocol.history import RoundStory
from hansa.protocol.model import to_arrays, to_safetensors
from hansa.protocol.state import State
from hansa.protocol.stopping import better
from hansa.protocol.terms import terms_digest
from hansa.published.presets import Preset
from hansa.records import Fault, Outcome, Phase, Role, Terms
from hansa.simulation import Simulation

SUMMARY = "summary.json"
MODEL = "model.safetensors"
ARRAYS = "arrays.safetensors"
"""The model as the strategy of a Flower app has it."""

FAULTS: dict[Fault, str] = {
    Fault.WITHHELD_BEACON: "withheld its beacon layer",
    Fault.WITHHELD_BLOB: "withheld its update",
    Fault.WITHHELD_BALLOT: "withheld its ballot",
    Fault.ABSENT_LEADER: "was absent as leader",
    Fault.REJECTED_PROPOSAL: "proposed a rejected result",
    Fault.SILENT_VERIFIER: "did not vote",
    Fault.EQUIVOCATION: "signed two contradicting messages",
}
"""Why reputation was slashed, in words."""

WITHHOLDING = (Fault.WITHHELD_BEACON, Fault.WITHHELD_BLOB, Fault.WITHHELD_BALLOT)
"""Faults that keep a member's update out of the round."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The run's metric on rows that no member holds; None where there is nothing to compare.

    `alone_mean`: honest members, each on its own data. `fedavg_unprotected`: plain FedAvg with the same
    hostile members. `pooled`: one model on all members' rows. `rounds`: some rounds of the baselines; `curves`:
    their values after each of these, by name.
    """

    joint: float | None = None
    alone_mean: float | None = None
    fedavg_unprotected: float | None = None
    pooled: float | None = None
    rounds: tuple[int, ...] = ()
    curves: tuple[tuple[str, tuple[float | None, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One member: training rows, rounds left out and why, and its own validation data.

    `why`: pairs of a reason and the rounds it held. `alone`, `joint`: the metric, on its own validation rows,
    of its own model and of the joint one; None for hostile members. `worse`: the federation did not help it.
    """

    name: str
    rows: int
    left_out: int
    why: tuple[tuple[str, int], ...]
    slashed: tuple[tuple[str, int], ...]
    reputation: int
    hostile: str = ""
    alone: float | None = None
    joint: float | None = None
    worse: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run. `rounds` counts final ones, `seconds` are the caller's; `outcome` is one sentence.

    `protection`: that of the enclaves under scheme `tee`, in words. `preset`: the published system that it ran as,
    and why it is unsafe if it is. `failures`: members whose own training gave no update, and why, the last time.
    """

    run: str
    name: str
    scheme: str
    seed: int
    metric: str
    finished: bool
    outcome: str
    planned: int
    rounds: int
    failed_rounds: int
    model_digest: bytes
    accuracy: Accuracy
    members: tuple[MemberRow, ...]
    gas_by_call: tuple[tuple[str, int], ...]
    privacy: str
    protection: str | None
    anchors: Anchors
    seconds: float
    preset: str | None = None
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def gas(self) -> int:
        """Gas of all transactions."""
        return sum(gas for _, gas in self.gas_by_call)


def finish(simulation: Simulation, *, seconds: float) -> Summary:
    """Compare a run with its baselines and write `summary.json` and `model.safetensors` into its folder.

    Raises `Unavailable` when a file cannot be written, or the last model is gone.
    """
    view = simulation.view()
    state, terms = view.state, simulation.terms
    metric, accuracy, rows = _measure(simulation, state)
    done = [s for s in simulation.story if s.outcome is not None]
    made = Summary(
        run=str(simulation.folder),
        name=terms.name,
        scheme=terms.scheme,
        seed=simulation.founding.file.simulation.seed,
        metric=metric,
        finished=state.phase is Phase.STOPPED,
        outcome=outcome_of(state),
        planned=terms.training.rounds,
        rounds=state.version,
        failed_rounds=sum(s.outcome is not Outcome.FINAL for s in done),
        model_digest=state.model,
        accuracy=accuracy,
        members=rows,
        gas_by_call=tuple(sorted(simulation.gas().items())),
        privacy=privacy_sentence(terms),
        protection=protection(terms),
        anchors=Anchors(
            simulation.deployment.chain_id,
            simulation.deployment.contract,
            terms_digest(terms),
            view.block,
            view.block_hash,
        ),
        seconds=round(seconds, 1),
        preset=preset_said(simulation.founding.file.preset),
        failures=tuple(simulation.failures().items()),
    )
    text = json.dumps(to_json(made), indent=2) + "\n"
    runfolder.write_atomically(simulation.folder / SUMMARY, text.encode())
    if state.version:
        model = to_safetensors(simulation.joint_model(state.model))
        runfolder.write_atomically(simulation.folder / MODEL, model)
        if simulation.founding.directed is not None:
            arrays = safetensors.numpy.save(simulation.founding.directed.arrays())
            runfolder.write_atomically(simulation.folder / ARRAYS, arrays)
    return made


def preset_said(preset: Preset | None) -> str | None:
    """The published system that a run is, and why it is unsafe if it is, in one sentence."""
    if preset is None:
        return None
    return preset.label + (f": {'; '.join(preset.unsafe)}" if preset.unsafe else "")


def _measure(simulation: Simulation, state: State) -> tuple[str, Accuracy, tuple[MemberRow, ...]]:
    """The metric compared by, its values on the test set, and the members' rows."""
    if simulation.founding.directed is not None:
        return _told(simulation, state)
    file, terms, trainer = simulation.founding.file, simulation.terms, simulation.founding.trainer
    base = trainer.initial(file.initial_seed)
    joint = base if state.version == 0 else to_arrays(simulation.joint_model(state.model))
    found = trainer.evaluate(EvaluateTask(baselines.TEST, (joint,), terms.training.params, state.version))[0]
    metric = "accuracy" if "accuracy" in found else terms.selection.metric
    if metric not in found:
        raise errors.Misconfigured(
            f"[selection] metric: the app's evaluate gives no {metric!r}",
            hint=f"It gives: {', '.join(found)}.",
        )
    names = [p.name for p in simulation.founding.parties if p.role is Role.MEMBER]
    hostile = {names.index(name): attacks.parse(spec) for name, spec in file.simulation.malicious}
    accuracy = Accuracy()
    own: dict[int, float] = {}
    setup = baselines.Setup(
        trainer=trainer,
        members=len(names),
        rounds=state.version,
        base=base,
        seed=terms.initial_seed,
        params=terms.training.params,
        scale=terms.layout.scale,
    )
    if state.version and terms.mpc and not cast(Owning, trainer).whole_rows:
        # Who has some columns of each row can neither train nor judge a model alone.
        pooled = baselines.pooled(setup)[metric]
        accuracy = Accuracy(number(found[metric]), pooled=number(pooled))
    elif state.version:
        compared = baselines.compare(setup, hostile, metric)
        accuracy = Accuracy(
            number(found[metric]),
            number(compared.alone_mean),
            # One round of whole trainings and a mean is no FedAvg that anybody would run.
            None if terms.mpc else number(compared.fedavg_unprotected),
            number(compared.pooled),
            compared.rounds,
            tuple(
                (name, tuple(map(number, values)))
                for name, values in compared.curves.items()
                if not (terms.mpc and name == "fedavg_unprotected")
            ),
        )
        own = dict(zip((i for i in range(len(names)) if i not in hostile), compared.own, strict=True))
    rows = [_row(simulation, state, id, name, metric, own.get(id), joint) for id, name in enumerate(names)]
    return metric, accuracy, tuple(rows)


def _told(simulation: Simulation, state: State) -> tuple[str, Accuracy, tuple[MemberRow, ...]]:
    """The same for an app whose server part measures by itself, and whose data are not Hansa's to split or pool."""
    task = EvaluateTask(baselines.TEST, ({},), simulation.terms.training.params, state.version)
    found = simulation.founding.trainer.evaluate(task)[0]
    metric = next((name for name in ("accuracy", "loss") if name in found), "")
    names = [p.name for p in simulation.founding.parties if p.role is Role.MEMBER]
    rows = tuple(_row(simulation, state, id, name, metric, None, {}) for id, name in enumerate(names))
    return metric, Accuracy(number(found[metric]) if metric else None), rows


def _row(
    simulation: Simulation, state: State, id: int, name: str, metric: str, alone: float | None, joint: Values
) -> MemberRow:
    trainer, params = simulation.founding.trainer, simulation.terms.training.params
    why = reasons(simulation.story, id)
    together: float | None = None
    if alone is not None:
        task = EvaluateTask(f"{name}/validation", (joint,), params, state.version)
        together = trainer.evaluate(task)[0][metric]
    slashed = Counter(FAULTS[fault] for s in simulation.story for who, fault in s.slashed if who == id)
    return MemberRow(
        name=name,
        rows=trainer.examples(f"{name}/train"),
        left_out=sum(why.values()),
        why=tuple(why.most_common()),
        slashed=tuple(slashed.most_common()),
        reputation=state.members[id].reputation,
        hostile=dict(simulation.founding.file.simulation.malicious).get(name, ""),
        alone=None if alone is None else number(alone),
        joint=None if together is None else number(together),
        worse=alone is not None and together is not None and better(metric, together) < better(metric, alone),
    )


def reasons(story: Sequence[RoundStory], id: int) -> Counter[str]:
    """Why a member's update is not in the model, and in how many final rounds, as the chain tells it."""
    found: Counter[str] = Counter()
    for round in story:
        if round.outcome is not Outcome.FINAL or id in round.selected:
            continue
        faults = [fault for who, fault in round.slashed if who == id]
        withheld = [fault for fault in faults if fault in WITHHOLDING]
        if id not in round.committed:
            found["sent no update"] += 1
        elif withheld:
            found[FAULTS[withheld[0]]] += 1
        elif id not in round.available:
            found["its update could not be had"] += 1
        else:
            found[f"ranked below the best {len(round.selected)}"] += 1
    return found


def number(value: float) -> float | None:
    """A metric for people and JSON; None when it is no number, as the loss of a model that diverged."""
    return round(value, 6) if math.isfinite(value) else None


def outcome_of(state: State) -> str:
    """How a federation stands, in one sentence."""
    done, planned = state.version, state.parameters.rounds
    if state.phase is Phase.STOPPED:
        if done < planned:
            wished = 2 * state.current.stops > len(state.current.opened)
            who = "as most evaluators wished" if wished else "by a motion of its members"
            return f"stopped after {done} of {planned} rounds, {who}"
        return f"all {planned} rounds are final"
    if state.phase is Phase.PAUSED:
        failed = state.voids >= state.parameters.max_voids
        why = f"{state.voids} rounds in a row failed" if failed else "by a motion of its members"
        return f"PAUSED after {done} of {planned} rounds: {why}"
    return f"at work: {done} of {planned} rounds are final"


def privacy_sentence(terms: Terms) -> str:
    """What a participant must know about privacy, in one sentence."""
    noise = "carries no noise" if terms.privacy == "off" else f"carries noise ({terms.privacy})"
    if terms.secagg is not None:
        name = "secagg" if terms.tee is None else "tee over secagg"
        if protection(terms) == NO_PROTECTION:
            name += f", {NO_PROTECTION} of its sums"
        return (
            f"{name}: nobody sees a single update, but a key centre and a server together could open all, and the "
            f"other members of a sum together that of the last one; the model {noise}, so it may give away training "
            "data; the store and the chain see neither."
        )
    if terms.mpc is not None:
        together = "any two of them" if terms.mpc.protocol == "ABY3" else "both of them"
        opened = (
            "nothing is opened while training"
            if not terms.mpc.reveals
            else (f"while training {len(terms.mpc.reveals)} boundaries are opened, see `hansa explain`")
        )
        return (
            f"mpc: the computing parties see shares of rows, which {together} together could open; {opened}; the "
            f"model goes to the owners alone and {noise}, so it may give away training data."
        )
    if terms.tee is not None:
        who = "tee: attested enclaves see single updates, and nobody else"
        if protection(terms) == NO_PROTECTION:
            who = f"tee, {NO_PROTECTION}: whoever hosts an enclave can read every update that is sealed to it"
        return f"{who}; the model {noise}, so it may give away training data; store and chain see neither."
    return (
        f"plaintext: every member can read every other member's updates; an update {noise}, so it may give away "
        "training data; the store and the chain see none."
    )


def to_json(summary: Summary) -> dict[str, Any]:
    """The object that `--json` prints and `summary.json` holds."""
    plain: dict[str, Any] = runfolder.as_json(summary)
    for row in plain["members"]:
        row["why"], row["slashed"] = dict(row["why"]), dict(row["slashed"])
    left_out = {row.name: row.left_out for row in summary.members}
    accuracy = plain["accuracy"]
    plain["baselines"] = {"rounds": accuracy.pop("rounds"), **dict(accuracy.pop("curves"))}
    gas = {"gas": summary.gas, "gas_by_call": dict(summary.gas_by_call)}
    return plain | {"left_out": left_out, "failures": dict(summary.failures)} | gas
