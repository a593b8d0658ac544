"""A shared chain and the command line, for the tests of what members do on machines of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.shared import Shared, embedded, found

from hansa.cli import main as cli


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A federation stopped after two rounds."""
    folder = tmp_path_factory.mktemp("shared")
    with embedded(folder) as chain:
        made = found(chain, folder, lambda: chain.time)
        made.start()
        made.run()
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Shared]:
    """A federation just deployed."""
    with embedded(tmp_path) as chain:
        yield found(chain, tmp_path, lambda: chain.time)


@pytest.fixture
def hansa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line here; gives its exit code and both streams."""

    def run(*words: Any) -> tuple[int, str, str]:
        monkeypatch.delenv("COLUMNS", raising=False)  # of who runs the tests
        monkeypatch.setattr(sys, "argv", ["hansa", *map(str, words)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as e:
            code = e.code
        written = capsys.readouterr()
        return int(code or 0), written.out, written.err

    return run
