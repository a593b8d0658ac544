"""The federation's contract on any EVM chain, as a `Ledger`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from hansa import errors
from hansa.encoding import domain_separator
from hansa.ledger import artefact
from hansa.ledger.binding import arguments, event_of, parameter_fields
from hansa.ledger.follower import Follower, Log
from hansa.ledger.rpc import Rpc, hexed, number, unhex
from hansa.ledger.sender import Habits, Receipt, Sender
from hansa.ledger.transactions import Call
from hansa.ports import Signer, View
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.events import Event
from hansa.protocol.state import State
from hansa.records import Parameters

CALL_GAS = 2**24
"""Gas limit of a call to the contract: the most that EIP-7825 lets one transaction have."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a federation lives and what it was founded with; all of it can be checked on the chain."""

    chain_id: int
    contract: bytes
    block: int
    owner: bytes
    seats: tuple[bytes, ...]
    parameters: Parameters
    model: bytes


def deploy(
    rpc: Rpc, account: Signer, parameters: Parameters, seats: tuple[bytes, ...], model: bytes
) -> Deployment:
    """Put a new federation on the chain. Raises `BadTerms`, `Unavailable`."""
    chain_id = number(rpc.request("eth_chainId"))
    code = artefact.creation_code(parameter_fields(parameters), seats, model)
    receipt = Sender(rpc, account, chain_id).send([Call(None, code, CALL_GAS)])[0]
    if isinstance(receipt, errors.HansaError):
        raise receipt
    if receipt.contract is None:
        raise errors.Unavailable("the chain took the deployment but names no contract")
    return Deployment(chain_id, receipt.contract, receipt.block, account.address, seats, parameters, model)


def founded(deployment: Deployment) -> State:
    """The state that the constructor leaves."""
    d = deployment
    domain = domain_separator(d.chain_id, d.contract, d.parameters.digest)
    return rules.found(d.parameters, d.seats, d.owner, domain, d.model)


def event_from(log: Log) -> Event:
    """The protocol's event in a log of the contract. Raises `Untrusted`."""
    return event_of(*artefact.decode_log(log.topics, log.data))


class Fold:
    """The contract's events folded into states; one fold serves all nodes of a process.

    `depth` states are kept, one a block with events, so that a reorganisation costs no reading anew.
    The chain is asked again after `interval` seconds, or after a call sent from this process. `turns`
    counts the reorganisations that were met; `habits` is for those who send to the chain.
    """

    def __init__(
        self,
        rpc: Rpc,
        deployment: Deployment,
        *,
        confirmations: int = 0,
        depth: int = 64,
        interval: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rpc = rpc
        self._observers: list[Callable[[Event, int], None]] = []
        self._follower = Follower(
            rpc, deployment.contract, deployment.block, confirmations=confirmations, depth=depth
        )
        self._states: list[tuple[int, State]] = [(deployment.block - 1, founded(deployment))]
        self._depth = depth
        self.turns = 0
        self.habits = Habits()
        self._known: int | None = None
        self._interval = interval
        self._monotonic = monotonic
        self._asked = -math.inf
        self._founded = self._states[0]

    def observe(self, observer: Callable[[Event, int], None]) -> None:
        """Tell `observer` of every further event and its block; a reorganisation tells events anew."""
        self._observers.append(observer)

    def view(self, clock: Callable[[], int]) -> View:
        """The newest final state. Raises `Unavailable` or `Untrusted`."""
        if self._monotonic() - self._asked >= self._interval:
            self._catch_up()
            self._asked = self._monotonic()
        head = self._follower.head
        now = max(head.timestamp, clock())
        return View(self._states[-1][1], now, head.number, head.hash, head.timestamp)

    def expire(self, block: int | None = None) -> None:
        """Ask the chain at the next view: something was sent, and came into this block."""
        self._asked = -math.inf
        if block is not None:
            self._known = max(block, self._known or 0)

    def _catch_up(self) -> None:
        known, self._known = self._known, None
        while True:
            before = self._follower.position
            rolled_back, logs = self._follower.poll(known)
            if rolled_back is not None:
                self.turns += 1
                kept = [s for s in self._states if s[0] <= rolled_back]
                self._states = kept or [self._founded]
            for log in logs:
                number_, state = self._states[-1]
                event = event_from(log)
                state = rules.evolve(state, event)
                for observer in self._observers:
                    observer(event, log.block)
                if number_ == log.block:
                    self._states[-1] = (number_, state)
                else:
                    self._states.append((log.block, state))
            del self._states[: -self._depth]
            stuck = rolled_back is None and self._follower.position == before
            if self._follower.caught_up or (stuck and known is None):
                return
            known = None if stuck else self._follower.head.number


class EvmLedger:
    """A `Ledger` of one sender's account over a shared fold; `gas` is what its calls have used.

    `submit` waits until so many `confirmations` follow its blocks.
    """

    def __init__(
        self,
        rpc: Rpc,
        deployment: Deployment,
        fold: Fold,
        account: Signer,
        clock: Callable[[], int],
        *,
        confirmations: int = 0,
    ) -> None:
        self._rpc = rpc
        self._contract = deployment.contract
        self._fold = fold
        self._account = account
        self._clock = clock
        self._sender = Sender(
            rpc, account, deployment.chain_id, confirmations=confirmations, habits=fold.habits
        )
        self._turns = fold.turns
        self.gas = 0

    def view(self) -> View:
        """The newest final state, and the chain's time."""
        return self._fold.view(self._clock)

    def submit(self, *calls: msg.Call) -> None:
        """Send calls, in this order, and wait for their blocks. Raises `Refused`, `Unavailable`."""
        sent = [Call(self._contract, self._data(call), CALL_GAS) for call in calls]
        if self._turns != self._fold.turns:
            # Transactions that were settled may be gone, and their nonces free.
            self._sender.forget()
            self._turns = self._fold.turns
        self._fold.expire()
        for receipt in self._sender.send(sent):
            if isinstance(receipt, errors.HansaError):
                raise receipt
            self.gas += receipt.gas
            self._fold.expire(receipt.block)

    def dry_run(self, call: msg.Call) -> list[int]:
        """Codes that the call's items would get now. Raises `Refused`, `Unavailable`."""
        asked = {
            "from": hexed(self._account.address),
            "to": hexed(self._contract),
            "data": hexed(self._data(call)),
            "gas": hex(CALL_GAS),
        }
        answer = unhex(self._rpc.request("eth_call", (asked, "pending")))
        result = artefact.decode_result(arguments(call)[0], answer)
        return [int(code) for code in result[0]] if result else []

    def _data(self, call: msg.Call) -> bytes:
        return artefact.encode_call(*arguments(call))


__all__ = ["Deployment", "EvmLedger", "Fold", "Receipt", "deploy", "event_from", "founded"]
