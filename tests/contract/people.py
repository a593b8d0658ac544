"""People of a contract test: they know their keys, onions, ballots and results, and say the right thing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from eth_hash.auto import keccak
from harness import layer, signed, who

from hansa.protocol import messages as msg
from hansa.protocol.selection import ballot_commitment, pack_ranking, precommitment, threshold_and_cut
from hansa.protocol.state import State, to_bitmap
from hansa.records import Motion, Phase, Role, Slot

ONION_DEPTH = 60
CALLS: dict[Phase, tuple[str, ...]] = {
    Phase.COMMIT: ("commits",),
    Phase.BEACON: ("reveals",),
    Phase.AVAILABLE: ("availabilities", "ballots"),
    Phase.REVEAL: ("openings",),
    Phase.AGGREGATE: ("precommits",),
    Phase.VERIFY: ("votes",),
    Phase.OPEN: ("opening_votes",),
}
"""Batches of each phase, in the order in which members send them."""


class People:
    """Everybody's secrets; the i-th person is the i-th key of the harness."""

    def __init__(self, count: int) -> None:
        self.person = {who(i): i for i in range(count)}
        self.onions: dict[int, tuple[int, int, int]] = {}
        self.ballots: dict[tuple[int, int], tuple[int, bool, bytes, bytes]] = {}
        self.results: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def of(self, state: State, id: int) -> int:
        """The person behind an id."""
        return self.person[state.members[id].address]

    def sign(self, state: State, id: int, name: str, *values: Any) -> bytes:
        return signed(self.of(state, id), state.domain, name, *values)

    # membership

    def join(
        self, state: State, i: int, *, role: int = Role.MEMBER, resources: int = 10, series: int = 0
    ) -> msg.Join:
        head, key = layer(i, series, ONION_DEPTH), keccak(b"key%d-%d" % (i, series))
        nonce = state.nonces.get(who(i), 0)
        signature = signed(i, state.domain, "Join", nonce, key, head, resources, int(role))
        return msg.Join(who(i), key, head, resources, role, signature)

    def joined(self, state: State, i: int, series: int) -> None:
        """Note that the contract took a Join of this person."""
        self.onions[i] = (i, series, state.round)

    def replaced(self, old: int, new: int) -> None:
        """Note that an id went from one person to another, who knows the secrets of the first."""
        self.onions[new] = self.onions[old]

    def status(self, state: State, id: int, standing: int) -> msg.Status:
        nonce = state.nonces.get(state.members[id].address, 0)
        return msg.Status(id, standing, self.sign(state, id, "Status", nonce, int(standing)))

    def motion(
        self,
        state: State,
        kind: int,
        about: bytes,
        signers: Iterable[int],
        reason: bytes = keccak(b"because"),
    ) -> msg.Move:
        fields = (state.motions, int(kind), about, reason)
        signatures = tuple((id, self.sign(state, id, "Motion", *fields)) for id in signers)
        return msg.Move(kind, about, reason, signatures)

    # the round

    def commits(self, state: State, ids: Iterable[int], base: int | None = None) -> msg.Commits:
        base = state.version if base is None else base
        items = []
        for id in ids:
            digest = keccak(b"update %d %d" % (state.round, id))
            meta = 100 << 64 | id
            signature = self.sign(state, id, "Commit", state.round, base, digest, meta)
            items.append(msg.Commit(id, base, digest, meta, signature))
        return msg.Commits(state.round, tuple(items))

    def reveals(self, state: State, ids: Iterable[int]) -> msg.Reveals:
        items = []
        for id in ids:
            maker, series, since = self.onions[self.of(state, id)]
            items.append(msg.Reveal(id, layer(maker, series, ONION_DEPTH - (state.round - since))))
        return msg.Reveals(state.round, tuple(items))

    def availabilities(
        self, state: State, ids: Iterable[int], held: Callable[[int], int] | None = None
    ) -> msg.Availabilities:
        everything = to_bitmap(state.current.revealed)
        items = []
        for id in ids:
            bitmap = everything if held is None else held(id)
            words = tuple((bitmap >> (256 * k)) & (2**256 - 1) for k in range(4))
            items.append(
                msg.Availability(id, bitmap, self.sign(state, id, "Availability", state.round, words))
            )
        return msg.Availabilities(state.round, tuple(items))

    def ballots_of(
        self, state: State, ids: Iterable[int], *, seed: int = 0, doubt: float = 0.0, stop: float = 0.0
    ) -> msg.Ballots:
        items = []
        c = min(state.parameters.targets, len(state.current.places) - 1)
        for id in ids:
            chance = random.Random(f"{seed} {state.round} {id}")
            points = list(range(c))
            chance.shuffle(points)
            ranking = pack_ranking(points, [chance.random() < doubt for _ in points])
            ballot = (ranking, chance.random() < stop, keccak(b"values"), keccak(b"salt%d" % id))
            self.ballots.setdefault((state.round, id), ballot)
            commitment = ballot_commitment(state.domain, state.round, id, *self.ballots[state.round, id])
            signature = self.sign(state, id, "Ballot", state.round, commitment)
            items.append(msg.Ballot(id, commitment, signature))
        return msg.Ballots(state.round, tuple(items))

    def openings(self, state: State, ids: Iterable[int]) -> msg.Openings:
        blank = (0, False, bytes(32), bytes(32))
        items = []
        for id in ids:
            places = state.current.places
            place = places.index(id) if id in places else 0
            items.append(msg.Opening(id, place, *self.ballots.get((state.round, id), blank)))
        return msg.Openings(state.round, tuple(items))

    def select(self, state: State) -> msg.Select:
        threshold, cut = threshold_and_cut(state) or (0, 0)
        return msg.Select(state.round, threshold, cut)

    def precommits(self, state: State, ids: Iterable[int], result: bytes | None = None) -> msg.Precommits:
        items = []
        for id in ids:
            own = (result or self.result(state), keccak(b"own%d" % id))
            own = self.results.setdefault((state.round, id), own)
            commitment = precommitment(state.domain, state.round, id, *own)
            signature = self.sign(state, id, "Precommit", state.round, commitment)
            items.append(msg.Precommit(id, commitment, signature))
        return msg.Precommits(state.round, tuple(items))

    def result(self, state: State) -> bytes:
        """The digest that honest members compute in this round."""
        return keccak(b"result %d" % state.round)

    def propose(self, state: State, result: bytes | None = None, by: int | None = None) -> msg.Propose:
        attempt, evidence = state.current.attempt, keccak(b"evidence")
        leader = state.current.leader if by is None else by
        fields = (state.round, attempt, result or self.result(state), evidence)
        return msg.Propose(*fields, self.sign(state, leader or 0, "Proposal", *fields))

    def votes(
        self, state: State, ids: Iterable[int], approve: Callable[[int], bool] = lambda _: True
    ) -> msg.Votes:
        now, items = state.current, []
        for id in ids:
            salt = self.results.get((state.round, id), (b"", bytes(32)))[1]
            signature = self.sign(state, id, "Vote", state.round, now.attempt, now.result, approve(id))
            items.append(msg.Vote(id, approve(id), salt, signature))
        return msg.Votes(state.round, now.attempt, tuple(items))

    def opening_votes(
        self, state: State, ids: Iterable[int], digest: bytes | None = None
    ) -> msg.OpeningVotes:
        digest = self.result(state) if digest is None else digest
        items = [
            msg.OpeningVote(id, digest, self.sign(state, id, "Opening", state.round, digest)) for id in ids
        ]
        return msg.OpeningVotes(state.round, tuple(items))

    # at any time

    def record(self, state: State, id: int, kind: int, round: int) -> msg.Record:
        digest = keccak(b"record")
        return msg.Record(round, kind, id, digest, self.sign(state, id, "Record", round, kind, digest))

    def claim(
        self, state: State, slot: Slot, id: int, round: int, attempt: int, x: bytes, y: int
    ) -> msg.Claim:
        name = {Slot.COMMIT: "Commit", Slot.PROPOSAL: "Proposal", Slot.VOTE: "Vote"}[slot]
        last: Any = {Slot.COMMIT: y, Slot.PROPOSAL: y.to_bytes(32, "big"), Slot.VOTE: y == 1}[slot]
        signature = self.sign(state, id, name, round, attempt, x, last)
        return msg.Claim(attempt, x, y.to_bytes(32, "big"), signature)

    def awaited(self, state: State, batch: str) -> list[int]:
        """Who may still send a batch's item in this phase, ascending."""
        now = state.current
        verifiers = now.verifiers
        everybody = {
            "commits": now.roster - set(now.commits),
            "reveals": set(now.commits) - now.revealed,
            "availabilities": verifiers - set(now.held),
            "ballots": now.revealed - set(now.ballots),
            "openings": set(now.ballots) - set(now.opened),
            "precommits": verifiers - set(now.precommits),
            "votes": verifiers - set(now.votes),
            "opening_votes": now.available - set(now.open_votes),
        }
        return sorted(everybody[batch])


def quorum_of(state: State) -> list[int]:
    """The members that carry a motion, lowest ids first."""
    ids = [m.id for m in state.members.values() if m.member]
    active = sum(m.member and m.active for m in state.members.values())
    return ids[: 2 * active // 3 + 1]


__all__ = ["CALLS", "ONION_DEPTH", "Motion", "People", "quorum_of"]
