"""What a party seals to a roster, and opens: one grant for the readers of a roster, see `crypto.sealing`.

All that a party seals while these readers stay names that grant.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache
from typing import Any

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.ports import Entropy, Fetch, Sealed
from hansa.protocol.contexts import model_context, readers_digest
from hansa.protocol.state import State
from hansa.records import Limits

Readers = Mapping[int, bytes]

SECRETS = 4096
"""Opened grants that a party remembers."""


@lru_cache(maxsize=256)
def _serves(grant: bytes, secret: bytes, readers: tuple[tuple[int, bytes], ...], context: bytes) -> bool:
    return sealing.serves(grant, secret, dict(readers), context)


class Grants:
    """One party's: its id, its X25519 private key, its randomness."""

    def __init__(self, id: int, private_key: bytes, entropy: Entropy, limits: Limits) -> None:
        self._id = id
        self._private_key = private_key
        self._entropy = entropy
        self._limits = limits
        self._grant: tuple[bytes, bytes, bytes] | None = None
        self._roster: tuple[Readers, bytes] | None = None
        self._secrets: dict[tuple[Any, ...], bytes] = {}

    def seal(self, domain: bytes, readers: Readers, plaintext: bytes, context: bytes, label: str) -> Sealed:
        """A blob that these readers can open; `label` names its randomness."""
        secret, grant = self._own_grant(domain, readers)
        blob = sealing.seal(
            plaintext, secret, encoding.digest(grant), context, entropy=lambda n: self._entropy(label, n)
        )
        return Sealed(blob, (grant,))

    def release(self, state: State, version: int, checkpoint: bytes) -> Sealed:
        """A model sealed to the readers of the running round."""
        context = model_context(state.domain, version, self._id)
        return self.seal(state.domain, state.current.readers, checkpoint, context, f"model/{version}")

    def open_release(
        self, domain: bytes, readers: Readers, author: int, version: int, blob: bytes, fetch: Fetch
    ) -> bytes:
        """Canonical bytes of a model that `author` released to `readers`. Raises `Untrusted`."""
        secret = self.secret(domain, readers, readers.keys(), author, blob, fetch)
        context = model_context(domain, version, author)
        return sealing.open_sealed(blob, secret, context, limit=self._limits.blob)

    def _own_grant(self, domain: bytes, readers: Readers) -> tuple[bytes, bytes]:
        roster = self._digest(readers)
        if self._grant is None or self._grant[0] != roster:
            label = f"grant/{roster.hex()}"
            secret = self._entropy(label, sealing.SECRET_BYTES)
            context = sealing.grant_context(domain, roster, self._id)
            grant = sealing.make_grant(secret, readers, context)
            self._grant = (roster, secret, grant)
        return self._grant[1], self._grant[2]

    def secret(
        self, domain: bytes, readers: Readers, needed: Set[int], author: int, blob: bytes, fetch: Fetch
    ) -> bytes:
        """The author's secret, out of the grant that its blob names, if the grant serves all `needed` readers.

        An update that only some verifiers can open would keep the others from judging the result: they all
        refuse it, or none. Raises as `sealing.open_grant`.
        """
        digest, roster = sealing.read_header(blob).grant, self._digest(readers)
        key = (digest, domain, roster, author, frozenset(needed))
        if key not in self._secrets:
            if len(self._secrets) >= SECRETS:
                self._secrets.clear()
            grant, context = fetch(digest), sealing.grant_context(domain, roster, author)
            secret = sealing.open_grant(grant, self._id, self._private_key, context)
            keys = tuple((id, readers[id]) for id in sorted(needed & readers.keys()))
            if not _serves(grant, secret, keys, context):
                raise errors.Untrusted(
                    f"the grant of member {author} does not serve all who need it",
                    hint="Its author shares with some readers only.",
                    digest=digest,
                )
            self._secrets[key] = secret
        return self._secrets[key]

    def _digest(self, readers: Readers) -> bytes:
        # Mostly the readers are those of the round before, and comparing is much quicker than hashing.
        if self._roster is None or self._roster[0] != readers:
            self._roster = (readers, readers_digest(readers))
        return self._roster[1]
