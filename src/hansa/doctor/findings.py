"""What an examination gives: findings, and what they amount to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

Verdict = Literal["ok", "warn", "fail"]
Value = int | float | str | bool
Result = TypeVar("Result")
VERDICTS: tuple[Verdict, ...] = ("ok", "warn", "fail")
SEEN_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was seen, and one sentence on what to change unless it is ok.

    `measured`: numbers for programs, by name with their unit. `unreachable`: nothing answered, so that the
    same check may pass later.
    """

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""
    measured: tuple[tuple[str, Value], ...] = ()
    unreachable: bool = False


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict; "ok" of nothing."""
    return max((f.verdict for f in findings), key=VERDICTS.index, default="ok")


def exit_code(findings: Iterable[Finding]) -> int:
    """0 unless a check failed: then 3 if something did not answer, else 1."""
    found = tuple(findings)
    if any(f.unreachable for f in found):
        return 3
    return int(worst(found) == "fail")


def printable(text: str) -> str:
    """A stranger's words on one line of a terminal: no control characters, not endless."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= SEEN_LIMIT else plain[: SEEN_LIMIT - 1] + "…"


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Result of a call, and how many milliseconds it took."""
    started = time.perf_counter()
    result = call()
    return result, round(1000 * (time.perf_counter() - started), 3)
