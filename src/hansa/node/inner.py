"""Scheme `tee` over the uploads of `secagg` as one node sees it: what enclaves open, and the models that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from hansa import encoding, errors
from hansa.node.enclosed import Enclosed
from hansa.node.released import model_of
from hansa.ports import Delegating, Opened, View
from hansa.protocol import attested, secagg, tee
from hansa.protocol.attested import Delivery
from hansa.protocol.state import State
from hansa.records import RecordKind

SIDES = 1, 2
"""Key centres, servers: as `crypto.double_trapdoor.Side` numbers them."""


class Inner(Enclosed):
    """The enclaves and models of one node, where enclaves open sums."""

    def enclaves(self, state: State) -> Mapping[int, bytes]:
        """Whom the halves of the round's opening are sealed to. Raises `Unavailable`, `Untrusted`."""
        known = self.known(state)
        if not known:
            raise errors.Unavailable(
                f"no enclave is attested for round {state.round}, so that nobody can open its sums",
                hint="A server records a quote of its enclave, and a quorum of members has to vouch for it.",
            )
        return tee.sealed_to(tuple((host, known[host].seal_key) for host in sorted(known)))

    def deliver(self, view: View) -> bool:
        """Have the own enclave open the sums, and record what it gave. Raises `Unavailable`, `Untrusted`."""
        state, journal = view.state, self.world.journal
        name = f"delivery/{state.current.result.hex()}"
        if journal.get(state.round, name) is None:
            journal.put(state.round, {name: self._sum_up(state)})
        digest = journal.get(state.round, name)
        assert digest is not None
        return self.records.record(view, state.round, RecordKind.DELIVERY, digest)

    def _sum_up(self, state: State) -> bytes:
        known, hosting = self.known(state), self._hosting
        own = known.get(self.id)
        if hosting is None or own is None or own.attestation not in hosting.attested:
            raise errors.Unavailable("the own enclave is no candidate of this round")
        made, signatures = attested.manifest(self.terms, state, known), self._signatures(state)
        assert made.summed is not None
        scheme, fetch = cast(Delegating, self.world.scheme), self.blobs.get
        output = hosting.sum_up(
            attested.rosters(state),
            made,
            signatures,
            (fetch(made.summed.opening), fetch(made.summed.setup)),
            self._halves(state),
            lambda: scheme.masked(state, fetch),
        )
        evidence = encoding.encode(
            Delivery(made, signatures, output.result, output.signature, own.attestation)
        )
        self.blobs.publish(state, output.blob, output.grant, evidence)
        return encoding.digest(evidence)

    def _halves(self, state: State) -> dict[int, list[bytes]]:
        found = secagg.parties(self.terms, state)
        given: dict[int, list[bytes]] = {}
        for side, group in zip(SIDES, (found.centres, found.servers), strict=True):
            given[side] = []
            for digest in secagg.halves(state, state.round, group).values():
                try:
                    given[side].append(self.blobs.get(digest))
                except errors.Unavailable:
                    continue
        return given

    def opened(self, state: State) -> Opened:
        """The sums of the running round, from the first enclave whose delivery is right.

        Raises `Unavailable` while there is none, `Untrusted` where none is right.
        """
        known = self.known(state)
        why: errors.HansaError = errors.Unavailable("no enclave has opened the sums yet")
        for host, digest in sorted(secagg.deliveries(self.terms, state, state.round).items()):
            try:
                delivery = attested.read_delivery(self.blobs.get(digest, limit=attested.DELIVERY_LIMIT))
                attested.check_delivery(self.terms, state, delivery, known, host, delivery.result.result)
                return self._unpacked(delivery, host)
            except errors.Untrusted as e:
                self.note(f"round {state.round}: what the enclave of {host} is said to have opened: {e}")
                why = e
            except errors.Unavailable as e:
                why = e
        raise why

    def _unpacked(self, delivery: Delivery, host: int) -> Opened:
        scheme, said = cast(Delegating, self.world.scheme), delivery.result
        return scheme.open_package(
            delivery.manifest, host, said.result, self.blobs.get(said.sealed), self.blobs.get
        )

    def _readers(self, state: State) -> Mapping[int, bytes]:
        return secagg.readers(state)

    def _published(self, state: State) -> bytes:
        """The model that stands, as its contributors released it. Raises `Unavailable`, `Untrusted`."""
        return model_of(cast(Delegating, self.world.scheme), self.terms, state, self.id, self.blobs.get)
