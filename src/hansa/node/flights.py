"""What a node has sent to the chain lately, and may not see yet: a view waits for confirmations.

It is not sent again before a quarter of the phase went by. Then it may have been lost, or undone by a
reorganisation. Nothing of this outlives a restart: what is sent twice is refused once.
"""

from __future__ import annotations

from collections.abc import Hashable, Set

from hansa.ports import View
from hansa.protocol.state import State

_Key = tuple[int, int, int, Hashable]


class Flights:
    """What is on its way, by name, in a phase of an attempt."""

    def __init__(self) -> None:
        self._until: dict[_Key, int] = {}

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

    def away(self, view: View) -> Set[Hashable]:
        """What was sent so lately that it may be on its way."""
        if not self._until:
            return frozenset()
        here = _in(view.state, None)[:3]
        return {key[3] for key, until in self._until.items() if key[:3] == here and view.now < until}


def _in(state: State, name: Hashable) -> _Key:
    return state.phase, state.current.attempt, state.deadline, name
