"""Any object store that `obstore` speaks to: memory, a folder, S3, GCS, Azure, HTTP.

Blobs lie at `blobs/<first two hex digits>/<SHA-256 in hex>` and are hashed again on every read: nobody needs
to trust the store. Writes are atomic: a key holds the old bytes, the new ones, or is missing, whenever the
writer is killed. A folder is not flushed to the disk at every write; what a power cut takes away reads as
missing, or fails its digest.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import LocalStore, from_url

from hansa import encoding, errors

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_KEY_LIMIT = 512
_REMOTE_DEFAULTS: dict[str, Any] = {
    "client_options": {"timeout": "60s", "connect_timeout": "10s"},
    "retry_config": {"max_retries": 3},
}


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The `Store` port over one `obstore` store; `place` names it in messages."""

    place: str
    _backend: Any = field(repr=False)

    def put(self, data: bytes) -> bytes:
        """Keep a blob; gives its SHA-256. Raises `Unavailable` when it cannot be written."""
        digest = encoding.digest(data)
        self.put_at(_blob_key(digest), data)
        return digest

    def get(self, digest: bytes, *, limit: int) -> bytes:
        """A blob by digest, of at most `limit` bytes.

        Raises `Unavailable` if it is not there, `Untrusted` if it is too large (seen before its body is read)
        or has another digest; the error then names the digest of the bytes that lie there instead.
        """
        data = self.get_at(_blob_key(digest), limit=limit)
        found = encoding.digest(data)
        if found != digest:
            raise errors.Untrusted(
                f"{self.place} gives other bytes than blob {digest.hex()}",
                hint="The store is damaged or dishonest: fetch the blob from another copy.",
                digest=found,
            )
        return data

    def has(self, digest: bytes) -> bool:
        """Whether a blob of this digest lies in the store. Its bytes are not read."""
        key = _blob_key(digest)
        try:
            with self._reported(key):
                obstore.head(self._backend, key)
        except _Missing:
            return False
        return True

    def put_at(self, key: str, data: bytes) -> None:
        """Keep bytes under a name, in place of what was there.

        Raises `Unavailable` when they cannot be written, `Untrusted` for a key that might leave the store.
        """
        with self._reported(_checked(key)):
            obstore.put(self._backend, key, data)

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
        with self._reported(_checked(prefix)):
            return sorted(item["path"] for page in obstore.list(self._backend, prefix) for item in page)

    def delete(self, key: str) -> None:
        """Forget a name; one that is not there counts as forgotten."""
        try:
            with self._reported(_checked(key)):
                obstore.delete(self._backend, key)
        except _Missing:
            return

    @contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        """Turn the store's errors into `Unavailable`, with the cause in one line."""
        try:
            yield
        except (NotFoundError, FileNotFoundError) as e:
            raise _Missing(
                f"{key} is not in {self.place}", hint="Wait for its author, or check the store's address."
            ) from e
        except (BaseError, OSError, ValueError) as e:
            cause = str(e).split("\n", 1)[0]
            raise errors.Unavailable(
                f"{self.place} does not serve {key}: {cause}", hint=_advice(e, cause)
            ) from e


class _Missing(errors.Unavailable):
    """Nothing lies under the key."""


def create(url: str, **options: Any) -> ObjectStore:
    """Open a store by URL: `memory:///`, `file:///folder`, a plain folder, or any other of `obstore`.

    A folder is made if it is missing. `options` go to `obstore.store.from_url`; credentials may stand there
    or where each cloud's own tools look for them, never in the URL, which is shown in messages.
    Raises `Misconfigured` when the URL or an option cannot be used.
    """
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc}{parts.path}" if parts.scheme else url
    if "@" in parts.netloc:
        raise errors.Misconfigured(
            "a store's URL must not hold credentials", hint="Pass them as options or in the environment."
        )
    try:
        if parts.scheme in ("", "file"):
            folder = Path(unquote(parts.path) if parts.scheme else url).expanduser().absolute()
            return ObjectStore(str(folder), LocalStore(folder, mkdir=True, **options))
        defaults = {} if parts.scheme == "memory" else _REMOTE_DEFAULTS
        return ObjectStore(place, from_url(url, **{**defaults, **options}))
    except UnknownConfigurationKeyError as e:
        raise errors.Misconfigured(str(e).split("\n", 1)[0], hint="Remove this option of the store.") from e
    except (BaseError, OSError, ValueError, TypeError) as e:
        raise errors.Misconfigured(
            f"the store {place} cannot be opened: {str(e).split(chr(10), 1)[0]}",
            hint="Use memory:///, a folder, or a URL such as s3://bucket/path.",
        ) from e


def _blob_key(digest: bytes) -> str:
    if len(digest) != 32:
        raise errors.Untrusted(f"a digest has 32 bytes, not {len(digest)}")
    name = digest.hex()
    return f"blobs/{name[:2]}/{name}"


def _checked(key: str) -> str:
    """No key leaves the store's folder: plain letters, no part that begins with a dot."""
    if len(key) > _KEY_LIMIT or not _KEY.fullmatch(key):
        raise errors.Untrusted(f"{key[:80]!r} is no key of a store")
    return key


def _advice(error: Exception, cause: str) -> str:
    if "os error 28" in cause or "No space left" in cause:
        return "The disk is full: free some space, then start again; nothing was lost."
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return "Check the store's credentials and permissions."
    return "Check the store's address and the network; the call is safe to repeat."
