"""Nonces, fees and re-sending against a made-up node with a pool."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from eth_account import Account as Reference
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from hansa import errors
from hansa.crypto import signatures
from hansa.ledger.blocks import decode
from hansa.ledger.rpc import REFUSED, Fault, error_of, hexed, quantity, unhex
from hansa.ledger.sender import LAG, Habits, Receipt, Sender
from hansa.ledger.transactions import MAX_GAS, Call, Fee, sign_transaction

SECRET = bytes(range(1, 33))
SIGNER = signatures.account(SECRET)
TO = b"\x70" * 20
CALL = Call(TO, b"\x01", gas=50_000)


class Node:
    """A node with a pool: `mine` takes what fits, in the order of nonces, at the present base fee."""

    def __init__(self, base_fee: int | None = 0) -> None:
        self.base_fee = base_fee
        self.pool: dict[int, Any] = {}
        self.chain: list[list[bytes]] = [[]]
        self.mined: dict[bytes, int] = {}
        self.calls: list[str] = []
        self.exchanges = 0
        self.sent: list[bytes] = []
        self.answers: dict[str, Callable[[Sequence[Any]], Any]] = {}
        self.estimate = 30_000
        self.status = "0x1"
        self.gas_used = 21_000
        self.nonce = 0

    def mine(self) -> None:
        block = []
        while self.nonce in self.pool and self.price(self.pool[self.nonce]) >= (self.base_fee or 0):
            transaction = self.pool.pop(self.nonce)
            block.append(transaction.hash)
            self.mined[transaction.hash] = len(self.chain)
            self.nonce += 1
        self.chain.append(block)

    def drop_last_block(self) -> None:
        for transaction in self.chain.pop():
            del self.mined[transaction]
            self.nonce -= 1

    @staticmethod
    def price(transaction: Any) -> int:
        return int(transaction.max_fee_per_gas)

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        (answer,) = self.batch([(method, params)])
        if isinstance(answer, Fault):
            raise error_of(answer)
        return answer

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        self.exchanges += 1
        return [self.answer(method, params) for method, params in calls]

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        self.calls.append(method)
        if method in self.answers:
            return self.answers[method](params)
        if not hasattr(self, method):
            return Fault(-32601, f"the method {method} does not exist")
        return getattr(self, method)(*params)

    def eth_sendRawTransaction(self, raw: str) -> Any:
        transaction = decode(unhex(raw))
        self.sent.append(transaction.hash)
        if transaction.nonce < self.nonce:
            return Fault(-32000, "nonce too low")
        if self.base_fee is not None and self.price(transaction) < self.base_fee:
            return Fault(-32000, "transaction underpriced: max fee per gas less than block base fee")
        waiting = self.pool.get(transaction.nonce)
        if waiting is not None and waiting.hash == transaction.hash:
            return Fault(-32000, "already known")
        if waiting is not None and self.price(transaction) * 8 < self.price(waiting) * 9:
            return Fault(-32000, "replacement transaction underpriced")
        self.pool[transaction.nonce] = transaction
        return hexed(transaction.hash)

    def eth_getTransactionCount(self, address: str, tag: str) -> str:
        nonce = self.nonce
        while tag == "pending" and nonce in self.pool:
            nonce += 1
        return quantity(nonce)

    def eth_getBlockByNumber(self, tag: str, full: bool) -> dict[str, Any]:
        fee = {} if self.base_fee is None else {"baseFeePerGas": quantity(self.base_fee)}
        return {"hash": hexed(bytes(32)), "extraData": "0x" + "00" * 97, **fee}

    def eth_gasPrice(self) -> str:
        return quantity(7)

    def eth_maxPriorityFeePerGas(self) -> str:
        return quantity(3)

    def eth_estimateGas(self, call: dict[str, str]) -> Any:
        return quantity(self.estimate)

    def eth_blockNumber(self) -> str:
        return quantity(len(self.chain) - 1)

    def eth_getTransactionByHash(self, name: str) -> Any:
        return {"hash": name} if unhex(name) in self.mined else None

    def eth_getTransactionReceipt(self, name: str) -> Any:
        block = self.mined.get(unhex(name))
        if block is None:
            return None
        return {
            "transactionHash": name,
            "blockHash": hexed(block.to_bytes(32, "big")),
            "blockNumber": quantity(block),
            "status": self.status,
            "gasUsed": quantity(self.gas_used),
            "contractAddress": None,
            "logs": [],
        }

    def eth_call(self, call: dict[str, str], tag: str) -> Any:
        return "0x"


class Prompt(Node):
    """A node that mines at once."""

    def eth_sendRawTransaction(self, raw: str) -> Any:
        answer = super().eth_sendRawTransaction(raw)
        if self.nonce in self.pool:
            self.mine()
        return answer


class Waiting(Prompt):
    """One that gives the receipt in return, as EIP-7966 says."""

    def eth_sendRawTransactionSync(self, raw: str) -> Any:
        answer = self.eth_sendRawTransaction(raw)
        if isinstance(answer, Fault):
            return answer
        receipt = self.answer("eth_getTransactionReceipt", (answer,))
        return receipt or Fault(4, "the transaction was added to the pool but was not processed in time")


class Clock:
    """Seconds that pass only while somebody sleeps; `node` mines meanwhile if it is set to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.while_asleep: Callable[[], None] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_asleep()

    def time(self) -> float:
        return self.now


