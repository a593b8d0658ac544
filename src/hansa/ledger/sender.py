"""Bring one account's transactions onto any EVM chain: nonces, confirmations, re-sending, raising fees.

On a chain without fees that mines at once, one exchange sends a transaction and brings its receipt:
the next nonce is remembered, and eth_sendRawTransactionSync (EIP-7966) waits for the block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from eth_hash.auto import keccak

from hansa import errors
from hansa.ledger.follower import Log, log_of
from hansa.ledger.rpc import Fault, Rpc, error_of, hexed, member, number, quantity, unhex
from hansa.ledger.transactions import MAX_GAS, Call, Fee, fee_of, sign_transaction
from hansa.ports import Signer

TRANSFER_GAS = 21_000
SIGNINGS = 4
"""How often a transaction is signed anew before it counts as failed."""

KNOWN = ("already known", "already imported", "alreadyknown", "known transaction")
NONCE = ("nonce too low", "nonce too high", "nonce is too low", "replacement")
"""What nodes say to a transaction that is in their pool, and to one whose nonce is not free."""

FIRST_PAUSE = 0.002
"""Seconds before the second look for receipts; a chain that mines at once has them by then."""

LAG = 3.0
"""Seconds for which a busy node may count a transaction before it gives its receipt."""

UNDERPRICED = ("underpriced", "less than block base fee", "fee too low")


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that succeeded in a block; `gas` is what it used, `contract` what it deployed."""

    transaction: bytes
    block: int
    block_hash: bytes
    gas: int
    contract: bytes | None
    logs: tuple[Log, ...]


@dataclass(slots=True)
class Habits:
    """What the senders of a process learn of their chain.

    `at_once`: whether it mines at once, and its node gives the receipt in return; None until known.
    """

    at_once: bool | None = None


@dataclass(slots=True)
class _Pending:
    """A transaction under way. A raised fee gives it another hash; either one may win."""

    call: Call
    nonce: int
    fee: Fee
    raw: bytes
    hashes: list[bytes]
    touched: float
    in_block: bool = False
    overtaken: float | None = None
    receipt: dict[str, Any] | None = None


