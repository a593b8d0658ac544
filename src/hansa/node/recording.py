"""Records on the chain that a node makes in its own name."""

from __future__ import annotations

from hansa import encoding, errors
from hansa.node.world import Identity, World
from hansa.ports import View
from hansa.protocol import messages as msg
from hansa.protocol.state import record_of

AGAIN = 8
"""What was sent and is not seen yet is sent again after this part of a phase: it may have been lost."""


class Records:
    """What one node has recorded, or has under way."""

    def __init__(self, me: Identity, world: World) -> None:
        self._me = me
        self._world = world
        self._until: dict[tuple[int, int], int] = {}

    def record(self, view: View, round: int, kind: int, digest: bytes) -> bool:
        """Record a digest, once a round and kind; whether anything was sent. Raises `Refused`, `Unavailable`."""
        state, name = view.state, (round, kind)
        if record_of(state, *name, self._me.id) is not None or view.now < self._until.get(name, 0):
            return False
        data = encoding.message_bytes(state.domain, "Record", round, kind, digest)
        call = msg.Record(round, kind, self._me.id, digest, self._me.signer.sign(data))
        self._until[name] = view.now + max(1, min(state.parameters.durations) // AGAIN)
        try:
            self._world.ledger.submit(call)
        except errors.AlreadySent:
            return False
        return True
