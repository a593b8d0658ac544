"""`hansa deploy`, `invite`, `join`, `start` and `node`: a federation whose members run on machines of their own."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.console import console, short
from hansa.cli.keys import PasswordFile, open_key

if TYPE_CHECKING:
    from hansa.federation import Federation
    from hansa.ledger.evm import EvmLedger
    from hansa.ports import Store, View
    from hansa.signers.keystore import MemberKey

Name = Annotated[
    str, typer.Argument(metavar="FEDERATION", help="As deploy printed it: eip155:CHAIN:0xCONTRACT.")
]
RpcUrl = Annotated[str, typer.Option("--rpc", metavar="URL", envvar="HANSA_RPC", help="A node of the chain.")]
StoreUrl = Annotated[
    str, typer.Option("--store", metavar="URL", envvar="HANSA_STORE", help="The object store that all share.")
]
KeyFile = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Your key file; its account pays the gas.")
]
AppFolder = Annotated[Path, typer.Option("--app", metavar="APP", help="Folder with app.py of the terms.")]

HOMES = Path("~/.local/share/hansa")
LOOK = 1.0
"""Seconds between two looks at the chain when there is nothing to do."""


def deploy(
    app: Annotated[Path, typer.Argument(metavar="APP", help="Folder with federation.toml and app.py.")],
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    password_file: PasswordFile = None,
) -> None:
    """Put a federation on a chain: its contract, and its terms into the store. Prints its address."""
    from hansa import wiring
    from hansa.config import load_federation
    from hansa.federation import Federation, publish, terms_of
    from hansa.ledger import evm
    from hansa.ledger.rpc import Endpoint, chain_id_of
    from hansa.protocol.terms import parameters

    file = load_federation(app, [])
    owner = open_key(key, password_file).signer
    terms = terms_of(file)
    seats = tuple(bytes.fromhex(s.removeprefix("0x")) for s in terms.govern.seats)
    shared = wiring.store(store)
    endpoint = Endpoint(rpc, chain_id_of(rpc))
    with console(stderr=True).status("deploying"):
        made = evm.deploy(endpoint, owner, parameters(terms), seats, terms.initial)
    federation = Federation(made, terms)
    publish(shared, federation)
    print(federation.address)


def invite(
    name: Name,
    addresses: Annotated[
        list[str], typer.Argument(metavar="ADDRESS...", help="Who may join: 0x and 40 digits.")
    ],
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    password_file: PasswordFile = None,
) -> None:
    """Let addresses join. The owner's command."""
    from hansa.protocol import messages as msg

    who = [_address(text) for text in addresses]
    with _opened(name, rpc, store, key, password_file) as it:
        known = it.ledger.view().state
        new = [a for a in who if a not in known.invited and a not in known.ids]
        if new:
            it.ledger.submit(*(msg.Invite(a) for a in new))
    console().print(
        f"{len(new)} invited" + (f", {len(who) - len(new)} were before" if len(new) < len(who) else "")
    )


def join(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    app: AppFolder,
    resources: Annotated[
        int,
        typer.Option("--resources", min=0, max=65_535, help="Declared resources; some draws weigh by them."),
    ] = 10,
    password_file: PasswordFile = None,
) -> None:
    """Become a member, on the owner's invitation, with the app that the terms name. Again: renew the onion."""
    from hansa.app import app_digest
    from hansa.member import join_call
    from hansa.records import Role

    with _opened(name, rpc, store, key, password_file) as it:
        terms = it.federation.terms
        if app_digest(app) != terms.app:
            raise errors.Misconfigured(
                f"{app / 'app.py'} is not the app of the terms ({short(terms.app)})",
                hint="Get app.py from the owner, and read it before you run it on your data.",
            )
        it.ledger.submit(join_call(it.key, it.ledger.view().state, Role.MEMBER, resources))
        id = it.ledger.view().state.ids[it.key.signer.address]
    console().print(f"member {id} of {terms.name}")


def start(name: Name, rpc: RpcUrl, store: StoreUrl, key: KeyFile, password_file: PasswordFile = None) -> None:
    """Begin the first round, when enough members have joined. The owner's command."""
    from hansa.protocol import messages as msg

    with _opened(name, rpc, store, key, password_file) as it:
        it.ledger.submit(msg.Start())
        members = len(it.ledger.view().state.current.roster)
    console().print(f"round 1 has begun with {members} members")


def node(
    name: Name,
    rpc: RpcUrl,
    store: StoreUrl,
    key: KeyFile,
    app: AppFolder,
    data: Annotated[Path, typer.Option("--data", metavar="PATH", help="Your rows: site.path of app.py.")],
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

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _opened(name, rpc, store, key, password_file, look=look) as it:
        whose = f"{it.federation.deployment.contract.hex()}-{it.key.signer.address.hex()}"
        folder = home or HOMES.expanduser() / whose
        with _alone(folder):
            running = member.open_node(
                it.federation,
                it.key,
                it.store,
                folder,
                it.ledger,
                lambda id: member.trainer_of(it.federation, app, data, id),
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
    else:
        done = f"all done: {last.state.version} rounds are final, model sha256 {last.state.model.hex()}"
        console().print(done, soft_wrap=True)


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


@dataclass(frozen=True, slots=True)
class _Open:
    federation: Federation
    key: MemberKey
    ledger: EvmLedger
    store: Store


@contextmanager
def _opened(
    name: str, rpc: str, store: str, key: Path, password_file: Path | None, *, look: float = 0.0
) -> Iterator[_Open]:
    """The federation, checked against its chain, and the ledger under the key's account."""
    from hansa import wiring
    from hansa.federation import find, read_address
    from hansa.ledger.rpc import Endpoint
    from hansa.member import ledger_of

    address = read_address(name)
    own = open_key(key, password_file)
    endpoint = Endpoint(rpc, address.chain_id)
    shared = wiring.store(store)
    try:
        federation = find(shared, endpoint, address)
        ledger = ledger_of(federation, own, endpoint, lambda: int(time.time()), interval=look)
        yield _Open(federation, own, ledger, shared)
    finally:
        endpoint.close()


def _address(text: str) -> bytes:
    digits = text.removeprefix("0x")
    try:
        address = bytes.fromhex(digits)
    except ValueError:
        address = b""
    if len(address) != 20:
        raise errors.Misconfigured(
            f"{text[:60]!r} is no address", hint="Write 0x and 40 digits, as `hansa keys show` prints them."
        )
    return address
