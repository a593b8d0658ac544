"""What all commands on a shared federation are told: which one, over which chain and store, by whose key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.keys import open_key

if TYPE_CHECKING:
    from hansa.federation import Federation
    from hansa.ledger.evm import EvmLedger
    from hansa.ledger.rpc import Rpc
    from hansa.ports import Store
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
AnyName = Annotated[
    str, typer.Argument(metavar="RUN|FEDERATION", help="Run folder, or as deploy printed it.")
]
AnyRpcUrl = Annotated[
    str | None,
    typer.Option("--rpc", metavar="URL", envvar="HANSA_RPC", help="A node of the federation's chain."),
]
AnyStoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", envvar="HANSA_STORE", help="The federation's object store."),
]
ReaderKey = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Key file of a member, to open what is sealed.")
]
AppFolder = Annotated[Path, typer.Option("--app", metavar="APP", help="Folder with app.py of the terms.")]


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
def reached(name: str, rpc: str, store: str) -> Iterator[Reached]:
    """The federation, checked against its chain."""
    from hansa import wiring
    from hansa.federation import find, read_address
    from hansa.ledger.rpc import Endpoint

    address = read_address(name)
    endpoint = Endpoint(rpc, address.chain_id)
    try:
        shared = wiring.store(store)
        yield Reached(find(shared, endpoint, address), endpoint, shared)
    finally:
        endpoint.close()


@contextmanager
def opened(
    name: str, rpc: str, store: str, key: Path, password_file: Path | None, *, look: float = 0.0
) -> Iterator[Open]:
    """The federation, checked against its chain, and the ledger under the key's account."""
    from hansa.federation import read_address
    from hansa.member import ledger_of

    read_address(name)  # a bad name before a question
    own = open_key(key, password_file)
    with reached(name, rpc, store) as it:
        ledger = ledger_of(it.federation, own, it.rpc, lambda: int(time.time()), interval=look)
        yield Open(it.federation, own, ledger, it.store)


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
