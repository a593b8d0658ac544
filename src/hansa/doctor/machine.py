"""This machine: Python, disk, open files, clock."""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hansa.doctor.findings import Finding

PYTHONS = ((3, 11), (3, 14))
"""Versions that Hansa runs on: from the first one on, below the second."""

GIB = 2**30
FILES = 1024
BUILT = 1_735_689_600
"""The first second of 2025, in UNIX seconds: before this version was made."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What is true of this machine. `free`: bytes free in `folder`; `files`: how many may be open, -1 for any."""

    python: tuple[int, int, int]
    folder: str
    free: int
    files: int
    clock: float


def observe(folder: Path, clock: float) -> Machine:
    """Look at this machine; `clock` is what it takes the time to be, in UNIX seconds."""
    return Machine(
        python=sys.version_info[:3],
        folder=str(folder),
        free=shutil.disk_usage(folder).free,
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        clock=clock,
    )


def judge(machine: Machine) -> Iterator[Finding]:
    """Every check of this machine."""
    version = ".".join(map(str, machine.python))
    low, high = PYTHONS
    fits = low <= machine.python[:2] < high
    advice = "" if fits else f"Use Python {low[0]}.{low[1]} or newer, below {high[0]}.{high[1]}."
    yield Finding("python", "ok" if fits else "fail", version, advice, (("version", version),))
    scarce, full = machine.free < 2 * GIB, machine.free < GIB // 8
    yield Finding(
        "disk",
        "fail" if full else "warn" if scarce else "ok",
        f"{machine.free / GIB:.1f} GiB free in {machine.folder}",
        "Free some space: a node keeps its journal and copies of models and updates." if scarce else "",
        (("free_bytes", machine.free),),
    )
    few = 0 <= machine.files < FILES
    yield Finding(
        "open files",
        "warn" if few else "ok",
        "unlimited" if machine.files < 0 else f"at most {machine.files}",
        f"Raise the limit before the node starts: ulimit -n {FILES}." if few else "",
        (("limit", machine.files),),
    )
    past = machine.clock < BUILT
    yield Finding(
        "clock",
        "fail" if past else "ok",
        "shows a time before this version of Hansa was made" if past else "not in the past",
        "Set the clock, best by NTP." if past else "",
        (("unix_s", machine.clock),),
    )


def examine_machine(folder: Path, clock: float) -> tuple[Finding, ...]:
    """Every check of this machine for a node that works in `folder`."""
    return tuple(judge(observe(folder, clock)))
