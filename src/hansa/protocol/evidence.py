"""What a leader names with its proposal, under any scheme that releases models."""

from __future__ import annotations

from hansa.protocol import attested
from hansa.protocol import checkpoint as ckpt
from hansa.records import Terms


def sealed_digest(terms: Terms, data: bytes) -> bytes:
    """Digest of the sealed model that a leader's evidence names. Raises `Untrusted`."""
    return ckpt.sealed_digest(data) if terms.tee is None else attested.sealed_digest(data)
