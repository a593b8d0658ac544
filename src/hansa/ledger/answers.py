"""What the embedded chain answers to JSON-RPC: the methods that a client of Hansa needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eth._utils.address import generate_contract_address
from eth_typing import Address

from hansa.ledger import blocks
from hansa.ledger.blocks import Block
from hansa.ledger.rpc import Fault, hexed, number, quantity, unhex

if TYPE_CHECKING:
    from hansa.ledger.embedded import Chain

CALL_GAS = 10**9
NOBODY = bytes(20)
NO_FEE = "0x0"


def _block_json(block: Block, full: bool) -> dict[str, Any]:
    header = block.header
    return {
        "number": quantity(header.block_number),
        "hash": hexed(header.hash),
        "parentHash": hexed(header.parent_hash),
        "timestamp": quantity(header.timestamp),
        "stateRoot": hexed(header.state_root),
        "transactionsRoot": hexed(header.transaction_root),
        "receiptsRoot": hexed(header.receipt_root),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "baseFeePerGas": NO_FEE,
        "miner": hexed(header.coinbase),
        "extraData": hexed(header.extra_data),
        "transactions": [
            _transaction_json(block, place) if full else hexed(transaction.hash)
            for place, transaction in enumerate(block.transactions)
        ],
    }


def _transaction_json(block: Block, place: int) -> dict[str, Any]:
    transaction = block.transactions[place]
    return {
        "hash": hexed(transaction.hash),
        "blockHash": hexed(block.header.hash),
        "blockNumber": quantity(block.header.block_number),
        "transactionIndex": quantity(place),
        "from": hexed(transaction.sender),
        "to": hexed(transaction.to) if transaction.to else None,
        "nonce": quantity(transaction.nonce),
        "gas": quantity(transaction.gas),
        "value": quantity(transaction.value),
        "input": hexed(transaction.data),
    }


def receipt_json(block: Block, place: int) -> dict[str, Any]:
    """Receipt of the block's transaction number `place`, with its logs."""
    transaction, receipt = block.transactions[place], block.receipts[place]
    before = block.receipts[place - 1].gas_used if place else 0
    created = None if transaction.to else generate_contract_address(transaction.sender, transaction.nonce)
    return {
        "transactionHash": hexed(transaction.hash),
        "transactionIndex": quantity(place),
        "blockHash": hexed(block.header.hash),
        "blockNumber": quantity(block.header.block_number),
        "from": hexed(transaction.sender),
        "to": hexed(transaction.to) if transaction.to else None,
        "contractAddress": hexed(created) if created else None,
        "status": "0x1" if receipt.state_root else "0x0",
        "gasUsed": quantity(receipt.gas_used - before),
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "effectiveGasPrice": quantity(min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas)),
        "logs": _logs_json(block, place),
    }


def _logs_json(block: Block, place: int) -> list[dict[str, Any]]:
    first = sum(len(receipt.logs) for receipt in block.receipts[:place])
    return [
        {
            "address": hexed(log.address),
            "topics": [hexed(topic.to_bytes(32, "big")) for topic in log.topics],
            "data": hexed(log.data),
            "blockNumber": quantity(block.header.block_number),
            "blockHash": hexed(block.header.hash),
            "transactionHash": hexed(block.transactions[place].hash),
            "transactionIndex": quantity(place),
            "logIndex": quantity(first + offset),
            "removed": False,
        }
        for offset, log in enumerate(block.receipts[place].logs)
    ]


def _get_block(chain: Chain, tag: str, full: bool = False) -> Any:
    height = chain.at(tag)
    return _block_json(chain.block(height), full) if height <= chain.height else None


def _get_receipt(chain: Chain, transaction: str) -> Any:
    found = chain.find(unhex(transaction, 32))
    return None if found is None else receipt_json(*found)


def _get_transaction(chain: Chain, transaction: str) -> Any:
    found = chain.find(unhex(transaction, 32))
    return None if found is None else _transaction_json(*found)


def _get_logs(chain: Chain, wanted: dict[str, Any]) -> Any:
    first = chain.at(wanted.get("fromBlock", "latest"))
    last = min(chain.at(wanted.get("toBlock", "latest")), chain.height)
    found: list[dict[str, Any]] = []
    for height in range(first, last + 1):
        block = chain.block(height)
        for place in range(len(block.receipts)):
            found += [log for log in _logs_json(block, place) if _matches(log, wanted)]
    return found


def _matches(log: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """The filter of eth_getLogs: a null topic is any, a list is one of these."""
    addresses, topics = wanted.get("address", []), wanted.get("topics", [])
    listed = [addresses] if isinstance(addresses, str) else addresses
    if listed and log["address"] not in {address.lower() for address in listed}:
        return False
    if len(log["topics"]) < len(topics):
        return False
    pairs = zip(topics, log["topics"], strict=False)
    return all(
        not want or topic == want or (isinstance(want, list) and topic in want) for want, topic in pairs
    )


def _arguments(call: dict[str, Any]) -> tuple[bytes, bytes, bytes, int, int]:
    to = call.get("to")
    return (
        unhex(call["from"], 20) if "from" in call else NOBODY,
        unhex(to, 20) if to else b"",
        unhex(call.get("data") or call.get("input") or "0x"),
        number(call["gas"]) if "gas" in call else CALL_GAS,
        number(call.get("value", "0x0")),
    )


def _call(chain: Chain, call: dict[str, Any], tag: str = "latest") -> Any:
    output = blocks.simulate(chain.state(tag), *_arguments(call))
    return output if isinstance(output, Fault) else hexed(output)


def _estimate(chain: Chain, call: dict[str, Any], tag: str = "pending") -> Any:
    gas = blocks.estimate(chain.state(tag), *_arguments(call))
    return gas if isinstance(gas, Fault) else quantity(gas)


def _get_code(chain: Chain, address: str, tag: str = "latest") -> str:
    return hexed(chain.state(tag).get_code(Address(unhex(address, 20))))


def _get_balance(chain: Chain, address: str, tag: str = "latest") -> str:
    return quantity(chain.state(tag).get_balance(Address(unhex(address, 20))))


def _get_nonce(chain: Chain, address: str, tag: str = "latest") -> str:
    return quantity(chain.state(tag).get_nonce(Address(unhex(address, 20))))


ANSWERS: dict[str, Callable[..., Any]] = {
    "web3_clientVersion": lambda _: "hansa/embedded",
    "net_version": lambda chain: str(chain.genesis.chain_id),
    "eth_chainId": lambda chain: quantity(chain.genesis.chain_id),
    "eth_blockNumber": lambda chain: quantity(chain.height),
    "eth_gasPrice": lambda _: NO_FEE,
    "eth_maxPriorityFeePerGas": lambda _: NO_FEE,
    "eth_getBlockByNumber": _get_block,
    "eth_getTransactionReceipt": _get_receipt,
    "eth_getTransactionByHash": _get_transaction,
    "eth_getLogs": _get_logs,
    "eth_call": _call,
    "eth_estimateGas": _estimate,
    "eth_getCode": _get_code,
    "eth_getBalance": _get_balance,
    "eth_getTransactionCount": _get_nonce,
}
"""Method -> function of the chain and the parameters."""
