"""Scheme `plaintext`: every member of the roster reads every update; the store's operator reads none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hansa.crypto import sealing
from hansa.ports import Entropy, Fetch, Sealed
from hansa.protocol.contexts import update_context
from hansa.protocol.model import parameters
from hansa.protocol.state import State
from hansa.protocol.timing import unpack_meta
from hansa.protocol.updates import check_update, check_usable, decode_update, encode_update
from hansa.records import Limits, Terms, Update
from hansa.schemes.grants import Grants, Readers


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


_OPENED = _Opened(64 * 1024 * 1024)


class Plaintext:
    """One party's end of the scheme: its id, its X25519 private key, its randomness."""

    def __init__(self, id: int, private_key: bytes, entropy: Entropy, limits: Limits, terms: Terms) -> None:
        self._grants = Grants(id, private_key, entropy, limits)
        self._limits = limits
        self._length = parameters(terms.layout)
        self._gamma = terms.training.gamma

    def seal(self, state: State, update: Update, _fetch: Fetch) -> Sealed:
        """An update sealed to the readers of its round."""
        context = update_context(state.domain, update.round, update.member, update.version)
        plaintext, label = encode_update(update), f"update/{update.round}"
        return self._grants.seal(state.domain, state.current.readers, plaintext, context, label)

    def check(self, state: State, member: int, blob: bytes, fetch: Fetch) -> Update:
        """Open a member's blob and hold it against its commitment.

        Raises `Untrusted`; what `fetch` raises where the grant cannot be had.
        """
        commit = state.current.commits[member]
        context = update_context(state.domain, commit.round, member, commit.base)
        current = state.current
        secret = self._grants.secret(state.domain, current.readers, current.verifiers, member, blob, fetch)
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
        return self._grants.release(state, version, checkpoint)

    def open_release(
        self, domain: bytes, readers: Readers, author: int, version: int, blob: bytes, fetch: Fetch
    ) -> bytes:
        """Canonical bytes of a model that `author` released to `readers`. Raises `Untrusted`."""
        return self._grants.open_release(domain, readers, author, version, blob, fetch)


def create(
    *,
    id: int,
    private_key: bytes,
    sign: Callable[[bytes], bytes],
    entropy: Entropy,
    limits: Limits,
    terms: Terms,
) -> Plaintext:
    """The scheme's end of one party, for the model of the terms. What it seals needs no signature of its own."""
    del sign
    return Plaintext(id, private_key, entropy, limits, terms)
