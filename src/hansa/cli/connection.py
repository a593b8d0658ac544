"""What all commands on a shared federation are told: which one, over which chain and store, by whose key."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa import errors
from hansa.cli.keys import open_key

if TYPE_CHECKING:
    from hansa.federation import Federation
    from hansa.ledger.evm import EvmLedger
    from hansa.ledger.rpc import Rpc
    from hansa.memberfile import MemberFile
    from hansa.ports import Store
    from hansa.signers.keystore import MemberKey

log = logging.getLogger("hansa")
_FILE: ContextVar[MemberFile | None] = ContextVar("member.toml", default=None)

Name = Annotated[
    str, typer.Argument(metavar="FEDERATION", help="As deploy printed it: eip155:CHAIN:0xCONTRACT.")
]
RpcUrl = Annotated[
    list[str],
    typer.Option(
        "--rpc",
        metavar="URL",
        envvar="HANSA_RPC",
        help="A node of the chain; given again, a second one that must agree with the first.",
    ),
]
StoreUrl = Annotated[
    str, typer.Option("--store", metavar="URL", envvar="HANSA_STORE", help="The object store that all share.")
]
KeyFile = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Your key file; its account pays the gas.")
]
AnyName = Annotated[
    str, typer.Argument(metavar="RUN|FEDERATION", help="Run folder, or as deploy printed it.")
]
AnyRpcUrl = Annotated[
    list[str] | None,
    typer.Option("--rpc", metavar="URL", envvar="HANSA_RPC", help="A node of the federation's chain."),
]
AnyStoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", envvar="HANSA_STORE", help="The federation's object store."),
]
ReaderKey = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Key file of a member, to open what is sealed.")
]
AnyAppFolder = Annotated[
    Path | None, typer.Option("--app", metavar="APP", help="Folder with app.py of the terms.")
]
AppFolder = Annotated[Path, typer.Option("--app", metavar="APP", help="Folder with app.py of the terms.")]


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """What stands in the file becomes the defaults of the command's options."""
    from hansa.memberfile import MemberFile, load_member

    file = MemberFile() if path is None else load_member(path)
    _FILE.set(file)
    context.default_map = file.options()
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="HANSA_CONFIG",
        callback=_read_config,
        is_eager=True,
        help="Your member.toml: defaults of the options here, and how to reach the chain.",
    ),
]


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one more option, --config, which is read before all others."""

    @functools.wraps(command)
    def run(*, config: Path | None, **options: Any) -> None:  # noqa: ARG001 - its callback read it
        command(**options)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config)
    parameters = [*signature.parameters.values(), option]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def own_file() -> MemberFile:
    """The `member.toml` that the command was given; an empty one if none."""
    from hansa.memberfile import MemberFile

    return _FILE.get() or MemberFile()


@dataclass(frozen=True, slots=True)
class Reached:
    """A federation that anybody may read: checked against its chain, without a key."""

    federation: Federation
    rpc: Rpc
    store: Store


@dataclass(frozen=True, slots=True)
class Open:
    """A federation under the key of one account."""

    federation: Federation
    key: MemberKey
    ledger: EvmLedger
    store: Store


@contextmanager
def reached(name: str, rpc: Sequence[str], store: str) -> Iterator[Reached]:
    """The federation, checked against its chain."""
    from hansa.federation import find, read_address
    from hansa.ledger.crosscheck import connect

    address, file = read_address(name), own_file()
    if file.federation is not None and read_address(file.federation) != address:
        raise errors.Misconfigured(
            f"your member.toml is for {file.federation}, and you named {address}",
            hint="Use the member.toml of that federation: each has a home, and usually a key, of its own.",
        )
    chain = connect(rpc, address.chain_id, route=file.route(), note=log.warning)
    try:
        shared = open_store(store)
        yield Reached(find(shared, chain, address), chain, shared)
    finally:
        chain.close()


@contextmanager
def opened(
    name: str,
    rpc: Sequence[str],
    store: str,
    key: Path,
    password_file: Path | None,
    *,
    look: float = 0.0,
    wait: bool = True,
) -> Iterator[Open]:
    """The federation, checked against its chain, and the ledger under the key's account.

    `wait`: a call is over when its block is as deep as `confirmations` in member.toml say.
    """
    from hansa.federation import read_address
    from hansa.member import ledger_of

    read_address(name)  # a bad name before a question
    own = own_key(key, password_file)
    with reached(name, rpc, store) as it:
        ledger = ledger_of(
            it.federation,
            own,
            it.rpc,
            lambda: int(time.time()),
            interval=look,
            confirmations=own_file().confirmations,
            wait=wait,
        )
        yield Open(it.federation, own, ledger, it.store)


def open_store(url: str) -> Store:
    """The object store that all share, with what `member.toml` says of how to reach it."""
    from hansa import wiring

    return wiring.store(url, **own_file().store_options(url))


def own_key(file: Path, password_file: Path | None) -> MemberKey:
    """The member's key; if `member.toml` names a remote signer, that one signs. Raises `Misconfigured`."""
    own, remote = open_key(file, password_file), own_file().signer
    if remote is None:
        return own
    from hansa.signers.remote import remote_signer

    service = remote_signer(remote.url, read_account(remote.address), route=own_file().signer_route())
    return replace(own, signer=service)


def read_account(text: str) -> bytes:
    """The 20 bytes of `0x` and 40 digits. Raises `Misconfigured`."""
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
