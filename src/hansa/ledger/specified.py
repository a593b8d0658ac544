"""The executable specification as a `Ledger`: a federation in memory, for tests of everything above it."""

from __future__ import annotations

from collections.abc import Callable

from hansa.ports import View
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.events import Event
from hansa.protocol.state import State


class Specified:
    """One federation; each accepted call is a block."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.block = 0
        self.events: list[Event] = []


class SpecifiedLedger:
    """A sender's end of a `Specified` federation."""

    def __init__(self, chain: Specified, sender: bytes, clock: Callable[[], int]) -> None:
        self._chain = chain
        self._sender = sender
        self._clock = clock

    def view(self) -> View:
        """The state after the last call."""
        number = self._chain.block
        return View(self._chain.state, self._clock(), number, number.to_bytes(32, "big"))

    def submit(self, *calls: msg.Call) -> None:
        """Apply calls, each a block of its own. Raises `Refused`."""
        for call in calls:
            events, _ = rules.decide(self._chain.state, call, self._clock(), self._sender)
            for event in events:
                self._chain.state = rules.evolve(self._chain.state, event)
            self._chain.events += events
            self._chain.block += 1

    def dry_run(self, call: msg.Call) -> list[int]:
        """Codes of a batch's items. Raises `Refused`."""
        return rules.decide(self._chain.state, call, self._clock(), self._sender)[1]
