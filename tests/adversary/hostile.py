"""Hostile parties for `tests.tiny`: wrappers around the ports of single nodes.

Where each kind of attack is tried (`docs/threat-model.md` has a row for every single one):

    attack                                                       file
    update: NaN, infinity, length, base, round, copy, flip,      test_bad_updates.py
      missing, too large, bomb, no examples, time out of line
    message: stale, replayed, forged, doubled, out of phase,     test_bad_messages.py
      garbage, overwritten, censored, two for one slot
    ballot: oneself, strangers, a rank twice, another ballot,    test_bad_ballots.py
      false selection, colluding evaluators at 30 %
    leader: wrong sum, other bytes, nothing stored, junk,        test_bad_leaders.py
      twice, vanished; verifier: twice, lazy, silent, contrary
    member: withholds layer, blob or key, shows it to some;      test_bad_members.py
      too few; away, back, left, excluded, new; pause, resume
    world: lying store, silent chain, full disk, killed node     test_faults.py
    every governance, rule, optimiser and mode, under attack     test_variants.py
    sums: uploads, keys, halves, openings, models of `secagg`    test_sums_attacks.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from tests.tiny import Tiny, tiny

from hansa import encoding, errors
from hansa.node.world import World
from hansa.ports import Sealed
from hansa.protocol.contexts import update_context
from hansa.protocol.updates import encode_update
from hansa.protocol.wire import encode_item
from hansa.records import Fault, SelectionTerms, Update

ALL = SelectionTerms(rule="none")
"""Without selection an aggregate does not depend on the beacon, so that two federations can be compared."""


class Wrapped:
    """Everything that a subclass does not change goes to the thing inside."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Lying(Wrapped):
    """A scheme whose owner seals what `say` makes of its update, and then alters the blob by `bend`."""

    def __init__(
        self,
        inner: Any,
        say: Callable[[Update], bytes | Update] = encode_update,
        bend: Callable[[bytes], bytes] = bytes,
    ) -> None:
        super().__init__(inner)
        self.say, self.bend = say, bend

    def seal(self, state: Any, update: Update, fetch: Any) -> Sealed:
        said = self.say(update)
        data = said if isinstance(said, bytes) else encode_update(said)
        context = update_context(state.domain, update.round, update.member, update.version)
        readers, label = state.current.readers, f"update/{update.round}"
        sealed = self.inner._grants.seal(state.domain, readers, data, context, label)
        return Sealed(self.bend(sealed.blob), sealed.attachments)


def lying(**how: Any) -> Callable[[World], World]:
    return lambda world: replace(world, scheme=Lying(world.scheme, **how))


class Ledger(Wrapped):
    """A node's ledger; `change` may replace or drop (None) each call before it goes out."""

    def __init__(self, inner: Any, change: Callable[[Any], Any]) -> None:
        super().__init__(inner)
        self.change = change

    def submit(self, *calls: Any) -> None:
        changed = [self.change(call) for call in calls]
        self.inner.submit(*(call for call in changed if call is not None))


class Dead(Wrapped):
    """A ledger or store that answers nothing while `off()` holds."""

    def __init__(self, inner: Any, off: Callable[[], bool]) -> None:
        super().__init__(inner)
        self.off = off

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.off():
                raise errors.Unavailable("no answer", hint="Wait.")
            return method(*args, **kwargs)

        return call


class Hiding(Wrapped):
    """A store that one author's blobs reach in private: `secret` holds what only its friends may read."""

    def __init__(self, inner: Any, secret: dict[bytes, bytes], *, author: bool = False) -> None:
        super().__init__(inner)
        self.secret, self.author = secret, author

    def put(self, data: bytes, digest: bytes | None = None) -> bytes:
        if not self.author:
            return bytes(self.inner.put(data, digest))
        digest = encoding.digest(data)
        self.secret[digest] = data
        return digest

    def get(self, digest: bytes, *, limit: int) -> bytes:
        return self.secret.get(digest) or self.inner.get(digest, limit=limit)


def outbox(made: Tiny, slot: str, id: int, data: bytes, state: Any = None) -> None:
    """Put bytes where a relay looks for a member's message."""
    at = state or made.state
    made.store.put_at(f"outbox/{at.domain.hex()}/{at.round}/{slot}/{id}", data)


def signed(made: Tiny, id: int, name: str, *values: Any) -> bytes:
    return made.parties[id].sign(encoding.message_bytes(made.state.domain, name, *values))


def item(message: Any) -> bytes:
    return encode_item(message)


def faults(made: Tiny, id: int) -> list[Fault]:
    return [Fault(e.why) for e in made.chain.events if type(e).__name__ == "Slashed" and e.id == id]


def outcomes(made: Tiny) -> list[int]:
    return [int(e.outcome) for e in made.chain.events if type(e).__name__ == "Ended"]


def selections(made: Tiny) -> list[frozenset[int]]:
    """Ids selected in each round."""
    bitmaps = [e.selected for e in made.chain.events if type(e).__name__ == "Selected"]
    return [frozenset(i for i in range(64) if b >> i & 1) for b in bitmaps]


def available(made: Tiny) -> list[frozenset[int]]:
    bitmaps = [e.available for e in made.chain.events if type(e).__name__ == "Frozen"]
    return [frozenset(i for i in range(64) if b >> i & 1) for b in bitmaps]


def leaders(made: Tiny) -> list[tuple[int, int]]:
    return [(e.round, e.id) for e in made.chain.events if type(e).__name__ == "Elected"]


def findings(made: Tiny, ids: Iterable[int]) -> list[str]:
    """What these nodes noted, one text for each."""
    return ["\n".join(n.findings) for n in made.nodes if n.me.id in set(ids)]


def without(id: int, **changes: Any) -> Tiny:
    """The same federation, run to its end, in which member `id` sends no update."""
    made = tiny(idle=frozenset({id}), **{"selection": ALL, **changes})
    made.run()
    return made


def wait_until(made: Tiny, share: float) -> None:
    """Let time pass to a share of the running phase."""
    duration = made.state.parameters.durations[made.state.phase - 1]
    made.now = max(made.now, made.state.deadline - duration + int(duration * share))


def delta_of(update: Update, values: Any) -> Update:
    return replace(update, values=np.asarray(values, np.int32), length=len(values), indices=None)
