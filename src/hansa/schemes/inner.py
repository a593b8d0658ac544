"""Scheme `tee` over the uploads of `secagg`: attested enclaves open sums, and never see one update.

Uploads are those of `secagg`. Both halves of an opening are sealed to the round's enclaves; what one of them opens
comes back as a package for the readers of the round. Members seal models to whoever is new, as under `tee`.
"""

from __future__ import annotations

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.ports import Entropy, Fetch, Half, Opened, Sealed
from hansa.protocol import secagg
from hansa.protocol.contexts import model_context, readers_digest, sums_context
from hansa.protocol.state import State
from hansa.protocol.tee import Manifest, readers_of
from hansa.records import Limits, Terms
from hansa.schemes import sums
from hansa.schemes.grants import Grants, Readers
from hansa.schemes.secagg import SecAgg


class Inner(SecAgg):
    """One party's end of the scheme."""

    def __init__(self, id: int, private_key: bytes, entropy: Entropy, limits: Limits, terms: Terms) -> None:
        super().__init__(id, private_key, entropy, limits, terms)
        self._grants = Grants(id, private_key, entropy, limits)

    def references(self, blob: bytes) -> tuple[bytes, ...]:
        """As `secagg`; of a sealed model or package the grant that it names. Raises `Untrusted`."""
        try:
            return (sealing.read_header(blob).grant,)
        except errors.Untrusted:
            return super().references(blob)

    def release(self, state: State, version: int, checkpoint: bytes) -> Sealed:
        """A model sealed to the members that read in the running round."""
        context, readers = model_context(state.domain, version, self._id), secagg.readers(state)
        return self._grants.seal(state.domain, readers, checkpoint, context, f"model/{version}")

    def open_release(
        self, domain: bytes, readers: Readers, author: int, version: int, blob: bytes, fetch: Fetch
    ) -> bytes:
        """Canonical bytes of a model that `author` released to `readers`. Raises `Untrusted`."""
        return self._grants.open_release(domain, readers, author, version, blob, fetch)

    def check_half(self, state: State, round: int, half: Half) -> frozenset[int]:
        """Which enclaves can open a half, as `tee.reader_id` numbers them; no member can. Raises `Untrusted`."""
        wrapped = super().check_half(state, round, half)
        if wrapped:
            raise errors.Untrusted("is sealed to members too", digest=encoding.digest(half.blob))
        grant = self._read_half(state, half.blob, self._side(state, half.author)).grant
        group = self._parties(state).colleagues(half.author)
        return frozenset(sealing.read_grant(grant).readers) - frozenset(group)

    def masked(self, state: State, fetch: Fetch) -> tuple[bytes | memoryview, ...]:
        """For each cohort the sum of its masked updates; empty where nothing is masked. Raises `Untrusted`."""
        return tuple(wire for _, _, wire in self._combined(state, fetch))

    def open_package(self, made: Manifest, host: int, result: bytes, blob: bytes, fetch: Fetch) -> Opened:
        """What the enclave of `host` opened, of this digest. Raises `Untrusted`."""
        readers, domain = readers_of(made), made.federation
        context = sealing.grant_context(domain, readers_digest(readers), host)
        secret = sealing.open_grant(
            fetch(sealing.read_header(blob).grant), self._id, self._private_key, context
        )
        limit = min(sums.package_limit(self._length), self._limits.blob)
        data = sealing.open_sealed(blob, secret, sums_context(domain, made.round, host), limit=limit)
        if encoding.digest(data) != result:
            raise errors.Untrusted("the sealed sums are not those that the enclave signed", digest=result)
        return Opened(*sums.read_package(data, self._length))