def sender(node: Node, clock: Clock | None = None, **options: Any) -> Sender:
    clock = clock or Clock()
    return Sender(node, SIGNER, 7, sleep=clock.sleep, clock=clock.time, **options)


def mining(node: Node) -> Clock:
    clock = Clock()
    clock.while_asleep = node.mine
    return clock


def test_the_secret_is_shown_nowhere() -> None:
    shown = f"{SIGNER!r} {SIGNER} {vars(sender(Node()))!r}"
    assert SECRET.hex() not in shown
    assert str(int.from_bytes(SECRET, "big")) not in shown
    assert SIGNER.address.hex() == Reference.from_key(SECRET).address[2:].lower()


@pytest.mark.parametrize("secret", [b"", b"\x01" * 31, b"\x01" * 33, bytes(32), b"\xff" * 32])
def test_a_bad_key_is_misconfigured_without_being_shown(secret: bytes) -> None:
    with pytest.raises(errors.Misconfigured) as caught:
        signatures.account(secret)
    text = "".join(traceback.format_exception(caught.value))
    assert not secret or secret.hex() not in text


@given(
    nonce=st.integers(0, 2**32),
    to=st.none() | st.binary(min_size=20, max_size=20),
    data=st.binary(max_size=300),
    gas=st.integers(21_000, MAX_GAS),
    value=st.integers(0, 2**90),
    cap=st.integers(0, 2**60),
    legacy=st.booleans(),
)
def test_signatures_equal_those_of_eth_account(
    nonce: int, to: bytes | None, data: bytes, gas: int, value: int, cap: int, legacy: bool
) -> None:
    ours = sign_transaction(
        SIGNER, 7, nonce, Call(to, data, gas, value), Fee(cap, 0 if legacy else cap // 2, legacy)
    )
    fields: dict[str, Any] = {"chainId": 7, "nonce": nonce, "data": data, "gas": gas, "value": value}
    if to is not None:
        fields["to"] = to_checksum_address(to)
    fields |= (
        {"gasPrice": cap} if legacy else {"type": 2, "maxFeePerGas": cap, "maxPriorityFeePerGas": cap // 2}
    )
    assert ours == bytes(Reference.sign_transaction(fields, SECRET).raw_transaction)


@pytest.mark.parametrize(
    ("base_fee", "free", "fee", "asked"),
    [
        (0, False, Fee(0, 0), set()),
        (100, False, Fee(203, 3), {"eth_maxPriorityFeePerGas"}),
        (100, True, Fee(200, 0), set()),
        (None, False, Fee(7, 0, True), {"eth_gasPrice"}),
        (None, True, Fee(0, 0, True), set()),
    ],
    ids=["zero base fee", "1559", "1559 without tip", "legacy", "legacy without price"],
)
def test_fees(base_fee: int | None, free: bool, fee: Fee, asked: set[str]) -> None:
    node = Node(base_fee)
    (name,) = sender(node, free=free).submit([CALL])
    assert isinstance(name, bytes)
    assert name == keccak(sign_transaction(SIGNER, 7, 0, CALL, fee))
    assert {c for c in node.calls if c in ("eth_gasPrice", "eth_maxPriorityFeePerGas")} == asked


def test_gas_is_estimated_with_a_margin_and_never_above_the_cap() -> None:
    node = Node()
    unpriced = Call(TO, b"")
    sender(node).submit([unpriced, CALL])
    assert node.pool[0].gas == 36_000
    assert node.pool[1].gas == 50_000
    node.estimate = MAX_GAS - 1
    sender(node).submit([unpriced])
    assert node.pool[2].gas == MAX_GAS
    node.estimate = MAX_GAS + 1
    (refused,) = sender(node).submit([unpriced])
    assert isinstance(refused, errors.Misconfigured)
    assert len(node.pool) == 3


def test_a_batch_is_sent_in_order_and_waited_for() -> None:
    node = Node()
    receipts = sender(node, mining(node)).send([CALL] * 5)
    assert [r.transaction for r in receipts if isinstance(r, Receipt)] == node.chain[1]
    assert len(node.sent) == 5


def test_confirmations_are_waited_for() -> None:
    node = Node()
    waiting = sender(node, confirmations=2)
    waiting.submit([CALL])
    for _ in range(3):
        assert waiting.poll() == {}
        node.mine()
    (receipt,) = waiting.poll().values()
    assert isinstance(receipt, Receipt)
    assert receipt.block == 1
    assert waiting.poll() == {}


def test_already_known_is_success() -> None:
    node = Node()
    raw = hexed(sign_transaction(SIGNER, 7, 0, CALL, Fee()))
    node.eth_sendRawTransaction(raw)
    node.answers["eth_getTransactionCount"] = lambda params: "0x0"
    (name,) = sender(node).submit([CALL])
    assert name == keccak(unhex(raw))
    assert len(node.pool) == 1


def test_nonce_too_low_with_the_own_hash_on_chain_is_success() -> None:
    node = Node()
    node.eth_sendRawTransaction(hexed(sign_transaction(SIGNER, 7, 0, CALL, Fee())))
    node.mine()
    node.answers["eth_getTransactionCount"] = lambda params: "0x0" if params[1] == "pending" else "0x1"
    waiting = sender(node)
    (name,) = waiting.submit([CALL])
    assert isinstance(waiting.poll()[name], Receipt)
    assert node.nonce == 1


def test_nonce_too_low_for_another_reason_takes_the_next_nonce() -> None:
    node = Node()
    node.eth_sendRawTransaction(hexed(sign_transaction(SIGNER, 7, 0, Call(TO, b"other", 50_000), Fee())))
    node.mine()
    stale = iter(["0x0"])
    node.answers["eth_getTransactionCount"] = lambda params: (
        next(stale, None) or node.eth_getTransactionCount(*params)
    )
    waiting = sender(node)
    (name,) = waiting.submit([CALL])
    node.mine()
    assert isinstance(waiting.poll()[name], Receipt)
    assert node.nonce == 2


def test_a_nonce_that_is_never_free_is_given_up() -> None:
    node = Node()
    node.nonce = 5
    node.answers["eth_getTransactionCount"] = lambda params: "0x0"
    (refused,) = sender(node).submit([CALL])
    assert isinstance(refused, errors.Unavailable)
    assert "another process" in refused.hint


def test_a_refused_call_leaves_no_hole_before_the_others() -> None:
    node = Node()

    def send(params: Sequence[Any]) -> Any:
        if decode(unhex(params[0])).data == b"bad":
            return Fault(-32000, "oversized data")
        return node.eth_sendRawTransaction(*params)

    node.answers["eth_sendRawTransaction"] = send
    waiting = sender(node)
    first, bad, last = waiting.submit([CALL, Call(TO, b"bad", 50_000), CALL])
    assert isinstance(bad, errors.Unavailable)
    node.mine()
    assert set(waiting.poll()) == {first, last}
    assert node.nonce == 3


def test_a_transaction_that_falls_out_of_its_block_is_sent_again_at_once() -> None:
    node = Node()
    waiting = sender(node, confirmations=2)
    (name,) = waiting.submit([CALL])
    node.mine()
    assert waiting.poll() == {}
    node.drop_last_block()
    assert waiting.poll() == {}
    assert 0 in node.pool
    for _ in range(3):
        node.mine()
    assert isinstance(waiting.poll()[name], Receipt)
    assert node.nonce == 1


def test_a_stuck_transaction_is_sent_again_then_raised_and_either_may_win() -> None:
    for winner in ("first", "second"):
        node = Node(base_fee=100)
        clock = Clock()
        waiting = sender(node, clock, patience=10)
        (name,) = waiting.submit([CALL])
        cheap = node.pool[0]
        clock.now = 9.0
        waiting.poll()
        assert len(node.sent) == 1
        node.base_fee = 1000
        clock.now = 11.0
        waiting.poll()
        assert node.price(node.pool[0]) == 2003
        if winner == "first":
            node.pool[0], node.base_fee = cheap, 100
        node.mine()
        receipt = waiting.poll()[name]
        assert isinstance(receipt, Receipt)
        assert (receipt.transaction == name) == (winner == "first")
        assert node.nonce == 1


def test_a_dropped_transaction_is_sent_again_on_a_free_chain() -> None:
    node = Node()
    clock = Clock()
    waiting = sender(node, clock, patience=10)
    (name,) = waiting.submit([CALL])
    node.pool.clear()
    clock.now = 10.0
    waiting.poll()
    node.mine()
    assert isinstance(waiting.poll()[name], Receipt)
    assert node.sent == [name, name]


def test_a_stolen_nonce_is_an_error_and_not_a_second_try() -> None:
    node = Node()
    clock = Clock()
    waiting = sender(node, clock)
    (name,) = waiting.submit([CALL])
    node.pool.clear()
    node.nonce = 1
    for clock.now in (0.0, 0.002, LAG - 0.1):  # a busy node may count it before it gives its receipt
        assert waiting.poll() == {}
    clock.now = LAG
    stolen = waiting.poll()[name]
    assert isinstance(stolen, errors.Unavailable)
    assert "took nonce 0" in str(stolen)


@pytest.mark.parametrize("kind", [Node, Waiting])
def test_transactions_of_one_account_go_one_after_the_other(kind: type[Node]) -> None:
    batches: list[list[int]] = []

    class Listening(kind):  # type: ignore[misc, valid-type]
        def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
            raw = [params[0] for method, params in calls if method.startswith("eth_sendRaw")]
            batches.append([decode(unhex(r)).nonce for r in raw])
            return super().batch(calls)

    node = Listening()
    assert all(isinstance(r, Receipt) for r in sender(node, mining(node)).send([CALL] * 5, timeout=60))
    assert [nonces for nonces in batches if nonces] == [[0], [1], [2], [3], [4]]


def test_a_chain_that_stops_gives_unavailable_in_time_and_goes_on_later() -> None:
    node = Node()
    clock = Clock()
    waiting = sender(node, clock)
    (late,) = waiting.send([CALL], timeout=30)
    assert isinstance(late, errors.Unavailable)
    assert "30 s" in str(late)
    assert clock.now >= 30
    node.mine()
    assert isinstance(next(iter(waiting.poll().values())), Receipt)


def test_a_failed_transaction_tells_the_contracts_reason() -> None:
    node = Node()
    node.status = "0x0"
    node.answers["eth_call"] = lambda params: Fault(
        3, "execution reverted", REFUSED + (3).to_bytes(32, "big")
    )
    assert isinstance(sender(node, mining(node)).send([CALL])[0], errors.WrongPhase)
    node.answers["eth_call"] = lambda params: "0x"
    (passed,) = sender(node, mining(node)).send([CALL])
    assert type(passed) is errors.Unavailable
    node.gas_used = CALL.gas
    (starved,) = sender(node, mining(node)).send([CALL])
    assert "ran out" in str(starved)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_getTransactionCount", "many"),
        ("eth_getBlockByNumber", {"baseFeePerGas": 5}),
        ("eth_estimateGas", None),
        ("eth_getTransactionReceipt", {"status": "0x1", "blockNumber": "0x0"}),
        ("eth_getTransactionReceipt", {"status": "0x1", "blockNumber": "0x0", "gasUsed": "0x1", "logs": [5]}),
    ],
)
def test_answers_of_the_wrong_shape_are_untrusted(method: str, answer: Any) -> None:
    node = Node()
    node.answers[method] = lambda params: answer
    with pytest.raises(errors.Untrusted):
        sender(node, mining(node)).send([Call(TO, b"")])


