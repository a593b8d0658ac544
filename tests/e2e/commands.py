"""The real command line in processes of its own, whole or sent a signal on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import forked

DRIVER = Path(__file__).with_name("driver.py")
DONE = 0


def hansa(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    return forked.run(arguments, cwd)


def driven(target: int, number: int, *arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`hansa`, sent a signal at effect number `target` (0: never)."""
    words = [sys.executable, str(DRIVER), str(target), str(int(number)), "effects", *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300)


def result(done: subprocess.CompletedProcess[str], code: int = DONE) -> Any:
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)
