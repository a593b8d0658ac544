"""A chain and a store for one laptop, in one folder: what `hansa sandbox` runs.

    chain.sqlite   the embedded chain, every block on disk before it is told of
    anvil.json     anvil's state, written once a second
    store/         the object store

Nobody pays for gas, so that accounts need no coins. One process at a time has the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hansa import errors
from hansa.ledger.blocks import Genesis
from hansa.ledger.embedded import Chain, open_chain
from hansa.ledger.server import HOST, opening

__all__ = ["CHAIN_ID", "HOST", "Home", "anvil", "embedded", "free_port", "home"]

CHAIN_ID = 31337
"""That of development chains. Whoever signs binds the contract's address too, and it is another one elsewhere."""

BLOCK_GAS = 10**9


@dataclass(frozen=True, slots=True)
class Home:
    """A sandbox's folder; `lock` is the open file that keeps others out."""

    folder: Path
    lock: int

    @property
    def chain(self) -> Path:
        """File of the embedded chain."""
        return self.folder / "chain.sqlite"

    @property
    def state(self) -> Path:
        """File of anvil's state."""
        return self.folder / "anvil.json"

    @property
    def store(self) -> Path:
        """Folder of the store, which is also its URL."""
        return self.folder / "store"


@contextmanager
def home(folder: Path) -> Iterator[Home]:
    """The folder, made if missing, and kept from other processes. Raises `Misconfigured`."""
    own = folder.absolute()
    try:
        (own / "store").mkdir(parents=True, exist_ok=True)
        lock = os.open(own, os.O_RDONLY)
    except OSError as e:
        raise errors.Misconfigured(f"cannot use {folder}: {e.strerror}", hint="Name another --home.") from e
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise errors.Misconfigured(
                f"another sandbox runs in {folder}", hint="Use that one, or name another --home and --port."
            ) from None
        yield Home(own, lock)
    finally:
        os.close(lock)


def embedded(home: Home, now: int) -> Chain:
    """The folder's embedded chain; a new one begins at `now`, in UNIX seconds. Raises `Misconfigured`."""
    _only(home, home.chain, home.state)
    try:
        return open_chain(home.chain)
    except errors.Misconfigured:  # there is none, or it was killed while it began
        return open_chain(home.chain, Genesis(CHAIN_ID, now, gas_limit=BLOCK_GAS))


def anvil(home: Home, port: int, block_time: int) -> list[str]:
    """The command line that runs anvil on the folder's state. Raises `Misconfigured` when it is not installed."""
    _only(home, home.state, home.chain)
    program = shutil.which("anvil")
    if program is None:
        raise errors.Misconfigured(
            "anvil is not installed", hint="Leave --anvil out: the embedded chain needs nothing more."
        )
    settings = {
        "host": HOST,
        "port": port,
        "chain-id": CHAIN_ID,
        "accounts": 1,
        "gas-price": 0,
        "block-base-fee-per-gas": 0,
        "gas-limit": BLOCK_GAS,
        "block-time": block_time,
        "state": home.state,
        "state-interval": 1,
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [program, "--quiet", "--mixed-mining", *options]


def _only(home: Home, wanted: Path, other: Path) -> None:
    if other.exists() and not wanted.exists():
        raise errors.Misconfigured(
            f"{home.folder} holds another kind of chain: {other.name}",
            hint="Start it as it was begun, with or without --anvil, or name another --home.",
        )


def free_port(port: int) -> int:
    """`port` if it can be had on loopback, any that can for 0. Raises `Misconfigured`."""
    with opening(port), socket.create_server((HOST, port)) as probe:
        return int(probe.getsockname()[1])
