"""Contract and specification, driven together by Hypothesis and compared after each step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from eth_hash.auto import keccak
from harness import MODEL, OWNER, START, Contract, who
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from people import CALLS, People, quorum_of

from hansa import errors
from hansa.ledger.binding import words
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.state import State, record_of, replaced_id
from hansa.records import Governance, Motion, Parameters, Phase, Role, Slot, Standing

PEOPLE = 8
SEATS = (who(0), who(2), who(3))
NOBODY = 2**256 - 1
RUNNING = range(Phase.COMMIT, Phase.OPEN + 1)


def parameters(draw: random.Random) -> Parameters:
    """Sound terms with the small numbers at which corners lie."""
    evaluate = draw.random() < 0.6
    return Parameters(
        keccak(b"terms"),
        governance=draw.choice(list(Governance)),
        evaluate=evaluate,
        opens=draw.random() < 0.3,
        precommit=draw.random() < 0.5,
        by_vote=draw.random() < 0.3,
        borda=draw.random() < 0.4,
        targets=draw.choice([2, 3, 16]),
        keep=draw.choice([0, 0, 1, 3]),
        keep_permille=draw.choice([1, 500, 750, 1000]),
        min_updates=4 if evaluate else draw.choice([1, 2, 3]),
        min_quorum=draw.choice([1, 3, 4]),
        buffer=draw.choice([0, 0, 1, 5]),
        max_staleness=draw.choice([0, 1]),
        rounds=draw.choice([1, 2, 20]),
        epoch=draw.choice([1, 2]),
        committee=draw.choice([1, 3, 4]),
        attempts=draw.choice([1, 2, 3]),
        extensions=draw.choice([0, 1]),
        max_voids=draw.choice([1, 2, 3]),
        max_absent=draw.choice([1, 2]),
        weight_cap=draw.choice([1, 900, 65_535]),
        penalty=draw.choice([0, 250, 1000]),
        durations=(10, 20, 30, 40, 50, 60, 70),
    )


ASIDES = ("membership", "replay", "change_standing", "thin_out", "move", "note", "accuse")

chances = st.randoms(use_true_random=True)
"""One seed for all small choices of a step: Hypothesis explores the order of steps and aims the time."""


class Federation(RuleBasedStateMachine):
    """One contract beside its specification.

    `code`: a mutant's creation code instead of the shipped one. `terms`: parameters that are not left to chance.
    """

    code: ClassVar[bytes | None] = None
    terms: ClassVar[dict[str, Any]] = {}

    contract: Contract
    state: State
    people: People
    series: int
    changed: bool = False

    @initialize(chance=chances, joining=st.sampled_from([5, 6, 7, PEOPLE]))
    def deploy(self, chance: random.Random, joining: int) -> None:
        p = replace(parameters(chance), **self.terms)
        self.contract = Contract(p, SEATS, code=self.code)
        self.state = self.contract.founded(p, SEATS)
        self.people = People(PEOPLE + 1)
        self.series = 0
        for i in range(joining):
            self.send(msg.Invite(who(i)))
            self.enter(
                i,
                Role.SERVER if i == 3 and p.governance is Governance.SERVER and joining > 5 else Role.MEMBER,
            )
        if chance.random() < 0.95:
            self.send(msg.Start())

    # both sides

    def send(self, call: msg.Call, sender: bytes = OWNER) -> bool:
        """Send a call to both; they must agree on refusal, codes and events. True if accepted."""
        now = self.contract.now
        try:
            events, codes = rules.decide(self.state, call, now, sender)
            refusal = None
        except errors.Refused as e:
            events, codes, refusal = [], [], e.code
        outcome = self.contract.call(call, sender)
        assert (outcome.refusal, outcome.codes) == (refusal, codes), (
            f"{call}: {outcome} not {refusal} {codes}"
        )
        assert list(outcome.events) == events, f"{call}: {outcome.events} not {events}"
        for event in events:
            self.state = rules.evolve(self.state, event)
        self.changed |= refusal is None
        return refusal is None

    def enter(self, i: int, role: int, resources: int | None = None) -> None:
        self.series += 1
        resources = 10 * (i + 1) if resources is None else resources
        call = self.people.join(self.state, i, role=role, resources=resources, series=self.series)
        if self.send(call):
            self.people.joined(self.state, i, self.series)

    def batch(self, name: str, ids: list[int], chance: random.Random) -> msg.Batch:
        """What these ids say in this phase; honest for the most part."""
        people, state = self.people, self.state
        match name:
            case "commits":
                base = max(0, state.version - chance.choice([0, 0, 0, 1]))
                return people.commits(state, ids, base)
            case "reveals":
                return people.reveals(state, ids)
            case "availabilities":
                missing = chance.choice([0, 0, 0, 0, 0, 1 << chance.randrange(PEOPLE)])
                noise = chance.choice([0, 0, 1 << 200, 1 << 1023])
                everything = sum(1 << i for i in state.current.revealed)
                return people.availabilities(state, ids, lambda _: everything & ~missing | noise)
            case "ballots":
                doubt = chance.choice([0.0, 0.0, 0.4])
                return people.ballots_of(state, ids, seed=chance.getrandbits(16), doubt=doubt, stop=0.3)
            case "openings":
                return people.openings(state, ids)
            case "precommits":
                return people.precommits(state, ids, chance.choice([None] * 9 + [keccak(b"mine")]))
            case "votes":
                share = chance.choice([1.0, 1.0, 1.0, 1.0, 0.6, 0.0])
                return people.votes(state, ids, lambda _: chance.random() < share)
            case _:
                return people.opening_votes(
                    state, ids, chance.choice([None, None, None, None, bytes(32), keccak(b"x")])
                )

    def play(self, chance: random.Random, share: float) -> None:
        """Send the phase's messages of about `share` of those awaited, in one or two batches."""
        for name in CALLS.get(self.state.phase, ()):
            phase = self.state.phase
            if name == "ballots" and not self.state.parameters.evaluate:
                continue
            if name == "precommits" and not self.state.parameters.precommit:
                continue
            ids = [i for i in self.people.awaited(self.state, name) if chance.random() < share]
            cut = chance.randrange(len(ids) + 1) if chance.random() < 0.3 else 0
            for part in (ids[:cut], ids[cut:]):
                if part and self.state.phase is phase:
                    self.send(self.batch(name, part, chance))

    def finish(self, chance: random.Random, share: float = 1.0) -> None:
        """Go through the current phase to the next one, by messages or by its deadline."""
        before = (
            self.state.round,
            self.state.phase,
            self.state.current.attempt,
            self.state.current.extensions,
        )
        if self.contract.now < self.state.deadline:
            self.play(chance, share)
        if self.state.phase is Phase.REVEAL and self.state.phase == before[1]:
            if len(self.state.current.opened) < len(self.state.current.ballots):
                self.contract.now = max(self.contract.now, self.state.deadline)
            self.send(self.people.select(self.state))
        elif (
            self.state.phase is Phase.AGGREGATE
            and before[1] is Phase.AGGREGATE
            and share > 0
            and self.contract.now < self.state.deadline
        ):
            self.send(self.people.propose(self.state, chance.choice([None] * 6 + [keccak(b"odd")])))
        after = (
            self.state.round,
            self.state.phase,
            self.state.current.attempt,
            self.state.current.extensions,
        )
        if after == before and self.state.phase in RUNNING:
            grace = 40 if self.state.phase is Phase.REVEAL else 0
            self.contract.now = max(self.contract.now, self.state.deadline + grace)
            self.send(msg.Advance(self.state.round))

    # time and phases

    @rule(
        goal=st.sampled_from([0, *RUNNING]),
        offset=st.sampled_from([0, 0, -1, 1]),
        grace=st.booleans(),
        then=st.sampled_from(["some", "advance", "some", "nothing"]),
        round=st.sampled_from([0, 0, 0, 0, 1, -1]),
        chance=chances,
    )
    def aim(self, goal: int, offset: int, grace: bool, then: str, round: int, chance: random.Random) -> None:
        """Wait in a phase until just before, at or after its deadline, where comparisons go wrong; then act."""
        if goal:
            self.run(chance, 0, goal, 1.0)
        late = self.state.parameters.durations[3] if grace and self.state.phase is Phase.REVEAL else 0
        self.contract.now = max(self.contract.now, self.state.deadline + offset + late)
        if then == "advance":
            self.send(msg.Advance(max(0, self.state.round + round)))
        elif then == "some":
            self.play(chance, 0.5)

    @rule(chance=chances)
    def some(self, chance: random.Random) -> None:
        self.play(chance, 0.5)

    @rule(chance=chances, share=st.sampled_from([1.0, 1.0, 1.0, 0.85, 0.5, 0.0]))
    def next_phase(self, chance: random.Random, share: float) -> None:
        self.finish(chance, share)

    @rule(goal=st.sampled_from([0, *RUNNING]), times=st.integers(1, 4), chance=chances)
    def silence(self, goal: int, times: int, chance: random.Random) -> None:
        """From some phase on nobody says a word for a few deadlines."""
        if goal:
            self.run(chance, 0, goal, 1.0)
        for _ in range(times):
            if self.state.phase in RUNNING:
                grace = self.state.parameters.durations[3] if self.state.phase is Phase.REVEAL else 0
                self.contract.now = max(self.contract.now, self.state.deadline + grace)
                self.send(msg.Advance(self.state.round))

    @rule(chance=chances, share=st.sampled_from([1.0, 1.0, 0.85, 0.7]))
    def round(self, chance: random.Random, share: float) -> None:
        """Play the round to its end."""
        self.run(chance, self.state.round + 1, Phase.COMMIT, share)

    @rule(chance=chances, goal=st.sampled_from(list(RUNNING)), share=st.sampled_from([1.0, 1.0, 0.85]))
    def jump(self, chance: random.Random, goal: int, share: float) -> None:
        self.run(chance, 0, goal, share)

    def run(self, chance: random.Random, round: int, goal: int, share: float) -> None:
        """Play on until a round and a phase are reached; from a standstill, bring it to run first."""
        if self.state.phase not in RUNNING:
            self.revive(chance)
        for _ in range(16):
            if self.state.phase not in RUNNING or (self.state.phase == goal and self.state.round >= round):
                return
            self.finish(chance, share)

    def revive(self, chance: random.Random) -> None:
        """Bring a federation that stands still to run again, if it can."""
        for m in list(self.state.members.values()):
            if m.member and not m.active and m.address not in self.state.excluded:
                self.send(self.people.status(self.state, m.id, Standing.BACK))
        if self.state.phase is Phase.IDLE:
            self.send(msg.Start(), chance.choice([OWNER, OWNER, OWNER, who(1)]))
        else:
            self.send(self.people.motion(self.state, Motion.RESUME, OWNER, quorum_of(self.state)))

    @precondition(lambda self: self.state.phase is Phase.REVEAL)
    @rule(chance=chances, shift=st.sampled_from([-1, 0, 1]), cut=st.integers(-1, PEOPLE))
    def choose(self, chance: random.Random, shift: int, cut: int) -> None:
        """Select with thresholds around the right one, in and out of time."""
        right = self.people.select(self.state)
        threshold = chance.choice([right.threshold, max(0, right.threshold + shift), 2**256 - 1])
        self.send(msg.Select(self.state.round, threshold, right.cut if cut < 0 else cut))

    # wrong messages

    @rule(chance=chances)
    def disturb(self, chance: random.Random) -> None:
        """A batch with doubled, foreign, unsigned, out-of-phase and out-of-range items, or none."""
        everywhere = [name for names in CALLS.values() for name in names]
        name = chance.choice([*CALLS.get(self.state.phase, ()) * 8, *everywhere])
        known = sorted(self.state.members)
        onions = [i for i in known if self.people.of(self.state, i) in self.people.onions]
        ids = [chance.choice(onions) for _ in range(chance.randrange(5))]
        if chance.random() < 0.7:
            ids += [i for i in self.people.awaited(self.state, name) if i in onions][:2]
        if name in ("ballots", "openings") and len(self.state.current.places) < 2:
            ids = []
        call = self.batch(name, ids, chance)
        items = list(call.items)
        for k in range(len(items)):
            if chance.random() < 0.4:
                items[k] = self.spoil(items[k], chance)
        chance.shuffle(items)
        changes: dict[str, Any] = {"items": tuple(items)}
        if chance.random() < 0.1:
            changes["round"] = max(0, call.round + chance.choice([-1, 1]))
        if isinstance(call, msg.Votes) and chance.random() < 0.2:
            changes["attempt"] = call.attempt + 1
        self.send(replace(call, **changes))

    def spoil(self, item: Any, chance: random.Random) -> Any:
        """The item with one field changed."""
        field = chance.choice([f for f in item.__slots__])
        value = getattr(item, field)
        if field == "id":
            return replace(item, id=chance.choice([self.state.members.__len__(), 255, 1023, 1024, 2**200]))
        if isinstance(value, bool):
            return replace(item, **{field: not value})
        if field == "ranking":
            c = min(self.state.parameters.targets, max(1, len(self.state.current.places) - 1))
            return replace(item, ranking=value ^ (1 << chance.choice([255 - 16 * (c - 1), 240, 0])))
        if isinstance(value, int):
            return replace(item, **{field: chance.choice([value + 1, value ^ 1, 2**255])})
        broken = bytearray(value)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        return replace(item, **{field: bytes(broken)})

    @precondition(lambda self: self.state.phase is Phase.REVEAL and bool(self.state.current.ballots))
    @rule(chance=chances)
    def misrank(self, chance: random.Random) -> None:
        """A well-committed ballot that opens from a wrong place, or was never well-formed."""
        left = self.people.awaited(self.state, "openings")
        if left:
            item = self.people.openings(self.state, left[:1]).items[0]
            place = chance.choice([item.place + 1, 0, len(self.state.current.places), 2**255])
            self.send(msg.Openings(self.state.round, (replace(item, place=place),)))

    @precondition(lambda self: self.state.phase is Phase.AVAILABLE and self.state.parameters.evaluate)
    @rule(chance=chances)
    def malform(self, chance: random.Random) -> None:
        """Commit to a ranking that is no permutation, to be opened later."""
        left = self.people.awaited(self.state, "ballots")
        c = min(self.state.parameters.targets, len(self.state.current.places) - 1)
        if left:
            top = 240 - 16 * chance.randrange(c)
            ranking = chance.choice(
                [0, 1 << 255, 1, 2**256 - 1, sum(j << (240 - 16 * j) for j in range(c)) ^ 1 << top]
            )
            ballot = (ranking, False, keccak(b"values"), keccak(b"bad"))
            self.people.ballots[self.state.round, left[0]] = ballot
            self.send(self.people.ballots_of(self.state, left[:1]))

    @precondition(lambda self: self.state.phase is Phase.AGGREGATE)
    @rule(chance=chances)
    def usurp(self, chance: random.Random) -> None:
        """Propose as somebody else, for another attempt or round, or rightly."""
        call = self.people.propose(self.state, by=chance.choice([None, *self.state.members]))
        flaw = chance.choice(
            [{}, {"attempt": call.attempt + 1}, {"round": call.round + 1}, {"evidence": bytes(32)}]
        )
        self.send(replace(call, **flaw))

    # at any time

    @rule(chance=chances, what=st.sampled_from(ASIDES))
    def aside(self, chance: random.Random, what: str) -> None:
        getattr(self, what)(chance)

    def membership(self, chance: random.Random) -> None:
        """Invite or join, as newcomer, leaver, excluded or to change keys."""
        i = chance.randrange(PEOPLE + 1)
        if chance.random() < 0.5:
            self.send(msg.Invite(who(i)), chance.choice([OWNER, OWNER, who(i)]))
        role = chance.choice([Role.MEMBER, Role.MEMBER, Role.MEMBER, Role.KEY_CENTRE, 4])
        self.enter(i, role, chance.choice([None, 0, 70_000]))

    def replay(self, chance: random.Random) -> None:
        """A Join with a used nonce, another's signature, or changed fields."""
        i = chance.randrange(PEOPLE)
        call = self.people.join(self.state, i, series=1)
        flaw = chance.choice(
            [{"resources": 11}, {"who": who((i + 1) % PEOPLE)}, {"who": bytes(20)}, {"onion": bytes(32)}]
        )
        self.send(replace(call, **flaw))

    def change_standing(self, chance: random.Random) -> None:
        """A member's word about itself."""
        standing = chance.choice([0, 1, 1, 2, 2, 3, 9])
        id = chance.choice(sorted(self.state.members))
        call = self.people.status(self.state, id, standing)
        if chance.random() < 0.2:
            call = replace(call, id=chance.choice([id + 1, 1024, 2**255]))
        self.send(call)

    def thin_out(self, chance: random.Random) -> None:
        """Members go away until one is refused."""
        for id in sorted(self.state.members, key=lambda _: chance.random()):
            member = self.state.members[id]
            if (
                member.member
                and member.active
                and not self.send(self.people.status(self.state, id, Standing.AWAY))
            ):
                return

    def move(self, chance: random.Random) -> None:
        """A motion with a quorum, one too few, disorder, strangers or a forged signature."""
        kind = chance.choice([0, 0, 0, 1, 1, 1, 2, 3, 5, 5, 5, 6])
        kind = Motion.STOP if chance.random() < 0.03 else kind
        about, reason = chance.choice([*map(who, range(PEOPLE + 1)), *[OWNER] * 3]), keccak(b"because")
        if kind == Motion.REPLACE:
            strangers = [w for w in map(who, range(PEOPLE + 1)) if w not in self.state.ids]
            about = chance.choice([*strangers * 9, about])
            reason = chance.choice([*range(len(self.state.members) + 1), 2**256 - 1]).to_bytes(32, "big")
        signers = quorum_of(self.state)
        flaw = chance.randrange(10)
        if flaw == 0:
            signers = signers[:-1]
        elif flaw == 1:
            signers = signers[::-1]
        elif flaw == 2:
            signers = [*signers, signers[-1]] if signers else []
        call = self.people.motion(self.state, kind, about, signers, reason)
        if flaw == 3 and call.signatures:
            call = replace(call, signatures=(*call.signatures[:-1], (call.signatures[-1][0], bytes(64))))
        elif flaw == 4:
            call = replace(
                call,
                signatures=(*call.signatures, (chance.choice([len(self.state.members), 2**200]), bytes(64))),
            )
        before = self.state
        if self.send(call) and kind == Motion.REPLACE:
            id = replaced_id(reason)
            self.people.replaced(self.people.of(before, id), self.people.of(self.state, id))
            if chance.random() < 0.6:
                i, role = self.people.of(self.state, id), self.state.members[id].role
                self.enter(i, chance.choice([role, role, role, Role.SERVER]))

    def note(self, chance: random.Random) -> None:
        """A record, perhaps for the second time or about the future."""
        id, kind = chance.choice(sorted(self.state.members)), chance.randrange(2)
        round = max(0, self.state.round + chance.choice([0, 0, -1, 1]))
        self.send(self.people.record(self.state, id, kind, round))

    def accuse(self, chance: random.Random) -> None:
        """Two signed messages that contradict each other, or do not quite."""
        slot = chance.choice(list(Slot))
        attempts = chance.choice([(0, 0), (0, 0), (1, 1), (0, 1)])
        id = chance.choice(sorted(self.state.members))
        round = max(0, self.state.round + chance.choice([0, 0, 0, -1, 1]))
        xs = [keccak(b"one"), chance.choice([keccak(b"one"), keccak(b"two")])]
        ys = [1, chance.choice([0, 1])]
        a, b = (
            self.people.claim(self.state, slot, id, round, n, x, y)
            for n, x, y in zip(attempts, xs, ys, strict=True)
        )
        if chance.random() < 0.2:
            b = replace(b, signature=a.signature)
        if chance.random() < 0.1:
            b = replace(b, y=(2).to_bytes(32, "big"))
        self.send(msg.Accuse(slot, id, round, a, b))

    # comparison

    @invariant()
    def all_getters_agree(self) -> None:
        if not self.changed:
            return
        self.changed = False
        for name, args, expected in getters(self.state):
            found = self.contract.read(name, *args)
            assert found == expected, f"{name}{args}: contract {found!r}, specification {expected!r}"


