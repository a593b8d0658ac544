"""Computing parties on one machine, for simulations and tests: real runtimes in processes of their own.

The parties are threads of this process; what holds their shares, links and SPU is a child process each, as deployed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from hansa.mpc.certificates import own_identity
from hansa.mpc.checkpoints import own_key
from hansa.mpc.places import Place
from hansa.mpc.session import Party
from hansa.mpc.setting import Setting

HOST = "127.0.0.1"

T = TypeVar("T")


@contextmanager
def parties_on_loopback(
    home: Path,
    job: bytes,
    setting: Setting,
    *,
    timeout: float = 10.0,
    patience: float = 60.0,
    every: int = 50,
) -> Iterator[list[Party]]:
    """All parties of a job, by rank, with homes under `home`; their ports are theirs until the end of the block."""
    with ExitStack() as held:
        homes = [home / f"party-{rank}" for rank in range(setting.parties)]
        identities = [own_identity(h, job) for h in homes]
        sockets = [(held.enter_context(_held()), held.enter_context(_held())) for _ in homes]
        places = tuple(
            Place(HOST, meeting.getsockname()[1], link.getsockname()[1], own.certificate)
            for (meeting, link), own in zip(sockets, identities, strict=True)
        )
        yield [
            Party(job, rank, setting, places, own, own_key(h), h, timeout, patience, every)
            for rank, (h, own) in enumerate(zip(homes, identities, strict=True))
        ]


def at_once(parties: list[Party], work: Callable[[Party], T]) -> list[T | BaseException]:
    """What `work` gives for each party, or the error it raised; all at the same time."""
    with ThreadPoolExecutor(len(parties)) as pool:
        futures = [pool.submit(work, party) for party in parties]
        return [f.exception() or f.result() for f in futures]


def _held() -> socket.socket:
    """A port that is bound and not listened at: nobody else is given it, and a server that reuses addresses may."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((HOST, 0))
    return found