def test_a_chain_that_mines_at_once_takes_one_exchange_for_each_call() -> None:
    node = Waiting()
    steady = sender(node)
    for _ in range(2):
        assert isinstance(steady.send([CALL])[0], Receipt)
    for calls in (1, 1, 5):
        node.calls.clear()
        node.exchanges = 0
        receipts = steady.send([CALL] * calls)
        assert node.exchanges == calls
        assert {c for c in node.calls if "Receipt" not in c} == {"eth_sendRawTransactionSync"}
        blocks = [r.block for r in receipts if isinstance(r, Receipt)]
        assert len(blocks) == calls
        assert blocks == sorted(blocks)
    assert node.nonce == len(node.sent) == 9


def test_what_one_sender_learnt_of_the_chain_serves_the_others() -> None:
    node = Waiting()
    habits = Habits()
    sender(node, habits=habits).send([CALL])
    node.calls.clear()
    sender(node, habits=habits).send([CALL])
    assert "eth_sendRawTransactionSync" in node.calls
    assert "eth_sendRawTransaction" not in node.calls


def test_a_node_that_knows_no_waiting_is_asked_for_it_once() -> None:
    node = Prompt()
    steady = sender(node)
    for _ in range(5):
        assert isinstance(steady.send([CALL])[0], Receipt)
    assert node.calls.count("eth_sendRawTransactionSync") == 1
    assert node.calls.count("eth_getTransactionCount") == 1 + 5
    assert node.nonce == len(node.sent) == 5


