"""Run anvil, an EVM node for tests, on the loopback interface; skips the test where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

CHAIN_ID = 31337
ZERO_FEE = ("--gas-price", "0", "--block-base-fee-per-gas", "0")
LEGACY = ("--hardfork", "berlin")
BLOCK_GAS = ("--gas-limit", "1000000000")
NODE_MODULES = Path(__file__).parents[1] / "node_modules"


def find_anvil() -> str:
    """Path of the program; skips when it is not installed."""
    candidates = [
        os.environ.get("HANSA_ANVIL", ""),
        str(NODE_MODULES / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"),
        str(NODE_MODULES / ".bin" / "anvil"),
        shutil.which("anvil") or "",
    ]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    pytest.skip("anvil is not installed: set HANSA_ANVIL, or run `npm ci` here (Linux on x86-64)")


@contextmanager
def anvil(*options: str, port: int = 0) -> Iterator[str]:
    """A running node; gives its URL. Options as on anvil's command line, for example `*ZERO_FEE`."""
    command = [
        find_anvil(),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--accounts",
        "1",
        *BLOCK_GAS,
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            address = _address(process)
            # A pipe that nobody reads would stop the node after a few hundred log lines.
            reader = Thread(target=lambda: deque(process.stdout or (), maxlen=0), daemon=True)
            reader.start()
            try:
                yield f"http://{address}"
            finally:
                # It must have met the end before the pipe is closed under it.
                process.kill()
                reader.join()
        finally:
            process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    """Host and port that the node prints when it is ready."""
    assert process.stdout is not None
    seen = []
    until = time.monotonic() + 30
    for line in process.stdout:
        seen.append(line)
        if line.startswith("Listening on "):
            return line.removeprefix("Listening on ").strip()
        if time.monotonic() > until:
            break
    raise RuntimeError("anvil did not start:\n" + "".join(seen[-20:]))
