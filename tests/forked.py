"""`hansa`, or another program, in processes forked from one that has imported torch: six seconds less for each.

Beyond that a process is what a shell would start, and it gets this one's environment. All of them hash alike,
though: tests of what must not hang on the order of a set start their own (`driven` in `tests/e2e/commands.py`).
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from examples.cluster.processes import PRELOADED

HANSA = "hansa.cli.main:main"
_FORKS = multiprocessing.get_context("forkserver")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Of what commands say; it goes with this process."""
    return tempfile.TemporaryDirectory(prefix="hansa-said-")


class Forked:
    """A command at work: as much of `subprocess.Popen` as tests use.

    `program`: where the function lies that reads `sys.argv`. `mixed`: errors go where the output goes. `parent`: it may
    start processes by `multiprocessing`, and does not end with this one.
    """

    def __init__(
        self,
        words: Sequence[Any],
        cwd: Path | None = None,
        *,
        program: str = HANSA,
        mixed: bool = True,
        parent: bool = False,
    ) -> None:
        folder = tempfile.mkdtemp(dir=_folder().name)
        self._texts = [Path(folder, name) for name in ("out", "err")[: 1 if mixed else 2]]
        texts = [str(word) for word in words]
        arguments = program, texts, str(cwd or Path.cwd()), dict(os.environ), self._texts
        _FORKS.set_forkserver_preload(PRELOADED)
        self._process = _FORKS.Process(target=_command, args=arguments, daemon=not parent)
        self._process.start()
        self.kill = self._process.kill

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("hansa", timeout or 0, self._said()[0])
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, ...]:
        self.wait(timeout)
        return self._said()

    def _said(self) -> tuple[str, ...]:
        return tuple(path.read_text() if path.exists() else "" for path in self._texts)


def run(
    words: Sequence[Any], cwd: Path | None = None, *, program: str = HANSA, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """A command from its beginning to its end."""
    command = Forked(words, cwd, program=program, mixed=False, parent=True)
    try:
        out, err = command.communicate(timeout)
    finally:
        command.kill()
    return subprocess.CompletedProcess(words, command.wait(), out, err)


def _command(
    program: str, words: list[str], cwd: str, environment: dict[str, str], texts: list[Path]
) -> None:
    for number, path in zip((1, 2), [texts[0], texts[-1]], strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program.partition(".")[0].partition(":")[0], *words]
    sys.exit(pkgutil.resolve_name(program)())
