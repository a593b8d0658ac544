"""The executable specification as a `Ledger`: a federation in memory, for tests of everything above it.

Each accepted call is a block. Blocks can be undone, as a chain does that reorganises: a view shows only what
`confirmations` further blocks stand upon, so that no view goes back when no more than these are undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hansa.ports import View
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.events import Event
from hansa.protocol.state import State


@dataclass(frozen=True, slots=True)
class Block:
    """One block: what it holds and the state after it. An empty one has no call. `time`: UNIX seconds."""

    number: int
    hash: bytes
    time: int
    state: State
    events: tuple[Event, ...] = ()
    call: msg.Call | None = None
    sender: bytes = b""


class Specified:
    """One federation and its chain. `confirmations`: blocks that must follow one before a view shows it."""

    def __init__(self, state: State, *, confirmations: int = 0) -> None:
        self.blocks = [Block(0, bytes(32), 0, state)]
        self._confirmations = confirmations
        self._final = 0
        self._turns = 0

    @property
    def state(self) -> State:
        """The state after the newest block."""
        return self.blocks[-1].state

    @property
    def block(self) -> int:
        """The number of the newest block."""
        return self.blocks[-1].number

    @property
    def events(self) -> list[Event]:
        """All events, in order."""
        return [event for block in self.blocks for event in block.events]

    def final(self) -> Block:
        """The newest block that a view shows: the newest that ever had its confirmations and stands."""
        return self.blocks[self._final]

    def mine(self, now: int, call: msg.Call | None = None, sender: bytes = b"") -> Block:
        """Add a block with a call, or an empty one, at time `now`. Raises `Refused`."""
        state, events = self.state, list[Event]()
        if call is not None:
            events = rules.decide(state, call, now, sender)[0]
            for event in events:
                state = rules.evolve(state, event)
        number = self.block + 1
        # A block has its height and the number of reorganisations before it for a hash: no two are equal.
        name = number.to_bytes(16, "big") + self._turns.to_bytes(16, "big")
        self.blocks.append(Block(number, name, now, state, tuple(events), call, sender))
        self._final = max(self._final, number - self._confirmations)
        return self.blocks[-1]

    def undo(self, depth: int) -> list[Block]:
        """Take the newest `depth` blocks back, as a reorganisation does; gives them, oldest first.

        The first block stays. What they held is on the chain again only if somebody sends it anew.
        """
        self._turns += 1
        kept = max(1, len(self.blocks) - depth)
        undone, self.blocks = self.blocks[kept:], self.blocks[:kept]
        self._final = min(self._final, self.block)
        return undone


class SpecifiedLedger:
    """A sender's end of a `Specified` federation."""

    def __init__(self, chain: Specified, sender: bytes, clock: Callable[[], int]) -> None:
        self._chain = chain
        self._sender = sender
        self._clock = clock

    def view(self) -> View:
        """The state after the newest final block."""
        block = self._chain.final()
        return View(block.state, self._clock(), block.number, block.hash)

    def submit(self, *calls: msg.Call) -> None:
        """Apply calls, each a block of its own. Raises `Refused`."""
        for call in calls:
            self._chain.mine(self._clock(), call, self._sender)

    def dry_run(self, call: msg.Call) -> list[int]:
        """Codes of a batch's items. Raises `Refused`."""
        return rules.decide(self._chain.state, call, self._clock(), self._sender)[1]
