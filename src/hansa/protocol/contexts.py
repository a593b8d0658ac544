"""What grants and sealed blobs are bound to: bytes that sender and reader both know."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from hansa import encoding


def readers_digest(readers: Mapping[int, bytes]) -> bytes:
    """Digest of who may read: ids and public keys."""
    return encoding.digest(encoding.encode([[id, readers[id]] for id in sorted(readers)]))


@lru_cache(maxsize=4096)
def update_context(domain: bytes, round: int, member: int, version: int) -> bytes:
    """What a sealed update is bound to."""
    return encoding.encode([domain, "update", round, member, version])


def sums_context(domain: bytes, round: int, author: int) -> bytes:
    """What the sums that an enclave opened are bound to."""
    return encoding.encode([domain, "opened-sums", round, author])


def model_context(domain: bytes, version: int, author: int) -> bytes:
    """What a sealed model is bound to."""
    return encoding.encode([domain, "model", version, author])


def package_context(domain: bytes, round: int, author: int, reader: int) -> bytes:
    """What a package of shares is bound to, from an owner to a party or the other way."""
    return encoding.encode([domain, "shares", round, author, reader])
