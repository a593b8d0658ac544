"""Writing reports: into the folder of a run, which must not suffer from it, or where somebody asked for one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hansa import errors, runfolder
from hansa.report.facts import Facts
from hansa.report.folder import PAGE, RunFacts
from hansa.report.page import page

log = logging.getLogger("hansa")


def write_page(path: Path, facts: Sequence[Facts]) -> None:
    """Write one page. Raises `Misconfigured` when it cannot be written there."""
    try:
        runfolder.write_atomically(path, page(facts).encode())
    except errors.Unavailable as e:
        raise errors.Misconfigured(str(e), hint="Name another file by --out.") from e


def leave_page(folder: Path) -> str:
    """Write a run's report into its folder; gives why not, in words, where it fails: the run is worth more."""
    try:
        runfolder.write_atomically(folder / PAGE, page([RunFacts(folder).read()]).encode())
    except errors.HansaError as e:
        return str(e)
    except Exception as e:
        log.debug("report.html", exc_info=True)
        return f"{type(e).__name__}: {e}"
    return ""
