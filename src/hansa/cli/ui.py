"""`hansa ui`: the report of a run or a federation, live, in a browser on this machine."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.connection import AnyName, AnyRpcUrl, AnyStoreUrl
from hansa.cli.console import console, print_json

if TYPE_CHECKING:
    from hansa.report.facts import Facts

PORT = 8631


def ui(
    name: AnyName,
    rpc: AnyRpcUrl = None,
    store: AnyStoreUrl = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 for any.")] = PORT,
    browser: Annotated[bool, typer.Option("--open", help="Open it in a browser, too.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the address as one JSON object; it serves until it is stopped."),
    ] = False,
) -> None:
    """Serve the report of a run or a federation while it goes on, on this machine only. Reads only, needs no key.

    The page follows by itself. It serves until Ctrl-C or SIGTERM.
    """
    from hansa.report.serve import Latest, served

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _reader(name, rpc, store) as read:
        latest = Latest(read)
        latest()
        with served(latest, port) as address:
            if as_json:
                print_json({"url": address})
            else:
                console().print(f"{name} is shown at {address}\nStop it by Ctrl-C.", soft_wrap=True)
            sys.stdout.flush()
            if browser:
                _open(address)
            stop.wait()


@contextmanager
def _reader(name: str, rpc: list[str] | None, store: str | None) -> Iterator[Callable[[], Facts]]:
    """What reads the facts of a run folder or of a federation."""
    from hansa.cli.reading import SHARED, required, run_folder

    if not name.startswith(SHARED):
        from hansa.report.folder import RunFacts

        yield RunFacts(run_folder(name)).read
        return
    from hansa.cli.connection import reached
    from hansa.report.shared import SharedFacts

    with reached(name, *required(name, rpc, store)) as it:
        yield SharedFacts(it.federation, it.rpc, it.store).read


def _open(address: str) -> None:
    import webbrowser

    try:
        opened = webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if not opened:
        console(stderr=True).print(f"No browser could be opened here; open {address} in one.", soft_wrap=True)
