"""Accuracy by attack and system as one SVG: a dot a system with its interval. No script, no font, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from hansa.comparison.plan import ALONE, FEDAVG, NONE, POOLED, Sweep
from hansa.comparison.results import WORDS, Row

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b58900", "#7f5af0", "#a05195")
"""Okabe and Ito's colours, told apart by most eyes; grey is FedAvg."""
GREY: Final = "#8a8a8a"
LEFT, WIDTH, STEP, TOP, BOTTOM, RIGHT = 130, 560, 13, 56, 44, 30
STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.dim{fill:#57606a;font-size:11px}.grid{stroke:#d0d7de}"
    ".back{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}.grid{stroke:#3d444d}"
    ".back{fill:#0d1117}}"
)


def accuracy(plan: Sweep, rows: Sequence[Row]) -> str:
    """An SVG of 95 % intervals of accuracy; dashed lines are the pooled model and the mean of members alone."""
    found = {(row.system, row.attack): row for row in rows}
    systems = (*plan.systems, FEDAVG)
    colours = {s: COLOURS[k % len(COLOURS)] for k, s in enumerate(plan.systems)} | {FEDAVG: GREY}
    band = STEP * len(systems) + 14
    bottom = TOP + band * len(plan.attacks)
    width, height = LEFT + WIDTH + RIGHT, bottom + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>Accuracy of each system under each attack</title>",
        f'<style>{STYLE}</style><rect class="back" width="{width}" height="{height}"/>',
        *_legend(systems, colours),
        f'<text class="dim" x="12" y="{height - 12}">accuracy</text>',
    ]
    for percent in range(0, 101, 20):
        x = _x(percent / 100)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="dim" x="{x}" y="{bottom + 16}" text-anchor="middle">{percent} %</text>')
    for system in (POOLED, ALONE):
        row = found.get((system, NONE))
        if row is not None and row.accuracy is not None:
            x = _x(row.accuracy.mean)
            parts.append(
                f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}" stroke="{GREY}" stroke-dasharray="4 3"/>'
                f'<text class="dim" x="{x}" y="{bottom + 32}" text-anchor="middle">{WORDS[system]}</text>'
            )
    for k, attack in enumerate(plan.attacks):
        top = TOP + band * k
        label = "no attack" if attack == NONE else attack
        parts.append(f'<line class="grid" x1="0" x2="{width}" y1="{top}" y2="{top}"/>')
        parts.append(f'<text x="12" y="{top + band / 2 + 4}">{escape(label)}</text>')
        for place, system in enumerate(systems):
            row = found.get((system, attack))
            if row is not None:
                parts += _dot(row, top + 13 + STEP * place, colours[system])
    return "".join((*parts, "</svg>\n"))


def _x(share: float) -> float:
    return round(LEFT + WIDTH * min(max(share, 0.0), 1.0), 1)


def _dot(row: Row, y: float, colour: str) -> list[str]:
    if row.accuracy is None:
        return [
            f'<text class="dim" x="{LEFT}" y="{y + 4}">{escape(WORDS.get(row.system, row.system))}: failed</text>'
        ]
    a = row.accuracy
    said = f"{WORDS.get(row.system, row.system)}, {row.attack}: {100 * a.mean:.1f} %"
    half = "" if a.half is None else f" ± {100 * a.half:.1f}, {a.n} seeds"
    return [
        f"<g><title>{escape(said + half)}</title>",
        f'<line x1="{_x(a.low)}" x2="{_x(a.high)}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2.5"/>',
        f'<circle cx="{_x(a.mean)}" cy="{y}" r="4.5" fill="{colour}"/></g>',
    ]


def _legend(systems: Sequence[str], colours: dict[str, str]) -> list[str]:
    parts, x = [], 12.0
    for system in systems:
        name = WORDS.get(system, system)
        parts.append(f'<circle cx="{x + 5}" cy="24" r="5" fill="{colours[system]}"/>')
        parts.append(f'<text x="{x + 16}" y="28">{escape(name)}</text>')
        x += 34 + 7.5 * len(name)
    return parts
