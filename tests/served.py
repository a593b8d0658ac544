"""The embedded chain behind HTTP in this process, as `hansa sandbox` serves it, on a clock of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from hansa.ledger.blocks import Genesis
from hansa.ledger.embedded import open_chain
from hansa.ledger.server import Server

LONG = 3600.0
"""Seconds between blocks that no test waits for."""


@dataclass
class Served:
    """Where it is, and what time it takes it to be, in UNIX seconds."""

    url: str
    now: int


@contextmanager
def served(path: Path, genesis: Genesis, *, block_time: float = LONG) -> Iterator[Served]:
    """A chain in the file `path`, served until the end of the block."""
    server = Server(0)
    place = Served(server.url, genesis.timestamp)

    def run() -> None:
        with open_chain(path, genesis) as chain:
            server.serve(chain, block_time, clock=lambda: place.now)

    thread = Thread(target=run)
    thread.start()
    try:
        yield place
    finally:
        server.stop()
        thread.join()
