"""Blobs of the running round: own ones published, others' fetched once, opened and checked. All are kept, and put
back into the store if they go missing there."""

from __future__ import annotations

from collections.abc import Iterable

from hansa import errors
from hansa.node.retention import Retention
from hansa.node.world import Findings, World
from hansa.protocol import timing
from hansa.protocol.aggregation import Contribution
from hansa.protocol.state import State
from hansa.records import Phase, Terms, Update

CACHE_VALUES = 16 * 1024 * 1024
"""Values of opened updates that a node keeps in memory within a round; the others are opened again."""

CACHE_BYTES = 64 * 1024 * 1024
"""Bytes of sealed updates that a host keeps in memory within a round: they are for its enclave, should it lead. The
others are read and hashed again."""


class Blobs:
    """One node's view of them. `checked` and `refused` are the authors of good and of bad updates."""

    def __init__(self, terms: Terms, world: World, findings: Findings, retention: Retention) -> None:
        self.terms = terms
        self.world = world
        self.note = findings.note
        self.retention = retention
        self.checked: set[int] = set()
        self.refused: set[int] = set()
        self.shared: tuple[Phase, int] | None = None
        self._opened: dict[tuple[int, bytes], Update] = {}
        self._held: tuple[set[bytes], set[bytes]] = (set(), set())
        self._sealed: dict[bytes, bytes] = {}
        self._room = CACHE_BYTES

    def turn(self) -> None:
        """A new round began."""
        self.checked.clear()
        self.refused.clear()
        self.shared = None
        self._opened.clear()
        self._sealed.clear()
        self._room = CACHE_BYTES
        self._held = (set(), self._held[0])

    def fetch(self, state: State, ids: frozenset[int]) -> bool:
        """Get and check these authors' updates; says whether anything came of it."""
        check = self.terms.training.time_check
        odd = timing.outliers(state.current.commits) if check != "off" else frozenset()
        for id in sorted(odd & ids):
            self.note(f"round {state.round}: training time of member {id} is out of proportion to its data")
        before = len(self.checked) + len(self.refused)
        for id in sorted(ids):
            try:
                if id in odd and check == "reject":
                    raise errors.Untrusted("training time is out of proportion to its data")
                self._check(state, id)
                self.checked.add(id)
            except errors.Unavailable:
                continue
            except errors.Untrusted as e:
                self.refused.add(id)
                self.note(f"round {state.round}: update of member {id} refused: {e}")
        return len(self.checked) + len(self.refused) > before

    def update(self, state: State, id: int) -> Update:
        """A member's update of this round, opened and checked. Raises `Unavailable`, `Untrusted`."""
        update = self._check(state, id)
        assert update is not None, "this scheme shows no update"
        return update

    def _check(self, state: State, id: int) -> Update | None:
        key = (id, state.current.commits[id].digest)
        if key in self._opened:
            return self._opened[key]
        blob = self.get(key[1])
        self._keep_sealed(key[1], blob)
        update = self.world.scheme.check(state, id, blob, self.get)
        self.retention.used(*self.world.scheme.references(blob))
        if update is not None:
            held = sum(u.values.size for u in self._opened.values())
            if held + update.values.size <= CACHE_VALUES:
                self._opened[key] = update
        return update

    def _keep_sealed(self, digest: bytes, blob: bytes) -> None:
        if self.world.enclosure is not None and digest not in self._sealed and len(blob) <= self._room:
            self._sealed[digest] = blob
            self._room -= len(blob)

    def get(self, digest: bytes, *, limit: int | None = None) -> bytes:
        """A blob from the own disk, else from the store; kept from then on. `limit`: bytes of one of this kind."""
        self.retention.used(digest)
        limit = limit or self.world.limits.blob
        sealed = self._sealed.get(digest)
        if sealed is not None and len(sealed) <= limit:
            return sealed
        try:
            return self.world.kept.get(digest, limit=limit)
        except (errors.Unavailable, errors.Untrusted):
            pass
        try:
            blob = self.world.store.get(digest, limit=limit)
        except errors.Untrusted as e:
            # The store's fault, not the author's: it may yet give the right bytes.
            raise errors.Unavailable(f"the store gives other bytes than asked for: {e}") from e
        self.world.kept.put(blob, digest)
        self._held[0].add(digest)
        return blob

    def hold(self, digests: Iterable[bytes]) -> None:
        """What earlier rounds brought is needed in this one: it is put back as what was fetched lately."""
        self._held[0].update(digests)

    def keep(self, data: bytes, digest: bytes | None = None) -> bytes:
        """Keep bytes on the own disk; gives their digest, which the caller may know: see `Store.put`."""
        digest = self.world.kept.put(data, digest)
        self.retention.used(digest)
        return digest

    def publish(self, state: State, *blobs: bytes, first: bytes | None = None) -> list[bytes]:
        """Put own blobs into the store, with copies on the own disk to put them back from; gives their digests.

        `first`: digest of the first one, where it is known.
        """
        known = (first, *(None for _ in blobs[1:]))
        digests = [self.keep(blob, digest) for blob, digest in zip(blobs, known, strict=True)]
        self.retention.stored(state, *digests)
        for blob, digest in zip(blobs, digests, strict=True):
            self.world.store.put(blob, digest)
        self._held[0].update(digests)
        if first is not None:
            self._keep_sealed(first, blobs[0])
        return digests

    def share(self, state: State, quarter: int) -> bool:
        """Put what was published or fetched lately into the store where it lacks there."""
        store, put = self.world.store, 0
        for digest in sorted(self._held[0] | self._held[1]):
            if not store.has(digest):
                store.put(self.get(digest), digest)
                put += 1
        self.shared = (state.phase, quarter)
        return put > 0

    def contribution(self, state: State, id: int) -> Contribution:
        """A selected update as the aggregation takes it. Raises as `update`."""
        update = self.update(state, id)
        return Contribution(
            member=id,
            examples=update.examples,
            staleness=state.version - update.version,
            values=update.values,
            indices=update.indices,
        )
