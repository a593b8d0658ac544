"""Scheme `mpc`: an owner's arrays go out as shares, each sealed to one computing party; the model comes back likewise.

A package is a map from names to share bytes, sealed to one reader. Who stores it sees its size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.ports import Dealt, Entropy, Fetch, Sealed
from hansa.protocol import mpc
from hansa.protocol.contexts import package_context
from hansa.protocol.mpc import Offer, Part
from hansa.protocol.state import State
from hansa.records import Limits, Terms
from hansa.schemes.grants import Grants


class Packages:
    """One end of the scheme, an owner's or a party's: its id, its X25519 private key, its randomness."""

    def __init__(self, id: int, private_key: bytes, entropy: Entropy, limits: Limits) -> None:
        self._id = id
        self._limits = limits
        self._grants = Grants(id, private_key, entropy, limits)

    def offer(self, state: State, rows: int, ids: bytes, dealt: Sequence[Dealt]) -> Sealed:
        """The offer of these arrays, its packages attached. Each party can open its own and no other."""
        dealt = sorted(dealt, key=lambda d: d.name)
        packages: list[bytes] = []
        attachments: list[bytes] = []
        for rank, party in enumerate(mpc.parties(state)):
            sealed = self.pack(state, party, {d.name: d.shares[rank] for d in dealt})
            packages.append(encoding.digest(sealed.blob))
            attachments += (sealed.blob, *sealed.attachments)
        parts = tuple(Part(d.name, d.shape, d.dtype, tuple(map(encoding.digest, d.shares))) for d in dealt)
        offer = Offer(state.domain, state.round, self._id, rows, ids, parts, tuple(packages))
        return Sealed(encoding.encode(offer), tuple(attachments))

    def check(self, state: State, member: int, blob: bytes, fetch: Fetch) -> None:
        """Whether a blob is an owner's offer, with a package for each party in the store. Raises `Untrusted`."""
        offer = mpc.read_offer(blob, state, member)
        for party, digest in zip(mpc.parties(state), offer.packages, strict=True):
            package = fetch(digest)
            grant = sealing.read_grant(fetch(sealing.read_header(package).grant))
            if list(grant.readers) != [party]:
                raise errors.Untrusted(
                    f"a package of member {member} is sealed to others than party {party}", digest=digest
                )

    def references(self, blob: bytes) -> tuple[bytes, ...]:
        """Digests of the packages that an offer names. Raises `Untrusted`."""
        return mpc.packages_of(blob)

    def pack(self, state: State, reader: int, shares: Mapping[str, bytes]) -> Sealed:
        """Shares sealed to one reader."""
        readers = {reader: state.members[reader].key}
        context = package_context(state.domain, state.round, self._id, reader)
        label = f"package/{state.round}/{reader}"
        return self._grants.seal(state.domain, readers, encoding.encode(dict(shares)), context, label)

    def unpack(self, state: State, author: int, blob: bytes, fetch: Fetch) -> dict[str, bytes]:
        """Shares that were sealed to this party or owner. Raises `Untrusted`."""
        readers = {self._id: state.members[self._id].key}
        secret = self._grants.secret(state.domain, readers, readers.keys(), author, blob, fetch)
        context = package_context(state.domain, state.round, author, self._id)
        limit = self._limits.blob
        shares = encoding.decode(sealing.open_sealed(blob, secret, context, limit=limit), limit=limit)
        named = isinstance(shares, dict) and all(type(k) is str for k in shares)
        if not named or not all(type(share) is bytes for share in shares.values()):
            raise errors.Untrusted(f"the package of id {author} is no map of shares by name")
        return dict(shares)


def create(
    *,
    id: int,
    private_key: bytes,
    sign: Callable[[bytes], bytes],
    entropy: Entropy,
    limits: Limits,
    terms: Terms,
) -> Packages:
    """The scheme's end of one party. What it seals is named by a signed record or commitment."""
    del sign, terms
    return Packages(id, private_key, entropy, limits)