@pytest.mark.parametrize("options", [{}, {"confirmations": 1}])
def test_a_chain_that_takes_its_time_is_not_made_to_wait(options: dict[str, Any]) -> None:
    node = Waiting() if options else Node()
    steady = sender(node, mining(node), **options)
    for _ in range(4):
        assert isinstance(steady.send([CALL])[0], Receipt)
    assert "eth_sendRawTransactionSync" not in node.calls


def test_a_chain_that_mines_at_once_no_more_is_waited_for_as_any_other() -> None:
    node = Waiting()
    steady = sender(node, mining(node))
    for _ in range(3):
        steady.send([CALL])
    node.answers["eth_sendRawTransaction"] = lambda params: Node.eth_sendRawTransaction(node, *params)
    node.answers["eth_sendRawTransactionSync"] = lambda params: (
        Node.eth_sendRawTransaction(node, *params) and Fault(4, "not processed in time")
    )
    for _ in range(3):
        assert isinstance(steady.send([CALL])[0], Receipt)
    assert node.calls.count("eth_sendRawTransactionSync") == 3
    assert node.nonce == len(set(node.sent)) == 6


@pytest.mark.parametrize("message", ["nonce too low", "already known", "any other"])
def test_a_call_whose_receipt_was_lost_on_the_way_counts_once(message: str) -> None:
    """An endpoint sends anew when the answer is lost: the node then says no to what it has."""
    node = Waiting()
    steady = sender(node)
    for _ in range(2):
        steady.send([CALL])
    node.answers["eth_sendRawTransactionSync"] = lambda params: (
        node.eth_sendRawTransaction(*params) and Fault(-32000, message)
    )
    for _ in range(3):
        assert isinstance(steady.send([CALL])[0], Receipt)
    assert node.nonce == len(node.mined) == len(set(node.sent)) == 5


