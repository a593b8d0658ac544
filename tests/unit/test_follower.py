"""The follower over a made-up chain that turns over, lies, lags and refuses."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from hansa import errors
from hansa.ledger.follower import Follower
from hansa.ledger.rpc import Fault, error_of, hexed, number, quantity

CONTRACT = b"\xc0" * 20


class MadeUp:
    """Blocks are random names; the number of events of a block follows from its name."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.blocks: list[bytes] = [bytes(32)]
        self.widest = 10**9
        self.most = 10**9
        self.before_call: list[Any] = []
        self.change: Any = lambda log: log
        self.asked: list[tuple[int, int]] = []
        self.exchanges = 0
        self.order: Any = range

    def grow(self, count: int = 1) -> None:
        self.blocks += [self.rng.randbytes(32) for _ in range(count)]

    def turn_over(self, depth: int, count: int) -> None:
        del self.blocks[len(self.blocks) - depth :]
        self.grow(count)

    def logs(self, first: int, last: int) -> list[dict[str, Any]]:
        return [
            {
                "address": hexed(CONTRACT),
                "topics": [hexed(hashlib.sha256(block).digest())],
                "data": quantity(index + 16),
                "blockNumber": quantity(height),
                "blockHash": hexed(block),
                "transactionHash": hexed(block),
                "logIndex": quantity(index),
            }
            for height, block in enumerate(self.blocks)
            if first <= height <= last
            for index in range(block[0] % 3)
        ]

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        (answer,) = self.batch([(method, params)])
        if isinstance(answer, Fault):
            raise error_of(answer)
        return answer

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        self.exchanges += 1
        answers = {place: self.answer(*calls[place]) for place in self.order(len(calls))}
        return [answers[place] for place in range(len(calls))]

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        if self.before_call:
            self.before_call.pop(0)()
        if method == "eth_getBlockByNumber":
            height = len(self.blocks) - 1 if params[0] == "latest" else number(params[0])
            if height >= len(self.blocks):
                return None
            parent = self.blocks[height - 1] if height else bytes(32)
            return {
                "number": quantity(height),
                "timestamp": quantity(1000 + height),
                "hash": hexed(self.blocks[height]),
                "parentHash": hexed(parent),
                "extraData": "0x" + "00" * 97,
            }
        first, last = number(params[0]["fromBlock"]), number(params[0]["toBlock"])
        self.asked.append((first, last))
        found = self.logs(first, last)
        if last - first >= self.widest or len(found) > self.most:
            return Fault(-32005, "query returned more than 10000 results")
        self.rng.shuffle(found)
        return [self.change(log) for log in found]


class Reader:
    """What a consumer of the follower holds."""

    def __init__(self, chain: MadeUp, **options: Any) -> None:
        self.chain = chain
        self.follower = Follower(chain, CONTRACT, **options)
        self.held: list[tuple[int, bytes, int]] = []
        self.rollbacks: list[int] = []

    def poll(self, known: int | None = None) -> None:
        rolled_back, logs = self.follower.poll(known)
        if rolled_back is not None:
            self.rollbacks.append(rolled_back)
            self.held = [log for log in self.held if log[0] <= rolled_back]
        self.held += [(log.block, log.block_hash, log.index) for log in logs]

    def catch_up(self) -> None:
        for _ in range(200):
            before = self.follower.position
            self.poll()
            if self.follower.position == before:
                return
        raise AssertionError("the follower does not come to rest")

    def expected(self, confirmations: int = 0) -> list[tuple[int, bytes, int]]:
        last = len(self.chain.blocks) - 1 - confirmations
        return [
            (height, block, index)
            for height, block in enumerate(self.chain.blocks[: last + 1])
            for index in range(block[0] % 3)
        ]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_held_is_the_chain_whatever_turns_over(seed: int) -> None:
    rng = random.Random(seed)
    chain = MadeUp(seed)
    reader = Reader(chain, span=rng.choice([1, 3, 50]), depth=rng.choice([3, 20]))
    for _ in range(60):
        chain.grow(rng.randrange(4))
        if rng.random() < 0.3:
            depth = rng.randrange(min(9, len(chain.blocks)))
            chain.turn_over(depth, rng.randrange(depth + 3))
        if rng.random() < 0.2:
            chain.before_call = [lambda: None] * rng.randrange(5) + [lambda: chain.turn_over(1, 1)]
        for _ in range(rng.randrange(4)):
            reader.poll()
        assert len(reader.follower._anchors) <= 20
    chain.before_call = []
    reader.catch_up()
    assert reader.held == reader.expected()
    chain.turn_over(2, 3)
    reader.catch_up()
    assert reader.held == reader.expected()
    assert reader.rollbacks


def test_a_rollback_goes_no_deeper_than_the_fork() -> None:
    chain = MadeUp()
    reader = Reader(chain)
    for _ in range(20):
        chain.grow()
        reader.poll()
    chain.turn_over(3, 5)
    reader.catch_up()
    assert reader.rollbacks == [17]
    assert reader.held == reader.expected()


def test_a_shorter_chain_is_noticed_too() -> None:
    chain = MadeUp()
    reader = Reader(chain)
    for _ in range(10):
        chain.grow()
        reader.poll()
    chain.turn_over(4, 0)
    reader.poll()
    assert reader.rollbacks == [6]
    assert reader.held == reader.expected()


def test_deeper_than_remembered_reads_again_from_the_start() -> None:
    chain = MadeUp()
    reader = Reader(chain, depth=4, start=2)
    for _ in range(20):
        chain.grow()
        reader.poll()
    chain.turn_over(15, 16)
    reader.catch_up()
    assert reader.rollbacks == [1]
    assert reader.held == [log for log in reader.expected() if log[0] >= 2]