class Sender:
    """Sends the calls of one account, each once, and keeps them alive until they are confirmed.

    `confirmations`: blocks that must follow the one that holds a transaction. `free`: offer no fee.
    `patience`: seconds after which a transaction that is in no block is sent again, with a higher fee
    if the node finds it too cheap. `habits`: shared among the senders to one chain. One process at a
    time may use an account.
    """

    def __init__(
        self,
        rpc: Rpc,
        signer: Signer,
        chain_id: int,
        *,
        confirmations: int = 0,
        free: bool = False,
        patience: float = 15.0,
        habits: Habits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = signer.address
        self._rpc = rpc
        self._signer = signer
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._free = free
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._pending: dict[bytes, _Pending] = {}
        self._next: tuple[int, Fee] | None = None
        self._habits = habits or Habits()

    def send(self, calls: Sequence[Call], *, timeout: float = 120.0) -> list[Receipt | errors.HansaError]:
        """Send `calls` in this order and wait; a call that failed gives its error in its place.

        Raises `Unavailable` when the chain does not answer. A call still open after `timeout` seconds
        gives `Unavailable`; `poll` keeps following it.
        """
        until = self._clock() + timeout
        sent = self.submit(calls)
        done: dict[bytes, Receipt | errors.HansaError] = {}
        pause = FIRST_PAUSE
        while True:
            done.update(self.poll())
            waiting = [name for name in sent if isinstance(name, bytes) and name not in done]
            if not waiting or self._clock() >= until:
                break
            self._sleep(pause)
            pause = min(pause * 1.5, 2.0)
        seen_at_once = bool(done) and not waiting and pause == FIRST_PAUSE
        if self._habits.at_once is None and seen_at_once and not self._confirmations:
            self._habits.at_once = True
        late = errors.Unavailable(
            f"a transaction is in no confirmed block after {timeout:g} s",
            hint="the chain may have stopped, or its fees have risen; it is still being followed",
        )
        return [done.get(name, late) if isinstance(name, bytes) else name for name in sent]

    def submit(self, calls: Sequence[Call]) -> list[bytes | errors.HansaError]:
        """Sign and send `calls` without waiting: for each a name that `poll` uses, or its error."""
        results: list[bytes | errors.HansaError | None] = [None] * len(calls)
        unsent: list[tuple[int, Call]] = []
        for place, priced in enumerate(self._with_gas(calls)):
            if isinstance(priced, errors.HansaError):
                results[place] = priced
            else:
                unsent.append((place, priced))
        for signing in range(SIGNINGS):
            if not unsent:
                break
            if signing:
                self._sleep(0.1 * 2**signing)
            unsent = self._attempt(unsent, results)
        for place, _ in unsent:
            results[place] = errors.Unavailable(
                "the chain keeps refusing the transaction's nonce or fee",
                hint="another process may be using this account",
            )
        if any(isinstance(result, errors.HansaError) for result in results):
            self._close_gaps()
        return [result for result in results if result is not None]

    def _with_gas(self, calls: Sequence[Call]) -> list[Call | errors.HansaError]:
        unknown = [call for call in calls if not call.gas]
        asked = [("eth_estimateGas", (self._arguments(call),)) for call in unknown]
        answers = iter(self._rpc.batch(asked) if asked else ())
        priced: list[Call | errors.HansaError] = []
        for call in calls:
            answer = None if call.gas else next(answers)
            if isinstance(answer, Fault):
                priced.append(error_of(answer))
                continue
            least = call.gas or number(answer)
            if least > MAX_GAS:
                priced.append(
                    errors.Misconfigured(
                        f"a transaction needs {least} gas, more than {MAX_GAS}",
                        hint="send fewer messages at once",
                    )
                )
                continue
            priced.append(replace(call, gas=call.gas or min(least * 6 // 5, MAX_GAS)))
        return priced

    def _attempt(
        self, unsent: list[tuple[int, Call]], results: list[bytes | errors.HansaError | None]
    ) -> list[tuple[int, Call]]:
        """Send once with the next nonces and fee; fills `results` and returns what must be signed anew."""
        first, fee = self._next or self._next_nonce_and_fee()
        self.forget()
        own = {pending.nonce for pending in self._pending.values()}
        nonces = (nonce for nonce in count(first) if nonce not in own)
        signed = [self._signed(call, next(nonces), fee) for _, call in unsent]
        again: list[tuple[int, Call]] = []
        if self._habits.at_once:
            self._send_and_wait(signed)
        answers = self._broadcast(signed)
        if self._habits.at_once:
            # What fails both ways is no fault of the quicker one.
            self._habits.at_once = all(t.receipt or a for t, a in zip(signed, answers, strict=True))
        # Fees change with every block, and after a fault the nonce is not certain.
        if fee.cap == 0 and not any(answers):
            self._next = signed[-1].nonce + 1, fee
        for (place, call), pending, answer in zip(unsent, signed, answers, strict=True):
            if answer is None:
                results[place] = name = pending.hashes[0]
                self._pending[name] = pending
            elif _says(answer, NONCE + UNDERPRICED):
                again.append((place, call))
            else:
                results[place] = error_of(answer)
        return again

    def forget(self) -> None:
        """Ask for the next nonce again, as after a reorganisation."""
        self._next = None

    def _next_nonce_and_fee(self) -> tuple[int, Fee]:
        used, block = self._rpc.batch(
            [
                ("eth_getTransactionCount", (hexed(self.address), "pending")),
                ("eth_getBlockByNumber", ("latest", False)),
            ]
        )
        return number(_good(used)), fee_of(_good(block), self._free, self._rpc)

    def _close_gaps(self) -> None:
        """Use up the nonces of refused or lost calls, or those behind them would wait for ever."""
        own = {pending.nonce for pending in self._pending.values()}
        first, fee = self._next_nonce_and_fee()
        empty = Call(self.address, b"", gas=TRANSFER_GAS)
        holes = set(range(first, max(own, default=0))) - own
        self._broadcast([self._signed(empty, nonce, fee) for nonce in sorted(holes)])

    def _signed(self, call: Call, nonce: int, fee: Fee) -> _Pending:
        raw = sign_transaction(self._signer, self._chain_id, nonce, call, fee)
        return _Pending(call, nonce, fee, raw, [keccak(raw)], self._clock())

    def _send_and_wait(self, transactions: Sequence[_Pending]) -> None:
        """Send raw transactions for their receipts; what gets none is left to the plain way."""
        for pending in transactions:
            answer = self._rpc.batch([("eth_sendRawTransactionSync", (hexed(pending.raw),))])[0]
            pending.receipt = answer if isinstance(answer, dict) else None

    def _broadcast(self, transactions: Sequence[_Pending]) -> list[Fault | None]:
        """Send raw transactions: None where the chain has it now, whether just sent or before.

        One after the other: a node may take a batch in any order, and anvil then leaves one in its queue for ever.
        """
        pairs = [(t, None if t.receipt else self._sent(t)) for t in transactions]
        doubtful = [t.hashes[-1] for t, a in pairs if isinstance(a, Fault) and _says(a, NONCE)]
        asked = [("eth_getTransactionByHash", (hexed(h),)) for h in doubtful]
        known = self._rpc.batch(asked) if asked else []
        on_chain = {h for h, answer in zip(doubtful, known, strict=True) if isinstance(answer, dict)}
        return [
            a if isinstance(a, Fault) and not _says(a, KNOWN) and t.hashes[-1] not in on_chain else None
            for t, a in pairs
        ]

    def _sent(self, pending: _Pending) -> Any:
        return self._rpc.batch([("eth_sendRawTransaction", (hexed(pending.raw),))])[0]

    def poll(self) -> dict[bytes, Receipt | errors.HansaError]:
        """Look after what was submitted: results of what is settled since, by the name from `submit`."""
        settled: dict[bytes, Receipt | errors.HansaError] = {}
        for name, pending in list(self._pending.items()):
            # A receipt that cannot be read is asked for again.
            receipt, pending.receipt = pending.receipt, None
            if receipt is not None:
                settled[name] = self._result(pending, receipt)
                del self._pending[name]
        return settled | self._look() if self._pending else settled

    def _look(self) -> dict[bytes, Receipt | errors.HansaError]:
        """Ask for the receipts of all that is under way."""
        names = [(name, h) for name, pending in self._pending.items() for h in pending.hashes]
        *found, used, head = self._rpc.batch(
            [
                *(("eth_getTransactionReceipt", (hexed(h),)) for _, h in names),
                ("eth_getTransactionCount", (hexed(self.address), "latest")),
                ("eth_blockNumber", ()),
            ]
        )
        receipts = {name: r for (name, _), r in zip(names, found, strict=True) if isinstance(r, dict)}
        final = number(_good(head)) - self._confirmations
        settled: dict[bytes, Receipt | errors.HansaError] = {}
        for name, pending in list(self._pending.items()):
            receipt = receipts.get(name)
            if receipt is None:
                lost = self._missing(pending, number(_good(used)))
                if lost is not None:
                    settled[name] = lost
            else:
                pending.in_block, pending.overtaken = True, None
                if number(member(receipt, "blockNumber")) <= final:
                    settled[name] = self._result(pending, receipt)
        for name in settled:
            del self._pending[name]
        return settled

    def _missing(self, pending: _Pending, used: int) -> errors.HansaError | None:
        """A transaction is in no block: send it again if it fell out of one, or has waited long."""
        if used > pending.nonce:
            # For a moment it may be a block whose receipts are not there yet; then it is another transaction.
            now = self._clock()
            pending.overtaken = now if pending.overtaken is None else pending.overtaken
            if now - pending.overtaken >= LAG:
                return errors.Unavailable(
                    f"another transaction took nonce {pending.nonce} of this account",
                    hint="one process at a time may use an account; send again",
                )
            return None
        if pending.in_block or self._clock() - pending.touched >= self._patience:
            pending.in_block, pending.touched = False, self._clock()
            answer = self._broadcast([pending])[0]
            if answer is None or _says(answer, UNDERPRICED):
                self._raise_fee(pending)
            if used < min(other.nonce for other in self._pending.values()):
                # A reorganisation undid what was settled; its nonces are missing.
                self._close_gaps()
        return None

    def _raise_fee(self, pending: _Pending) -> None:
        """Replace a transaction that the present fee outgrew; nodes want an eighth more at least."""
        now = fee_of(self._rpc.request("eth_getBlockByNumber", ("latest", False)), self._free, self._rpc)
        if now.cap <= pending.fee.cap:
            return
        cap, tip = max(now.cap, pending.fee.cap * 5 // 4), max(now.tip, pending.fee.tip * 5 // 4)
        raised = self._signed(pending.call, pending.nonce, replace(now, cap=cap, tip=min(cap, tip)))
        pending.fee, pending.raw = raised.fee, raised.raw
        pending.hashes.append(raised.hashes[0])
        self._broadcast([pending])

    def _result(self, pending: _Pending, receipt: dict[str, Any]) -> Receipt | errors.HansaError:
        gas = number(member(receipt, "gasUsed"))
        block = number(member(receipt, "blockNumber"))
        if number(member(receipt, "status")) == 1:
            contract = receipt.get("contractAddress")
            return Receipt(
                transaction=unhex(member(receipt, "transactionHash"), 32),
                block=block,
                block_hash=unhex(member(receipt, "blockHash"), 32),
                gas=gas,
                contract=unhex(contract, 20) if contract else None,
                logs=tuple(log_of(log) for log in member(receipt, "logs")),
            )
        if gas >= pending.call.gas:
            return errors.Unavailable(
                f"a transaction ran out of its {gas} gas",
                hint="the chain changed since the estimate; send again",
            )
        # A receipt does not say why; the same call on the state after the block does.
        answer = self._rpc.batch([("eth_call", (self._arguments(pending.call), quantity(block)))])[0]
        if isinstance(answer, Fault):
            return error_of(answer)
        return errors.Unavailable("a transaction failed that would succeed now", hint="send again")

    def _arguments(self, call: Call) -> dict[str, str]:
        arguments = {"from": hexed(self.address), "data": hexed(call.data), "value": quantity(call.value)}
        if call.to is not None:
            arguments["to"] = hexed(call.to)
        if call.gas:
            arguments["gas"] = quantity(call.gas)
        return arguments


def _good(answer: Any) -> Any:
    if isinstance(answer, Fault):
        raise error_of(answer)
    return answer


def _says(fault: Fault, words: Sequence[str]) -> bool:
    message = fault.message.lower()
    return any(word in message for word in words)
