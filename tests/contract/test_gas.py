"""Gas of a member-round, by call: batches, all events on, from the third round (storage warm)."""

from __future__ import annotations

import pytest
from harness import Contract, who
from people import People

from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.records import Governance, Parameters

BATCH = 100


class Run:
    """A federation of `m` members that does everything right; counts gas by function."""

    def __init__(self, m: int, *, precommit: bool) -> None:
        self.m = m
        self.parameters = Parameters(
            bytes(32), Governance.PEERS, precommit=precommit, keep_permille=750, rounds=9, penalty=100
        )
        self.contract = Contract(self.parameters)
        self.state = self.contract.founded(self.parameters)
        self.people = People(m)
        self.gas: dict[str, int] = {}
        self.largest = 0
        for i in range(m):
            self.send(msg.Invite(who(i)))
            self.people.joined(self.state, i, 0)
            self.send(self.people.join(self.state, i))
        self.send(msg.Start())

    def send(self, call: msg.Call) -> None:
        outcome = self.contract.call(call)
        assert outcome.refusal is None, (call, outcome.refusal)
        assert not any(outcome.codes)
        for event in outcome.events:
            self.state = rules.evolve(self.state, event)
        name = type(call).__name__
        self.gas[name] = self.gas.get(name, 0) + outcome.gas
        self.largest = max(self.largest, outcome.gas)

    def batches(self, call: msg.Batch) -> None:
        for k in range(0, len(call.items), BATCH):
            self.send(type(call)(*[getattr(call, f) for f in call.__slots__[:-1]], call.items[k : k + BATCH]))

    def round(self) -> None:
        people, ids = self.people, range(self.m)
        self.batches(people.commits(self.state, ids))
        self.batches(people.reveals(self.state, ids))
        self.batches(people.availabilities(self.state, ids))
        self.batches(people.ballots_of(self.state, ids, seed=self.state.round))
        self.batches(people.openings(self.state, ids))
        self.send(people.select(self.state))
        if self.parameters.precommit:
            self.batches(people.precommits(self.state, ids))
        self.send(people.propose(self.state))
        self.batches(people.votes(self.state, range(2 * self.m // 3 + 1)))


@pytest.mark.parametrize(
    ("m", "precommit", "bound"),
    [
        (10, False, 180_000),
        (10, True, 200_000),
        (32, False, 110_000),
        (32, True, 130_000),
        (100, False, 90_000),
        (100, True, 110_000),
    ],
)
def test_gas_of_a_member_round(m: int, precommit: bool, bound: int) -> None:
    run = Run(m, precommit=precommit)
    run.round()
    run.round()
    run.gas.clear()
    run.round()
    assert run.state.version == 3
    total = sum(run.gas.values()) // m
    table = {name: gas // m for name, gas in run.gas.items()}
    print(f"m={m} precommit={precommit}: {total} a member-round {table}; largest call {run.largest}")
    assert total <= bound
    assert run.largest < 2**24
