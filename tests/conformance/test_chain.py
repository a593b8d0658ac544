"""One suite for every chain that Hansa can stand on: the embedded one, the same over HTTP, and anvil in three ways."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import anvil, ticker
from tests.served import Served, served

from hansa import errors
from hansa.crypto import signatures
from hansa.ledger import transactions
from hansa.ledger.embedded import Chain, Genesis, open_chain
from hansa.ledger.follower import Follower
from hansa.ledger.rpc import Endpoint, Fault, Rpc, hexed, number, quantity, unhex
from hansa.ledger.sender import Receipt, Sender
from hansa.ledger.transactions import Call, Fee

SECRET = bytes(range(1, 33))
SIGNER = signatures.account(SECRET)
OTHER = signatures.account(bytes(range(2, 34)))
CHAIN_ID = anvil.CHAIN_ID
KINDS = ("embedded", "sandbox", "anvil", "anvil-zero-fee", "anvil-legacy")


@dataclass
class Place:
    kind: str
    rpc: Any
    served: Served | None = None

    def sender(self, account: signatures.Account = SIGNER, **options: Any) -> Sender:
        return Sender(self.rpc, account, CHAIN_ID, **options)

    def deploy(self) -> bytes:
        receipt = self.sender().send([Call(None, ticker.bytecode())])[0]
        assert isinstance(receipt, Receipt)
        assert receipt.contract is not None
        return receipt.contract

    def read(self, contract: bytes, name: str, *arguments: int, tag: str = "latest") -> int:
        call = {"to": hexed(contract), "data": hexed(ticker.data(name, *arguments))}
        return int.from_bytes(unhex(self.rpc.request("eth_call", (call, tag))), "big")

    def reaches(self, contract: bytes, count: int) -> None:
        """Wait for transactions that were sent and not waited for: anvil mines them a moment later."""
        for _ in range(500):
            if self.read(contract, "count") == count:
                return
            time.sleep(0.01)
        assert self.read(contract, "count") == count

    def settime(self, timestamp: int) -> None:
        if self.kind == "embedded":
            self.rpc.set_time(timestamp)
        elif self.served:
            self.served.now = timestamp
        else:
            self.rpc.request("evm_setNextBlockTimestamp", (timestamp,))

    def head(self) -> dict[str, Any]:
        return self.rpc.request("eth_getBlockByNumber", ("latest", False))


@contextmanager
def chain(kind: str, folder: Path) -> Iterator[Place]:
    path, genesis = folder / "chain.sqlite", Genesis(CHAIN_ID, 1_700_000_000)
    if kind == "embedded":
        with open_chain(path, genesis) as embedded:
            yield Place(kind, embedded)
        return
    if kind == "sandbox":
        with served(path, genesis) as serving:
            endpoint = Endpoint(serving.url, CHAIN_ID)
            yield Place(kind, endpoint, serving)
            endpoint.close()
        return
    options = {"anvil": (), "anvil-zero-fee": anvil.ZERO_FEE, "anvil-legacy": anvil.LEGACY}[kind]
    with anvil.anvil(*options) as url:
        endpoint = Endpoint(url, CHAIN_ID)
        if kind != "anvil-zero-fee":
            for account in (SIGNER, OTHER):
                endpoint.request("anvil_setBalance", (hexed(account.address), quantity(10**20)))
        yield Place(kind, endpoint)
        endpoint.close()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with chain(request.param, tmp_path) as running:
        yield running


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Place]:
    with chain("anvil", tmp_path) as running:
        yield running


def test_identity_and_balances(place: Place) -> None:
    assert number(place.rpc.request("eth_chainId")) == CHAIN_ID
    assert place.rpc.request("net_version") == str(CHAIN_ID)
    assert isinstance(place.rpc.request("web3_clientVersion"), str)
    assert number(place.rpc.request("eth_getBalance", (hexed(bytes(19) + b"\x07"), "latest"))) == 0


def test_a_call_becomes_a_receipt_with_its_log(place: Place) -> None:
    contract = place.deploy()
    assert len(unhex(place.rpc.request("eth_getCode", (hexed(contract), "latest")))) > 100
    receipt = place.sender().send([Call(contract, ticker.data("tick", 42))])[0]
    assert isinstance(receipt, Receipt)
    (log,) = receipt.logs
    assert log.address == contract
    assert log.topics == (ticker.TICKED, (42).to_bytes(32, "big"))
    assert log.data == bytes(12) + SIGNER.address
    assert (log.block, log.block_hash, log.transaction) == (
        receipt.block,
        receipt.block_hash,
        receipt.transaction,
    )
    assert place.read(contract, "value") == 42
    found = place.rpc.request("eth_getTransactionByHash", (hexed(receipt.transaction),))
    assert unhex(found["from"], 20) == SIGNER.address
    assert 21_000 < receipt.gas < 200_000


def test_calls_of_one_batch_keep_their_order(place: Place) -> None:
    contract = place.deploy()
    sender = place.sender()
    # The second batch is sent in the way that the first has shown to be quicker.
    for first in (0, 20):
        values = range(first, first + 20)
        receipts = sender.send([Call(contract, ticker.data("tick", v), gas=200_000) for v in values])
        assert all(isinstance(r, Receipt) for r in receipts)
        logs = [log for receipt in receipts if isinstance(receipt, Receipt) for log in receipt.logs]
        assert [int.from_bytes(log.topics[1], "big") for log in logs] == list(values)
        assert place.read(contract, "count") == first + 20
        assert place.read(contract, "value") == first + 19


def test_a_refusal_arrives_as_its_error(place: Place) -> None:
    contract = place.deploy()
    call = {"to": hexed(contract), "data": hexed(ticker.data("refuse", 9))}
    with pytest.raises(errors.Full):
        place.rpc.request("eth_call", (call, "latest"))
    (answer,) = place.rpc.batch([("eth_call", (call, "latest"))])
    assert isinstance(answer, Fault)
    assert len(answer.data) == 36
    # Refused while estimated; mined and failed; and between two that succeed.
    estimated, mined, good = place.sender().send(
        [
            Call(contract, ticker.data("refuse", 17)),
            Call(contract, ticker.data("refuse", 8), gas=100_000),
            Call(contract, ticker.data("tick", 5), gas=200_000),
        ]
    )
    assert isinstance(estimated, errors.MalformedRanking)
    assert isinstance(mined, errors.NotMember)
    assert isinstance(good, Receipt)
    unknown = place.sender().send([Call(contract, ticker.data("refuse", 999))])[0]
    assert isinstance(unknown, errors.Unavailable)


def test_gas_is_estimated_closely_enough(place: Place) -> None:
    contract = place.deploy()
    call = {"from": hexed(SIGNER.address), "to": hexed(contract), "data": hexed(ticker.data("burn", 20))}
    estimate = number(place.rpc.request("eth_estimateGas", (call,)))
    receipt = place.sender().send([Call(contract, ticker.data("burn", 20))])[0]
    assert isinstance(receipt, Receipt)
    assert receipt.gas <= estimate <= receipt.gas * 1.1


def test_gas_limits(place: Place) -> None:
    contract = place.deploy()
    starved, huge = place.sender().send(
        [Call(contract, ticker.data("burn", 100), gas=60_000), Call(contract, b"", gas=2**24 + 1)]
    )
    assert isinstance(starved, errors.Unavailable)
    assert "ran out" in str(starved)
    assert isinstance(huge, errors.Misconfigured)


def test_time_is_the_blocks(place: Place) -> None:
    contract = place.deploy()
    later = number(place.head()["timestamp"]) + 1000
    place.settime(later)
    receipts = place.sender().send([Call(contract, ticker.data("after", later), gas=200_000)])
    assert isinstance(receipts[0], errors.DeadlinePassed)
    assert number(place.head()["timestamp"]) == later
    assert place.read(contract, "now") == later


def test_two_accounts_do_not_disturb_each_other(place: Place) -> None:
    contract = place.deploy()
    one, two = place.sender(), place.sender(OTHER)
    names = [one.submit([Call(contract, ticker.data("tick", 1), gas=200_000)])[0]]
    names += two.submit([Call(contract, ticker.data("tick", 2), gas=200_000)])
    names += one.submit([Call(contract, ticker.data("tick", 3), gas=200_000)])
    assert all(isinstance(name, bytes) for name in names)
    place.reaches(contract, 3)
    assert len(one.poll()) == 2
    assert len(two.poll()) == 1


def test_a_transaction_sent_twice_counts_once(place: Place) -> None:
    contract = place.deploy()
    place.sender().send([Call(contract, ticker.data("tick", 1), gas=200_000)])
    used = number(place.rpc.request("eth_getTransactionCount", (hexed(SIGNER.address), "latest")))
    price = 0 if place.kind in ("embedded", "sandbox", "anvil-zero-fee") else 10**10
    fee = Fee(price, legacy=place.kind == "anvil-legacy")
    call = Call(contract, ticker.data("tick", 2), gas=200_000)
    raw = hexed(transactions.sign_transaction(SIGNER, CHAIN_ID, used, call, fee))
    first, second = (place.rpc.batch([("eth_sendRawTransaction", (raw,))])[0] for _ in range(2))
    assert isinstance(first, str)
    assert isinstance(second, Fault)
    place.reaches(contract, 2)


@pytest.mark.parametrize(
    "change",
    [{"chain_id": CHAIN_ID + 1}, {"gas": 10}, {"raw": b"\x02\xff"}, {"raw": b""}],
    ids=["chain", "gas", "truncated", "empty"],
)
def test_bad_transactions_are_faults(place: Place, change: dict[str, Any]) -> None:
    if place.kind == "anvil-legacy" and "chain_id" in change:
        pytest.skip("anvil takes any chain id before London")
    call = Call(OTHER.address, b"", gas=change.get("gas", 21_000))
    signed = transactions.sign_transaction(
        SIGNER,
        change.get("chain_id", CHAIN_ID),
        0,
        call,
        Fee(10**10, legacy=place.kind == "anvil-legacy"),
    )
    raw = change.get("raw", signed)
    before = number(place.rpc.request("eth_blockNumber"))
    (answer,) = place.rpc.batch([("eth_sendRawTransaction", (hexed(raw),))])
    assert isinstance(answer, Fault)
    assert number(place.rpc.request("eth_blockNumber")) == before


def test_log_filters(place: Place) -> None:
    contract, stranger = place.deploy(), place.deploy()
    first = number(place.rpc.request("eth_blockNumber")) + 1
    sender = place.sender()
    for value in (1, 2, 3):
        sender.send([Call(contract, ticker.data("tick", value), gas=200_000)])
        sender.send([Call(stranger, ticker.data("tick", value), gas=200_000)])

    def found(**wanted: Any) -> list[int]:
        logs = place.rpc.request(
            "eth_getLogs", ({"fromBlock": quantity(first), "toBlock": "latest", **wanted},)
        )
        return [number(log["topics"][1]) for log in logs]

    two = hexed((2).to_bytes(32, "big"))
    three = hexed((3).to_bytes(32, "big"))
    assert found() == [1, 1, 2, 2, 3, 3]
    assert found(address=hexed(contract)) == [1, 2, 3]
    assert found(address=[hexed(contract), hexed(stranger)], topics=[None, two]) == [2, 2]
    assert found(address=hexed(contract), topics=[hexed(ticker.TICKED), [two, three]]) == [2, 3]
    assert found(address=hexed(contract), fromBlock=quantity(first + 2)) == [2, 3]
    assert found(topics=[two]) == []


def test_block_hashes_reach_the_contract(place: Place) -> None:
    contract = place.deploy()
    height = number(place.rpc.request("eth_blockNumber"))
    place.sender().send([Call(contract, ticker.data("tick", 1), gas=200_000)])
    block = place.rpc.request("eth_getBlockByNumber", (quantity(height), False))
    assert place.read(contract, "ancestor", height) == int(block["hash"], 16)
    assert place.head()["parentHash"] == block["hash"]


def test_unknown_things_are_null_or_faults(place: Place) -> None:
    nothing, absent, block = place.rpc.batch(
        [
            ("eth_noSuchMethod", ()),
            ("eth_getTransactionReceipt", (hexed(bytes(32)),)),
            ("eth_getBlockByNumber", (quantity(10**6), False)),
        ]
    )
    assert isinstance(nothing, Fault)
    assert absent is None
    assert block is None
    with pytest.raises(errors.Unavailable):
        place.rpc.request("eth_noSuchMethod")


def test_the_follower_gives_each_event_once(place: Place) -> None:
    contract = place.deploy()
    follower = Follower(place.rpc, contract, span=2)
    sender = place.sender()
    seen = []
    for value in range(6):
        sender.send([Call(contract, ticker.data("tick", value), gas=200_000)])
        if value % 2:
            while True:
                position = follower.position
                rolled_back, logs = follower.poll()
                assert rolled_back is None
                seen += [int.from_bytes(log.topics[1], "big") for log in logs]
                if follower.position == position:
                    break
    assert seen == list(range(6))


def test_a_reorganisation_is_rolled_back_and_sent_again(node: Place) -> None:
    contract = node.deploy()
    follower = Follower(node.rpc, contract)
    waiting = node.sender(confirmations=3, patience=0.0)
    follower.poll()
    (name,) = waiting.submit([Call(contract, ticker.data("tick", 1), gas=200_000)])
    node.reaches(contract, 1)
    assert waiting.poll() == {}
    height = number(node.rpc.request("eth_blockNumber"))
    _, logs = follower.poll()
    assert [log.block for log in logs] == [height]
    lost = logs[0].block_hash
    node.rpc.request("anvil_reorg", (1, []))
    rolled_back, logs = follower.poll()
    assert rolled_back == height - 1
    assert logs == []
    assert node.read(contract, "count") == 0
    assert waiting.poll() == {}
    node.rpc.request("anvil_mine", (quantity(5),))
    settled = waiting.poll()
    receipt = settled[name]
    assert isinstance(receipt, Receipt)
    assert receipt.block_hash != lost
    _, logs = follower.poll()
    assert [log.block_hash for log in logs] == [receipt.block_hash]
    assert node.read(contract, "count") == 1


def test_confirmations_keep_the_follower_behind(node: Place) -> None:
    contract = node.deploy()
    follower = Follower(node.rpc, contract, confirmations=2)
    receipt = node.sender().send([Call(contract, ticker.data("tick", 7), gas=200_000)])[0]
    assert isinstance(receipt, Receipt)
    assert follower.poll()[1] == []
    node.rpc.request("anvil_mine", ("0x1",))
    assert follower.poll()[1] == []
    node.rpc.request("anvil_mine", ("0x1",))
    assert follower.poll() == (None, list(receipt.logs))


def test_a_stuck_transaction_gets_a_higher_fee(tmp_path: Path) -> None:
    with chain("anvil", tmp_path) as place:
        contract = place.deploy()
        place.rpc.request("evm_setAutomine", (False,))
        sender = place.sender(patience=0.0)
        (name,) = sender.submit([Call(contract, ticker.data("tick", 1), gas=200_000)])
        place.rpc.request("anvil_setNextBlockBaseFeePerGas", (quantity(10**12),))
        place.rpc.request("anvil_mine", ("0x1",))
        assert place.read(contract, "count") == 0
        assert sender.poll() == {}
        place.rpc.request("anvil_mine", ("0x1",))
        receipt = sender.poll()[name]
        assert isinstance(receipt, Receipt)
        assert receipt.transaction != name
        assert place.read(contract, "count") == 1


@pytest.mark.parametrize("kind", ["embedded", "sandbox"])
def test_a_restart_loses_nothing(kind: str, tmp_path: Path) -> None:
    with chain(kind, tmp_path) as place:
        contract = place.deploy()
        receipt = place.sender().send([Call(contract, ticker.data("tick", 11))])[0]
        head = place.head()
    assert isinstance(receipt, Receipt)
    with chain(kind, tmp_path) as place:
        assert place.head() == head
        assert place.read(contract, "value") == 11
        assert Follower(place.rpc, contract).poll() == (None, list(receipt.logs))
        assert isinstance(place.sender().send([Call(contract, ticker.data("tick", 12))])[0], Receipt)
        assert place.read(contract, "count") == 2


def test_both_chains_satisfy_the_protocol(place: Place) -> None:
    rpc: Rpc = place.rpc
    assert isinstance(rpc, Chain | Endpoint)
    assert rpc.batch([]) == []
