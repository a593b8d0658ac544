"""Any object store that `obstore` speaks to: memory, a folder, S3, GCS, Azure, HTTP.

Blobs lie at `blobs/<first two hex digits>/<SHA-256 in hex>`, large ones in parts (see `parts`), and are hashed
again on every read: nobody needs to trust the store. Writes are atomic: a key holds the old bytes, the new ones,
or is missing, whenever the writer is killed. A folder is not flushed to the disk at every write; what a power
cut takes away reads as missing, or fails its digest.
"""

from __future__ import annotations

import builtins
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError

from hansa import encoding, errors
from hansa.records import Limits
from hansa.stores import parts
from hansa.stores.address import open_backend

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_KEY_LIMIT = 512
_DIGEST = re.compile("[0-9a-f]{64}")
_NO_BUCKET = "Make the bucket, or check its name in the store's address."


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The `Store` port over one `obstore` store; `place` names it in messages.

    `limit` is the size in bytes of the largest blob that it takes.
    """

    place: str
    _backend: Any = field(repr=False)
    limit: int = Limits().blob

    def put(self, data: bytes, digest: bytes | None = None) -> bytes:
        """Keep a blob; gives its SHA-256: `digest`, where the caller has computed or checked it already.

        Other bytes than those of `digest` are refused when they are read. A large one that was not written to
        its end goes on where it broke off. Raises `Misconfigured` for a blob above the limit, `Unavailable`
        when it cannot be written.
        """
        digest = digest or encoding.digest(data)
        if len(data) <= parts.PART:
            self._write(_blob_key(digest), data)
        else:
            self._write_parts(digest, data)
        return digest

    def get(self, digest: bytes, *, limit: int) -> bytes:
        """A blob by digest, of at most `limit` bytes.

        Raises `Unavailable` if it is not there, `Untrusted` if it is too large (seen before its body is read)
        or has another digest; the error then names the digest of the bytes that lie there instead.
        """
        try:
            data = self.get_at(_blob_key(digest), limit=limit)
        except _Missing as e:
            manifest = self._manifest(digest)
            if manifest is None:
                raise e from None
            data = self._read_parts(digest, manifest, limit)
        found = encoding.digest(data)
        if found != digest:
            raise errors.Untrusted(
                f"{self.place} gives other bytes than blob {digest.hex()}",
                hint="The store is damaged or dishonest: fetch the blob from another copy.",
                digest=found,
            )
        return data

    def has(self, digest: bytes) -> bool:
        """Whether a blob of this digest lies in the store, with all its parts. Its bytes are not read."""
        key = _blob_key(digest)
        try:
            with self._reported(key):
                obstore.head(self._backend, key)
            return True
        except _Missing:
            pass
        try:
            manifest = self._manifest(digest)
        except errors.Untrusted:
            return False
        if manifest is None:
            return False
        there = self._sizes(parts.folder(digest))
        wanted = parts.sizes(manifest)
        return all(there.get(parts.part_key(digest, part)) == size for part, size in wanted.items())

    def discard(self, digest: bytes) -> None:
        """Forget a blob; one that is not there counts as forgotten."""
        self.delete(_blob_key(digest))
        left = self._sizes(parts.folder(digest))
        # The manifest goes first: what is left without it is an upload that was broken off.
        for key in sorted(left, key=lambda key: key != parts.manifest_key(digest)):
            self.delete(key)

    def digests(self) -> frozenset[bytes]:
        """Digests of all blobs, also of large ones that were not written to their end."""
        names = {key.rsplit("/", 1)[-1] for key in self.list("blobs")}
        names |= {key.split("/")[1] for key in self.list("large")}
        return frozenset(bytes.fromhex(name) for name in names if _DIGEST.fullmatch(name))

    def put_at(self, key: str, data: bytes) -> None:
        """Keep bytes under a name, in place of what was there.

        Raises `Misconfigured` for bytes above the limit, `Unavailable` when they cannot be written,
        `Untrusted` for a key that might leave the store.
        """
        self._write(_checked(key), data)

    def get_at(self, key: str, *, limit: int) -> bytes:
        """Bytes by name. Raises `Unavailable` if there are none, `Untrusted` if there are over `limit`."""
        with self._reported(_checked(key)):
            found = obstore.get(self._backend, key)
            size = found.meta["size"]
            if size > limit:
                raise errors.Untrusted(f"{key} in {self.place} has {size} bytes, limit {limit}")
            data = bytes(found.bytes())
        if len(data) != size:
            raise errors.Untrusted(f"{key} in {self.place} has {len(data)} bytes and announced {size}")
        return data

    def list(self, prefix: str) -> builtins.list[str]:
        """Keys in the folder `prefix` and below, sorted."""
        return sorted(self._sizes(_checked(prefix)))

    def delete(self, key: str) -> None:
        """Forget a name; one that is not there counts as forgotten."""
        try:
            with self._reported(_checked(key)):
                obstore.delete(self._backend, key)
        except _Missing:
            return

    def _write(self, key: str, data: bytes | memoryview) -> None:
        self._check_size(key, data)
        with self._reported(key):
            # obstore's own multipart upload starts again when it broke off, and takes four requests for one.
            obstore.put(self._backend, key, data, use_multipart=False)

    def _check_size(self, key: str, data: bytes | memoryview) -> None:
        if len(data) > self.limit:
            raise errors.Misconfigured(
                f"{key} has {len(data)} bytes, above the limit of {self.limit}: no node would read it",
                hint="Agree on a smaller model, or on a smaller gamma in [training].",
            )

    def _write_parts(self, digest: bytes, data: bytes) -> None:
        self._check_size(_blob_key(digest), data)
        there = self._sizes(parts.folder(digest))
        if parts.manifest_key(digest) in there:
            # It was complete once: who writes it again wants it repaired.
            there = {}
        names = []
        for piece in parts.cut(data):
            names.append(encoding.digest(piece))
            key = parts.part_key(digest, names[-1])
            if there.get(key) != len(piece):
                self._write(key, piece)
                there[key] = len(piece)
        manifest = parts.Manifest(len(data), tuple(names))
        self._write(parts.manifest_key(digest), parts.encode_manifest(manifest))

    def _manifest(self, digest: bytes) -> parts.Manifest | None:
        try:
            return parts.decode_manifest(self.get_at(parts.manifest_key(digest), limit=parts.MANIFEST_LIMIT))
        except _Missing:
            return None

    def _read_parts(self, digest: bytes, manifest: parts.Manifest, limit: int) -> bytes:
        if manifest.size > limit:
            raise errors.Untrusted(
                f"blob {digest.hex()} in {self.place} has {manifest.size} bytes, limit {limit}"
            )
        sizes, whole = parts.sizes(manifest), io.BytesIO()
        for name in manifest.parts:
            whole.write(self.get_at(parts.part_key(digest, name), limit=sizes[name]))
        # Shares its memory with what was written: the blob is held once.
        return whole.getvalue()

    def _sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each object in a folder and below, by key."""
        with self._reported(prefix):
            return {
                item["path"]: item["size"] for page in obstore.list(self._backend, prefix) for item in page
            }

    @contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        """Turn the store's errors into `Unavailable`, with the cause in one line."""
        try:
            yield
        except (NotFoundError, FileNotFoundError) as e:
            if "NoSuchBucket" in str(e):
                raise self._away(key, "there is no such bucket", _NO_BUCKET) from e
            raise _Missing(
                f"{key} is not in {self.place}", hint="Wait for its author, or check the store's address."
            ) from e
        except (BaseError, OSError, ValueError) as e:
            cause = str(e).split("<?xml", 1)[0].split("\n", 1)[0].rstrip(": ")
            raise self._away(key, cause, _advice(e, str(e))) from e

    def _away(self, key: str, cause: str, hint: str) -> errors.Unavailable:
        return errors.Unavailable(f"{self.place} does not serve {key}: {cause}", hint=hint)