def test_shallow_reorganisations_are_invisible_behind_confirmations() -> None:
    chain = MadeUp()
    reader = Reader(chain, confirmations=3)
    for _ in range(30):
        chain.grow()
        chain.turn_over(3, 3)
        reader.poll()
    assert reader.rollbacks == []
    assert reader.held == reader.expected(confirmations=3)


def test_refused_ranges_are_split_and_grow_again() -> None:
    chain = MadeUp()
    chain.grow(300)
    chain.widest = 8
    reader = Reader(chain, span=100)
    reader.catch_up()
    assert reader.held == reader.expected()
    assert (0, 99) in chain.asked
    chain.widest = 10**9
    chain.grow(300)
    chain.asked.clear()
    reader.catch_up()
    assert max(last - first for first, last in chain.asked) == 99
    assert reader.held == reader.expected()


def test_a_node_that_refuses_one_block_is_unavailable() -> None:
    chain = MadeUp()
    chain.grow(10)
    chain.widest = 0
    with pytest.raises(errors.Unavailable):
        Reader(chain).poll()


@pytest.mark.parametrize(
    "change",
    [
        {"address": hexed(bytes(20))},
        {"blockNumber": quantity(10**6)},
        {"logIndex": "0x0", "blockNumber": "0x1"},
        {"topics": [hexed(bytes(32))] * 5},
        {"topics": ["0x12"]},
        {"data": None},
        {"blockHash": "0x"},
    ],
)
def test_answers_that_cannot_be_true_are_untrusted(change: dict[str, Any]) -> None:
    chain = MadeUp()
    chain.grow(10)
    chain.change = lambda log: {**log, **change}
    with pytest.raises(errors.Untrusted):
        Reader(chain).poll()


def test_logs_of_another_branch_are_not_taken() -> None:
    chain = MadeUp()
    chain.grow(1)
    chain.blocks[1] = b"\x02" * 32
    chain.change = lambda log: {**log, "blockHash": hexed(b"\x05" * 32)}
    reader = Reader(chain)
    reader.poll()
    assert reader.held == []
    chain.change = lambda log: log
    reader.catch_up()
    assert reader.held == reader.expected()


def test_a_poll_takes_one_exchange_where_the_block_is_known() -> None:
    chain = MadeUp()
    reader = Reader(chain)
    chain.grow(3)
    reader.poll()
    for grown in (1, 4):
        chain.grow(grown)
        chain.exchanges = 0
        reader.poll(known=len(chain.blocks) - 1)
        assert chain.exchanges == 1
        assert reader.held == reader.expected()
        reader.poll()
        assert chain.exchanges == 2  # nothing new
        assert reader.follower.caught_up
        assert reader.follower.head.timestamp == 1000 + len(chain.blocks) - 1
    chain.grow()
    reader.poll()
    assert chain.exchanges == 4  # the newest block, then what it brought
    assert reader.held == reader.expected()


@pytest.mark.parametrize("deep", [1, 2, 5])
@pytest.mark.parametrize("known", [8, 12, 13, 20])
def test_a_known_block_that_is_gone_or_not_the_newest_misleads_nobody(deep: int, known: int) -> None:
    chain = MadeUp()
    reader = Reader(chain)
    chain.grow(10)
    reader.catch_up()
    chain.turn_over(deep, deep + 3)
    reader.poll(known=known)
    (fork,) = reader.rollbacks
    assert fork <= 10 - deep
    reader.catch_up()
    assert reader.held == reader.expected()
    chain.grow(5)
    reader.poll(known=15)
    assert not reader.follower.caught_up
    assert reader.follower.head.number == 18
    reader.catch_up()
    assert reader.follower.caught_up
    assert reader.held == reader.expected()


@pytest.mark.parametrize("call", range(5))
def test_a_chain_that_turns_over_within_the_batch_gives_nothing_false(call: int) -> None:
    for deep, grown in [(1, 1), (2, 2), (1, 2), (3, 1)]:
        for seed in range(20):
            chain = MadeUp(seed)
            reader = Reader(chain)
            chain.grow(5)
            reader.catch_up()
            chain.grow(3)
            turn = partial(chain.turn_over, deep, grown)
            chain.before_call = [lambda: None] * call + [turn]
            reader.poll(known=8)
            reader.catch_up()
            assert reader.held == reader.expected()


def test_a_chain_that_turns_over_and_back_is_read_again() -> None:
    chain = MadeUp()
    reader = Reader(chain)
    chain.grow(10)
    reader.catch_up()
    first = list(chain.blocks)
    chain.turn_over(3, 3)
    reader.poll()
    assert reader.rollbacks
    chain.blocks = first
    reader.catch_up()
    assert reader.held == reader.expected()


@pytest.mark.parametrize("seed", range(20))
def test_a_block_that_comes_while_a_batch_is_answered_in_any_order_is_not_missed(seed: int) -> None:
    """A node may read the logs before that block comes, and the newest block after."""
    rng = random.Random(seed)
    chain = MadeUp(seed)
    chain.order = lambda n: rng.sample(range(n), n)
    reader = Reader(chain)
    for _ in range(30):
        chain.grow(rng.randrange(3))
        chain.before_call = [lambda: None] * rng.randrange(6) + [chain.grow]
        reader.poll(known=rng.choice([None, len(chain.blocks) - 1]))
    chain.before_call = []
    reader.catch_up()
    assert reader.held == reader.expected()
    assert reader.rollbacks == []
