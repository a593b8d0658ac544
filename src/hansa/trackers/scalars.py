"""Lines of `metrics.jsonl` as numbers by name, which is what trackers draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LISTS = ("selected", "left_out")
"""Fields that are drawn by their length."""

WITHOUT = ("round", "version")
"""Fields that say where a line belongs."""


def rounds(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each round's number and its figures; those of a member under its name, such as `m0/rows`."""
    figures: dict[str, float] = {}
    for line in lines:
        own = line["kind"] == "round"
        prefix = "" if own else f"{line['member']}/"
        for name, value in line.items():
            if name in WITHOUT:
                continue
            if isinstance(value, int | float):
                figures[prefix + name] = float(value)
            elif name in LISTS:
                figures[prefix + name] = float(len(value))
        if own:
            yield line["round"], figures
            figures = {}
