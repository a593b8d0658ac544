"""Sign transactions here and bring them onto any EVM chain: nonces, fees, confirmations, re-sending.

The key never leaves this process. A chain whose base fee is zero, or that is said to be free, gets
transactions that offer nothing, and its node is not asked for a price.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import coincurve
import rlp
from eth_hash.auto import keccak

from hansa import errors
from hansa.ledger.follower import Log, log_of
from hansa.ledger.rpc import Fault, Rpc, error_of, hexed, member, number, quantity, unhex

MAX_GAS = 2**24
"""Most gas of one transaction (EIP-7825)."""

TRANSFER_GAS = 21_000
SIGNINGS = 4
"""How often a transaction is signed anew before it counts as failed."""

KNOWN = ("already known", "already imported", "alreadyknown", "known transaction")
NONCE = ("nonce too low", "nonce too high", "nonce is too low", "replacement")
"""What nodes say to a transaction that is in their pool, and to one whose nonce is not free."""

FIRST_PAUSE = 0.002
"""Seconds before the second look for receipts; a chain that mines at once has them by then."""

UNDERPRICED = ("underpriced", "less than block base fee", "fee too low")


@dataclass(frozen=True, slots=True)
class Account:
    """A 20-byte address and its key, which no representation shows."""

    address: bytes
    _key: coincurve.PrivateKey = field(repr=False, compare=False)

    def sign(self, digest: bytes) -> tuple[int, int, int]:
        """ECDSA signature of 32 bytes on secp256k1: parity of y, r and s."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


def account(secret: bytes) -> Account:
    """Account of a 32-byte key. Raises `Misconfigured`."""
    try:
        key = coincurve.PrivateKey(secret) if len(secret) == 32 else None
    except ValueError:
        key = None
    if key is None:
        raise errors.Misconfigured(
            "an account's key must be a secp256k1 key of 32 bytes", hint="make a new one, or check its file"
        )
    return Account(keccak(key.public_key.format(compressed=False)[1:])[12:], key)


@dataclass(frozen=True, slots=True)
class Call:
    """What to send: `to` None deploys `data`. `gas` 0 is estimated, with a fifth to spare."""

    to: bytes | None
    data: bytes
    gas: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Fee:
    """Wei for each gas: `cap` in all, `tip` of it for the block's maker; `legacy` before EIP-1559."""

    cap: int = 0
    tip: int = 0
    legacy: bool = False


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
class _Pending:
    """A transaction under way. A raised fee gives it another hash; either one may win."""

    call: Call
    nonce: int
    fee: Fee
    raw: bytes
    hashes: list[bytes]
    touched: float
    in_block: bool = False
    overtaken: int = 0


def sign_transaction(signer: Account, chain_id: int, nonce: int, call: Call, fee: Fee) -> bytes:
    """Raw signed transaction: EIP-1559 (type 2), or EIP-155 when `fee.legacy`."""
    if fee.legacy:
        body = [nonce, fee.cap, call.gas, call.to or b"", call.value, call.data]
        parity, r, s = signer.sign(keccak(rlp.encode([*body, chain_id, 0, 0])))
        return bytes(rlp.encode([*body, chain_id * 2 + 35 + parity, r, s]))
    body = [chain_id, nonce, fee.tip, fee.cap, call.gas, call.to or b"", call.value, call.data, []]
    parity, r, s = signer.sign(keccak(b"\x02" + rlp.encode(body)))
    return bytes(b"\x02" + rlp.encode([*body, parity, r, s]))


def fee_of(block: Any, free: bool, rpc: Rpc) -> Fee:
    """What to offer now, given the JSON-RPC latest `block`: twice its base fee and the usual tip."""
    base = block.get("baseFeePerGas") if isinstance(block, dict) else None
    if base is None:
        return Fee(0 if free else number(rpc.request("eth_gasPrice")), legacy=True)
    base = number(base)
    if free or base == 0:
        return Fee(2 * base)
    tip = number(rpc.request("eth_maxPriorityFeePerGas"))
    return Fee(2 * base + tip, tip)


