"""From what was gathered of a federation to the facts of its report."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import zip_longest
from typing import Any

from hansa.ports import View
from hansa.protocol import awaiting, plan
from hansa.protocol.attested import protection
from hansa.protocol.history import RoundStory
from hansa.protocol.state import State
from hansa.protocol.stopping import better
from hansa.protocol.terms import terms_digest
from hansa.records import Outcome, Phase, Role, Terms
from hansa.report import facts as f
from hansa.report.chronicle import SET_UP, Chronicle, Spending
from hansa.report.evidence import links_of
from hansa.report.flow import UNKNOWN, Volume, flows_of
from hansa.report.schemes import words_of
from hansa.summary import FAULTS, outcome_of, privacy_sentence, reasons

TIMED = tuple(phase for phase in Phase if Phase.IDLE < phase < Phase.PAUSED)


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that a report is made of. What lies only in a run folder has an empty default.

    `clock`: times of blocks; `start`: the time that counts as 0. `matrices`: by round. `blobs`: volumes of updates,
    rows and models; `seconds`: by phase, of this machine's clock. `metrics`, `summary`: files of the run, its own word.
    """

    subject: str
    terms: Terms
    view: View
    chronicle: Chronicle
    names: Mapping[int, str]
    chain_id: int
    contract: bytes
    clock: Mapping[int, int]
    start: int
    absent: tuple[str, ...] = ()
    run: bool = False
    running: bool | None = None
    seed: int | None = None
    hostile: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    spending: Spending | None = None
    blobs: tuple[Volume, Volume, Volume] = (UNKNOWN, UNKNOWN, UNKNOWN)
    matrices: Mapping[int, tuple[f.Row, ...]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    checks: tuple[f.Check, ...] = ()
    audited: f.Audited | None = None


def make(g: Gathered) -> f.Facts:
    """The facts of a report."""
    state, terms, story = g.view.state, g.terms, g.chronicle.story
    metric = _metric(g)
    spans = _spans(g)
    rounds = tuple(_round(g, s, metric, spans.get(s.round, ())) for s in story)
    return f.Facts(
        subject=g.subject,
        kind="run" if g.run else "federation",
        name=terms.name,
        scheme=terms.scheme,
        simulated=g.run,
        protection=protection(terms),
        governance=terms.governance.name.lower(),
        selection=terms.selection.rule,
        aggregation=terms.aggregation.rule,
        seed=g.seed,
        state=_state(g),
        outcome=outcome_of(state),
        finished=state.phase is Phase.STOPPED,
        running=None if g.running is None else g.running and state.phase is not Phase.STOPPED,
        round=state.round,
        phase=state.phase.name,
        waiting=_waiting(g),
        planned=terms.training.rounds,
        final=state.version,
        failed=sum(s.outcome not in (None, Outcome.FINAL) for s in story),
        metric=metric,
        better="lower" if better(metric, 1.0) < 0 else "higher",
        privacy=privacy_sentence(terms),
        noise=terms.privacy,
        parties=tuple(_party(g, id) for id in sorted(state.members)),
        rounds=rounds,
        baselines=_baselines(g.summary),
        costs=_costs(g, spans),
        gas_by_call=tuple(g.spending.by_call.most_common()) if g.spending else (),
        flows=flows_of(terms, *g.blobs),
        scheme_words=words_of(terms, state, story, g.names),
        evidence=links_of(
            terms.scheme, g.checks, g.audited, inner=terms.tee is not None and terms.secagg is not None
        ),
        audited=g.audited,
        anchor=f.Anchor(
            g.chain_id,
            "0x" + g.contract.hex(),
            terms_digest(terms).hex(),
            g.view.block,
            g.view.block_hash.hex(),
            state.model.hex(),
        ),
        absent=g.absent,
        seconds=_number(g.summary.get("seconds")),
        made=int(time.time()),
        program=f"hansa {version('hansa')}",
    )


def _state(g: Gathered) -> str:
    """One word: stopped, paused, killed, running, or at work where nobody can know more."""
    phase = g.view.state.phase
    if phase in (Phase.STOPPED, Phase.PAUSED):
        return phase.name.lower()
    if g.running is None:
        return "at work"
    return "running" if g.running else "killed"


def _waiting(g: Gathered) -> str:
    state = g.view.state
    if state.phase in (Phase.STOPPED, Phase.PAUSED):
        return ""
    awaited = {kind: plan.expected(state, kind) for kind in plan.kinds_of(state)}
    awaited |= awaiting.awaited(g.terms, state)
    parts = (f"{kind} of {' '.join(g.names[i] for i in sorted(ids))}" for kind, ids in awaited.items() if ids)
    return "; ".join(parts)


def _metric(g: Gathered) -> str:
    said = g.summary.get("metric")
    if isinstance(said, str):
        return said
    return "accuracy" if g.metrics and "accuracy" in g.metrics[-1] else g.terms.selection.metric


def _round(g: Gathered, s: RoundStory, metric: str, spans: tuple[f.Span, ...]) -> f.Round:
    measured: Mapping[str, Any] = next((row for row in g.metrics if row.get("round") == s.round), {})
    return f.Round(
        number=s.round,
        outcome="running" if s.outcome is None else s.outcome.name.lower(),
        version=s.version,
        leaders=s.leaders,
        committed=tuple(sorted(s.committed)),
        available=tuple(sorted(s.available)),
        selected=tuple(sorted(s.selected)),
        approvals=s.approvals,
        rejections=s.rejections,
        slashed=tuple((id, FAULTS[fault]) for id, fault in s.slashed),
        spans=spans,
        value=_number(measured.get(metric)),
        matrix=g.matrices.get(s.round),
    )


def _spans(g: Gathered) -> dict[int, tuple[f.Span, ...]]:
    """Phases by round, with their begins and ends on the chain's clock."""
    entered = g.chronicle.entered
    ends: list[int | None] = [g.clock[block] - g.start for block, _, _ in entered[1:]]
    found: dict[int, list[f.Span]] = {}
    for (block, round, phase), end in zip_longest(entered, ends):
        if phase in TIMED:
            found.setdefault(round, []).append(f.Span(phase.name, g.clock[block] - g.start, end))
    return {round: tuple(spans) for round, spans in found.items()}


def _party(g: Gathered, id: int) -> f.Party:
    state, story = g.view.state, g.chronicle.story
    m, name = state.members[id], g.names[id]
    told: Mapping[str, Any] = next((row for row in g.summary.get("members", ()) if row["name"] == name), {})
    why = reasons(story, id) if m.role is Role.MEMBER else Counter[str]()
    slashed = Counter(FAULTS[fault] for s in story for who, fault in s.slashed if who == id)
    return f.Party(
        id=id,
        name=name,
        role=m.role.name.lower().replace("_", " "),
        standing=_standing(state, id),
        reputation=m.reputation,
        rows=told.get("rows", g.chronicle.rows.get(id)),
        left_out=sum(why.values()),
        led=sum(s.outcome is Outcome.FINAL and s.leaders[-1:] == (id,) for s in story),
        why=tuple(why.most_common()),
        slashed=tuple(slashed.most_common()),
        hostile=g.hostile.get(name, ""),
        alone=_number(told.get("alone")),
        joint=_number(told.get("joint")),
        worse=bool(told.get("worse")),
    )


def _standing(state: State, id: int) -> str:
    m = state.members[id]
    if m.role is not Role.MEMBER or (m.member and m.active):
        return "active"
    if m.member:
        return "inactive"
    return "voted out" if m.address in state.excluded else "left"


def _baselines(summary: Mapping[str, Any]) -> f.Baselines:
    told = summary.get("baselines", {})
    if not told.get("rounds") and "accuracy" in summary:
        # A run of an older version compared at its end only.
        told = {name: [value] for name, value in summary["accuracy"].items() if value is not None}
        told["rounds"] = [summary["rounds"]] if len(told) > 1 else []
    rounds = tuple(told.get("rounds", ()))

    def curve(name: str) -> tuple[float | None, ...]:
        values = tuple(map(_number, told.get(name, ())))
        return values if len(values) == len(rounds) else ()

    return f.Baselines(rounds, curve("alone_mean"), curve("fedavg_unprotected"), curve("pooled"))


def _costs(g: Gathered, spans: Mapping[int, tuple[f.Span, ...]]) -> tuple[f.Cost, ...]:
    took: Counter[str] = Counter()
    for span in (span for of_round in spans.values() for span in of_round):
        took[span.phase] += 0 if span.end is None else span.end - span.begin
    updates, rows, models = (volume.bytes for volume in g.blobs)
    stored = {
        Phase.AVAILABLE.name: updates,
        Phase.REVEAL.name: rows,
        Phase.AGGREGATE.name: models,
    }
    spent = g.spending
    return tuple(
        f.Cost(
            phase=phase,
            gas=None if spent is None else spent.gas[phase],
            chain_bytes=None if spent is None else spent.bytes[phase],
            store_bytes=stored.get(phase, 0 if updates is not None else None),
            chain_seconds=took[phase],
            seconds=g.seconds.get(phase) if g.seconds else None,
        )
        for phase in (SET_UP, *(p.name for p in TIMED))
        if took[phase] or (spent is not None and spent.gas[phase])
    )


def _number(value: Any) -> float | None:
    """A finite number out of a file, else None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
