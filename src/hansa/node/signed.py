"""What members sign for enclaves, in the store: rosters, and the manifest of each round.

Anybody may write there, or lose what lay there. So each member looks again for its own signatures, and whoever
collects those of others takes what is genuine.
"""

from __future__ import annotations

from itertools import pairwise

from hansa import encoding, errors
from hansa.crypto.signatures import SIGNATURE_BYTES, recover
from hansa.node.retention import Retention
from hansa.node.world import Identity, World
from hansa.protocol.state import State, quorum
from hansa.protocol.tee import Manifest, Roster, Signatures


class Signed:
    """One node's way to them."""

    def __init__(self, me: Identity, world: World, retention: Retention) -> None:
        self._me = me
        self._world = world
        self._retention = retention
        self._collected: tuple[bytes, dict[int, bytes]] = b"", {}

    def leave_rosters(self, chain: tuple[Roster, ...]) -> bool:
        """Sign each version that follows one with this member; whether something was put. Raises `Unavailable`.

        They are never deleted: an enclave that starts today goes through all of them.
        """
        put = False
        for before, roster in pairwise(chain):
            mine = (self._me.id, self._me.signer.address)
            if any((seat.id, seat.address) == mine for seat in before.seats):
                put |= self._leave(
                    _rosters(roster), roster.federation, "Roster", roster.version, roster.digest
                )
        return put

    def leave_manifest(self, state: State, digest: bytes) -> bool:
        """Sign the manifest of the running round; whether something was put. Raises `Unavailable`."""
        self._retention.named(state, f"{_manifests(state)}/{self._me.id}")
        return self._leave(_manifests(state), state.domain, "Manifest", state.round, digest)

    def _leave(self, folder: str, domain: bytes, name: str, number: int, digest: bytes) -> bool:
        key, data = f"{folder}/{self._me.id}", encoding.message_bytes(domain, name, number, digest)
        try:
            there = self._world.store.get_at(key, limit=SIGNATURE_BYTES)
            if recover(encoding.message_hash(domain, name, number, digest), there) == self._me.signer.address:
                return False
        except (errors.Unavailable, errors.Untrusted):
            pass
        self._world.store.put_at(key, self._me.signer.sign(data))
        return True

    def of_roster(self, before: Roster, roster: Roster) -> Signatures:
        """What an enclave needs to go on to the next roster. Raises `Unavailable` while too few have signed."""
        found = self._collect(_rosters(roster), before, "Roster", roster.version, roster.digest)
        needed = quorum(len(before.seats))
        if len(found) < needed:
            raise errors.Unavailable(
                f"{len(found)} of {len(before.seats)} members of roster {before.version} have signed the next one, "
                f"{needed} are needed",
                hint="Enclaves know members by these signatures only: who signs no more must come back first.",
            )
        return found

    def of_manifest(self, state: State, roster: Roster, made: Manifest) -> Signatures:
        """Those of members that have signed this manifest, at most a quorum. Raises `Unavailable`."""
        return self._collect(_manifests(state), roster, "Manifest", made.round, made.digest)

    def _collect(self, folder: str, roster: Roster, name: str, number: int, digest: bytes) -> Signatures:
        """Signatures by members of a roster, at most as many as are needed; each is fetched and checked once."""
        if self._collected[0] != digest:
            self._collected = digest, {}
        found, needed = self._collected[1], quorum(len(roster.seats))
        if len(found) < needed:
            signed = encoding.message_hash(roster.federation, name, number, digest)
            left = frozenset(self._world.store.list(folder))
            for seat in roster.seats:
                key = f"{folder}/{seat.id}"
                if len(found) == needed or seat.id in found or key not in left:
                    continue
                try:
                    signature = self._world.store.get_at(key, limit=SIGNATURE_BYTES)
                    if recover(signed, signature) == seat.address:
                        found[seat.id] = signature
                except (errors.Unavailable, errors.Untrusted):
                    continue
        return tuple(sorted(found.items()))


def _rosters(roster: Roster) -> str:
    return f"rosters/{roster.federation.hex()}/{roster.version}"


def _manifests(state: State) -> str:
    return f"manifests/{state.domain.hex()}/{state.round}"
