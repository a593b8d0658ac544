"""A federation of real nodes under one scheduler: who acts next, what fails when, how time passes."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from tests import enclaved, sums, tiny
from tests.adversary.hostile import Wrapped
from tests.chaos import ends
from tests.chaos.chains import OnEvm, OnSpecification
from tests.chaos.schedule import ALL, CENTRES, HOSTS, ROUNDS, SERVERS, Fault, Schedule
from tests.enclaves import Threaded

from hansa import encoding, errors, wiring
from hansa.attestation.simulated import Simulated, collected
from hansa.crypto import sealing
from hansa.enclave.providers import simulated_measurement
from hansa.founding import Party
from hansa.node.daemon import Node
from hansa.node.enclosed import Enclosed, Made
from hansa.node.enclosure import command
from hansa.node.journal import Journal, open_journal
from hansa.node.openings import Result
from hansa.node.world import Identity, World
from hansa.ports import Releasing
from hansa.protocol import attested, plan
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.secagg import Opening, decode_opening, encode_opening
from hansa.protocol.state import State
from hansa.protocol.terms import parameters
from hansa.records import (
    Governance,
    GovernanceTerms,
    Limits,
    Motion,
    Phase,
    Role,
    SelectionTerms,
    Standing,
    Terms,
    Training,
)

DEADLINE = 100
"""Seconds that each phase lasts."""

Slot = tuple[str, int, int]


@cache
def _parties(members: int, servers: int, centres: int) -> list[Party]:
    roles = [Role.MEMBER] * members + [Role.SERVER] * servers + [Role.KEY_CENTRE] * centres
    return [replace(tiny.party(0, f"m{i}"), role=role) for i, role in enumerate(roles)]


def agreed(schedule: Schedule) -> tuple[Terms, list[Party], list[bytes]]:
    """Terms, parties and seats of a schedule's federation."""
    if schedule.scheme == "secagg":
        return _summing(schedule)
    if schedule.scheme == "tee":
        return _enclosing(schedule)
    governance = schedule.governance
    parties = _parties(schedule.members, int(governance is Governance.SERVER), 0)
    sitting = {Governance.COMMITTEE: parties[:4], Governance.SERVER: parties[-1:]}.get(governance, [])
    least = 4 if schedule.rule != "none" else 3
    stale = 2 if schedule.mode == "asynchronous" else 0
    terms = tiny.terms(
        parties,
        governance=governance,
        retain_rounds=schedule.retain_rounds,
        training=Training(
            rounds=ROUNDS,
            min_members=least,
            deadline=DEADLINE,
            mode=schedule.mode,
            max_staleness=stale,
            buffer=least if stale else 0,
        ),
        selection=SelectionTerms(rule=schedule.rule, assume_malicious=0.25),
        govern=GovernanceTerms(
            seats=tuple("0x" + p.address.hex() for p in sitting),
            committee=4,
            epoch=1,
            precommit=schedule.precommit,
        ),
    )
    return terms, parties, [p.address for p in sitting]


def _summing(schedule: Schedule) -> tuple[Terms, list[Party], list[bytes]]:
    parties = _parties(schedule.members, SERVERS, CENTRES)
    terms = sums.terms(
        parties,
        rounds=ROUNDS,
        least=3,
        retain_rounds=schedule.retain_rounds,
        secagg={"modulus": 512, "tolerance": 100.0, "max_reentries": 1000},
    )
    govern = replace(terms.govern, precommit=schedule.precommit)
    seats = [p.address for p in parties if p.role is Role.SERVER]
    return replace(terms, govern=govern), parties, seats


def _enclosing(schedule: Schedule) -> tuple[Terms, list[Party], list[bytes]]:
    parties = _parties(schedule.members, 0, 0)
    terms = enclaved.terms(
        parties, rounds=ROUNDS, hosts=HOSTS, retain_rounds=schedule.retain_rounds, tee={"epoch": 3}
    )
    return terms, parties, [p.address for p in parties[:HOSTS]]


