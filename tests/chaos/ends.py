"""What a node of the campaign reaches: its journal, its disk, the store and the chain, each of which may fail.

Every write is an effect, before or after which a node may be killed. `fed` is the federation of
`tests.chaos.federation`, which knows the faults of the moment.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from tests.adversary.hostile import Wrapped

from hansa import encoding, errors
from hansa.ports import View
from hansa.protocol import messages as msg
from hansa.protocol.wire import encode_item


class Killed(BaseException):
    """As sudden as SIGKILL: nothing in the package catches it."""


class Fuse:
    """Counts a node's effects down to its death, which may also come by chance."""

    def __init__(self, fed: Any) -> None:
        self.fed = fed
        self.left: int | None = None
        self.after = False

    def burn(self, effect: Callable[[], Any]) -> Any:
        """Carry an effect out, unless the node dies of it. Raises `Killed`."""
        if self.left is None and self.fed.chance("kill"):
            self.left, self.after = 0, self.fed.rng.random() < 0.5
        if self.left is None:
            return effect()
        self.left -= 1
        if self.left >= 0:
            return effect()
        self.left = None
        if self.after:
            with contextlib.suppress(errors.HansaError):
                effect()
        raise Killed


class Journal(Wrapped):
    """A journal whose writes are effects."""

    def __init__(self, inner: Any, fed: Any, fuse: Fuse) -> None:
        super().__init__(inner)
        self.fed, self.fuse = fed, fuse

    def put(self, round: int, entries: dict[str, bytes]) -> None:
        self.fed.changes += 1
        self.fuse.burn(lambda: self.inner.put(round, entries))

    def hold(self, place: str, names: Iterable[str], round: int) -> None:
        self.fuse.burn(lambda: self.inner.hold(place, names, round))

    def unhold(self, gone: Iterable[tuple[str, str]]) -> None:
        self.fuse.burn(lambda: self.inner.unhold(gone))


def _checked(data: bytes, digest: bytes | None) -> bytes:
    """The digest of what is put, which a node must know rightly where it names it."""
    found = encoding.digest(data)
    assert digest in (None, found), "a blob is put under another digest than its own"
    return found


class Disk:
    """The node's own blobs: `Store`, as far as a node uses it for these."""

    def __init__(self, blobs: dict[bytes, bytes], fuse: Fuse) -> None:
        self.blobs, self.fuse = blobs, fuse

    def put(self, data: bytes, digest: bytes | None = None) -> bytes:
        digest = _checked(data, digest)
        self.fuse.burn(lambda: self.blobs.__setitem__(digest, data))
        return digest

    def get(self, digest: bytes, *, limit: int) -> bytes:
        if digest not in self.blobs:
            raise errors.Unavailable("not on this disk")
        return self.blobs[digest]

    def has(self, digest: bytes) -> bool:
        return digest in self.blobs

    def discard(self, digest: bytes) -> None:
        self.fuse.burn(lambda: self.blobs.pop(digest, None))

    def digests(self) -> frozenset[bytes]:
        return frozenset(self.blobs)


class Wire:
    """The shared store: blobs, and the outbox, whose messages may be lost, late, doubled or overtaken.

    `late`: (time, key, bytes) yet to arrive. `held`: (messages that go first, key, bytes). `unseen`: until
    when a reader does not see a key.
    """

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self.names: dict[str, bytes] = {}
        self.late: list[tuple[int, str, bytes]] = []
        self.held: list[tuple[int, str, bytes]] = []
        self.unseen: dict[tuple[str, int], int] = {}

    def arrive(self, key: str, data: bytes) -> None:
        """A message comes through, and lets those go that it overtook."""
        self.names[key] = data
        waiting, self.held = self.held, []
        for first, other, text in waiting:
            if first > 1:
                self.held.append((first - 1, other, text))
            else:
                self.names[other] = text

    def deliver(self, now: int, *, everything: bool = False) -> bool:
        """Let what is due arrive; says whether anything did."""
        due = [m for m in self.late if everything or m[0] <= now]
        self.late = [m for m in self.late if m not in due]
        for _, key, data in due:
            self.arrive(key, data)
        if everything:
            self.names.update({key: data for _, key, data in self.held})
            due += self.held
            self.held, self.unseen = [], {}
        return bool(due)


