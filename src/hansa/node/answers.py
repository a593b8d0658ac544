"""What holders of one half tell each other before they answer: which opening of a round they give it for.

Each holder's journal lets it answer one opening a round. A standby that holds the same half knows nothing of that
journal: after a deep reorganisation it could answer another opening than its colleague did, and both would be open.
So whoever is about to answer first leaves its signed word in the store, then looks for those of its colleagues, and
refuses where one names another opening. Two that look at the same time refuse both. A word that its author did not
sign counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hansa import encoding, errors
from hansa.node.world import Identity, World
from hansa.protocol import messages as msg
from hansa.protocol.items import signed
from hansa.protocol.state import State
from hansa.protocol.wire import ITEM_LIMIT, decode_item, encode_item
from hansa.records import RecordKind


def place(state: State, id: int) -> str:
    """Where an id leaves its word about the running round."""
    return f"openings/{state.domain.hex()}/{state.round}/{id}"


def announce(me: Identity, world: World, state: State, opening: bytes) -> None:
    """Leave the own word that one answers the opening of this digest. Raises `Unavailable`."""
    fields = state.round, int(RecordKind.ANSWER)
    signature = me.signer.sign(encoding.message_bytes(state.domain, "Record", *fields, opening))
    word = msg.Record(*fields, me.id, opening, signature)
    world.store.put_at(place(state, me.id), encode_item(word))


def contrary(world: World, state: State, colleagues: Iterable[int], opening: bytes) -> Mapping[int, bytes]:
    """Those of `colleagues` who gave their word for another opening, and for which. Raises `Unavailable`."""
    folder = place(state, 0).rpartition("/")[0]
    left = frozenset(world.store.list(folder))
    words = {id: _word(world, state, id) for id in colleagues if place(state, id) in left}
    return {id: word for id, word in words.items() if word not in (None, opening)}


def _word(world: World, state: State, id: int) -> bytes | None:
    """The opening that an id gave its word for; None where that is not its word."""
    try:
        word = decode_item("record", world.store.get_at(place(state, id), limit=ITEM_LIMIT))
    except errors.Untrusted:
        return None
    fields = word.round, word.kind, word.digest
    about = (word.round, word.kind, word.id) == (state.round, RecordKind.ANSWER, id)
    return bytes(word.digest) if about and signed(state, id, word.signature, "Record", *fields) else None
