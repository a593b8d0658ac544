"""The model that stands, the next one as this node computes it, and models that leaders release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from hansa import encoding, errors
from hansa.node.blobs import Blobs
from hansa.node.world import World
from hansa.ports import Releasing
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import plan
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.evidence import sealed_digest
from hansa.protocol.model import from_arrays
from hansa.protocol.state import State, to_bitmap
from hansa.records import MAX_MEMBERS, Terms


def result_key(state: State) -> str:
    """The journal's key of the fold of the selected updates onto the model that stands.

    After a reorganisation deeper than the confirmations the same round may select others: their fold is
    another entry, and the old one counts no more.
    """
    current = state.current
    selected = to_bitmap(current.selected).to_bytes(MAX_MEMBERS // 8, "big")
    return "result/" + encoding.digest(state.model + current.set_root + selected).hex()[:16]


def _welcomes(state: State) -> str:
    return f"welcome/{state.domain.hex()}/{state.round}"


def initial_model(terms: Terms, world: World, blobs: Blobs) -> Checkpoint:
    """The model that training begins with, made by the app and kept. Raises `Untrusted` if it is another one."""
    model, _ = from_arrays(world.trainer.initial(terms.initial_seed), terms.layout.scale)
    base = ckpt.initial(terms.aggregation, model)
    if base.digest != terms.initial:
        raise errors.Untrusted(
            "the initial model that the app makes here is not the one of the terms",
            hint="Use the library versions that the federation agreed on.",
        )
    blobs.keep(base.data, base.digest)
    return base


class Models:
    """Models as one node sees them, where updates are seen too; all are kept on its own disk."""

    def __init__(self, id: int, terms: Terms, world: World, blobs: Blobs) -> None:
        self.id = id
        self.terms = terms
        self.world = world
        self.blobs = blobs
        self._scheme = cast(Releasing, world.scheme)
        self._base: Checkpoint | None = None

    def standing(self, state: State) -> Checkpoint:
        """The model that stands, opened and checked against the digest on the chain.

        Raises `Unavailable`, `Untrusted`.
        """
        if self._base is None or self._base.digest != state.model:
            self._base = self._load_model(state)
        return self._base

    def fold(self, state: State) -> Checkpoint:
        """The next model, out of the selected updates. Raises `Unavailable`, `Untrusted`."""
        contributions = (self.blobs.contribution(state, id) for id in sorted(state.current.selected))
        result = ckpt.advance(self.terms.aggregation, self.standing(state), contributions)
        self.blobs.keep(result.data, result.digest)
        return result

    def open_proposal(self, state: State) -> bytes:
        """The proposed model's bytes, kept. Raises `Unavailable`, and `Untrusted` if it is another one."""
        current = state.current
        assert current.leader is not None
        data = self._released(
            state, current.evidence, current.readers, current.leader, state.version + 1, current.result
        )
        self.blobs.keep(data, current.result)
        return data

    def release(self, state: State, result: bytes) -> bytes:
        """Seal the next model to its readers and store it; gives the digest of the evidence."""
        try:
            data = self.world.kept.get(result, limit=self.world.limits.blob)
        except (errors.Unavailable, errors.Untrusted):
            data = self.fold(state).data
        sealed = self._scheme.release(state, state.version + 1, data)
        digest = encoding.digest(sealed.blob)
        evidence = ckpt.evidence(self.terms.aggregation, state, digest)
        *_, named = self.blobs.publish(state, sealed.blob, *sealed.attachments, evidence, first=digest)
        return named

    def welcome(self, state: State) -> None:
        """Seal the model that stands to the readers of the running round. Raises `Unavailable`, `Untrusted`."""
        sealed = self._scheme.release(state, state.version, self.standing(state).data)
        digest, *_ = self.blobs.publish(state, sealed.blob, *sealed.attachments)
        key = f"{_welcomes(state)}/{self.id}"
        self.blobs.retention.named(state, key)
        self.world.store.put_at(key, digest)

    def _welcomed(self, state: State) -> bytes:
        """The model that stands, from whoever sealed it to this round: its digest proves it. Raises `Unavailable`."""
        readers = self._readers(state)
        for key in self.world.store.list(_welcomes(state)):
            author = key.rsplit("/", 1)[-1]
            if not (author.isascii() and author.isdigit() and len(author) < 5 and int(author) in readers):
                continue
            try:
                sealed = self.blobs.get(self.world.store.get_at(key, limit=32))
                data = self._scheme.open_release(
                    state.domain, readers, int(author), state.version, sealed, self.blobs.get
                )
            except (errors.Unavailable, errors.Untrusted):
                continue
            if encoding.digest(data) == state.model:
                return data
        raise errors.Unavailable(
            f"nobody has sealed the model of version {state.version} to member {self.id} yet",
            hint="Those who have it do so when the next round opens.",
        )

    def _released(
        self,
        state: State,
        evidence: bytes,
        readers: Mapping[int, bytes],
        author: int,
        version: int,
        digest: bytes,
    ) -> bytes:
        sealed = self.blobs.get(sealed_digest(self.terms, self.blobs.get(evidence)))
        data = self._scheme.open_release(state.domain, readers, author, version, sealed, self.blobs.get)
        if encoding.digest(data) != digest:
            raise errors.Untrusted("the released model is not the one that was proposed", digest=digest)
        return data

    def _readers(self, state: State) -> Mapping[int, bytes]:
        """To whom the model that stands is sealed in the running round."""
        return state.current.readers

    def _published(self, state: State) -> bytes:
        """The model that stands, as its leader released it. Raises `Unavailable`, `Untrusted`."""
        assert state.model_author is not None
        return self._released(
            state,
            state.model_evidence,
            state.model_readers,
            state.model_author,
            state.version,
            state.model,
        )

    def _load_model(self, state: State) -> Checkpoint:
        if state.model_author is None:
            return initial_model(self.terms, self.world, self.blobs)
        try:
            data = self.world.kept.get(state.model, limit=self.world.limits.blob)
        except (errors.Unavailable, errors.Untrusted):
            data = self._welcomed(state) if self.id in plan.strangers(state) else self._published(state)
            self.blobs.keep(data, state.model)
        return ckpt.decode(
            data, self.terms.aggregation, self.terms.layout, self.world.limits, digest=state.model
        )
