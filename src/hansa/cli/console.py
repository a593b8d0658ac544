"""Where output goes: colours and live parts on a terminal, plain lines elsewhere. `NO_COLOR` is respected."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hansa import errors

PLAIN_WIDTH = 110
"""Columns where no terminal says how many there are."""


def console(*, stderr: bool = False) -> Console:
    """A console for one of the two streams, as they are now."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PLAIN_WIDTH
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False, width=width)


def print_json(value: Any) -> None:
    """One object on standard output, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def grid() -> Table:
    """Two columns without lines: a bold label and its text."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def columns(*headings: tuple[str, str]) -> Table:
    """A table without lines; each heading with its justification, "left" or "right"."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for k, (name, justify) in enumerate(headings):
        last = k == len(headings) - 1
        table.add_column(name, justify=justify, no_wrap=not last, overflow="fold")  # type: ignore[arg-type]
    return table


def show_error(message: str, hint: str) -> None:
    """One paragraph on standard error: what happened, and what to do."""
    text = Text("hansa: ", style="bold red").append(message, style="red")
    if hint:
        text.append(f"\n       {hint}", style="default")
    console(stderr=True).print(text, soft_wrap=True)


def confirm(question: str, yes: bool) -> None:
    """Go on only with consent: `yes` from the command line, or a yes at the terminal. Raises `Misconfigured`."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise errors.Misconfigured(
            f"{question} There is no terminal to answer at", hint="Add --yes if you mean it."
        )
    if not typer.confirm(question, err=True):
        raise KeyboardInterrupt


def percent(metric: str, value: float | None) -> str:
    """A metric for people: accuracies and other shares as per cent, losses as they are."""
    if value is None:
        return "none"
    if metric == "loss" or metric.endswith("_loss"):
        return f"{value:.4f}"
    return f"{100 * value:.1f} %"


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def command(*words: str | Path) -> str:
    """A command line that can be copied."""
    return shlex.join(str(word) for word in words)


def short(digest: bytes | str) -> str:
    """The first and last digits of a digest."""
    text = digest.hex() if isinstance(digest, bytes) else digest
    return f"{text[:8]}…{text[-4:]}" if len(text) > 16 else text
