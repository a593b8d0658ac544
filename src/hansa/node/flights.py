"""What a node has sent to the chain lately, and may not see yet: a view waits for confirmations.

It is not sent again before a quarter of the phase went by. Then it may have been lost, or undone by a
reorganisation. Nothing of this outlives a restart: what is sent twice is refused once.
"""

from __future__ import annotations

from collections.abc import Hashable

from hansa.ports import View
from hansa.protocol.state import State


class Flights:
    """What is on its way, by name, in a phase of an attempt."""

    def __init__(self) -> None:
        self._until: dict[Hashable, int] = {}

    def turn(self) -> None:
        """A new round began."""
        self._until.clear()

    def depart(self, name: Hashable, view: View) -> None:
        """It was sent."""
        state = view.state
        self._until[_in(state, name)] = view.now + max(1, state.parameters.durations[state.phase - 1] // 4)

    def known(self, name: Hashable, view: View) -> bool:
        """Whether it was sent in this phase."""
        return _in(view.state, name) in self._until

    def away(self, name: Hashable, view: View) -> bool:
        """Whether it was sent so lately that it may be on its way."""
        return view.now < self._until.get(_in(view.state, name), 0)


def _in(state: State, name: Hashable) -> Hashable:
    return state.phase, state.current.attempt, state.deadline, name
