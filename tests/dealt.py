"""A federation under `mpc` of real nodes on the specification as ledger.

Shares are real ones, replicated among three parties as ABY3's are; what the parties do with them is not: a `Meeting`
puts them together and takes the mean. What SPU does is tested in tests/mpc, where it is installed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests import tiny
from tests.tiny import LENGTH, Tiny, TinyTrainer

from hansa import encoding, errors
from hansa.founding import Party
from hansa.ledger.specified import Specified
from hansa.node.world import World
from hansa.ports import Dealt, Job, Table, Trained
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.mpc import Cost, Offer, Part, Report, Revealed
from hansa.protocol.terms import parameters
from hansa.records import (
    Boundary,
    Governance,
    GovernanceTerms,
    Mpc,
    Role,
    SelectionTerms,
    Terms,
    Training,
)
from hansa.stores import objects

PARTIES = 3
SCALE = 2.0**16


class Replicated:
    """x = a + b + c modulo 2**64; the party of rank r holds components r and r + 1."""

    def deal(self, job: bytes, name: str, array: NDArray[Any]) -> Dealt:
        if not np.isfinite(array).all():
            raise errors.Misconfigured(f"{name} has values that are no numbers")
        fixed = np.rint(np.asarray(array, np.float64) * SCALE).astype(np.int64).view(np.uint64)
        a, b = (np.frombuffer(secrets.token_bytes(8 * fixed.size), np.uint64) for _ in range(2))
        parts = a, b, fixed.ravel() - a - b
        shares = tuple(parts[r].tobytes() + parts[(r + 1) % 3].tobytes() for r in range(3))
        return Dealt(name, fixed.shape, "float32", shares)

    def check(self, job: bytes, rank: int, part: Part, share: bytes, owner: int) -> None:
        if encoding.digest(share) != part.shares[rank]:
            raise errors.Untrusted(f"the share of {part.name} is not the one that the owner committed to")
        if len(share) != 16 * int(np.prod(part.shape)):
            raise errors.Untrusted(f"the share of {part.name} has {len(share)} bytes")

    def components(self, job: bytes, rank: int, shares: Mapping[str, bytes]) -> tuple[tuple[int, bytes], ...]:
        share, half = shares["w"], len(shares["w"]) // 2
        held = (rank, share[:half]), ((rank + 1) % 3, share[half:])
        return tuple(sorted((n, encoding.digest(data)) for n, data in held))

    def reconstruct(self, job: bytes, shares: Sequence[Mapping[str, bytes]]) -> dict[str, NDArray[Any]]:
        return {"w": self.put_together([s["w"] for s in shares])}

    def put_together(self, shares: Sequence[bytes]) -> NDArray[Any]:
        parts = [np.frombuffer(s[: len(s) // 2], np.uint64) for s in shares]
        total = parts[0] + parts[1] + parts[2]
        return (total.view(np.int64) / SCALE).astype(np.float32)


@dataclass
class Meeting:
    """Where the sessions of all parties meet. `looks`: how often each is asked before it is done."""

    looks: int = 3
    jobs: dict[int, Job] = field(default_factory=dict)
    made: Mapping[int, Mapping[str, bytes]] = field(default_factory=dict)
    reveals: tuple[Revealed, ...] = (Revealed("hidden", 1, 10),)

    def hold(self) -> None:
        sharing, (job, *_) = Replicated(), self.jobs.values()
        rows = [
            sharing.put_together([self.jobs[r].shares[owner]["features"] for r in range(PARTIES)])
            for owner in sorted(job.shares)
        ]
        dealt = sharing.deal(job.name, "w", np.concatenate(rows).reshape(-1, LENGTH).mean(axis=0))
        self.made = {r: {"w": dealt.shares[r]} for r in range(PARTIES)}


class StandIn:
    """One party's session. `change`: what it makes of its shares of the model."""

    def __init__(self, meeting: Meeting, number: int) -> None:
        self.meeting = meeting
        self.certificate = b"certificate %d" % number
        self.address = f"127.0.0.1:{7000 + number}"
        self.change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]] = dict
        self.looks = 0
        self.absent = False

    def train(self, make: Callable[[], Job]) -> Trained | None:
        job = make()
        self.looks += 1
        if self.absent or self.looks < self.meeting.looks:
            return None
        self.meeting.jobs[job.rank] = job
        assert job.certificates[job.rank] == self.certificate
        assert job.addresses == tuple(f"127.0.0.1:{7000 + k}" for k in range(PARTIES))
        if len(self.meeting.jobs) < PARTIES:
            return None
        if not self.meeting.made:
            self.meeting.hold()
        report = Report(10, 1, 1, self.meeting.reveals, (Cost("dense", 0.5, 100, 3),))
        return Trained(self.change(self.meeting.made[job.rank]), report)

    def check(self, offer: Offer) -> None:
        if [part.name for part in offer.parts] != ["features"]:
            raise errors.Untrusted("other arrays than the script takes")

    def news(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


class Rows(TinyTrainer):
    """A tiny trainer that has rows of its own to share. `spoil` changes them."""

    def __init__(self, spoil: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray) -> None:
        super().__init__()
        self.spoil = spoil

    def table(self, dataset: str, terms: Mpc, owners: int, key: bytes) -> Table:
        member = int(dataset.split("/")[0][1:])
        rows = np.full((4, LENGTH), member, np.float32)
        return Table(4, encoding.digest(dataset.encode()), {"features": self.spoil(rows)})


def terms(parties: list[Party], *, least: int = 3, **changes: Any) -> Terms:
    """Terms of such a federation."""
    seats = tuple("0x" + p.address.hex() for p in parties if p.role is Role.PARTY)
    given: dict[str, Any] = {
        "scheme": "mpc",
        "governance": Governance.SERVER,
        "training": Training(rounds=1, min_members=least, deadline=100),
        "selection": SelectionTerms(rule="none"),
        "govern": GovernanceTerms(seats=seats, invitation="vote"),
        "mpc": Mpc(network=("dense",), reveals=(Boundary("hidden", 1, "step"),), deadline=1000),
    }
    return tiny.terms(parties, **given | changes)


def dealt(
    members: int = 4,
    *,
    meeting: Meeting | None = None,
    trainers: Mapping[int, Any] | None = None,
    **changes: Any,
) -> tuple[Tiny, list[StandIn]]:
    """A federation in COMMIT of round 1, and the sessions of its parties. Ids: members, then parties."""
    roles = [Role.MEMBER] * members + [Role.PARTY] * PARTIES
    people = [replace(tiny.party(0, f"m{i}"), role=role) for i, role in enumerate(roles)]
    agreed = terms(people, **changes)
    domain = encoding.domain_separator(1, bytes(20), encoding.digest(encoding.encode(agreed)))
    seats = [p.address for p in people if p.role is Role.PARTY]
    state = rules.found(parameters(agreed), seats, people[0].address, domain, agreed.initial)
    made = Tiny(agreed, people, Specified(state), store=objects.create("memory:///"))
    made.ledger().submit(*(msg.Invite(p.address) for p in people))
    made.ledger().submit(*(tiny.join(made, p) for p in people))
    where = meeting or Meeting()
    sessions = [StandIn(where, k) for k in range(PARTIES)]
    for id in range(members + PARTIES):
        session = sessions[id - members] if id >= members else None
        trainer = (trainers or {}).get(id, Rows())
        alter = partial(_equip, session)
        made.nodes.append(tiny.node(made, id, trainer=trainer, alter=alter, trains=id < members))
    while any([node.step() for node in made.nodes]):
        made.now += 1
    made.ledger().submit(msg.Start())
    made.now += 1
    return made, sessions


def _equip(session: StandIn | None, world: World) -> World:
    return replace(world, sharing=Replicated(), session=session)
