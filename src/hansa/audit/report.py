"""What an audit says: checks with their verdicts and counts, findings with their evidence, notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from hansa import errors
from hansa.records import Finding

Verdict = Literal["verified", "attested", "unavailable", "failed"]

Progress = Callable[[str, int], None]

VERIFIED, FOUND, GAPS = 0, 1, 3
"""Exit codes: every check holds; something is wrong; something could not be checked."""


class Forgotten(errors.Unavailable):
    """Something is missing that by the terms need not be kept any more."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `count`: how many things passed it; `note`: who attests, what is missing, what failed."""

    name: str
    verdict: Verdict
    count: int
    note: str


@dataclass(frozen=True, slots=True)
class Report:
    """An audit's outcome. `notes` are flags that are no failures.

    `anchored`: the last block is one that the user knew from elsewhere. `unproven` says what nothing in the
    report shows, and what would.
    """

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    anchored: bool
    unproven: str


def exit_code(report: Report) -> int:
    """0 = every check verified or attested, 1 = findings, 3 = only gaps."""
    verdicts = {check.verdict for check in report.checks}
    if report.findings or "failed" in verdicts:
        return FOUND
    return GAPS if "unavailable" in verdicts else VERIFIED


@dataclass(slots=True)
class _Line:
    count: int = 0
    found: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    attested: str = ""


class Book:
    """Where the parts of an audit enter what they saw. A check is listed from its first entry on."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._lines: dict[str, _Line] = {}
        self._findings: list[Finding] = []
        self._notes: list[str] = []
        self._progress = progress

    def expect(self, *checks: str) -> None:
        """These checks belong to the audit: one without any later entry counts as not done."""
        for check in checks:
            self._lines.setdefault(check, _Line())

    def passed(self, check: str, count: int = 1) -> None:
        """`count` more things passed a check."""
        line = self._lines.setdefault(check, _Line())
        line.count += count
        if self._progress is not None:
            self._progress(check, line.count)

    def attested(self, check: str, by: str, count: int = 1) -> None:
        """As `passed`, but rests on somebody's word."""
        self.passed(check, count)
        self._lines[check].attested = by

    def gap(self, check: str, what: str, *, forgotten: bool = False) -> None:
        """Something could not be checked. What the terms let nodes forget is named after what they do not."""
        line = self._lines.setdefault(check, _Line())
        (line.forgotten if forgotten else line.gaps).append(what)

    def found(self, check: str, subject: str, message: str, evidence: bytes = b"") -> None:
        """Something is wrong."""
        self._lines.setdefault(check, _Line()).found.append(f"{subject}: {message}")
        self._findings.append(Finding(check, subject, message, evidence))

    def note(self, text: str) -> None:
        """Something worth knowing that is no failure."""
        self._notes.append(text)

    @contextmanager
    def attempt(self, check: str, subject: str, *, gaps: bool = True) -> Iterator[None]:
        """Enter whatever is raised within: `Unavailable` as a gap, if `gaps`, all else as a finding."""
        try:
            yield
        except errors.Unavailable as e:
            if gaps:
                self.gap(check, f"{subject}: {e}", forgotten=isinstance(e, Forgotten))
            else:
                self.found(check, subject, str(e))
        except errors.HansaError as e:
            self.found(check, subject, str(e), getattr(e, "digest", b""))
        except Exception as e:
            # Nobody can list what a damaged file makes the libraries below raise. It is never a pass.
            self.found(check, subject, f"cannot be read: {type(e).__name__}: {e}")

    def report(self, *, anchored: bool, unproven: str = "") -> Report:
        """All entries, in the order of the checks' first ones."""
        checks = tuple(_check(name, line) for name, line in self._lines.items())
        return Report(checks, tuple(self._findings), tuple(self._notes), anchored, unproven)


def _check(name: str, line: _Line) -> Check:
    if line.found:
        return Check(name, "failed", line.count, _short(line.found))
    gaps = line.gaps + line.forgotten
    if gaps:
        return Check(name, "unavailable", line.count, _short(gaps))
    if not line.count:
        return Check(name, "unavailable", 0, "not reached")
    if line.attested:
        return Check(name, "attested", line.count, line.attested)
    return Check(name, "verified", line.count, "")


def _short(lines: list[str]) -> str:
    rest = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return lines[0] + rest