def test_a_chain_with_fees_is_asked_for_them_before_each_call() -> None:
    node = Waiting(base_fee=100)
    steady = sender(node)
    for base_fee in (100, 500, 2000):
        node.base_fee = base_fee
        assert isinstance(steady.send([CALL])[0], Receipt)
    assert node.calls.count("eth_getBlockByNumber") == 3
    assert node.calls.count("eth_sendRawTransactionSync") == 2


def test_fees_that_begin_are_paid() -> None:
    node = Waiting()
    steady = sender(node)
    for _ in range(3):
        steady.send([CALL])
    node.base_fee = 50
    assert isinstance(steady.send([CALL])[0], Receipt)


@pytest.mark.parametrize("make", [Prompt, Waiting])
def test_a_nonce_that_was_used_elsewhere_is_asked_for_again(make: type[Node]) -> None:
    node = make()
    steady = sender(node)
    for k in range(5):
        assert isinstance(steady.send([CALL])[0], Receipt)
        sender(node).send([Call(TO, b"other" + bytes([k]), 50_000)])
    assert node.nonce == len(node.mined) == 10
    # It is no reason to send in another way from then on.
    assert node.calls.count("eth_sendRawTransactionSync") >= (5 if make is Waiting else 1)


def test_a_receipt_that_cannot_be_read_stops_no_later_call() -> None:
    node = Waiting()
    steady = sender(node)
    for _ in range(2):
        steady.send([CALL])
    node.answers["eth_sendRawTransactionSync"] = lambda params: {
        **node.eth_sendRawTransactionSync(*params),
        "status": "yes",
    }
    with pytest.raises(errors.Untrusted):
        steady.send([CALL])
    del node.answers["eth_sendRawTransactionSync"]
    assert isinstance(steady.send([CALL])[0], Receipt)
    assert node.nonce == 4