class Enclave(Threaded):
    """One whose processor is the same in every run."""

    ready = (
        lambda data: Simulated(simulated_measurement(), lambda: 0, entropy=bytes).quote(data).quote,
        "simulated",
    )


class Holder(Wrapped):
    """A party's end of `secagg` that tells which openings it gave its half for."""

    def __init__(self, inner: Any, fed: Federation, id: int) -> None:
        super().__init__(inner)
        self.fed, self.id = fed, id

    def halve(self, state: State, opening: Opening, readers: frozenset[int], fetch: Any) -> bytes:
        blob: bytes = self.inner.halve(state, opening, readers, fetch)
        self.fed.answered.setdefault((state.round, self.id), set()).add(encode_opening(opening))
        return blob


class Seat:
    """One party's place: what outlives its node. `down`: until when it has none."""

    def __init__(self, fed: Federation, id: int, party: Party, domain: bytes) -> None:
        self.id = id
        self.party = party
        self.database = open_journal(None, domain, party.address)._db
        self.blobs: dict[bytes, bytes] = {}
        self.fuse = ends.Fuse(fed)
        self.life = 0
        self.down = 0
        self.wiped = False
        self.node: Node | None = None


class Federation:
    """Nodes, chain, wire and clock of one schedule; in a `folder` for its chain it runs on the EVM.

    `changes` counts effects, so that time is skipped only where nothing happens. `marks`: (round, phase, id)
    -> when a fault last touched that member there; `losses`: rounds in which the store lost a blob,
    `forked` those of which something final was undone.
    `signed`: what left the nodes, by slot. `stopped`: errors that ended a node. `fallen`: who was killed once.
    """

    def __init__(self, schedule: Schedule, folder: Path | None = None) -> None:
        self.schedule = schedule
        self.rng = random.Random(f"hansa/chaos/{schedule.seed}/run")
        self.terms, self.parties, seats = agreed(schedule)
        where = (self.parties, parameters(self.terms), seats, self.terms.initial)
        self.chain: OnEvm | OnSpecification = (
            OnEvm(*where, folder) if folder else OnSpecification(*where, schedule.confirmations)
        )
        self.now = self.chain.now
        self.ticks = 0
        self.steps = 0
        self.changes = 0
        self.quiet = False
        self.wire = ends.Wire()
        self.pending: list[tuple[int, int, msg.Call]] = []
        self.waiting = list(schedule.faults)
        self.armed: list[tuple[int, Fault]] = []
        self.active: list[tuple[int, Fault]] = []
        self.injected: Counter[str] = Counter()
        self.marks: dict[tuple[int, Phase, int], int] = {}
        self.losses: set[int] = set()
        self.forked: set[int] = set()
        self.forks = 0
        self.signed: dict[Slot, set[bytes]] = {}
        self.stopped: list[str] = []
        self.fallen: set[int] = set()
        self.answered: dict[tuple[int, int], set[bytes]] = {}
        self._enrol()
        self.seats = [Seat(self, i, p, self.state.domain) for i, p in enumerate(self.parties)]
        for seat in self.seats:
            self.start(seat)
        self._begin()

    @property
    def state(self) -> State:
        """The state after the newest block, final or not."""
        return self.chain.blocks[-1].state

    def _enrol(self) -> None:
        """Everybody joins, the owner starts; no reorganisation reaches back to here."""
        for p in self.parties:
            self.chain.submit(0, msg.Invite(p.address))
        for p in self.parties:
            fields = (sealing.public_key(p.sealing_key), p.onion.head, 10, p.role)
            signature = p.sign(encoding.message_bytes(self.state.domain, "Join", 0, *fields))
            self.chain.submit(0, msg.Join(p.address, *fields, signature))

    def _begin(self) -> None:
        """All make their keys, or have their enclaves attested, undisturbed; then the owner starts."""
        self.quiet = True
        for _ in range(20 * (self.schedule.scheme != "plaintext")):
            for seat in self.seats:
                self._step(seat)
            self.chain.idle()
            self.now += 1
            self.chain.now = self.now
        self.quiet = False
        self.chain.submit(0, msg.Start())
        self.chain.floor = len(self.chain.blocks) - 1
        for _ in range(self.schedule.confirmations):
            self.chain.idle()

    def start(self, seat: Seat) -> None:
        """A node in its place, over the journal and the disk that are there; its randomness is a new one."""
        seat.life += 1
        life, p = seat.life, seat.party

        def entropy(label: str, n: int) -> bytes:
            return hashlib.shake_256(f"{self.schedule.seed}/{seat.id}/{life}/{label}".encode()).digest(n)

        scheme: Any = wiring.scheme(
            self.terms, id=seat.id, private_key=p.sealing_key, sign=p.sign, entropy=entropy, limits=Limits()
        )
        if self.schedule.scheme == "secagg":
            scheme = Holder(scheme, self, seat.id)
        data = (f"m{seat.id}/train", f"m{seat.id}/validation")
        member = p.role is Role.MEMBER
        me = Identity(seat.id, p, p.onion, *data, trains=member, frugal=self.schedule.frugal)
        world = World(
            ledger=ends.LedgerEnd(self, seat.id, seat.fuse),
            store=ends.StoreEnd(self, seat.id, seat.fuse),
            kept=ends.Disk(seat.blobs, seat.fuse),
            trainer=tiny.TinyTrainer(),
            scheme=scheme,
            journal=ends.Journal(Journal(seat.database, "memory"), self, seat.fuse),
            entropy=entropy,
            enclosure=self._enclosure if self.schedule.scheme == "tee" and seat.id < HOSTS else None,
            collateral=collected(lambda: self.now),
        )
        seat.node = Node(me, self.terms, world)
        seat.node.models.fold = self._folding(seat, seat.node.models.fold)
        if seat.node.enclosed is not None:
            seat.node.enclosed.make = self._making(seat, seat.node, seat.node.enclosed)

    def _enclosure(self) -> Enclave:
        return Enclave(command("simulated"), limit=Limits().blob)

    def _making(self, seat: Seat, node: Node, enclosed: Enclosed) -> Callable[[State], Made]:
        """What an enclave gives is proposed as it is, or another model in its name."""
        make = enclosed.make

        def wrong(state: State) -> Made:
            right = make(state)
            if not self.hit("miscompute", seat.id):
                return right
            base, scheme = enclosed.standing(state), cast(Releasing, node.world.scheme)
            made = ckpt.make(ckpt.shifted(base.model, base.model.values * 0 + 1), base.state)
            sealed = scheme.release(state, state.version + 1, made.data)
            said = attested.read_delivery(node.blobs.get(enclosed.release(state, right.digest)))
            result = replace(said.result, result=made.digest, sealed=encoding.digest(sealed.blob))
            evidence = encoding.encode(replace(said, result=result))
            node.blobs.publish(state, sealed.blob, *sealed.attachments, evidence)
            key = f"delivery/{made.digest.hex()}"
            node.world.journal.put(state.round, {key: encoding.digest(evidence)})
            self.count("miscompute: folds")
            return Made(made.digest)

        return wrong

    def _folding(self, seat: Seat, fold: Callable[[State], Any]) -> Callable[[State], Any]:
        def wrong(state: State) -> Checkpoint | Result:
            right: Checkpoint | Result = fold(state)
            if not self.hit("miscompute", seat.id):
                return right
            if isinstance(right, Result):
                opening = decode_opening(right.data)
                first = replace(opening.cohorts[0], masked=bytes(32))
                self.count("miscompute: folds")
                return Result(encode_opening(replace(opening, cohorts=(first,))))
            made = ckpt.make(ckpt.shifted(right.model, right.model.values * 0 + 1), right.state)
            assert seat.node is not None
            seat.node.world.kept.put(made.data)
            self.count("miscompute: folds")
            return made

        return wrong

    def close(self) -> None:
        """End all enclaves, and the chain."""
        for seat in self.seats:
            if seat.node is not None:
                seat.node.close()
        self.chain.close()

    # faults

    def hit(self, kind: str, id: int) -> Fault | None:
        """The fault of this kind that strikes this node now."""
        for _, fault in self.active:
            if fault.kind == kind and fault.member in (id, ALL):
                return fault
        return None

    def chance(self, rate: str) -> bool:
        """Whether a fault of this rate strikes now."""
        per_mille = 0 if self.quiet else getattr(self.schedule.rates, rate)
        struck = bool(per_mille) and self.rng.randrange(1000) < per_mille
        self.injected[rate] += struck
        # Whoever met it tries again soon: no time is skipped.
        self.changes += struck
        return struck

    def count(self, kind: str) -> None:
        """One more of these."""
        self.injected[kind] += 1

    def mark(self, id: int, time: int | None = None) -> None:
        """A fault touched this node, or everybody, in the phase that runs; the last time counts."""
        key = (self.state.round, self.state.phase, id)
        self.marks[key] = max(self.marks.get(key, 0), self.now if time is None else time)

    def lose(self) -> None:
        """The store lost a blob that all may need."""
        self.losses.add(self.state.round)

    def sign(self, slot: Slot, data: bytes) -> None:
        """A message left a node."""
        self.signed.setdefault(slot, set()).add(data)

    def _mark_active(self, time: int | None = None) -> None:
        """All whom a fault touches now, and until `time` where it lasts as long."""
        until = self.now if time is None else time
        for end, fault in self.active:
            self.mark(fault.member, min(end, until))
        for seat in self.seats:
            if seat.node is None:
                self.mark(seat.id, min(max(seat.down, self.now), until))

    def apply(self, id: int, call: msg.Call) -> None:
        """Make a block. Raises `Refused`."""
        self.chain.submit(id, call)
        self._mark_active()

    def _faults(self, *, calm: bool) -> None:
        """Arm, start and end faults. `calm`: nobody has anything to do, so that the armed ones strike."""
        at = (self.state.round, self.state.phase)
        arming = [f for f in self.waiting if (f.round, f.phase) <= at]
        self.waiting = [f for f in self.waiting if f not in arming]
        self.armed += [(self.ticks + f.after, f) for f in arming]
        due = [a for a in self.armed if calm or a[0] <= self.ticks]
        self.armed = [a for a in self.armed if a not in due]
        for _, fault in due:
            self._strike(fault)
        self.active = [(until, f) for until, f in self.active if until > self.now]

    def _strike(self, fault: Fault) -> None:
        self.count(fault.kind)
        match fault.kind:
            case "crash" | "wiped":
                seat = self.seats[fault.member]
                if seat.node is not None:
                    seat.fuse.left, seat.fuse.after = fault.amount, bool(fault.variant)
                    seat.down = self.now + fault.seconds
                    seat.wiped = fault.kind == "wiped"
            case "reorg" | "fork":
                taken = self.chain.undo(fault.amount)
                for state in (self.state, *(b.state for b in taken)):
                    self.marks[state.round, state.phase, ALL] = self.now
                if fault.kind == "fork" and taken:
                    self.forked |= {self.state.round, *(b.state.round for b in taken)}
                    self.forks += 1
                undone = [b for b in taken if b.call is not None]
                if fault.variant == 2:
                    self.rng.shuffle(undone)
                if fault.variant:
                    ids = {p.address: i for i, p in enumerate(self.parties)}
                    self.pending += [(self.now + 1, ids[b.sender], b.call) for b in undone if b.call]
            case _:
                self.active.append((self.now + fault.seconds, fault))

    def calm_down(self) -> None:
        """All faults end here."""
        self.quiet = True
        self.waiting, self.armed, self.active = [], [], []
        for seat in self.seats:
            seat.fuse.left = None
            seat.down = min(seat.down, self.now)
        self.wire.deliver(self.now, everything=True)

    # time

    def tick(self, after: Callable[[], None]) -> None:
        """Everybody has a turn, in any order; `after` is called after each step."""
        self.ticks += 1
        self.chain.now = self.now
        before = self.changes
        if not self.quiet:
            if self.ticks >= self.schedule.quiet:
                self.calm_down()
            else:
                self._faults(calm=False)
        self._mark_active()
        self.wire.deliver(self.now)
        self._mine()
        self.operate()
        idle = True
        for seat in self.rng.sample(self.seats, len(self.seats)):
            if seat.node is None:
                if seat.down > self.now:
                    continue
                self.start(seat)
                self.count("restarts")
            elif self.chance("slow"):
                self.mark(seat.id)
                idle = False
                continue
            self._step(seat)
            after()
        self._pass_time(idle=idle and self.changes == before)

    def _step(self, seat: Seat) -> None:
        assert seat.node is not None
        self.steps += 1
        try:
            seat.node.step()
        except ends.Killed:
            seat.node.close()
            seat.node = None
            self.fallen.add(seat.id)
            seat.down = max(seat.down, self.now + 1)
            if seat.wiped:
                seat.blobs.clear()
            self.count("kills")
            self.mark(seat.id)
        except Exception as e:
            self.stopped.append(f"node {seat.id} stopped in {self.state.phase.name}: {type(e).__name__}: {e}")
            seat.node = None

    def _mine(self) -> None:
        if self.hit("halt", ALL):
            return
        self.chain.idle()
        due = [p for p in self.pending if self.quiet or p[0] <= self.now]
        self.pending = [p for p in self.pending if p not in due]
        for _, id, call in due:
            self.changes += 1
            try:
                self.apply(id, call)
            except errors.Refused:
                continue

    def _pass_time(self, *, idle: bool) -> None:
        if not idle:
            self.now += self.rng.choice((0, 1, 1, 2))
            return
        if self.armed and not self.quiet:
            self._faults(calm=True)
            return
        state = self.chain.view().state
        offsets = {0} | {f.amount for _, f in self.active if f.kind == "skew"}
        wakes = [wake - s for s in offsets if (wake := plan.next_wake(state, self.now + s)) is not None]
        wakes += [until for until, _ in self.active]
        wakes += [seat.down for seat in self.seats if seat.node is None]
        wakes += [m[0] for m in (*self.wire.late, *self.pending)]
        wakes += list(self.wire.unseen.values())
        if state is not self.state:
            wakes.append(self.now + 1)  # blocks come, and what is not final yet will be
        then = min((w for w in wakes if w > self.now), default=self.now + 1)
        self._mark_active(then)
        self.now = then

    # what people do

    def operate(self) -> None:
        """Members whom the rules sent away come back, and a paused federation is resumed by all."""
        state = self.state
        if self.hit("halt", ALL) or state.phase is Phase.STOPPED:
            return
        for m in state.members.values():
            if m.member and not m.active:
                nonce = state.nonces.get(m.address, 0)
                signature = self._signature(m.id, "Status", nonce, Standing.BACK)
                self.apply(0, msg.Status(m.id, Standing.BACK, signature))
        if state.phase is Phase.PAUSED:
            fields = (self.state.motions, Motion.RESUME, bytes(20), bytes(32))
            ids = [m.id for m in self.state.members.values() if m.member]
            signatures = tuple((i, self._signature(i, "Motion", *fields)) for i in ids)
            self.apply(0, msg.Move(Motion.RESUME, bytes(20), bytes(32), signatures))
            self.count("resumed")

    def _signature(self, id: int, name: str, *fields: Any) -> bytes:
        return self.parties[id].sign(encoding.message_bytes(self.state.domain, name, *fields))
