"""`hansa status`: where a federation stands and whom it waits for, once or until it has stopped."""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from hansa import errors
from hansa.cli.connection import AnyName, AnyRpcUrl, AnyStoreUrl
from hansa.cli.console import console, print_json
from hansa.records import Phase

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hansa.cli.reading import Reading, Source

LOOK = 2.0
"""Seconds between two readings."""


def status(
    name: AnyName,
    rpc: AnyRpcUrl = None,
    store: AnyStoreUrl = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew when it changes, until the federation has stopped.")
    ] = False,
    look: Annotated[
        float, typer.Option("--look", min=0.01, help="Seconds between two looks of --watch.")
    ] = LOOK,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --watch one a line.")
    ] = False,
) -> None:
    """Show where a run or a federation stands: rounds, members, whom it waits for. Reads only, needs no key."""
    from hansa.cli.reading import source
    from hansa.cli.standing import describe, page

    with source(name, rpc, store) as found:
        if watch:
            _watch(found, look, as_json)
        elif as_json:
            print_json(describe(found.read()))
        else:
            console().print(page(found.read()))


def _watch(found: Source, look: float, as_json: bool) -> None:
    """Until the federation has stopped, or SIGTERM or Ctrl-C says so; a chain that fails meanwhile is waited for."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    reading = found.read()
    out = console()
    screen = _Lines(as_json) if as_json or not out.is_terminal else _Screen(out)
    try:
        screen.show(reading)
        while not (stop.is_set() or _over(reading)):
            stop.wait(look)
            try:
                reading = found.read()
            except errors.Unavailable as e:
                screen.trouble(str(e))
            else:
                screen.show(reading)
    finally:
        screen.close()


def _over(reading: Reading) -> bool:
    """A run that has paused has ended; elsewhere members may vote to go on."""
    phase, run = reading.view.state.phase, reading.run
    return phase is Phase.STOPPED or (phase is Phase.PAUSED and run is not None and not run.running)


class _Screen:
    """A terminal, redrawn in place."""

    def __init__(self, out: Console) -> None:
        from rich.live import Live

        self._live = Live(console=out, auto_refresh=False, vertical_overflow="visible")
        self._shown: RenderableType = ""
        self._live.start()

    def show(self, reading: Reading) -> None:
        from hansa.cli.standing import page

        self._shown = page(reading)
        self._live.update(self._shown, refresh=True)

    def trouble(self, text: str) -> None:
        from rich.console import Group
        from rich.text import Text

        self._live.update(Group(self._shown, "", Text(text, style="yellow")), refresh=True)

    def close(self) -> None:
        self._live.stop()


class _Lines:
    """Anything else: one line when something has changed."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._said = ""

    def show(self, reading: Reading) -> None:
        from hansa.cli.standing import describe, line, moment_now

        text = line(reading)
        if text != self._said:
            self._said = text
            self._write(json.dumps(describe(reading)) if self._as_json else f"{moment_now(reading)} {text}")

    def trouble(self, text: str) -> None:
        if text != self._said:
            self._said = text
            console(stderr=True).print(text, soft_wrap=True)

    def _write(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        pass
