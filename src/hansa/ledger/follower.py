"""Follow one contract's events through reorganisations: in order, each once, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hansa import errors
from hansa.ledger.rpc import Fault, Rpc, error_of, hexed, member, number, quantity, unhex

MAX_TOPICS = 4


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
    reorganisation began; an older one means reading again from `start`.
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
        self._anchors: dict[int, bytes] = {}

    @property
    def position(self) -> int:
        """The first block not yet read."""
        return self._next

    def poll(self) -> tuple[int | None, list[Log]]:
        """Read on, at most `span` blocks.

        Returns `(n, logs)`. When n is a number, forget every log of the blocks above n first; then
        take `logs`, in the chain's order. No logs may also mean that the chain turned over meanwhile:
        poll again. Raises `Unavailable`, and `Untrusted` when the node's answer contradicts itself.
        """
        rolled_back = self._roll_back()
        head = number(self._rpc.request("eth_blockNumber")) - self._confirmations
        last = min(head, self._next + self._span - 1)
        while last >= self._next:
            answer = self._read(last)
            if isinstance(answer, Fault):
                if last == self._next:
                    raise error_of(answer)
                self._span = (last - self._next + 1) // 2
                last = self._next + self._span - 1
                continue
            if answer is None:
                return rolled_back, []
            self._advance(last, *answer)
            return rolled_back, answer[1]
        return rolled_back, []

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
        fork = max(kept, default=self._start - 1)
        self._next = fork + 1
        return fork

    def _hashes(self, heights: Sequence[int]) -> list[bytes | None]:
        calls = [("eth_getBlockByNumber", (quantity(height), False)) for height in heights]
        return [_header(block)[0] if block is not None else None for block in self._good(calls)]

    def _good(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        answers = self._rpc.batch(calls)
        for answer in answers:
            if isinstance(answer, Fault):
                raise error_of(answer)
        return answers

    def _read(self, last: int) -> tuple[bytes, list[Log]] | Fault | None:
        """Hash of block `last` and all logs up to it; None if the chain moved while they were read."""
        end = ("eth_getBlockByNumber", (quantity(last), False))
        blocks = {"fromBlock": quantity(self._next), "toBlock": quantity(last)}
        logs = ("eth_getLogs", ({"address": hexed(self._address), **blocks},))
        before, found, after = self._rpc.batch([end, logs, end])
        for answer in (before, after):
            if isinstance(answer, Fault):
                raise error_of(answer)
        if isinstance(found, Fault):
            return found
        if before is None or after is None:
            return None
        block, parent = _header(after)
        anchor = self._anchors.get(last - 1, parent)
        checked = self._checked(found, last)
        strays = any(log.block == last and log.block_hash != block for log in checked)
        if _header(before)[0] != block or parent != anchor or strays:
            return None
        return block, checked

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


def _header(block: Any) -> tuple[bytes, bytes]:
    """Hash and parent's hash of a JSON-RPC block; other fields, as the long extraData of PoA, are free."""
    return unhex(member(block, "hash"), 32), unhex(member(block, "parentHash"), 32)
