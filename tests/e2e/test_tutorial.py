"""The tutorial works as it is written: its commands run in one shell, and what it shows is printed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = "8545"
END = "--- end of block"


@dataclass(frozen=True)
class Step:
    """Commands, and lines that they print; `…` stands for anything."""

    commands: str
    shown: str


def steps() -> list[Step]:
    found: list[Step] = []
    for kind, text in BLOCK.findall(PAGE):
        if kind == "sh":
            found.append(Step(text, ""))
        else:
            assert kind == "text", "only commands and what they print"
            found[-1] = Step(found[-1].commands, found[-1].shown + text)
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """The lines that are shown, one after the other, with anything between them."""
    lines = [".*".join(map(re.escape, line.strip().split("…"))) for line in shown.splitlines()]
    return re.compile(r"[^\n]*\n(?:[^\n]*\n)*?[ ]*".join(lines).replace(".*", r"[^\n]*"))


class Shell:
    """One bash in a folder, fed block by block; it ends at the first command that fails."""

    def __init__(self, folder: Path, port: int) -> None:
        programs = folder / ".programs"
        programs.mkdir()
        main = f"{sys.executable} -c 'from hansa.cli.main import main; main()'"
        for name, words in (("hansa", main), ("python", sys.executable)):
            (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (programs / name).chmod(0o755)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HANSA_")}
        environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
        environment["HOME"] = str(folder)
        environment["COLUMNS"] = "110"  # as without a terminal; whoever runs the tests may have set another
        self.port = port
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
            cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, commands: str) -> str:
        """What a block prints."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(commands.replace(PORT, str(self.port)) + f"echo '{END}'\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.strip() == END:
                return "".join(lines)
            lines.append(line)
        pytest.fail("a command failed:\n" + commands + "".join(lines))

    def close(self) -> None:
        """End the shell and everything that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shell = Shell(tmp_path, port)
    yield shell
    shell.close()


def test_the_tutorial_works_as_written(shell: Shell, tmp_path: Path) -> None:
    for step in steps():
        printed = shell.run(step.commands)
        assert pattern(step.shown).search(printed), f"shown:\n{step.shown}\nprinted:\n{printed}"
    assert not (tmp_path / ".local").exists(), "everything lies in the folder"


def test_what_it_says_beside_the_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search("^setup:", makefile, re.MULTILINE)
    assert len(steps()) > 10
    assert PAGE.count(PORT) == 2


def test_a_page_that_shows_something_else_would_be_found() -> None:
    printed = "  a    ok   7 gas, used\nmore\nlast 5\n"
    assert pattern("a    ok   … gas, …\nlast …\n").search(printed)
    assert pattern("").search(printed)
    for wrong in ("a    ok   … coins\n", "last …\na    ok …\n", "a …\nlast 6\n"):
        assert not pattern(wrong).search(printed)
