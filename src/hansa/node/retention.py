"""Old rounds are forgotten: what a node put into the store, and its own copies, `retain_rounds` after their last use.

A blob may serve several rounds, as a grant does: each use makes its stamp newer, and only what no round within the
window used is deleted. Stamps of what goes into the store are journaled before the effect, so that a node that was
killed still knows what it left there. Everyone deletes its own; nobody deletes another's.
"""

from __future__ import annotations

from collections.abc import Iterable

from hansa import errors
from hansa.node.world import Findings, World
from hansa.protocol import secagg
from hansa.protocol.evidence import sealed_digest
from hansa.protocol.state import State
from hansa.records import Terms

STORED, NAMED, KEPT = "stored", "named", "kept"
"""Blobs in the store, messages in its outbox, blobs on the own disk."""

AT_ONCE = 256
"""Deletions at the beginning of a round; what is left waits for the next."""


class Retention:
    """What one node is to forget, and when. With `retain_rounds` 0 all is kept for ever."""

    def __init__(self, terms: Terms, world: World, findings: Findings, id: int) -> None:
        self._terms = terms
        self._window = terms.retain_rounds
        self._world = world
        self._note = findings.note
        self._id = id
        self._round = 0
        self._used: set[bytes] = set()

    def stored(self, state: State, *digests: bytes) -> None:
        """These blobs are about to be put into the store for the running round."""
        self._hold(STORED, (digest.hex() for digest in digests), state.round)

    def named(self, state: State, key: str) -> None:
        """Bytes are about to be put under this key for the running round."""
        self._hold(NAMED, (key,), state.round)

    def used(self, *digests: bytes) -> None:
        """The running round needs these blobs, of which the own disk may have copies."""
        if self._window:
            self._used.update(digests)

    def turn(self, state: State, needed: frozenset[bytes] | None = frozenset()) -> None:
        """A new round began: note what the last one used, delete what no round in the window did.

        `needed`: what the new one needs beside the model; nothing is deleted where that is not known (None).
        """
        if not self._window:
            return
        try:
            self._stamp(state)
            self._world.journal.touch((digest.hex() for digest in needed or ()), state.round)
            if needed is None:
                return
            if self._touch_summed(state) if self._terms.secagg is not None else self._touch_standing(state):
                self._collect(state.round - self._window)
        except (errors.Unavailable, errors.Untrusted) as e:
            self._note(f"round {state.round}: old rounds were not deleted: {e} {e.hint}".strip())

    def _hold(self, place: str, names: Iterable[str], round: int) -> None:
        if self._window:
            self._world.journal.hold(place, names, round)

    def _stamp(self, state: State) -> None:
        if self._round:
            self._hold(KEPT, (digest.hex() for digest in self._used), self._round)
            self._used.clear()
        else:
            # Copies that a killed node had not yet written down count from now.
            found = {digest.hex() for digest in self._world.kept.digests()}
            self._hold(KEPT, found - self._world.journal.holdings(KEPT), state.round)
        self._round = state.round

    def _touch_standing(self, state: State) -> bool:
        """Count the model that stands, and how it was released, as used; whether this node may delete then.

        Whoever released that model must know all of it before it deletes anything.
        """
        live = {state.model, state.model_evidence}
        try:
            if state.model_author is not None:
                kept, limit = self._world.kept, self._world.limits.blob
                sealed = sealed_digest(self._terms, kept.get(state.model_evidence, limit=limit))
                live |= {sealed, *self._world.scheme.references(kept.get(sealed, limit=limit))}
            return True
        except (errors.Unavailable, errors.Untrusted):
            return state.model_author != self._id
        finally:
            self._world.journal.touch((digest.hex() for digest in live), state.round)

    def _touch_summed(self, state: State) -> bool:
        """The same under `secagg`, where the chain names it all but the dealt halves, which the set-up names."""
        live = secagg.lasting(state)
        try:
            setup = secagg.setup(state, secagg.parties(self._terms, state))
            if setup is not None:
                data = self._world.kept.get(setup, limit=self._world.limits.blob)
                live |= frozenset(self._world.scheme.references(data))
            if self._terms.tee is not None:
                live |= self._delivered(state)
            return True
        except (errors.Unavailable, errors.Untrusted):
            # The halves can be had nowhere else: nobody deletes what it does not know.
            return False
        finally:
            self._world.journal.touch((digest.hex() for digest in live), state.round)

    def _delivered(self, state: State) -> frozenset[bytes]:
        """What the deliveries of the standing model's round name, as far as it lies here: it is its host's."""
        live, kept, limit = set[bytes](), self._world.kept, self._world.limits.blob
        for host, digest in secagg.deliveries(self._terms, state, state.model_round).items():
            try:
                sealed = sealed_digest(self._terms, kept.get(digest, limit=limit))
                live |= {sealed, *self._world.scheme.references(kept.get(sealed, limit=limit))}
            except (errors.Unavailable, errors.Untrusted):
                if host == self._id:
                    raise
        return frozenset(live)

    def _collect(self, before: int) -> None:
        gone: list[tuple[str, str]] = []
        try:
            for place, name in self._world.journal.outdated(before, AT_ONCE):
                if place == NAMED:
                    self._world.store.delete(name)
                else:
                    where = self._world.kept if place == KEPT else self._world.store
                    where.discard(bytes.fromhex(name))
                gone.append((place, name))
        finally:
            self._world.journal.unhold(gone)
