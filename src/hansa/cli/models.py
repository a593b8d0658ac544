"""The current model of a federation: opened as its leader sealed it, and held against the chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from hansa import encoding, errors, wiring
from hansa.node import delivered
from hansa.node.released import model_of
from hansa.ports import Dealing, Releasing, Store, Summing
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import secagg
from hansa.protocol.evidence import sealed_digest
from hansa.protocol.state import State
from hansa.records import Limits, Model, Terms


def current(state: State, data: bytes, terms: Terms) -> Model:
    """The model in the bytes of a checkpoint. Raises `Untrusted` unless it is the chain's current one."""
    if encoding.digest(data) != state.model:
        raise errors.Untrusted(
            "the model is not the one that the chain names",
            hint="Do not use it. `hansa audit` says more.",
            digest=encoding.digest(data),
        )
    return ckpt.decode(data, terms.aggregation, terms.layout, Limits()).model


def readers(state: State, terms: Terms) -> Mapping[int, bytes]:
    """Ids to which the current model was sealed, with the public sealing keys that open it."""
    if terms.mpc is not None:
        return {i: state.members[i].key for i in state.model_set}
    if terms.secagg is None:
        return state.model_readers
    return {i: m.key for i, m in state.members.items() if secagg.opens(terms, state, i)}


def released(state: State, terms: Terms, store: Store, id: int, sealing_key: bytes) -> bytes:
    """The current model's checkpoint, opened with the X25519 key of reader `id`.

    There must have been a final round. Raises `Unavailable` when a blob is not in the store, `Untrusted` when
    one is not what it should be, or was not sealed to this reader.
    """
    limits, author = Limits(), state.model_author
    assert author is not None

    def fetch(digest: bytes) -> bytes:
        return store.get(digest, limit=limits.blob)

    def no_entropy(label: str, _n: int) -> bytes:
        raise AssertionError(f"a reader seals nothing, and needs no entropy for {label}")

    def no_signature(_data: bytes) -> bytes:
        raise AssertionError("a reader signs nothing")

    scheme = wiring.scheme(
        terms,
        id=id,
        private_key=sealing_key,
        sign=no_signature,
        entropy=no_entropy,
        limits=limits,
    )
    if terms.mpc is not None:
        sharing = wiring.sharing(terms)
        return delivered.model_of(cast(Dealing, scheme), sharing, terms, state, id, fetch)[0].data
    if terms.secagg is not None:
        return model_of(cast(Summing, scheme), terms, state, id, fetch)
    sealed = fetch(sealed_digest(terms, fetch(state.model_evidence)))
    return cast(Releasing, scheme).open_release(
        state.domain, state.model_readers, author, state.version, sealed, fetch
    )