def getters(state: State) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """Every public getter with its arguments and the value that the specification expects."""
    now = state.current
    for name in ("round", "phase", "deadline", "voids", "motions", "version", "model", "beacon"):
        yield name, (), getattr(state, name)
    yield "domain", (), state.domain
    yield "owner", (), "0x" + state.owner.hex()
    yield "n", (), len(state.members)
    yield "attempt", (), now.attempt
    yield "leader", (), NOBODY if now.leader is None else now.leader
    for name in ("set_root", "result", "evidence", "stops"):
        yield name, (), getattr(now, name)
    approvals = sum(now.votes.values())
    yield "approvals", (), approvals
    yield "rejections", (), len(now.votes) - approvals
    yield "committed", (), len(now.commits)
    yield "revealed", (), len(now.revealed)
    yield "opened_count", (), len(now.opened)
    p = state.parameters
    yield "parameters", (), (
        p.digest, int(p.governance), p.evaluate, p.opens, p.precommit, p.by_vote, p.borda, p.targets, p.keep,
        p.keep_permille, p.min_updates, p.min_quorum, p.buffer, p.max_staleness, p.rounds, p.epoch, p.committee,
        p.attempts, p.extensions, p.max_voids, p.max_absent, p.weight_cap, p.penalty, p.durations,
    )  # fmt: skip
    for i in range(PEOPLE + 1):
        someone = who(i)
        yield "invited", (someone,), someone in state.invited
        yield "excluded", (someone,), someone in state.excluded
        yield "seat", (someone,), someone in state.seats
        yield "nonces", (someone,), state.nonces.get(someone, 0)
        yield "id_of", (someone,), state.ids[someone] + 1 if someone in state.ids else 0
    known = Phase.AVAILABLE <= state.phase <= Phase.OPEN
    for i in range(len(now.places) + 1):
        yield "places", (i,), now.places[i] if known and i < len(now.places) else NOBODY
    for id, m in state.members.items():
        yield "address_of", (id,), "0x" + m.address.hex()
        yield "onion", (id,), m.onion
        yield "onion_round", (id,), m.onion_round
        yield "member", (id,), (
            m.member, m.active, int(m.role), m.reputation, now.snapshot.get(id, 0), m.resources, m.absent
        )  # fmt: skip
        yield "commitment", (id,), bytes(32) if id in now.opened else now.ballots.get(id, bytes(32))
        yield "precommit", (id,), now.precommits.get(id, bytes(32))
        sets = (
            now.roster, now.commits, now.revealed, now.held, now.available, now.ballots, now.opened,
            now.selected, now.verifiers, now.votes, now.tried, state.committee, now.slashed,
        )  # fmt: skip
        yield "marks", (id,), tuple(id in s for s in sets)
        for kind in range(2):
            yield "recorded", (state.round, kind, id), record_of(state, state.round, kind, id) is not None


__all__ = ["MODEL", "START", "Federation", "getters", "words"]
