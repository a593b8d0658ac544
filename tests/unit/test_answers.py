"""What the embedded chain answers to anybody: bad parameters are faults, blocks have what tools ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import ticker

from hansa.crypto import signatures
from hansa.ledger import transactions
from hansa.ledger.answers import ANSWERS
from hansa.ledger.embedded import Chain, Genesis, open_chain
from hansa.ledger.rpc import Fault, hexed, number, quantity
from hansa.ledger.transactions import Call, Fee

SIGNER = signatures.account(bytes(range(1, 33)))
START = 1_700_000_000
STRANGE: tuple[Any, ...] = (
    None, True, 7, -1, 1.5, "", "0x", "0xzz", "latest", "soon", "0x-1", "0x" + "f" * 64, "0x" + "f" * 65, "é" * 50,
    [], [None], [["latest"]], {}, {"to": 7}, {"from": "0x1"}, {"data": []}, {"gas": "1"}, {"value": None},
    {"address": 7}, {"address": [None]}, {"topics": "0x"}, {"topics": [7]}, {"topics": [[None]]}, {"fromBlock": 1},
    {"toBlock": "0x" + "f" * 64}, {"blockHash": "0x1"}, {"blockHash": "0x" + "00" * 32}, hexed(bytes(20)),
)  # fmt: skip


def raw(nonce: int, *, legacy: bool = False, value: int | None = None, to: bytes | None = None) -> str:
    data = ticker.bytecode() if value is None else ticker.data("tick", value)
    return hexed(transactions.sign_transaction(SIGNER, 5, nonce, Call(to, data, 10**6), Fee(legacy=legacy)))


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with open_chain(tmp_path / "chain.sqlite", Genesis(5, START)) as chain:
        yield chain


def ask(chain: Chain, method: str, *params: Any) -> Any:
    return chain.batch([(method, params)])[0]


@pytest.mark.parametrize("method", [*ANSWERS, "eth_sendRawTransaction", "eth_sendRawTransactionSync"])
def test_strange_parameters_give_a_fault_or_a_result_and_nothing_breaks(chain: Chain, method: str) -> None:
    for params in ([], *([one] for one in STRANGE), *([one, two] for one in STRANGE for two in STRANGE[:20])):
        answer = ask(chain, method, *params)
        assert isinstance(answer, Fault | str | dict | list | bool | None), params
    assert ask(chain, "eth_blockNumber") == "0x0"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_chainId", ["latest"]),
        ("eth_getBlockByNumber", []),
        ("eth_getBlockByNumber", ["soon"]),
        ("eth_getBlockByNumber", [7, False]),
        ("eth_getBlockByHash", ["0x1"]),
        ("eth_getLogs", [["latest"]]),
        ("eth_getLogs", [{"address": "0x1"}]),
        ("eth_getLogs", [{"topics": ["0x1"]}]),
        ("eth_call", ["0x"]),
        ("eth_call", [{"to": "0x1"}, "latest"]),
        ("eth_sendRawTransaction", []),
        ("eth_sendRawTransaction", [7]),
        ("eth_sendRawTransactionSync", ["0x00", 1]),
    ],
)
def test_bad_parameters_are_named_so(chain: Chain, method: str, params: list[Any]) -> None:
    answer = ask(chain, method, *params)
    assert isinstance(answer, Fault)
    assert answer.code == -32602


def test_a_call_on_a_block_that_is_not_there_is_a_fault(chain: Chain) -> None:
    answer = ask(chain, "eth_getBalance", hexed(bytes(20)), quantity(2**200))
    assert answer == Fault(-32000, f"the chain has no block {2**200}")
    assert ask(chain, "eth_getBlockByNumber", quantity(2**200)) is None


def test_sending_for_a_receipt_gives_it(chain: Chain) -> None:
    good, bad, plain = chain.batch(
        [
            ("eth_sendRawTransactionSync", (raw(0),)),
            ("eth_sendRawTransactionSync", ("0x02",)),
            ("eth_sendRawTransaction", (raw(1, value=7, to=bytes(20)),)),
        ]
    )
    assert good == ask(chain, "eth_getTransactionReceipt", good["transactionHash"])
    assert isinstance(bad, Fault)
    assert ask(chain, "eth_getTransactionReceipt", plain)["blockNumber"] == "0x1", "one block for all three"


def test_blocks_are_found_by_their_hashes(chain: Chain) -> None:
    chain.mine([], START + 3)
    block = ask(chain, "eth_getBlockByNumber", "0x1", True)
    assert ask(chain, "eth_getBlockByHash", block["hash"], True) == block
    assert number(block["timestamp"]) == START + 3
    assert ask(chain, "eth_getBlockByHash", hexed(bytes(32)), False) is None
    assert ask(chain, "eth_syncing") is False


# What strict clients (alloy, go-ethereum's) refuse to do without.
BLOCK = {
    "number", "hash", "parentHash", "sha3Uncles", "logsBloom", "transactionsRoot", "stateRoot", "receiptsRoot",
    "miner", "difficulty", "extraData", "gasLimit", "gasUsed", "timestamp", "mixHash", "nonce", "transactions",
    "uncles", "baseFeePerGas",
}  # fmt: skip
TRANSACTION = {
    "type", "hash", "chainId", "nonce", "blockHash", "blockNumber", "transactionIndex", "from", "to", "value", "gas",
    "gasPrice", "input", "v", "r", "s",
}  # fmt: skip
RECEIPT = {
    "type", "transactionHash", "transactionIndex", "blockHash", "blockNumber", "from", "to", "cumulativeGasUsed",
    "gasUsed", "contractAddress", "logs", "logsBloom", "status", "effectiveGasPrice",
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
def test_blocks_transactions_and_receipts_have_every_field(chain: Chain, legacy: bool) -> None:
    receipt = ask(chain, "eth_sendRawTransactionSync", raw(0, legacy=legacy))
    ask(
        chain,
        "eth_sendRawTransaction",
        raw(1, legacy=legacy, value=7, to=bytes.fromhex(receipt["contractAddress"][2:])),
    )
    block = ask(chain, "eth_getBlockByNumber", "latest", True)
    (transaction,) = block["transactions"]
    receipt = ask(chain, "eth_getTransactionReceipt", transaction["hash"])
    dynamic = set() if legacy else {"yParity", "accessList", "maxFeePerGas", "maxPriorityFeePerGas"}
    assert set(block) == BLOCK
    assert set(transaction) == TRANSACTION | dynamic
    assert set(receipt) == RECEIPT
    assert receipt["type"] == transaction["type"] == ("0x0" if legacy else "0x2")
    assert receipt["logsBloom"] == block["logsBloom"] != hexed(bytes(256))
    assert number(transaction["v"]) in ((45, 46) if legacy else (0, 1))


def test_logs_of_one_block_and_of_an_idle_chain(chain: Chain) -> None:
    receipt = ask(chain, "eth_sendRawTransactionSync", raw(0))
    contract = bytes.fromhex(receipt["contractAddress"][2:])
    chain.mine([])
    sent = ask(chain, "eth_sendRawTransactionSync", raw(1, value=7, to=contract))
    chain.mine([])
    assert chain.filled(0, 2**64) == [1, 3]
    assert chain.filled(2, 2) == chain.filled(4, 2**64) == chain.filled(3, 1) == []
    assert ask(chain, "eth_getLogs", {"blockHash": sent["blockHash"]}) == sent["logs"]
    assert ask(chain, "eth_getLogs", {"fromBlock": "0x0"}) == sent["logs"]
    assert ask(chain, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "0x2"}) == []
    assert isinstance(ask(chain, "eth_getLogs", {"blockHash": hexed(bytes(32))}), Fault)
