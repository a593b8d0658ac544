"""`hansa node`: a member at work, on a machine of its own; and what all parties at work have in common."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AppFolder, KeyFile, Name, Open, RpcUrl, StoreUrl, log, opened, own_file
from hansa.cli.console import console
from hansa.cli.keys import PasswordFile

if TYPE_CHECKING:
    from hansa.loading import Loader
    from hansa.ports import Session, Trainer
    from hansa.records import Role

HOMES = Path("~/.local/share/hansa")
LOOK = 1.0
"""Seconds between two looks at the chain when there is nothing to do."""

Home = Annotated[
    Path | None,
    typer.Option(
        "--home", metavar="DIR", help=f"What must not be lost, its journal; {HOMES}/... by default."
    ),
]
Look = Annotated[float, typer.Option("--look", min=0.01, help="Seconds between two looks at the chain.")]
Relay = Annotated[
    bool, typer.Option("--relay/--no-relay", help="Bring others' messages to the chain too, at your cost.")
]
Health = Annotated[
    int | None,
    typer.Option(
        "--health",
        metavar="PORT",
        min=0,
        max=65535,
        help="Serve /healthz and /metrics on this port of 127.0.0.1; 0 takes a free one and says which.",
    ),
]
JsonLogs = Annotated[bool, typer.Option("--json-logs", help="Log one JSON object a line, on standard error.")]


@dataclass(frozen=True, slots=True)
class Work:
    """What a party at work was told on the command line."""

    name: str
    rpc: list[str]
    store: str
    key: Path
    password_file: Path | None
    home: Path | None
    look: float
    relay: bool
    health: int | None
    json_logs: bool


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
    home: Home = None,
    look: Look = LOOK,
    relay: Relay = True,
    health: Health = None,
    json_logs: JsonLogs = False,
    password_file: PasswordFile = None,
) -> None:
    """Take part until the federation stops: train, evaluate, lead, verify, as the terms say.

    SIGTERM and Ctrl-C end it after the current step; started again, it goes on from its journal. Where chain or
    store do not answer, it waits for them.
    """
    work = Work(name, rpc, store, key, password_file, home, look, relay, health, json_logs)
    serve(work, lambda it, id: _trainer(it, app, data, id), loader_of)


def serve(
    work: Work,
    trainer: Callable[[Open, int], Trainer],
    loader: Callable[[Open, int], Loader | None] = lambda _it, _id: None,
    session: Callable[[Open, Path], Session] | None = None,
) -> None:
    """Be the node of a key's owner until the federation stops; `trainer` makes the trainer of its id, or refuses.

    `loader` says how it starts an enclave, if it has to; `session` makes that of a computing party, in its home.
    """
    from hansa import member
    from hansa.cli import logs
    from hansa.health import served
    from hansa.node import alone
    from hansa.node.meter import Meter
    from hansa.records import Phase
    from hansa.serving import Service

    logs.begin(as_json=work.json_logs)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    meter = Meter()
    with ExitStack() as held:
        it = held.enter_context(
            opened(work.name, work.rpc, work.store, work.key, work.password_file, look=work.look, wait=False)
        )
        contract, address = it.federation.deployment.contract, it.key.signer.address
        folder = work.home or HOMES.expanduser() / f"{contract.hex()}-{address.hex()}"
        held.enter_context(alone.locked(folder, contract, address))
        running = member.open_node(
            it.federation,
            it.key,
            it.store,
            folder,
            it.ledger,
            lambda id: trainer(it, id),
            meter,
            loader=lambda id: loader(it, id),
            session=session and (lambda: session(it, folder)),
            relay=work.relay,
        )
        held.callback(running.close)
        held.callback(running.world.journal.close)
        held.callback(running.world.trainer.close)
        service = Service(running, meter, look=work.look)
        if work.health is not None:
            port = held.enter_context(served(service, lambda: it.ledger.gas, work.health))
            log.info(
                f"health and metrics: http://127.0.0.1:{port}/healthz and /metrics", extra={"event": "health"}
            )
        try:
            last = service.run(stop.is_set, stop.wait)
        except errors.HansaError as e:
            if work.json_logs:
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

    if it.federation.terms.secagg is not None or it.federation.terms.mpc is not None:
        check_role(it, id, Role.MEMBER)
    if data is None and it.ledger.view().state.members[id].role is Role.MEMBER:
        raise errors.Misconfigured(
            "a member trains on rows of its own, and no --data names them", hint="Add --data PATH."
        )
    return member.trainer_of(it.federation, app, data, id)


def loader_of(it: Open, id: int) -> Loader | None:
    """How whoever has a seat runs its enclave under scheme tee; it was tried. Raises `Misconfigured`."""
    from hansa import loading
    from hansa.protocol.attested import protection

    terms = it.federation.terms
    if terms.tee is None or not it.ledger.view().state.members[id].seated:
        return None
    found = loading.loader_for(terms, own_file().enclave, lambda: int(time.time()))
    try:
        loading.check(found, terms, int(time.time()))
    except errors.Unavailable as e:
        log.warning(f"the enclave of this machine cannot be tried now: {e} {e.hint}".strip())
    said = f"this node runs an enclave, provider {found.provider}: {protection(terms)}"
    log.log(logging.WARNING if found.mode == "simulated" else logging.INFO, said, extra={"event": "enclave"})
    return found


def check_role(it: Open, id: int, role: Role) -> None:
    """Each role has a command of its own where their work differs. Raises `Misconfigured`."""
    from hansa.records import Role

    called = {
        Role.MEMBER: ("member", "node"),
        Role.SERVER: ("server", "server"),
        Role.KEY_CENTRE: ("key centre", "kgc"),
        Role.PARTY: ("computing party", "party"),
    }
    found = it.ledger.view().state.members[id].role
    if found is not role:
        raise errors.Misconfigured(
            f"this key joined as a {called[found][0]}, not as a {called[role][0]}",
            hint=f"Use `hansa {called[found][1]}`, or the key file of the {called[role][0]}.",
        )
