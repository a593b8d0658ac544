"""What a computing party of scheme `mpc` does: accept owners' shares, train on them with its peers, deliver its part.

Its session works in the background and saves its own shares as it goes; a node that starts again goes on from there.
"""

from __future__ import annotations

from typing import cast

from hansa import encoding, errors
from hansa.crypto.signatures import SIGNATURE_BYTES, recover
from hansa.node.blobs import Blobs
from hansa.node.recording import Records
from hansa.node.world import Findings, Identity, World
from hansa.ports import Dealing, Job, Session, Sharing, Trained, View
from hansa.protocol import mpc
from hansa.protocol.mpc import Acceptance, Delivery, Offer, Refused
from hansa.protocol.state import State
from hansa.records import RecordKind, Terms

ADDRESS_LIMIT = 300


class Computer:
    """One computing party. It sees shares, and what the terms declare to be opened to it; nothing else."""

    def __init__(
        self, me: Identity, terms: Terms, world: World, blobs: Blobs, findings: Findings, records: Records
    ) -> None:
        self.me = me
        self.terms = terms
        self.world = world
        self.blobs = blobs
        self.note = findings.note
        self.records = records
        self._scheme = cast(Dealing, world.scheme)
        self.busy = False

    @property
    def _session(self) -> Session:
        assert self.world.session is not None
        return self.world.session

    @property
    def _sharing(self) -> Sharing:
        assert self.world.sharing is not None
        return self.world.sharing

    @property
    def certificate(self) -> bytes:
        """Digest of the certificate of the own links."""
        return encoding.digest(self._session.certificate)

    def certify(self, view: View) -> bool:
        """Publish and record the certificate of the own links."""
        self.blobs.publish(view.state, self._session.certificate)
        return self.records.record(view, view.state.round, RecordKind.KEY, self.certificate)

    # whose shares are good

    def accept(self, view: View) -> bool:
        """Open the packages that are sealed to this party, and record whose shares are good. Raises `Unavailable`."""
        state = view.state
        good, refused = [], []
        for owner in sorted(state.current.available):
            try:
                self._shares(state, owner)
                good.append(owner)
            except errors.Untrusted as e:
                self.note(f"round {state.round}: shares of owner {owner} refused: {e} {e.hint}".strip())
                refused.append(Refused(owner, str(e)[:200]))
        self._announce(state)
        said = Acceptance(state.domain, state.round, self.me.id, tuple(good), tuple(refused))
        (digest,) = self.blobs.publish(state, encoding.encode(said))
        return self.records.record(view, state.round, RecordKind.INPUT, digest)

    def _offer(self, state: State, owner: int) -> Offer:
        return mpc.read_offer(self.blobs.get(state.current.commits[owner].digest), state, owner)

    def _shares(self, state: State, owner: int) -> dict[str, bytes]:
        """An owner's shares for this party, held against its offer. Raises `Unavailable`, `Untrusted`."""
        offer, rank = self._offer(state, owner), mpc.parties(state).index(self.me.id)
        self._session.check(offer)
        shares = self._scheme.unpack(state, owner, self.blobs.get(offer.packages[rank]), self.blobs.get)
        if shares.keys() != {part.name for part in offer.parts}:
            raise errors.Untrusted("the package holds other arrays than the offer names")
        for part in offer.parts:
            self._sharing.check(mpc.job(state), rank, part, shares[part.name], owner)
        return shares

    # training

    def compute(self, view: View) -> bool:
        """Train with the peers, or see how far it is; seal what comes of it to the owners, and record it.

        Raises `Unavailable` while a peer is missing.
        """
        state = view.state
        delivery = self.world.journal.get(state.round, "delivery")
        if delivery is None:
            self.busy = False
            self._announce(state)
            trained = self._session.train(lambda: self._job(state))
            for text in self._session.news():
                self.note(text)
            self.busy = trained is None
            if trained is None:
                return False
            delivery = self._deliver(state, trained)
            self.world.journal.put(state.round, {"delivery": delivery})
        return self.records.record(view, state.round, RecordKind.OUTPUT, delivery)

    def _job(self, state: State) -> Job:
        """What this party is to train, of what all accept. Raises `Unavailable`, `Untrusted`."""
        peers = mpc.parties(state)
        owners = mpc.enough(self.terms, mpc.accepted(state, self.blobs.get))
        offers = {owner: self._offer(state, owner) for owner in owners}
        return Job(
            name=mpc.job(state),
            rank=peers.index(self.me.id),
            certificates=tuple(self._certificate(state, p) for p in peers),
            addresses=tuple(self._address(state, p) for p in peers),
            rows={owner: offer.rows for owner, offer in offers.items()},
            ids={owner: offer.ids for owner, offer in offers.items()},
            shares={owner: self._shares(state, owner) for owner in owners},
        )

    def _deliver(self, state: State, trained: Trained) -> bytes:
        owners = mpc.accepted(state, self.blobs.get)
        rank, blobs, packages = mpc.parties(state).index(self.me.id), list[bytes](), []
        for owner in owners:
            sealed = self._scheme.pack(state, owner, trained.shares)
            packages.append((owner, encoding.digest(sealed.blob)))
            blobs += (sealed.blob, *sealed.attachments)
        components = self._sharing.components(mpc.job(state), rank, trained.shares)
        report = encoding.encode(trained.report)
        made = Delivery(
            state.domain,
            state.round,
            self.me.id,
            owners,
            components,
            tuple(packages),
            encoding.digest(report),
        )
        data = encoding.encode(made)
        self.blobs.publish(state, *blobs, report, data)
        return encoding.digest(data)

    # where peers are

    def _certificate(self, state: State, party: int) -> bytes:
        digest = mpc.certificate(state, party)
        assert digest is not None
        return self.blobs.get(digest, limit=64 * 1024)

    def _announce(self, state: State) -> None:
        """Say where this party's links are reached; a party that moved says it again."""
        address = self._session.address.encode()
        signed = encoding.message_bytes(state.domain, "Link", state.round, encoding.digest(address))
        key = _link(state, self.me.id)
        try:
            if self.world.store.get_at(key, limit=ADDRESS_LIMIT)[SIGNATURE_BYTES:] == address:
                return
        except (errors.Unavailable, errors.Untrusted):
            pass
        self.world.store.put_at(key, self.me.signer.sign(signed) + address)

    def _address(self, state: State, party: int) -> str:
        """Where a peer says that it is reached. Raises `Unavailable` while it has not said so, or another has."""
        data = self.world.store.get_at(_link(state, party), limit=ADDRESS_LIMIT)
        signature, address = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        signed = encoding.message_hash(state.domain, "Link", state.round, encoding.digest(address))
        try:
            if recover(signed, signature) == state.members[party].address:
                return address.decode()
        except (errors.Untrusted, UnicodeDecodeError):
            pass
        raise errors.Unavailable(
            f"what lies in the store as the address of party {party} is not signed by it",
            hint="Somebody wrote over it; the party puts its own back when it looks again.",
        )


def _link(state: State, party: int) -> str:
    return f"links/{state.domain.hex()}/{state.round}/{party}"
