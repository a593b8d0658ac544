"""Runs the cells of a sweep over worker processes. Each result is a file, so that a killed sweep goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hansa import errors, runfolder
from hansa.comparison.cell import Task, failure, prepare
from hansa.comparison.plan import Cell, Sweep, cells
from hansa.workers import Workers

IDENTITY: Final = "sweep.json"
CELLS: Final = "cells"
WORK: Final = ".work"
Record = dict[str, Any]


def open_folder(folder: Path, plan: Sweep) -> None:
    """Make the folder, or see that the cells in it are of this sweep. Raises `Misconfigured`, `Unavailable`."""
    try:
        (folder / CELLS).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise errors.Misconfigured(f"cannot use {folder}: {e.strerror}", hint="Name another --out.") from e
    path, wanted = folder / IDENTITY, plan.identity()
    if path.exists():
        found = _read(path)
        if found != wanted:
            what = ", ".join(key for key in wanted if found.get(key) != wanted[key])
            raise errors.Misconfigured(
                f"{folder} holds results of another sweep: {what} differ",
                hint="Repeat that command line to go on with it, or name another folder by --out.",
            )
    else:
        runfolder.write_atomically(path, (json.dumps(wanted, indent=2) + "\n").encode())


def done(folder: Path, plan: Sweep) -> dict[Cell, Record]:
    """Records of the cells that have one. A failed cell counts only until it is run again."""
    found = {}
    for cell in cells(plan):
        path = folder / CELLS / cell.file
        if path.exists():
            found[cell] = _read(path)
    return found


def waiting(folder: Path, plan: Sweep) -> list[Cell]:
    """Cells without a result, failed ones among them."""
    known = done(folder, plan)
    return [cell for cell in cells(plan) if known.get(cell, {}).get("status") != "done"]


def run(folder: Path, plan: Sweep, jobs: int) -> Iterator[tuple[Cell, Record]]:
    """Run what waits; gives each cell with its record when that has been written.

    A cell that raises, or whose process dies, is recorded with its error, and the others go on. Raises `Unavailable`
    when results cannot be written.
    """
    left = waiting(folder, plan)
    tasks = [
        Task(cell, plan.app.absolute(), plan.settings, plan.hostile, folder.absolute() / WORK / cell.file)
        for cell in left
    ]
    workers: Workers[None, Task] = Workers(jobs, prepare, None, lambda task: f"running {task.cell.file}")
    try:
        for index, answer in workers.each(tasks):
            cell = left[index]
            record = failure(cell, str(answer)) if isinstance(answer, errors.HansaError) else answer
            runfolder.write_atomically(
                folder / CELLS / cell.file, (json.dumps(record, sort_keys=True, indent=1) + "\n").encode()
            )
            yield cell, record
    finally:
        workers.close()
        shutil.rmtree(folder / WORK, ignore_errors=True)


def _read(path: Path) -> Record:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise errors.Misconfigured(
            f"cannot read {path}: {e}", hint="Delete it, and its cell is run again."
        ) from e
    if not isinstance(found, dict):
        raise errors.Misconfigured(f"{path} holds no record", hint="Delete it, and its cell is run again.")
    return found
