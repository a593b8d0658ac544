"""Several RPC nodes of one chain: honest, down, lagging, lying about blocks or events, keeping transactions back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from tests.unit.test_follower import CONTRACT, MadeUp

from hansa import errors
from hansa.ledger.crosscheck import AWAY, LOOKS, CrossChecked
from hansa.ledger.follower import Follower
from hansa.ledger.rpc import Endpoint, Fault


class Node:
    """An endpoint of a made-up chain."""

    def __init__(self, host: str, chain: MadeUp) -> None:
        self.host, self.chain = host, chain
        self.down = False
        self.lag = 0
        self.asked: list[str] = []
        self.alter: Any = lambda method, answer: answer

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        self.asked += [method for method, _ in calls]
        if self.down:
            raise errors.Unavailable(f"cannot reach the node at {self.host}: ConnectionRefusedError")
        if any(method.startswith("eth_send") for method, _ in calls):
            return ["0x00"] * len(calls)
        whole = self.chain.blocks
        if self.lag:
            self.chain.blocks = whole[:-1]
            self.lag -= 1
        try:
            answers = self.chain.batch(calls)
        finally:
            self.chain.blocks = whole
        return [self.alter(method, a) for (method, _), a in zip(calls, answers, strict=True)]


class Pair:
    """Two nodes, and a follower that reads through both."""

    def __init__(self) -> None:
        self.chain = MadeUp(3)
        self.chain.grow(20)
        self.one, self.two = Node("one", self.chain), Node("two", self.chain)
        self.notes: list[str] = []
        self.pauses: list[float] = []
        self.now = 0.0
        nodes = cast(list[Endpoint], [self.one, self.two])
        self.rpc = CrossChecked(nodes, self.notes.append, sleep=self.pauses.append, clock=lambda: self.now)
        self.follower = Follower(self.rpc, CONTRACT)

    def read(self) -> int:
        return len(self.follower.poll()[1])


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_what_both_tell_is_taken(pair: Pair) -> None:
    assert pair.read() == len(pair.chain.logs(0, 20)) > 0
    assert "eth_getLogs" in pair.two.asked
    assert pair.follower.caught_up
    assert pair.notes == []


def hide(method: str, answer: Any) -> Any:
    return answer[1:] if method == "eth_getLogs" else answer


def invent(method: str, answer: Any) -> Any:
    return [*answer, {**answer[0], "logIndex": "0x77"}] if method == "eth_getLogs" else answer


def forge(method: str, answer: Any) -> Any:
    return [{**answer[0], "data": "0xff"}, *answer[1:]] if method == "eth_getLogs" else answer


def fork(method: str, answer: Any) -> Any:
    return {**answer, "hash": "0x" + "ab" * 32} if method == "eth_getBlockByNumber" else answer


@pytest.mark.parametrize("lie", [hide, invent, forge, fork])
@pytest.mark.parametrize("liar", ["one", "two"])
def test_a_lie_of_either_is_found_and_nothing_is_taken(liar: str, lie: Any, pair: Pair) -> None:
    getattr(pair, liar).alter = lie
    with pytest.raises(errors.Untrusted, match="nodes at one and two tell different things") as caught:
        pair.read()
    assert caught.value.hint
    assert pair.follower.position == 0
    getattr(pair, liar).alter = lambda method, answer: answer
    assert pair.read() == len(pair.chain.logs(0, 20))


@pytest.mark.parametrize("down", ["one", "two"])
def test_one_that_is_down_is_left_out_for_a_while_and_said_once(down: str, pair: Pair) -> None:
    node = getattr(pair, down)
    node.down = True
    pair.read()
    pair.chain.grow()
    asked = len(node.asked)
    pair.read()
    assert len(node.asked) == asked
    assert pair.notes == [f"cannot reach the node at {down}: ConnectionRefusedError; going on without it"]
    pair.now += AWAY
    pair.chain.grow()
    pair.read()
    assert len(pair.notes) == 1
    node.down = False
    pair.now += AWAY
    pair.chain.grow()
    pair.read()
    assert pair.notes[1:] == [f"the node at {down} is back"]


def test_both_down_is_unavailable_and_they_are_asked_again_at_once(pair: Pair) -> None:
    pair.one.down = pair.two.down = True
    with pytest.raises(errors.Unavailable, match="cannot reach the node at two"):
        pair.read()
    pair.one.down = pair.two.down = False
    assert pair.read() == len(pair.chain.logs(0, 20))


def test_one_that_lags_is_waited_for(pair: Pair) -> None:
    pair.two.lag = 2
    pair.read()
    assert pair.pauses == [0.25, 0.5]
    assert pair.notes == []
    pair.chain.grow()
    pair.two.lag = LOOKS
    pair.read()
    assert pair.notes == ["the node at two lags behind; going on without it"]


def test_one_that_refuses_the_range_cannot_check(pair: Pair) -> None:
    pair.two.alter = lambda method, a: Fault(-32005, "too many") if method == "eth_getLogs" else a
    pair.read()
    assert pair.notes == ["the node at two cannot check: too many; going on without it"]


def test_a_transaction_goes_to_all(pair: Pair) -> None:
    assert pair.rpc.request("eth_sendRawTransactionSync", ("0x02",)) == "0x00"
    assert pair.two.asked == ["eth_sendRawTransaction"]
    pair.two.down = True
    assert pair.rpc.request("eth_sendRawTransaction", ("0x02",)) == "0x00"


def test_other_questions_go_to_one(pair: Pair) -> None:
    pair.rpc.request("eth_getBlockByNumber", ("latest", False))
    assert pair.two.asked == []