class Sender:
    """Sends the calls of one account, each once, and keeps them alive until they are confirmed.

    `confirmations`: blocks that must follow the one that holds a transaction. `free`: offer no fee.
    `patience`: seconds after which a transaction that is in no block is sent again, with a higher fee
    if the node finds it too cheap. One process at a time may use an account.
    """

    def __init__(
        self,
        rpc: Rpc,
        signer: Account,
        chain_id: int,
        *,
        confirmations: int = 0,
        free: bool = False,
        patience: float = 15.0,
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
        late = errors.Unavailable(
            f"a transaction is in no confirmed block after {timeout:g} s",
            hint="the chain may have stopped, or its fees have risen; it is still being followed",
        )
        return [done.get(name, late) if isinstance(name, bytes) else name for name in sent]

    def submit(self, calls: Sequence[Call]) -> list[bytes | errors.HansaError]:
        """Sign and send `calls` without waiting: for each a name that `poll` uses, or its error."""
        results: list[bytes | errors.HansaError | None] = [None] * len(calls)
        todo: list[tuple[int, Call]] = []
        for place, priced in enumerate(self._with_gas(calls)):
            if isinstance(priced, errors.HansaError):
                results[place] = priced
            else:
                todo.append((place, priced))
        for signing in range(SIGNINGS):
            if not todo:
                break
            if signing:
                self._sleep(0.1 * 2**signing)
            todo = self._attempt(todo, results)
        for place, _ in todo:
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
        self, todo: list[tuple[int, Call]], results: list[bytes | errors.HansaError | None]
    ) -> list[tuple[int, Call]]:
        """Send once with fresh nonces and fee; fills `results` and returns what must be signed anew."""
        first, fee = self._next_nonce_and_fee()
        own = {pending.nonce for pending in self._pending.values()}
        nonces = (nonce for nonce in count(first) if nonce not in own)
        signed = [self._signed(call, next(nonces), fee) for _, call in todo]
        again: list[tuple[int, Call]] = []
        for (place, call), pending, answer in zip(todo, signed, self._broadcast(signed), strict=True):
            if answer is None:
                results[place] = name = pending.hashes[0]
                self._pending[name] = pending
            elif _says(answer, NONCE + UNDERPRICED):
                again.append((place, call))
            else:
                results[place] = error_of(answer)
        return again

    def _next_nonce_and_fee(self) -> tuple[int, Fee]:
        used, block = self._rpc.batch(
            [
                ("eth_getTransactionCount", (hexed(self.address), "pending")),
                ("eth_getBlockByNumber", ("latest", False)),
            ]
        )
        return number(_good(used)), fee_of(_good(block), self._free, self._rpc)

    def _close_gaps(self) -> None:
        """Use up the nonces of refused calls, or the accepted ones behind them would wait for ever."""
        own = {pending.nonce for pending in self._pending.values()}
        first, fee = self._next_nonce_and_fee()
        empty = Call(self.address, b"", gas=TRANSFER_GAS)
        holes = set(range(first, max(own, default=0))) - own
        self._broadcast([self._signed(empty, nonce, fee) for nonce in sorted(holes)])

    def _signed(self, call: Call, nonce: int, fee: Fee) -> _Pending:
        raw = sign_transaction(self._signer, self._chain_id, nonce, call, fee)
        return _Pending(call, nonce, fee, raw, [keccak(raw)], self._clock())

    def _broadcast(self, transactions: Sequence[_Pending]) -> list[Fault | None]:
        """Send raw transactions: None where the chain has it now, whether just sent or before."""
        if not transactions:
            return []
        answers = self._rpc.batch([("eth_sendRawTransaction", (hexed(t.raw),)) for t in transactions])
        pairs = list(zip(transactions, answers, strict=True))
        doubtful = [t.hashes[-1] for t, a in pairs if isinstance(a, Fault) and _says(a, NONCE)]
        asked = [("eth_getTransactionByHash", (hexed(h),)) for h in doubtful]
        known = self._rpc.batch(asked) if asked else []
        on_chain = {h for h, answer in zip(doubtful, known, strict=True) if isinstance(answer, dict)}
        return [
            a if isinstance(a, Fault) and not _says(a, KNOWN) and t.hashes[-1] not in on_chain else None
            for t, a in pairs
        ]

    def poll(self) -> dict[bytes, Receipt | errors.HansaError]:
        """Look after what was submitted: results of what is settled since, by the name from `submit`."""
        if not self._pending:
            return {}
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
                pending.in_block, pending.overtaken = True, 0
                if number(member(receipt, "blockNumber")) <= final:
                    settled[name] = self._result(pending, receipt)
        for name in settled:
            del self._pending[name]
        return settled

    def _missing(self, pending: _Pending, used: int) -> errors.HansaError | None:
        """A transaction is in no block: send it again if it fell out of one, or has waited long."""
        if used > pending.nonce:
            # Once may be a block that came between two answers; twice is another transaction.
            pending.overtaken += 1
            if pending.overtaken > 1:
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
