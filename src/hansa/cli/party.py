"""`hansa party`: one of those who train on shares under scheme `mpc`, on a machine of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AppFolder, KeyFile, Name, Open, RpcUrl, StoreUrl
from hansa.cli.keys import PasswordFile
from hansa.cli.node import LOOK, Health, Home, JsonLogs, Look, Relay, Work, check_role, serve

if TYPE_CHECKING:
    from hansa.ports import Session, Trainer


def party(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    app: AppFolder,
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="HOST:PORT:PORT",
            help="Where other parties reach this machine: the port to meet at, and that of SPU's link.",
        ),
    ] = "127.0.0.1:0:0",
    home: Home = None,
    look: Look = LOOK,
    relay: Relay = True,
    health: Health = None,
    json_logs: JsonLogs = False,
    password_file: PasswordFile = None,
) -> None:
    """Be a computing party of scheme mpc: take owners' shares, train on them with the other parties, deliver.

    It sees shares, and what the terms declare to be opened to it. Owners need no open port; a party needs two, at
    --listen, for the other parties of the terms (mutual TLS). Port 0 takes a free one and tells the others. What it
    trained so far is saved in --home as its own shares, sealed under its own key.

    SIGTERM and Ctrl-C end it after the current step; started again, it goes on from its last checkpoint.
    """
    work = Work(name, rpc, store, key, password_file, home, look, relay, health, json_logs)
    serve(
        work,
        lambda it, id: _trainer(it, id, app),
        session=lambda it, folder: _session(it, folder, app, listen),
    )


def _trainer(it: Open, id: int, app: Path) -> Trainer:
    """The script without rows. Raises `Misconfigured` for a party of another role or scheme."""
    from hansa import member
    from hansa.records import Role

    terms = it.federation.terms
    if terms.mpc is None:
        raise errors.Misconfigured(
            f"the scheme of {terms.name} is {terms.scheme}, under which nobody computes on shares",
            hint="Use `hansa node`.",
        )
    check_role(it, id, Role.PARTY)
    return member.trainer_of(it.federation, app, None, id)


def _session(it: Open, home: Path, app: Path, listen: str) -> Session:
    from hansa import wiring

    return wiring.session(it.federation.terms, app, home, secret=it.key.sealing_key, address=listen)
