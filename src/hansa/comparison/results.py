"""What the cells of a sweep say together: one row a system and attack, as values, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from hansa.comparison.plan import ALONE, FEDAVG, NONE, POOLED, REFERENCES, Cell, Sweep
from hansa.comparison.statistics import Interval, interval, paired

Record = Mapping[str, Any]
FIELDS: Final = (
    "system", "attack", "seed", "status", "accuracy", "loss", "attack_success", "rounds", "failed_rounds", "finished",
    "hostile_sent", "hostile_accepted", "honest_sent", "honest_left_out", "cpu_seconds", "stored_bytes", "gas", "error",
)  # fmt: skip
WORDS: Final = {FEDAVG: "plain FedAvg", POOLED: "all data pooled", ALONE: "each alone"}


@dataclass(frozen=True, slots=True)
class Row:
    """One system under one attack, over its seeds.

    change: accuracy minus that of the same seed without attack. accepted: share of hostile updates in final rounds that
    were selected, left_out: share of honest ones that were not. Seconds, bytes and gas are means a run.
    """

    system: str
    attack: str
    seeds: int
    failed: int
    unfinished: int
    accuracy: Interval | None
    change: Interval | None
    attack_success: Interval | None
    accepted: float | None
    left_out: float | None
    cpu_seconds: float | None
    stored_bytes: float | None
    gas: float | None


def rows(plan: Sweep, records: Mapping[Cell, Record]) -> list[Row]:
    """All rows that have a record, in the order of the sweep."""
    made = []
    for attack in plan.attacks:
        for system in (*plan.systems, *REFERENCES):
            of = _of(records, system, attack)
            if of:
                made.append(_row(system, attack, of, _of(records, system, NONE)))
    return made


def _of(records: Mapping[Cell, Record], system: str, attack: str) -> dict[int, Record]:
    return {c.seed: record for c, record in records.items() if (c.system, c.attack) == (system, attack)}


def _row(system: str, attack: str, of: Mapping[int, Record], calm: Mapping[int, Record]) -> Row:
    accuracy = _values(of, "accuracy")
    return Row(
        system=system,
        attack=attack,
        seeds=len(accuracy),
        failed=sum(r["status"] != "done" for r in of.values()),
        unfinished=sum(r["status"] == "done" and not r["finished"] for r in of.values()),
        accuracy=interval(list(accuracy.values())),
        change=None if attack == NONE else paired(accuracy, _values(calm, "accuracy")),
        attack_success=interval(list(_values(of, "attack_success").values())),
        accepted=_share(of, "hostile_accepted", "hostile_sent"),
        left_out=_share(of, "honest_left_out", "honest_sent"),
        cpu_seconds=_mean(of, "cpu_seconds"),
        stored_bytes=_mean(of, "stored_bytes"),
        gas=_mean(of, "gas"),
    )


def _values(of: Mapping[int, Record], field: str) -> dict[int, float]:
    return {seed: r[field] for seed, r in of.items() if r["status"] == "done" and r[field] is not None}


def _mean(of: Mapping[int, Record], field: str) -> float | None:
    found = interval(list(_values(of, field).values()))
    return None if found is None else found.mean


def _share(of: Mapping[int, Record], part: str, whole: str) -> float | None:
    total = sum(_values(of, whole).values())
    return sum(_values(of, part).values()) / total if total else None


def cells_csv(records: Iterable[Record]) -> str:
    """One line a cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def rows_csv(made: Sequence[Row]) -> str:
    """One line a system and attack; intervals as mean, low and high."""
    flat = [_flat(row) for row in made]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in asdict(row):
        value = getattr(row, field)
        if field in ("accuracy", "change", "attack_success"):
            plain[field] = None if value is None else round(value.mean, 6)
            plain[f"{field}_low"] = None if value is None or value.half is None else round(value.low, 6)
            plain[f"{field}_high"] = None if value is None or value.half is None else round(value.high, 6)
        else:
            plain[field] = round(value, 6) if isinstance(value, float) else value
    return plain


def to_json(plan: Sweep, made: Sequence[Row]) -> dict[str, Any]:
    """What `hansa compare --json` prints."""
    return {
        "interval": "Student's t, 95 %, over seeds; change is paired with the same seed without attack",
        "rounds": plan.rounds,
        "seeds": plan.seeds,
        "hostile": list(plan.hostile),
        "skipped": dict(plan.skipped),
        "rows": [_flat(row) for row in made],
    }


def markdown(plan: Sweep, made: Sequence[Row]) -> str:
    """Tables for a page: accuracy by attack and system; whose updates counted; the backdoor and what a run costs."""
    found = {(row.system, row.attack): row for row in made}
    every = [s for s in (*plan.systems, *REFERENCES) if any(row.system == s for row in made)]
    systems = [s for s in every if s in plan.systems]
    text = _table(
        "accuracy, %", every, [[a, *(_accuracy(found.get((s, a))) for s in every)] for a in plan.attacks]
    )
    attacked = [a for a in plan.attacks if a != NONE]
    shares = [[a, *(_shares(found.get((s, a))) for s in systems)] for a in attacked]
    text += ["", *_table("hostile accepted / honest left out, %", systems, shares)]
    costs = {s: _costs([row for row in made if row.system == s]) for s in systems}
    tried = [s for s in every if s in (*systems, FEDAVG)]
    backdoors = [[f"{a} success", *(_backdoor(found.get((s, a))) for s in tried)] for a in _backdoors(plan)]
    names = ("CPU seconds a run", "MB in the store", "million gas")
    sums = [[name, *(costs[s][k] if s in costs else "" for s in tried)] for k, name in enumerate(names)]
    text += ["", *_table("mean", tried, [*backdoors, *sums])]
    text += ["", *(f"{name} was not run: {why}." for name, why in plan.skipped)]
    return "\n".join(text).rstrip("\n") + "\n"


def _table(corner: str, systems: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    heading = [corner, *(WORDS.get(s, s) for s in systems)]
    return [_line(heading), "|---" * len(heading) + "|", *(_line(line) for line in lines)]


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _backdoors(plan: Sweep) -> list[str]:
    return [a for a in plan.attacks if a.partition(":")[0] == "backdoor"]


def _accuracy(row: Row | None) -> str:
    if row is None:
        return ""
    lost = f" ({row.failed} failed)" if row.failed else ""
    return _percent(row.accuracy) + lost


def _backdoor(row: Row | None) -> str:
    return "" if row is None else _percent(row.attack_success)


def _percent(value: Interval | None) -> str:
    if value is None:
        return ""
    return f"{100 * value.mean:.1f}" + ("" if value.half is None else f" ± {100 * value.half:.1f}")


def _shares(row: Row | None) -> str:
    if row is None or row.accepted is None or row.left_out is None:
        return ""
    return f"{100 * row.accepted:.0f} / {100 * row.left_out:.0f}"


def _costs(of: Sequence[Row]) -> tuple[str, str, str]:
    """Mean CPU seconds, megabytes and million gas of all runs of a system."""

    def mean(values: Iterable[float | None], unit: float) -> str:
        found = interval([value for value in values if value is not None])
        return "" if found is None else f"{found.mean / unit:.1f}"

    return (
        mean((row.cpu_seconds for row in of), 1),
        mean((row.stored_bytes for row in of), 1e6),
        mean((row.gas for row in of), 1e6),
    )
