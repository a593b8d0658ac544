"""`hansa sandbox`: a chain and a store on loopback, for members in processes of their own to join."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from hansa.cli.console import command, console, print_json

if TYPE_CHECKING:
    from hansa.sandbox import Home


def sandbox(
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on loopback; 0 takes a free one.")
    ] = 8545,
    home: Annotated[
        Path, typer.Option(metavar="DIR", help="Chain and store; made if missing, gone on with if not.")
    ] = Path("sandbox"),
    block_time: Annotated[
        int,
        typer.Option(min=1, metavar="SECONDS", help="A block comes after so long, and with transactions."),
    ] = 5,
    anvil: Annotated[
        bool, typer.Option("--anvil/--embedded", help="Which chain: anvil, if installed, or Hansa's own.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a chain and a store on this machine, for others to join. No coins, no Node.js, no network.

    Only this machine reaches it, and every program on it does: nothing in it is worth protecting. Ctrl-C,
    SIGTERM and SIGKILL end it; started again, it goes on. With --anvil the last second may be lost.
    """
    from hansa import sandbox as rooms

    with rooms.home(home) as own:
        if anvil:
            port = rooms.free_port(port)
            words = rooms.anvil(own, port, block_time)
            _announce(own, f"http://{rooms.HOST}:{port}", "anvil", block_time, as_json)
            os.set_inheritable(own.lock, True)
            os.execv(words[0], words)  # noqa: S606, no shell
        from hansa.ledger.server import Server

        server = Server(port)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        with rooms.embedded(own, int(time.time())) as chain:
            _announce(own, server.url, "embedded", block_time, as_json)
            server.serve(chain, block_time)
    console(stderr=True).print("stopped; start it again to go on")


def _announce(own: Home, rpc: str, kind: str, block_time: int, as_json: bool) -> None:
    from hansa.sandbox import CHAIN_ID

    store = str(own.store)
    if as_json:
        print_json({"rpc": rpc, "store": store, "chain_id": CHAIN_ID, "chain": kind, "pid": os.getpid()})
    else:
        # No table: a path must not be broken where a line ends.
        out = console()
        for label, text in (
            ("chain", f"{CHAIN_ID}, {kind}: a block with every transaction and each {block_time} s, no fees"),
            ("rpc", rpc),
            ("store", store),
            ("next", f"export {command(f'HANSA_RPC={rpc}', f'HANSA_STORE={store}')}"),
            ("", command("hansa", "doctor", "--rpc", rpc, "--store", store)),
        ):
            out.print(Text(f"{label:7}", style="bold").append(text, "not bold"), soft_wrap=True)
    sys.stdout.flush()
