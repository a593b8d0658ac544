"""Processes that end with this one, however it ends: `hansa` commands, and a chain to talk to.

Commands are forked from a process that has imported torch already. Each saves six seconds of processor time
at its start and shares 200 MB with the others; beyond that it is what a shell would start.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from hansa import errors

ROOT = Path(__file__).parents[2]
PRELOADED = ["hansa.cli.main", "hansa.member", "hansa.ledger.rpc", "hansa.trainers.torch", "sklearn.datasets",
             "torch._dynamo"]  # fmt: skip
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
FREE = ("--gas-price", "0", "--block-base-fee-per-gas", "0", "--gas-limit", "1000000000")
PR_SET_PDEATHSIG = 1

_forks = multiprocessing.get_context("forkserver")


def command(words: Sequence[str], log: Path) -> ForkServerProcess:
    """Start `hansa WORDS...`; its output is appended to `log`. Its exit code is that of the command."""
    os.environ.update(ONE_THREAD)
    _forks.set_forkserver_preload(PRELOADED)
    process = _forks.Process(target=_run, args=(list(words), log), daemon=True)
    process.start()
    return process


def _run(words: list[str], log: Path) -> None:
    threading.Thread(target=_end_with_driver, daemon=True).start()
    os.setsid()  # Ctrl-C is for the process that started all, which then ends them in order
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    sys.argv = ["hansa", *words]
    from hansa.cli.main import main

    main()


def _end_with_driver() -> None:
    """End this process when the one that asked for it has ended, however that came."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _end_with_parent() -> None:
    """Have the kernel end a program other than Python when this process ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def finish(processes: Sequence[ForkServerProcess], patience: float = 60.0) -> None:
    """Wait until all have ended by themselves, `patience` seconds at most."""
    end = time.monotonic() + patience
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))


def stop(processes: Sequence[ForkServerProcess], patience: float = 20.0) -> None:
    """Ask all to end, and kill those that have not after `patience` seconds."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + patience
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


class Anvil:
    """An EVM node on the loopback interface, without fees; what it prints goes to `log`.

    With `state`, a file, its blocks outlive it, and `start` goes on from them.
    """

    def __init__(self, log: Path, state: Path | None = None) -> None:
        self._log = log
        self._kept = () if state is None else ("--state", str(state), "--state-interval", "1")
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, the same after a new start."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Run it until it answers. Raises `Misconfigured` where it is not installed or does not start."""
        words = [find_anvil(), "--host", "127.0.0.1", "--port", str(self._port), "--accounts", "1", *FREE]
        seen = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [*words, *self._kept],
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

        def listening() -> str:
            lines = self._log.read_bytes()[seen:].decode(errors="replace").splitlines()
            return next((line for line in lines if line.startswith("Listening on ")), "")

        if not until(lambda: listening() or self._process.poll() is not None, 60) or not listening():
            self.kill()
            raise errors.Misconfigured("anvil did not start", hint=f"See {self._log}.")
        self._port = int(listening().rsplit(":", 1)[1])

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it: at once, or by a signal after which it writes down its blocks."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()


def find_anvil() -> str:
    """Path of the program. Raises `Misconfigured` when it is not installed."""
    npm = ROOT / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
    for candidate in (os.environ.get("HANSA_ANVIL", ""), str(npm), shutil.which("anvil") or ""):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise errors.Misconfigured("anvil is not installed", hint="Run `npm ci` in the repository's folder.")


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Look every tenth of a second until the condition holds; whether it did within `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