def test_a_failure_that_comes_with_its_receipt_tells_the_contracts_reason() -> None:
    node = Waiting()
    steady = sender(node)
    for _ in range(2):
        steady.send([CALL])
    node.status = "0x0"
    node.answers["eth_call"] = lambda params: Fault(
        3, "execution reverted", REFUSED + (3).to_bytes(32, "big")
    )
    assert isinstance(steady.send([CALL])[0], errors.WrongPhase)
    node.status = "0x1"
    assert isinstance(steady.send([CALL])[0], Receipt)


def test_what_a_connection_that_broke_has_sent_is_not_sent_on_the_same_nonce_again() -> None:
    node = Waiting()
    steady = sender(node)
    for _ in range(2):
        steady.send([CALL])

    def broken(params: Sequence[Any]) -> Any:
        node.eth_sendRawTransaction(*params)
        raise errors.Unavailable("connection lost")

    node.answers["eth_sendRawTransactionSync"] = broken
    with pytest.raises(errors.Unavailable):
        steady.send([CALL])
    del node.answers["eth_sendRawTransactionSync"]
    assert isinstance(steady.send([Call(TO, b"other", 50_000)])[0], Receipt)
    assert node.nonce == 4


def test_nonces_that_a_reorganisation_freed_are_used_again() -> None:
    node = Prompt()
    steady = sender(node)
    for k in range(3):
        steady.send([Call(TO, bytes([k]), 50_000)])
    node.drop_last_block()
    steady.forget()
    assert isinstance(steady.send([CALL])[0], Receipt)
    assert node.nonce == 3


def test_nonces_that_a_reorganisation_freed_unnoticed_stop_nobody_for_longer_than_patience() -> None:
    node = Prompt()
    clock = Clock()
    steady = sender(node, clock, patience=10)
    for k in range(3):
        steady.send([Call(TO, bytes([k]), 50_000)])
    node.drop_last_block()
    node.drop_last_block()
    assert isinstance(steady.send([CALL])[0], Receipt)
    assert 10 <= clock.now < 20
    assert node.nonce == 4
