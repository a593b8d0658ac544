"""`hansa node`: a member at work, on a machine of its own."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AppFolder, KeyFile, Name, Open, RpcUrl, StoreUrl, opened
from hansa.cli.console import console
from hansa.cli.keys import PasswordFile

if TYPE_CHECKING:
    from hansa.ports import Trainer, View

HOMES = Path("~/.local/share/hansa")
LOOK = 1.0
"""Seconds between two looks at the chain when there is nothing to do."""


def node(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    app: AppFolder,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="Your rows: site.path of app.py. A server has none."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help=f"Journal and models; {HOMES}/... by default."),
    ] = None,
    look: Annotated[
        float, typer.Option("--look", min=0.01, help="Seconds between two looks at the chain.")
    ] = LOOK,
    password_file: PasswordFile = None,
) -> None:
    """Take part until the federation stops: train, evaluate, lead, verify, as the terms say.

    SIGTERM and Ctrl-C end it after the current step; started again, it goes on from its journal.
    """
    from hansa import member
    from hansa.records import Phase

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with opened(name, rpc, store, key, password_file, look=look) as it:
        whose = f"{it.federation.deployment.contract.hex()}-{it.key.signer.address.hex()}"
        folder = home or HOMES.expanduser() / whose
        with _alone(folder):
            running = member.open_node(
                it.federation,
                it.key,
                it.store,
                folder,
                it.ledger,
                lambda id: _trainer(it, app, data, id),
            )
            try:
                last = member.serve(
                    running, stopped=stop.is_set, pause=lambda: stop.wait(look), say=_Voice(running.me.id)
                )
            finally:
                running.world.trainer.close()
                running.world.journal.close()
    if last is None:
        console().print("stopped; start it again to go on")
    elif last.state.phase is Phase.STOPPED:
        done = f"all done: {last.state.version} rounds are final, model sha256 {last.state.model.hex()}"
        console().print(done, soft_wrap=True)
    else:
        console().print(f"member {running.me.id} has left, or was voted out: nothing more to do")


def _trainer(it: Open, app: Path, data: Path | None, id: int) -> Trainer:
    from hansa import member
    from hansa.records import Role

    if data is None and it.ledger.view().state.members[id].role is Role.MEMBER:
        raise errors.Misconfigured(
            "a member trains on rows of its own, and no --data names them", hint="Add --data PATH."
        )
    return member.trainer_of(it.federation, app, data, id)


class _Voice:
    """One line when the round or phase changes, and one for each thing that the node notices."""

    def __init__(self, id: int) -> None:
        self._id = id
        self._at: tuple[int, int] | None = None

    def __call__(self, view: View, findings: list[str]) -> None:
        state = view.state
        out = console(stderr=True)
        if (state.round, state.phase) != self._at:
            self._at = (state.round, state.phase)
            moment = time.strftime("%H:%M:%S")
            out.print(f"{moment} member {self._id}: round {state.round}, {state.phase.name}", soft_wrap=True)
        for text in findings:
            out.print(f"member {self._id}: {text}", soft_wrap=True, markup=False)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keep a second node of the same member out: it might sign another message for the same slot."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(home, os.O_RDONLY)
    except OSError as e:
        raise errors.Misconfigured(f"cannot use {home}: {e.strerror}", hint="Name another --home.") from e
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise errors.Misconfigured(
            f"another node is at work in {home}", hint="One node a member: stop it first."
        ) from None
    finally:
        os.close(handle)