class _Missing(errors.Missing):
    """Nothing lies under the key."""


def create(url: str, **options: Any) -> ObjectStore:
    """Open a store by URL: `memory:///`, `file:///folder`, a plain folder, or any other of `obstore`.

    A folder is made if it is missing. Options that are no secret may stand in the URL's query (see
    `address.QUERY`), all in `options`, which go to `obstore.store.from_url`; credentials stand there or where
    each cloud's own tools look for them. Raises `Misconfigured` when the URL or an option cannot be used.
    """
    return ObjectStore(*open_backend(url, options))


def _blob_key(digest: bytes) -> str:
    if len(digest) != 32:
        raise errors.Untrusted(f"a digest has 32 bytes, not {len(digest)}")
    return parts.blob_key(digest)


def _checked(key: str) -> str:
    """No key leaves the store's folder: plain letters, no part that begins with a dot."""
    if len(key) > _KEY_LIMIT or not _KEY.fullmatch(key):
        raise errors.Untrusted(f"{key[:80]!r} is no key of a store")
    return key


def _advice(error: Exception, cause: str) -> str:
    if "os error 28" in cause or "No space left" in cause:
        return "The disk is full: free some space, then start again; nothing was lost."
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError)
    if denied or "403 Forbidden" in cause or "401 Unauthorized" in cause:
        return "Check the store's credentials and permissions."
    if "NoSuchBucket" in cause:
        return _NO_BUCKET
    if "BadScheme" in cause:
        return "Use https; on loopback or a network of your own add allow_http=true to the store's URL."
    return "Check the store's address and the network; the call is safe to repeat."
