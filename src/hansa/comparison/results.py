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
    """Tables for a page: accuracy by attack and system; then what else was measured."""
    found = {(row.system, row.attack): row for row in made}
    columns = [s for s in (*plan.systems, *REFERENCES) if any(row.system == s for row in made)]
    text = [_heading(["accuracy, %", *(WORDS.get(s, s) for s in columns)])]
    for attack in plan.attacks:
        text.append(_line([attack, *(_percent(found.get((s, attack)), "accuracy") for s in columns)]))
    text += [
        "",
        _heading(["attack", "system", "change", "backdoor", "accepted", "left out", "CPU s", "MB", "Mgas"]),
    ]
    text += [_line(_rest(row)) for row in made if row.system not in (POOLED, ALONE)]
    text += ["", *(f"{name} was not run: {why}." for name, why in plan.skipped)]
    return "\n".join(text).rstrip("\n") + "\n"


def _heading(names: Sequence[str]) -> str:
    return _line(names) + "\n" + "|---" * len(names) + "|"


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _percent(row: Row | None, field: str) -> str:
    value: Interval | None = None if row is None else getattr(row, field)
    if row is None or value is None:
        return ""
    half = "" if value.half is None else f" ± {100 * value.half:.1f}"
    lost = f" ({row.failed} failed)" if row.failed and field == "accuracy" else ""
    return f"{100 * value.mean:.1f}{half}{lost}"


def _rest(row: Row) -> list[str]:
    shares = ["" if v is None else f"{100 * v:.0f} %" for v in (row.accepted, row.left_out)]
    sizes = [
        "" if row.cpu_seconds is None else f"{row.cpu_seconds:.1f}",
        "" if row.stored_bytes is None else f"{row.stored_bytes / 1e6:.1f}",
        "" if row.gas is None else f"{row.gas / 1e6:.1f}",
    ]
    named = WORDS.get(row.system, row.system)
    return [row.attack, named, _percent(row, "change"), _percent(row, "attack_success"), *shares, *sizes]
