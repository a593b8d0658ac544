"""A host's own enclave: started, told of each roster, quoted, given the set of a round; anew when it is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.node.enclosure import Enclosure, Output, Rejected
from hansa.node.signed import Signed
from hansa.protocol.statements import Statement
from hansa.protocol.tee import Manifest, Roster, Signatures
from hansa.records import Evidence, Terms

Fetch = Callable[[bytes], bytes]


class Hosting:
    """The enclave of the host with this id. `start` starts one; `signed` is what members have signed for it.

    Methods raise `Unavailable` and `Untrusted` as `Enclosure` does, and `Unavailable` while signatures are missing.
    """

    def __init__(self, id: int, terms: Terms, start: Callable[[], Enclosure], signed: Signed) -> None:
        self._id = id
        self._terms = terms
        self._start = start
        self._signed = signed
        self._enclosure: Enclosure | None = None
        self._told: Roster | None = None
        self._attested: set[bytes] = set()
        self._taking: bytes | None = None
        self._waiting: set[int] = set()
        self._based = False
        self._finished: bytes | None = None

    @property
    def attested(self) -> frozenset[bytes]:
        """Digests of the attestations of the enclave that runs; none when it is gone."""
        gone = self._enclosure is None or self._enclosure.gone
        return frozenset() if gone else frozenset(self._attested)

    def loss(self) -> str:
        """Why the enclave that ran is gone, once; empty while it runs."""
        if self._enclosure is None or not self._enclosure.gone:
            return ""
        why = self._enclosure.ending()
        self.close()
        return why

    def quote(self, chain: tuple[Roster, ...], nonce: bytes, collateral: Fetch) -> tuple[Statement, Evidence]:
        """Statement and quote of the enclave, which knows these rosters; asked again, the same with new collateral."""
        return self._running(chain).attest(nonce, collateral)

    def add(self, attestation: bytes) -> None:
        """Its last quote made this attestation."""
        self._attested.add(attestation)

    def aggregate(
        self,
        chain: tuple[Roster, ...],
        manifest: Manifest,
        signatures: Signatures,
        base: Callable[[], bytes],
        fetch: Fetch,
    ) -> Output:
        """What the enclave makes of a set. Called again after something could not be had, it goes on from there."""
        enclosure = self._running(chain)
        if self._taking != manifest.digest:
            enclosure.start(manifest, signatures)
            self._taking, self._waiting = manifest.digest, {entry.member for entry in manifest.entries}
            self._based = False
        if not self._based:
            enclosure.base(base())
            self._based = True
        for entry in manifest.entries:
            if entry.member in self._waiting:
                blob = fetch(entry.digest)
                enclosure.payload(entry.member, fetch(sealing.read_header(blob).grant), blob)
                self._waiting.discard(entry.member)
        return enclosure.finish()

    def sum_up(
        self,
        chain: tuple[Roster, ...],
        manifest: Manifest,
        signatures: Signatures,
        asked: tuple[bytes, bytes],
        halves: Mapping[int, Sequence[bytes]],
        masked: Callable[[], Sequence[bytes | memoryview]],
    ) -> Output:
        """What the enclave opens: `asked` are opening and set-up, `halves` those of each side, the first right one
        serves. Called again after something could not be had, it goes on from there."""
        enclosure = self._running(chain)
        if self._taking != manifest.digest:
            enclosure.start(manifest, signatures)
            self._taking, self._waiting, self._based = manifest.digest, set(halves), False
        if not self._based:
            enclosure.opening(*asked)
            self._based = True
        for side in sorted(self._waiting):
            _hand(enclosure, side, halves[side])
            self._waiting.discard(side)
        if self._finished != manifest.digest:
            for k, wire in enumerate(masked()):
                enclosure.masked(k, wire)
            self._finished = manifest.digest
        return enclosure.finish()

    def close(self) -> None:
        """End the enclave, with its keys."""
        if self._enclosure is not None:
            self._enclosure.close()
        self._enclosure = self._told = self._taking = self._finished = None
        self._attested.clear()

    def _running(self, chain: tuple[Roster, ...]) -> Enclosure:
        """The enclave, begun, and told of the newest roster."""
        if self._enclosure is not None and (self._enclosure.gone or self._told not in chain):
            self.close()
        if self._enclosure is None:
            self._enclosure, self._told = self._begun(chain[0]), chain[0]
        assert self._told is not None
        for roster in chain[self._told.version + 1 :]:
            self._enclosure.change(roster, self._signed.of_roster(self._told, roster))
            self._told = roster
        return self._enclosure

    def _begun(self, founding: Roster) -> Enclosure:
        enclosure = self._start()
        try:
            enclosure.begin(self._id, founding.federation, encoding.encode(self._terms), founding)
        except errors.HansaError:
            enclosure.close()
            raise
        return enclosure


def _hand(enclosure: Enclosure, side: int, halves: Sequence[bytes]) -> None:
    """Give the enclave one side's half: a standby's, where the first is wrong."""
    why: Rejected | None = None
    for blob in halves:
        try:
            enclosure.half(side, blob)
        except Rejected as e:
            if enclosure.gone:
                raise
            why = why or e
        else:
            return
    raise why or errors.Unavailable("not both halves of the opening can be had yet")
