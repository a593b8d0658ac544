"""A federation on a chain that others keep, read again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hansa import errors
from hansa.cli.connection import Reached
from hansa.cli.models import current, readers, released
from hansa.cli.motions import fields
from hansa.cli.reading import Reading
from hansa.crypto import sealing
from hansa.ledger.evm import Fold
from hansa.motions import open_motions
from hansa.protocol.events import Event
from hansa.protocol.history import RoundStory, names_of, tell
from hansa.protocol.state import State
from hansa.records import Model
from hansa.signers.keystore import MemberKey


class Following:
    """A `Source`: the chain's events are folded once, and each reading asks for the new ones only."""

    def __init__(
        self,
        reached: Reached,
        key: MemberKey | None = None,
        clock: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._reached = reached
        self._key = key
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._fold = Fold(self._reached.rpc, self._reached.federation.deployment)
        self._story: tuple[RoundStory, ...] = ()
        self._fold.observe(self._tell)

    def _tell(self, event: Event, _block: int) -> None:
        self._story = tell(self._story, event)

    def read(self) -> Reading:
        """See `Source.read`. After a reorganisation the story is told anew: nothing in it can be taken back."""
        federation = self._reached.federation
        view = self._fold.view(lambda: 0)
        while self._fold.turns:
            self._begin()
            view = self._fold.view(lambda: 0)
        block_time, names = view.now, names_of(view.state)
        view = replace(view, now=max(block_time, self._clock()))
        subject, motions = str(federation.address), self._motions(view.state)
        return Reading(
            subject, federation.terms, view, self._story, names, block_time, run=None, motions=motions
        )

    def _motions(self, state: State) -> tuple[dict[str, object], ...] | None:
        store = self._reached.store
        try:
            return tuple(fields(store, state, motion) for motion in open_motions(store, state))
        except errors.Unavailable:
            return None

    def model(self, reading: Reading) -> Model:
        """See `Source.model`: from the store, opened with the sealing key of one of its readers."""
        state, key = reading.view.state, self._key
        if state.model_author is None:
            raise errors.Misconfigured(
                f"the federation {reading.subject} has no final round yet",
                hint="Wait for one: hansa status FEDERATION --watch",
            )
        if key is None:
            raise errors.Misconfigured(
                "the model is sealed to the members of its round, and no key is given",
                hint="Add --key FILE, a key file of one of them.",
            )
        id = state.ids.get(key.signer.address)
        if id is None or readers(state, reading.terms).get(id) != sealing.public_key(key.sealing_key):
            raise errors.Misconfigured(
                f"0x{key.signer.address.hex()} cannot read the current model: it is sealed to "
                f"{_listed(reading)}, by the keys they had when its round began",
                hint="Use the key file of one of them, or wait for the end of a round that this member is in.",
            )
        return current(
            state, released(state, reading.terms, self._reached.store, id, key.sealing_key), reading.terms
        )


def _listed(reading: Reading) -> str:
    state = reading.view.state
    return ", ".join(
        f"{reading.name(id)} (0x{state.members[id].address.hex()})"
        for id in sorted(readers(state, reading.terms))
    )
