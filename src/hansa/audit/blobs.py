"""The blobs of a federation: in its store and, in a run folder, on the nodes' own disks. Only read, never trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from hansa import encoding, errors
from hansa.audit.report import Book, Forgotten
from hansa.ports import Store
from hansa.records import Limits
from hansa.stores import parts

NAMES, PRESENT = "blobs hashed", "blobs present"
STORE, KEPT = "store", "kept"


class Blobs(Protocol):
    """Blobs by digest.

    `forgiven` says why a blob may be missing, where the terms let it; it still counts as not checked.
    """

    forgiven: str

    def require(self, digest: bytes, subject: str, *parts: str) -> None:
        """Note whether a blob lies in these parts; each is counted once."""

    def get(self, digest: bytes) -> bytes:
        """A blob, hashed. Raises `Unavailable` when it is nowhere, `Untrusted` when other bytes are there."""

    def both(self, digest: bytes) -> bytes:
        """As `get`, for a blob that the store and a node must hold."""

    def named(self, folder: str, limit: int) -> Mapping[str, bytes]:
        """What lies under names in a folder of the store, of at most `limit` bytes each. Raises `Unavailable`."""


class StoreBlobs:
    """Blobs of a store that members share. Their own disks are out of reach: nothing there is required."""

    def __init__(self, store: Store, limits: Limits, book: Book) -> None:
        self._store = store
        self._limits = limits
        self._book = book
        self._asked: set[bytes] = set()
        self._hashed: set[bytes] = set()
        self.forgiven = ""

    def require(self, digest: bytes, subject: str, *parts: str) -> None:
        """See `Blobs.require`."""
        if STORE not in parts or digest in self._asked:
            return
        self._asked.add(digest)
        with self._book.attempt(PRESENT, subject):
            if self._store.has(digest):
                self._book.passed(PRESENT)
            else:
                why = self.forgiven or f"the store lacks {digest.hex()}"
                self._book.gap(PRESENT, f"{subject}: {why}", forgotten=bool(self.forgiven))

    def get(self, digest: bytes) -> bytes:
        """See `Blobs.get`."""
        try:
            data = self._store.get(digest, limit=self._limits.blob)
        except errors.Unavailable as e:
            raise (Forgotten(self.forgiven) if self.forgiven else e) from e
        if digest not in self._hashed:
            self._hashed.add(digest)
            self._book.passed(NAMES)
        return data

    def both(self, digest: bytes) -> bytes:
        """See `Blobs.both`."""
        self.require(digest, "attachment", STORE)
        return self.get(digest)

    def named(self, folder: str, limit: int) -> Mapping[str, bytes]:
        """See `Blobs.named`."""
        found = {}
        for key in self._store.list(folder):
            with suppress(errors.Missing, errors.Untrusted):
                found[key.rsplit("/", 1)[-1]] = self._store.get_at(key, limit=limit)
        return found


class FolderBlobs:
    """Blobs of a run folder, from the store or else from the nodes' copies."""

    def __init__(self, folder: Path, limits: Limits, book: Book) -> None:
        self._folder = folder
        self._limits = limits
        self._book = book
        self._asked: set[tuple[bytes, str]] = set()
        self.forgiven = ""

    def scan(self) -> None:
        """Hash every file: each must have the digest that its name says."""
        self._book.expect(NAMES, PRESENT)
        for part in (STORE, KEPT):
            for path in _files(self._folder / part / "blobs"):
                self._hash(path, path.parent.name == path.name[:2])
            for path in _files(self._folder / part / "large"):
                if path.name != "manifest":
                    self._hash(path, in_place=True)

    def _hash(self, path: Path, in_place: bool) -> None:
        with self._book.attempt(NAMES, str(path.relative_to(self._folder)), gaps=False):
            if not path.is_file():
                raise errors.Untrusted("is no plain file")
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").digest()
            if path.name != found.hex() or not in_place:
                raise errors.Untrusted(f"has digest {found.hex()}", digest=found)
            self._book.passed(NAMES)

    def require(self, digest: bytes, subject: str, *parts: str) -> None:
        """Note whether a blob lies in these parts of the run folder; each is counted once."""
        for part in parts:
            if (digest, part) in self._asked:
                continue
            self._asked.add((digest, part))
            if any((self._folder / part / key).is_file() for key in _keys(digest)):
                self._book.passed(PRESENT)
            else:
                why = self.forgiven or f"{part}/ lacks {digest.hex()}"
                self._book.gap(PRESENT, f"{subject}: {why}", forgotten=bool(self.forgiven))

    def get(self, digest: bytes) -> bytes:
        """A blob, hashed. Raises `Unavailable` when no part has it, `Untrusted` when all give other bytes."""
        damage: errors.Untrusted | None = None
        for part in (STORE, KEPT):
            try:
                return self._read(part, digest)
            except FileNotFoundError:
                continue
            except OSError as e:
                raise errors.Unavailable(f"cannot read {part}/ {digest.hex()}: {e.strerror}") from e
            except errors.Untrusted as e:
                damage = e
        if damage is not None:
            raise damage
        if self.forgiven:
            raise Forgotten(self.forgiven)
        raise errors.Unavailable(f"blob {digest.hex()} lies neither in {STORE}/ nor in {KEPT}/")

    def both(self, digest: bytes) -> bytes:
        """As `get`, for a blob that the store and a node must hold."""
        self.require(digest, "attachment", STORE, KEPT)
        return self.get(digest)

    def named(self, folder: str, limit: int) -> Mapping[str, bytes]:
        """See `Blobs.named`."""
        paths = (path for path in _files(self._folder / STORE / folder) if path.is_file())
        return {path.name: path.read_bytes() for path in paths if path.stat().st_size <= limit}

    def _read(self, part: str, digest: bytes) -> bytes:
        """A blob of one part of the run folder, whole or put together. Raises `FileNotFoundError`."""
        whole, manifest = (self._folder / part / key for key in _keys(digest))
        if whole.is_file():
            data = _bounded(whole, self._limits.blob, digest)
        else:
            said = parts.decode_manifest(_bounded(manifest, parts.MANIFEST_LIMIT, digest))
            if said.size > self._limits.blob:
                raise errors.Untrusted(f"{part}/ {digest.hex()} has {said.size} bytes", digest=digest)
            pieces = (self._folder / part / parts.part_key(digest, name) for name in said.parts)
            data = b"".join(_bounded(piece, parts.PART, digest) for piece in pieces)
        found = encoding.digest(data)
        if found != digest:
            raise errors.Untrusted(f"{part}/ gives other bytes than {digest.hex()}", digest=found)
        return data


def _keys(digest: bytes) -> tuple[str, str]:
    return parts.blob_key(digest), parts.manifest_key(digest)


def _bounded(path: Path, limit: int, digest: bytes) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(path)
    if path.stat().st_size > limit:
        raise errors.Untrusted(
            f"{path.name} of {digest.hex()} has {path.stat().st_size} bytes", digest=digest
        )
    return path.read_bytes()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if not path.is_dir())
