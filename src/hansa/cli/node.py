"""`hansa node`: a member at work, on a machine of its own."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AppFolder, KeyFile, Name, Open, RpcUrl, StoreUrl, log, opened
from hansa.cli.console import console
from hansa.cli.keys import PasswordFile

if TYPE_CHECKING:
    from hansa.ports import Trainer

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
    relay: Annotated[
        bool,
        typer.Option("--relay/--no-relay", help="Bring others' messages to the chain too, at your cost."),
    ] = True,
    health: Annotated[
        int | None,
        typer.Option(
            "--health",
            metavar="PORT",
            min=0,
            max=65535,
            help="Serve /healthz and /metrics on this port of 127.0.0.1; 0 takes a free one and says which.",
        ),
    ] = None,
    json_logs: Annotated[
        bool, typer.Option("--json-logs", help="Log one JSON object a line, on standard error.")
    ] = False,
    password_file: PasswordFile = None,
) -> None:
    """Take part until the federation stops: train, evaluate, lead, verify, as the terms say.

    SIGTERM and Ctrl-C end it after the current step; started again, it goes on from its journal. Where chain or
    store do not answer, it waits for them.
    """
    from hansa import member
    from hansa.cli import logs
    from hansa.health import served
    from hansa.node import alone
    from hansa.node.meter import Meter
    from hansa.records import Phase
    from hansa.serving import Service

    logs.begin(as_json=json_logs)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    meter = Meter()
    with ExitStack() as held:
        it = held.enter_context(opened(name, rpc, store, key, password_file, look=look, wait=False))
        contract, address = it.federation.deployment.contract, it.key.signer.address
        folder = home or HOMES.expanduser() / f"{contract.hex()}-{address.hex()}"
        held.enter_context(alone.locked(folder, contract, address))
        running = member.open_node(
            it.federation,
            it.key,
            it.store,
            folder,
            it.ledger,
            lambda id: _trainer(it, app, data, id),
            meter,
            relay=relay,
        )
        held.callback(running.world.journal.close)
        held.callback(running.world.trainer.close)
        service = Service(running, meter, look=look)
        if health is not None:
            port = held.enter_context(served(service, lambda: it.ledger.gas, health))
            log.info(
                f"health and metrics: http://127.0.0.1:{port}/healthz and /metrics", extra={"event": "health"}
            )
        try:
            last = service.run(stop.is_set, stop.wait)
        except errors.HansaError as e:
            if json_logs:
                log.error(f"{e} {e.hint}".strip(), extra={"event": "failed"})
            raise
    if last is None:
        console().print("stopped; start it again to go on")
    elif last.state.phase is Phase.STOPPED:
        done = f"all done: {last.state.version} rounds are final, model sha256 {last.state.model.hex()}"
        console().print(done, soft_wrap=True)
    else:
        console().print(
            f"member {running.me.id} has left, was voted out, or has another key: nothing more to do"
        )


def _trainer(it: Open, app: Path, data: Path | None, id: int) -> Trainer:
    from hansa import member
    from hansa.records import Role

    if data is None and it.ledger.view().state.members[id].role is Role.MEMBER:
        raise errors.Misconfigured(
            "a member trains on rows of its own, and no --data names them", hint="Add --data PATH."
        )
    return member.trainer_of(it.federation, app, data, id)
