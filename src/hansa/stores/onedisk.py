"""The stores of nodes that share one process and one disk: what a simulation writes twice lies there once.

The shared store and the nodes' own copies stay two folders, as `objects` writes and reads them. A blob whose file in
one of them this process wrote is linked into the other, not written again; one that was hashed is answered from memory
for as long as its file is untouched; and messages on their way to the chain never reach the disk: a node that starts
again takes them from its journal.
"""

from __future__ import annotations

import builtins
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hansa import encoding, errors
from hansa.stores import objects, parts
from hansa.stores.objects import ObjectStore

LATELY = 16 * 1024 * 1024
"""Bytes of blobs that each of the two stores remembers."""

PASSING = "outbox/"
"""Names of what only passes through."""

FOLDERS = 1024
"""Folders of it, each for one kind of message of a round, that are remembered; the oldest go first."""

Mark = tuple[int, int, int]
"""A file's inode, size and time of its last change."""


class _Seen(NamedTuple):
    """A blob that was written or read; `hashed`: whether its digest is known to be right."""

    data: bytes
    mark: Mark
    hashed: bool


@dataclass(slots=True)
class OneDisk:
    """The `Store` port over a folder; `beside` is the other one, once it is there."""

    folder: Path
    inner: ObjectStore
    beside: OneDisk | None = None
    _lately: OrderedDict[bytes, _Seen] = field(default_factory=OrderedDict, repr=False)
    _size: int = 0
    _passing: OrderedDict[str, dict[str, bytes]] = field(default_factory=OrderedDict, repr=False)

    @property
    def place(self) -> str:
        """What names it in messages."""
        return self.inner.place

    def put(self, data: bytes, digest: bytes | None = None) -> bytes:
        """See `Store.put`. What lies there untouched, as a grant that serves many rounds, stays."""
        # Hashing what is at hand takes a tenth of the time in which it is read again for that.
        found = encoding.digest(data)
        digest = digest or found
        seen = self._untouched(digest)
        if seen is None or seen.data != data:
            if not self._link(data, digest):
                self.inner.put(data, digest)
            self._note(digest, data, hashed=digest == found)
        return digest

    def get(self, digest: bytes, *, limit: int) -> bytes:
        """See `Store.get`."""
        seen = self._untouched(digest)
        if seen is not None and seen.hashed and len(seen.data) <= limit:
            return seen.data
        data = self.inner.get(digest, limit=limit)
        self._note(digest, data, hashed=True)
        return data

    def _path(self, digest: bytes) -> str:
        return f"{self.folder}/{parts.blob_key(digest)}"

    def _mark(self, digest: bytes) -> Mark | None:
        try:
            found = os.stat(self._path(digest))
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _untouched(self, digest: bytes) -> _Seen | None:
        seen = self._lately.get(digest)
        return seen if seen is not None and seen.mark == self._mark(digest) else None

    def _note(self, digest: bytes, data: bytes, *, hashed: bool) -> None:
        self._forget(digest)
        mark = self._mark(digest)
        if mark is None or len(data) > LATELY:
            return
        self._lately[digest] = _Seen(data, mark, hashed)
        self._size += len(data)
        while self._size > LATELY:
            self._forget(next(iter(self._lately)))

    def _forget(self, digest: bytes) -> None:
        seen = self._lately.pop(digest, None)
        self._size -= len(seen.data) if seen is not None else 0

    def _link(self, data: bytes, digest: bytes) -> bool:
        """Whether the blob lies here now because the other folder has it, in a file that is untouched."""
        seen = self.beside._untouched(digest) if self.beside is not None else None
        if self.beside is None or seen is None or seen.data != data:
            return False
        here = self._path(digest)
        try:
            os.makedirs(os.path.dirname(here), exist_ok=True)
            os.link(self.beside._path(digest), here)
        except OSError:
            # Something lies here already and is to be repaired, or the disk has no links.
            return False
        return True

    def has(self, digest: bytes) -> bool:
        """See `Store.has`."""
        return self.inner.has(digest)

    def discard(self, digest: bytes) -> None:
        """See `Store.discard`."""
        self._forget(digest)
        self.inner.discard(digest)

    def digests(self) -> frozenset[bytes]:
        """See `Store.digests`."""
        return self.inner.digests()

    def put_at(self, key: str, data: bytes) -> None:
        """See `Store.put_at`."""
        if not key.startswith(PASSING):
            self.inner.put_at(key, data)
            return
        folder, _, name = key.rpartition("/")
        self._passing.setdefault(folder, {})[name] = data
        if len(self._passing) > FOLDERS:
            self._passing.popitem(last=False)

    def get_at(self, key: str, *, limit: int) -> bytes:
        """See `Store.get_at`."""
        if not key.startswith(PASSING):
            return self.inner.get_at(key, limit=limit)
        folder, _, name = key.rpartition("/")
        data = self._passing.get(folder, {}).get(name)
        if data is None:
            raise errors.Missing(f"{key} is not in {self.place}", hint="Wait for its author.")
        if len(data) > limit:
            raise errors.Untrusted(f"{key} in {self.place} has {len(data)} bytes, limit {limit}")
        return data

    def list(self, prefix: str) -> builtins.list[str]:
        """See `Store.list`."""
        if not f"{prefix}/".startswith(PASSING):
            return self.inner.list(prefix)
        found = {prefix: self._passing.get(prefix, {})}
        found |= {f: names for f, names in self._passing.items() if f.startswith(f"{prefix}/")}
        return sorted(f"{folder}/{name}" for folder, names in found.items() for name in names)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        if not key.startswith(PASSING):
            self.inner.delete(key)
            return
        folder, _, name = key.rpartition("/")
        names = self._passing.get(folder, {})
        names.pop(name, None)
        if not names:
            self._passing.pop(folder, None)


def create(store: Path, kept: Path) -> tuple[OneDisk, OneDisk]:
    """The shared store and the nodes' own copies, in two folders of one disk. Raises `Misconfigured`."""
    shared, own = (OneDisk(folder, objects.create(str(folder))) for folder in (store, kept))
    shared.beside, own.beside = own, shared
    return shared, own
