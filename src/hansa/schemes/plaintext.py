"""Scheme `plaintext`: every member of the roster reads every update; the store's operator reads none.

A party makes one grant for the readers of a roster (see `crypto.sealing`); all that it seals while these
readers stay names that grant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from typing import Any

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.ports import Entropy, Fetch, Sealed
from hansa.protocol.contexts import model_context, readers_digest, update_context
from hansa.protocol.model import parameters
from hansa.protocol.state import State
from hansa.protocol.timing import unpack_meta
from hansa.protocol.updates import check_update, check_usable, decode_update, encode_update
from hansa.records import Limits, Terms, Update

Readers = Mapping[int, bytes]

SECRETS = 4096
"""Opened grants that a party remembers."""


class _Opened:
    """Updates that were opened lately in this process, whoever opened them.

    A simulation runs many members, and what a blob holds depends on nothing but its bytes, the secret and
    the context: all three are in the key, so that only who has the secret finds the update.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._used = 0
        self._found: dict[tuple[Any, ...], Update] = {}

    def take(self, key: tuple[Any, ...], make: Callable[[], Update]) -> Update:
        """The update of this key, made if it is not there; its arrays cannot be written."""
        if key not in self._found:
            self._found[key] = update = make()
            for array in (update.values, update.indices):
                if array is not None:
                    array.flags.writeable = False
            self._used += _size(key, update)
            while self._used > self._room:
                oldest = next(iter(self._found))
                self._used -= _size(oldest, self._found.pop(oldest))
            return update
        return self._found[key]


def _size(key: tuple[Any, ...], update: Update) -> int:
    return len(key[0]) + 2 * update.values.nbytes


@lru_cache(maxsize=256)
def _serves(grant: bytes, secret: bytes, readers: tuple[tuple[int, bytes], ...], context: bytes) -> bool:
    return sealing.serves(grant, secret, dict(readers), context)


_OPENED = _Opened(64 * 1024 * 1024)


class Plaintext:
    """One party's end of the scheme: its id, its X25519 private key, its randomness."""

    def __init__(self, id: int, private_key: bytes, entropy: Entropy, limits: Limits, terms: Terms) -> None:
        self._id = id
        self._private_key = private_key
        self._entropy = entropy
        self._limits = limits
        self._length = parameters(terms.layout)
        self._gamma = terms.training.gamma
        self._grant: tuple[bytes, bytes, bytes] | None = None
        self._roster: tuple[Readers, bytes] | None = None
        self._secrets: dict[tuple[Any, ...], bytes] = {}

    def seal(self, state: State, update: Update, _fetch: Fetch) -> Sealed:
        """An update sealed to the readers of its round."""
        context = update_context(state.domain, update.round, update.member, update.version)
        return self._seal(state, encode_update(update), context, f"update/{update.round}")

    def check(self, state: State, member: int, blob: bytes, fetch: Fetch) -> Update:
        """Open a member's blob and hold it against its commitment.

        Raises `Untrusted`; what `fetch` raises where the grant cannot be had.
        """
        commit = state.current.commits[member]
        context = update_context(state.domain, commit.round, member, commit.base)
        current = state.current
        secret = self._secret(state.domain, current.readers, current.verifiers, member, blob, fetch)
        update = _OPENED.take(
            (blob, secret, context, self._limits, self._length),
            lambda: decode_update(
                sealing.open_sealed(blob, secret, context, limit=self._limits.blob),
                limits=self._limits,
                length=self._length,
            ),
        )
        timestamp, millis, examples = unpack_meta(commit.meta)
        check_update(
            update,
            federation=state.domain,
            round=commit.round,
            member=member,
            version=commit.base,
            base=state.models[commit.base],
            length=self._length,
            examples=examples,
            millis=millis,
            timestamp=timestamp,
        )
        check_usable(update, self._gamma)
        return update

    def references(self, blob: bytes) -> tuple[bytes, ...]:
        """The digest of the grant that a sealed blob names. Raises `Untrusted`."""
        return (sealing.read_header(blob).grant,)

    def release(self, state: State, version: int, checkpoint: bytes) -> Sealed:
        """A model sealed to the readers of the round that made it."""
        return self._seal(
            state, checkpoint, model_context(state.domain, version, self._id), f"model/{version}"
        )

    def open_release(
        self, domain: bytes, readers: Readers, author: int, version: int, blob: bytes, fetch: Fetch
    ) -> bytes:
        """Canonical bytes of a model that `author` released to `readers`. Raises `Untrusted`."""
        secret = self._secret(domain, readers, readers.keys(), author, blob, fetch)
        context = model_context(domain, version, author)
        return sealing.open_sealed(blob, secret, context, limit=self._limits.blob)

    def _seal(self, state: State, plaintext: bytes, context: bytes, label: str) -> Sealed:
        secret, grant = self._own_grant(state)
        blob = sealing.seal(
            plaintext, secret, encoding.digest(grant), context, entropy=lambda n: self._entropy(label, n)
        )
        return Sealed(blob, (grant,))

    def _own_grant(self, state: State) -> tuple[bytes, bytes]:
        readers = state.current.readers
        roster = self._digest(readers)
        if self._grant is None or self._grant[0] != roster:
            label = f"grant/{roster.hex()}"
            secret = self._entropy(label, sealing.SECRET_BYTES)
            context = sealing.grant_context(state.domain, roster, self._id)
            grant = sealing.make_grant(secret, readers, context)
            self._grant = (roster, secret, grant)
        return self._grant[1], self._grant[2]

    def _secret(
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


def create(*, id: int, private_key: bytes, entropy: Entropy, limits: Limits, terms: Terms) -> Plaintext:
    """The scheme's end of one party, for the model of the terms."""
    return Plaintext(id, private_key, entropy, limits, terms)
