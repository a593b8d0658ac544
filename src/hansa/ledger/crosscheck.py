"""One chain through several RPC nodes that need not trust each other.

One node is asked; of what it tells about events a second one is asked too, and the answers must be the same:
hash of the last block, and every log up to it. A node that is down is left out for a while. What is sent goes
to all of them, so that none can keep it from the chain.

All other answers, such as balances, fees, receipts and simulated calls, are those of one node: it can make a
member waste gas, or hide the newest blocks for a while, not make it sign for a state that the chain does not
have. Nodes of one provider agree on anything. While only one node answers, nothing is checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hansa import errors, web
from hansa.ledger.follower import Log, header_of, log_of
from hansa.ledger.rpc import Endpoint, Fault, error_of

AWAY = 30.0
"""Seconds for which a node that did not answer is left alone."""

LOOKS = 4
"""How often a second node is asked for a block that it has not yet, at growing pauses: 1.75 s in all."""

BLOCK = "eth_getBlockByNumber"
SENDING = frozenset({"eth_sendRawTransaction", "eth_sendRawTransactionSync"})


class CrossChecked:
    """Several `Endpoint` as one `Rpc`. `note` hears of each that fails, or comes back.

    One thread at a time may use it.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        note: Callable[[str], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints = list(endpoints)
        self._note = note
        self._sleep = sleep
        self._clock = clock
        self._away: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"CrossChecked({self._endpoints!r})"

    def begin(self) -> int:
        """Ask each which chain it serves; gives how many answer. Raises `Misconfigured`."""
        for endpoint in self._endpoints:
            try:
                endpoint.request("eth_chainId")
            except errors.Unavailable as e:
                self._leave(endpoint, e)
        return len(self._present())

    def close(self) -> None:
        """Drop all connections."""
        for endpoint in self._endpoints:
            endpoint.close()

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See `Rpc.request`."""
        result = self.batch([(method, params)])[0]
        if isinstance(result, Fault):
            raise error_of(result)
        return result

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """See `Rpc.batch`. Raises `Untrusted` when two nodes tell different things, `Unavailable` when all are
        down, `Misconfigured` when one serves another chain."""
        failed: errors.Unavailable | None = None
        for endpoint in self._present() or self._endpoints:
            try:
                answers = endpoint.batch(calls)
            except errors.Unavailable as e:
                self._leave(endpoint, e)
                failed = e
                continue
            self._back(endpoint)
            asked = list(zip(calls, answers, strict=True))
            blocks = {params[0]: block for (method, params), block in asked if method == BLOCK}
            for (method, params), answer in asked:
                if method == "eth_getLogs" and isinstance(answer, list):
                    self._compare(endpoint, params[0], blocks.get(params[0]["toBlock"]), answer)
            self._repeat(endpoint, calls)
            return answers
        assert failed is not None
        raise failed

    def _present(self) -> list[Endpoint]:
        now = self._clock()
        return [e for e in self._endpoints if self._away.get(e.host, now) <= now]

    def _leave(self, endpoint: Endpoint, why: errors.Unavailable) -> None:
        if endpoint.host not in self._away:
            self._note(f"{why}; going on without it")
        self._away[endpoint.host] = self._clock() + AWAY

    def _back(self, endpoint: Endpoint) -> None:
        if self._away.pop(endpoint.host, None) is not None:
            self._note(f"the node at {endpoint.host} is back")

    def _compare(self, first: Endpoint, wanted: dict[str, str], last: Any, found: list[Any]) -> None:
        """Hold the last block, if it was asked for, and the logs that `first` gave against another node's."""
        own = header_of(last).hash if isinstance(last, dict) else None
        for second in self._present():
            if second is first:
                continue
            try:
                block, logs = self._second(second, wanted)
            except errors.Unavailable as e:
                self._leave(second, e)
                continue
            self._back(second)
            if block != (own or block) or logs != _logs(found):
                raise errors.Untrusted(
                    f"the nodes at {first.host} and {second.host} tell different things of the chain up to block"
                    f" {int(wanted['toBlock'], 16)}",
                    hint="One of them lies, or the chain turned over: with confirmations in member.toml as many as"
                    " its forks are deep, it must be a lie. No message is signed while they disagree.",
                )
            return

    def _second(self, endpoint: Endpoint, wanted: dict[str, str]) -> tuple[bytes, list[Log]]:
        """Another node's hash of the last block, and its logs. Raises `Unavailable` when it lags."""
        for look in range(LOOKS):
            if look:
                self._sleep(0.25 * 2 ** (look - 1))
            block, logs = endpoint.batch([(BLOCK, (wanted["toBlock"], False)), ("eth_getLogs", (wanted,))])
            for answer in (block, logs):
                if isinstance(answer, Fault):
                    raise errors.Unavailable(f"the node at {endpoint.host} cannot check: {answer.message}")
            if block is not None:
                return header_of(block).hash, _logs(logs)
        raise errors.Unavailable(f"the node at {endpoint.host} lags behind")

    def _repeat(self, first: Endpoint, calls: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Give transactions to the other nodes too; a duplicate is one by its hash."""
        sent = [("eth_sendRawTransaction", params) for method, params in calls if method in SENDING]
        for other in self._present() if sent else ():
            if other is first:
                continue
            try:
                other.batch(sent)
            except errors.Unavailable as e:
                self._leave(other, e)


def connect(
    urls: Sequence[str], chain_id: int, *, route: web.Route = web.DIRECT, note: Callable[[str], None]
) -> Endpoint | CrossChecked:
    """The chain of this id behind one address or several. Raises `Misconfigured` where one serves another."""
    if len(urls) == 1:
        return Endpoint(urls[0], chain_id, route=route)
    endpoints = [Endpoint(url, chain_id, route=route, attempts=2) for url in urls]
    several = CrossChecked(endpoints, note)
    if not several.begin():
        several.close()
        raise errors.Unavailable(
            f"none of the {len(urls)} nodes of the chain answers", hint="Check that they run, and --rpc."
        )
    return several


def _logs(found: Any) -> list[Log]:
    if not isinstance(found, list):
        raise errors.Untrusted("the chain gave no list of logs")
    return sorted((log_of(value) for value in found), key=lambda log: (log.block, log.index))
