"""Where blobs lie in a store: one object each; a large one cut into parts, and a manifest that is written last.

A part is named by its own digest, so that an upload that broke off goes on with the parts that lack. All of a
blob lies in one folder, so that two blobs never share a part and one can be deleted without the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from hansa import encoding, errors

PART = 8 * 1024 * 1024
"""Bytes of a part. A larger blob is cut; one part passes within a minute on a line of 1.2 Mbit/s."""

MANIFEST_LIMIT = 64 * 1024
"""Largest manifest that is read, in bytes: enough for 15 GB."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The size of a blob and the digests of its parts, in order."""

    size: int
    parts: tuple[bytes, ...]


def blob_key(digest: bytes) -> str:
    """Where a blob lies that is not cut."""
    name = digest.hex()
    return f"blobs/{name[:2]}/{name}"


def folder(digest: bytes) -> str:
    """Where the parts of a blob lie."""
    return f"large/{digest.hex()}"


def manifest_key(digest: bytes) -> str:
    """Where its manifest lies."""
    return f"{folder(digest)}/manifest"


def part_key(digest: bytes, part: bytes) -> str:
    """Where a part of it lies."""
    return f"{folder(digest)}/{part.hex()}"


def cut(data: bytes) -> list[memoryview]:
    """The parts of a blob, without a copy; all but the last have `PART` bytes."""
    view = memoryview(data)
    return [view[k : k + PART] for k in range(0, len(data), PART)]


def sizes(manifest: Manifest) -> dict[bytes, int]:
    """Bytes of each part by its digest."""
    last = manifest.size - PART * (len(manifest.parts) - 1)
    return {part: PART for part in manifest.parts[:-1]} | {manifest.parts[-1]: last}


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as it lies in the store."""
    return encoding.encode({"size": manifest.size, "parts": list(manifest.parts)})


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises `Untrusted` unless it names as many parts as its size takes."""
    value = encoding.decode(data, limit=MANIFEST_LIMIT)
    if not isinstance(value, dict) or value.keys() != {"size", "parts"}:
        raise errors.Untrusted("is no manifest of a large blob", digest=encoding.digest(data))
    size, names = value["size"], value["parts"]
    good = type(size) is int and size > 0 and isinstance(names, list) and len(names) == -(-size // PART)
    if not good or not all(isinstance(name, bytes) and len(name) == 32 for name in names):
        raise errors.Untrusted("is a malformed manifest of a large blob", digest=encoding.digest(data))
    return Manifest(size, tuple(names))
