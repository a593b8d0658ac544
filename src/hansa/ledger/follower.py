"""Follow one contract's events through reorganisations: in order, each once, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hansa import errors
from hansa.ledger.rpc import Fault, Rpc, error_of, hexed, member, number, quantity, unhex

MAX_TOPICS = 4
LATEST = ("eth_getBlockByNumber", ("latest", False))


@dataclass(frozen=True, slots=True)
class Header:
    """Of a JSON-RPC block; other fields, as the long extraData of PoA, are free. `timestamp`: UNIX seconds."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int


def header_of(block: Any) -> Header:
    """Read a JSON-RPC block. Raises `Untrusted`."""
    return Header(
        number=number(member(block, "number")),
        hash=unhex(member(block, "hash"), 32),
        parent=unhex(member(block, "parentHash"), 32),
        timestamp=number(member(block, "timestamp")),
    )


@dataclass(frozen=True, slots=True)
class Log:
    """An event as the chain keeps it; `index` counts within the block."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: bytes
    transaction: bytes
    index: int


def log_of(value: Any) -> Log:
    """Read a JSON-RPC log. Raises `Untrusted`."""
    topics = member(value, "topics")
    if not isinstance(topics, list) or len(topics) > MAX_TOPICS:
        raise errors.Untrusted("the chain gave a log with bad topics")
    return Log(
        address=unhex(member(value, "address"), 20),
        topics=tuple(unhex(topic, 32) for topic in topics),
        data=unhex(member(value, "data")),
        block=number(member(value, "blockNumber")),
        block_hash=unhex(member(value, "blockHash"), 32),
        transaction=unhex(member(value, "transactionHash"), 32),
        index=number(member(value, "logIndex")),
    )


class Follower:
    """Position in the chain of a reader of the logs of `address`, from block `start` on.

    `confirmations`: blocks to wait before a log counts. `span`: most blocks of one poll; a node that
    refuses a range gets smaller ones. `depth`: how many block hashes are kept to find where a
    reorganisation began; an older one means reading again from `start`. `head`: the newest block seen.
    """

    def __init__(
        self,
        rpc: Rpc,
        address: bytes,
        start: int = 0,
        *,
        confirmations: int = 0,
        span: int = 2000,
        depth: int = 256,
    ) -> None:
        self._rpc = rpc
        self._address = address
        self._start = start
        self._next = start
        self._confirmations = confirmations
        self._widest = self._span = span
        self._depth = depth
        # Unless there are none, the newest is the block before `_next`.
        self._anchors: dict[int, bytes] = {}
        self._done: bytes | None = None
        self.head = Header(0, bytes(32), bytes(32), 0)

    @property
    def position(self) -> int:
        """The first block not yet read."""
        return self._next

    @property
    def caught_up(self) -> bool:
        """Whether all final blocks below `head` were read, on its chain."""
        return self.head.hash == self._done

    def poll(self, known: int | None = None) -> tuple[int | None, list[Log]]:
        """Read on, at most `span` blocks. `known`: a block that exists, which saves asking for the newest.

        Returns `(n, logs)`. When n is a number, forget every log of the blocks above n first; then
        take `logs`, in the chain's order. No logs may also mean that the chain turned over meanwhile:
        poll again. Raises `Unavailable`, and `Untrusted` when the node's answer contradicts itself.
        """
        if known is None or known - self._confirmations < self._next:
            self.head = header_of(self._rpc.request(*LATEST))
            if self.caught_up:
                return None, []
            known = self.head.number
        last = min(known - self._confirmations, self._next + self._span - 1)
        if last < self._next:
            rolled_back = self._roll_back()
            if rolled_back is None:
                self._done = self.head.hash
            return rolled_back, []
        while isinstance(answer := self._read(last), Fault):
            if last == self._next:
                raise error_of(answer)
            self._span = (last - self._next + 1) // 2
            last = self._next + self._span - 1
        if answer is None:
            return self._roll_back(), []
        self._advance(last, *answer)
        return None, answer[1]

    def _roll_back(self) -> int | None:
        """Compare the newest anchor with the chain; if it is gone, go back to the newest that is not."""
        if not self._anchors:
            return None
        newest = max(self._anchors)
        if self._hashes([newest])[0] == self._anchors[newest]:
            return None
        heights = sorted(self._anchors)
        found = self._hashes(heights)
        kept = {h: self._anchors[h] for h, now in zip(heights, found, strict=True) if now == self._anchors[h]}
        self._anchors = kept
        self._done = None
        fork = max(kept, default=self._start - 1)
        self._next = fork + 1
        return fork

    def _hashes(self, heights: Sequence[int]) -> list[bytes | None]:
        calls = [("eth_getBlockByNumber", (quantity(height), False)) for height in heights]
        return [header_of(block).hash if block is not None else None for block in self._good(calls)]

    def _good(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        answers = self._rpc.batch(calls)
        for answer in answers:
            if isinstance(answer, Fault):
                raise error_of(answer)
        return answers

    def _read(self, last: int) -> tuple[bytes, list[Log]] | Fault | None:
        """Hash of block `last` and all logs up to it; None if the chain moved since the last poll or now.

        One batch: what was read before still stands if the newest anchor does, and what is read now if
        block `last` is the same before and after.
        """
        end = ("eth_getBlockByNumber", (quantity(last), False))
        blocks = {"fromBlock": quantity(self._next), "toBlock": quantity(last)}
        logs = ("eth_getLogs", ({"address": hexed(self._address), **blocks},))
        anchor = self._anchors.get(self._next - 1)
        # A block's parent needs no question of its own.
        ask = anchor is not None and last > self._next
        asked = [("eth_getBlockByNumber", (quantity(self._next - 1), False))] if ask else []
        before, *parent, found, latest, after = self._rpc.batch([end, *asked, logs, LATEST, end])
        for answer in (before, *parent, latest, after):
            if isinstance(answer, Fault):
                raise error_of(answer)
        self.head = header_of(latest)
        if isinstance(found, Fault):
            return found
        if None in (before, *parent, after):
            return None
        block = header_of(after)
        stands = anchor in (None, header_of(parent[0]).hash if ask else block.parent)
        checked = self._checked(found, last)
        strays = any(log.block == last and log.block_hash != block.hash for log in checked)
        if header_of(before).hash != block.hash or not stands or strays:
            return None
        return block.hash, checked

    def _checked(self, found: Any, last: int) -> list[Log]:
        if not isinstance(found, list):
            raise errors.Untrusted("the chain gave no list of logs")
        logs = sorted((log_of(value) for value in found), key=lambda log: (log.block, log.index))
        for log in logs:
            if log.address != self._address or not self._next <= log.block <= last:
                raise errors.Untrusted("the chain gave a log that was not asked for")
        if len({(log.block, log.index) for log in logs}) != len(logs):
            raise errors.Untrusted("the chain gave a log twice")
        return logs

    def _advance(self, last: int, block: bytes, logs: Sequence[Log]) -> None:
        self._anchors.update({log.block: log.block_hash for log in logs})
        self._anchors[last] = block
        for height in sorted(self._anchors)[: -self._depth]:
            del self._anchors[height]
        self._next = last + 1
        self._span = min(self._span * 2, self._widest)
        if last == self.head.number - self._confirmations:
            self._done = self.head.hash