class StoreEnd:
    """One node's way to the shared store."""

    def __init__(self, fed: Any, id: int, fuse: Fuse) -> None:
        self.fed, self.id, self.fuse = fed, id, fuse

    def _reach(self) -> None:
        if self.fed.hit("store-away", self.id):
            self.fed.count("store-away: calls")
            raise errors.Unavailable("the store does not answer")
        if self.fed.chance("flaky"):
            raise errors.Unavailable("the store did not answer this once")

    def put(self, data: bytes, digest: bytes | None = None) -> bytes:
        self._reach()
        digest = _checked(data, digest)
        self.fuse.burn(lambda: self._keep(digest, data))
        return digest

    def _keep(self, digest: bytes, data: bytes) -> None:
        self.fed.changes += 1
        if digest not in self.fed.wire.blobs and self.fed.chance("lost_blob"):
            self.fed.lose()
            return
        self.fed.wire.blobs[digest] = data

    def get(self, digest: bytes, *, limit: int) -> bytes:
        self._reach()
        if digest not in self.fed.wire.blobs:
            raise errors.Unavailable("no such blob")
        data = self.fed.wire.blobs[digest]
        lies = self.fed.hit("other-bytes", self.id)
        self.fed.injected["other-bytes: calls"] += lies is not None
        if lies or self.fed.chance("garbled"):
            raise errors.Untrusted("other bytes", digest=hashlib.sha256(data + b"!").digest())
        return data

    def has(self, digest: bytes) -> bool:
        self._reach()
        return digest in self.fed.wire.blobs

    def discard(self, digest: bytes) -> None:
        self._reach()
        self.fed.count("forgotten")
        self.fuse.burn(lambda: self.fed.wire.blobs.pop(digest, None))

    def delete(self, key: str) -> None:
        self._reach()
        self.fed.count("forgotten")
        self.fuse.burn(lambda: self.fed.wire.names.pop(key, None))

    def put_at(self, key: str, data: bytes) -> None:
        self._reach()
        self.fuse.burn(lambda: self._post(key, data))

    def _post(self, key: str, data: bytes) -> None:
        fed = self.fed
        fed.changes += 1
        kind, _, *where = key.split("/")
        if kind != "outbox":
            if kind == "manifests":
                fed.sign(("manifest", int(where[0]), int(where[1])), data)
            if kind in ("manifests", "rosters") and fed.chance("drop"):
                fed.mark(self.id)
            else:
                fed.wire.names[key] = data
            return
        round, slot, id = where
        fed.sign((slot, int(round), int(id)), data)
        if fed.chance("drop"):
            fed.mark(self.id)
        elif fed.chance("delay"):
            fed.mark(self.id)
            fed.wire.late.append((fed.now + fed.rng.randint(1, 120), key, data))
        elif fed.chance("reorder"):
            fed.mark(self.id)
            fed.wire.held.append((fed.rng.randint(1, 4), key, data))
        else:
            fed.wire.arrive(key, data)
            if fed.chance("duplicate"):
                # Once more, later; and where another member's message of another round should be.
                fed.wire.late.append((fed.now + fed.rng.randint(1, 60), key, data))
                other = f"{fed.rng.randrange(1, 4)}/{slot}/{fed.rng.randrange(fed.schedule.members)}"
                astray = f"{key.split('/')[0]}/{key.split('/')[1]}/{other}"
                if astray not in fed.wire.names:
                    fed.wire.late.append((fed.now + fed.rng.randint(0, 60), astray, data))

    def get_at(self, key: str, *, limit: int) -> bytes:
        self._reach()
        if key not in self.fed.wire.names or self._unseen(key):
            raise errors.Unavailable("no such key")
        return self.fed.wire.names[key]

    def list(self, prefix: str) -> list[str]:
        self._reach()
        return sorted(k for k in self.fed.wire.names if k.startswith(prefix + "/") and not self._unseen(k))

    def _unseen(self, key: str) -> bool:
        """A message reaches readers at different times: a key that is new may be unknown to one for a while."""
        if key.rsplit("/", 1)[-1] == str(self.id):
            return False
        until = self.fed.wire.unseen.get((key, self.id))
        if until is None:
            until = self.fed.now + (self.fed.rng.randint(1, 30) if self.fed.chance("delay") else 0)
            self.fed.wire.unseen[key, self.id] = until
        return until > self.fed.now


class LedgerEnd:
    """One node's way to the chain."""

    def __init__(self, fed: Any, id: int, fuse: Fuse) -> None:
        self.fed, self.id, self.fuse = fed, id, fuse

    def _reach(self) -> None:
        if self.fed.hit("chain-away", self.id):
            self.fed.count("chain-away: calls")
            raise errors.Unavailable("the chain does not answer")

    def view(self) -> View:
        self._reach()
        stale, skew = self.fed.hit("stale-view", self.id), self.fed.hit("skew", self.id)
        view = self.fed.chain.view(stale.amount if stale else 0)
        clock = self.fed.now + (skew.amount if skew else 0)
        return replace(view, now=max(view.now, clock))

    def dry_run(self, call: msg.Call) -> list[int]:
        self._reach()
        return self.fed.chain.dry_run(self.id, call)

    def submit(self, *calls: msg.Call) -> None:
        for call in calls:
            for item in getattr(call, "items", ()):
                if item.id == self.id:
                    self._own(call, encode_item(item))
            self._reach()
            self.fuse.burn(lambda call=call: self._send(call))

    def _own(self, call: Any, data: bytes) -> None:
        """A message of its own, unless it is one that went astray in the outbox and is relayed unread."""
        slot, round = _slot(call), call.round
        key = f"outbox/{self.fed.state.domain.hex()}/{round}/{slot}/{self.id}"
        if self.fed.wire.names.get(key) != data:
            self.fed.sign((slot, round, self.id), data)

    def _send(self, call: msg.Call) -> None:
        fed = self.fed
        fed.changes += 1
        if fed.hit("halt", self.id):
            fed.pending.append((fed.now, self.id, call))
            raise errors.Unavailable("the chain makes no block")
        if fed.chance("unsent"):
            fed.mark(self.id)
            raise errors.Unavailable("the call did not get through")
        if fed.chance("late"):
            fed.mark(self.id)
            fed.pending.append((fed.now + fed.rng.randint(1, 60), self.id, call))
            raise errors.Unavailable("the call is not in a block yet")
        fed.apply(self.id, call)
        if fed.chance("twice"):
            fed.pending.append((fed.now + fed.rng.randint(0, 60), self.id, call))
        if fed.chance("unanswered"):
            raise errors.Unavailable("the answer got lost")


_KINDS: dict[type, str] = {
    msg.Commits: "commit",
    msg.Reveals: "reveal",
    msg.Availabilities: "availability",
    msg.Ballots: "ballot",
    msg.Openings: "opening",
    msg.Precommits: "precommit",
    msg.Votes: "vote",
    msg.OpeningVotes: "opened",
}


def _slot(call: Any) -> str:
    """The outbox's name for what a batch carries."""
    kind = _KINDS[type(call)]
    return f"{kind}-{call.attempt}" if kind == "vote" else kind
