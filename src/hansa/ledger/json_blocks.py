"""Blocks, transactions, receipts and logs of the embedded chain, as the Ethereum JSON-RPC specification writes them."""

from __future__ import annotations

from typing import Any

from eth._utils.address import generate_contract_address

from hansa.ledger.blocks import Block
from hansa.ledger.rpc import hexed, quantity

NO_FEE = "0x0"


def block_json(block: Block, full: bool) -> dict[str, Any]:
    """A block with its transactions, `full` or by their hashes."""
    header = block.header
    return {
        "number": quantity(header.block_number),
        "hash": hexed(header.hash),
        "parentHash": hexed(header.parent_hash),
        "timestamp": quantity(header.timestamp),
        "stateRoot": hexed(header.state_root),
        "transactionsRoot": hexed(header.transaction_root),
        "receiptsRoot": hexed(header.receipt_root),
        "logsBloom": _bloom(header.bloom),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "baseFeePerGas": NO_FEE,
        "miner": hexed(header.coinbase),
        "extraData": hexed(header.extra_data),
        "difficulty": quantity(header.difficulty),
        "mixHash": hexed(header.mix_hash),
        "nonce": hexed(header.nonce),
        "sha3Uncles": hexed(header.uncles_hash),
        "uncles": [],
        "transactions": [
            transaction_json(block, place) if full else hexed(transaction.hash)
            for place, transaction in enumerate(block.transactions)
        ],
    }


def transaction_json(block: Block, place: int) -> dict[str, Any]:
    """The block's transaction number `place`."""
    transaction: Any = block.transactions[place]
    kind = transaction.type_id or 0
    fields: dict[str, Any] = {
        "type": quantity(kind),
        "hash": hexed(transaction.hash),
        "chainId": quantity(transaction.chain_id),
        "blockHash": hexed(block.header.hash),
        "blockNumber": quantity(block.header.block_number),
        "transactionIndex": quantity(place),
        "from": hexed(transaction.sender),
        "to": hexed(transaction.to) if transaction.to else None,
        "nonce": quantity(transaction.nonce),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(_price(transaction)),
        "value": quantity(transaction.value),
        "input": hexed(transaction.data),
        "v": quantity(transaction.y_parity if kind else transaction.v),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    if kind:
        fields["yParity"] = quantity(transaction.y_parity)
        fields["accessList"] = [
            {"address": hexed(address), "storageKeys": [hexed(key.to_bytes(32, "big")) for key in keys]}
            for address, keys in transaction.access_list
        ]
    if kind == 2:
        fields["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        fields["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    return fields


def receipt_json(block: Block, place: int) -> dict[str, Any]:
    """Receipt of the block's transaction number `place`, with its logs."""
    transaction, receipt = block.transactions[place], block.receipts[place]
    before = block.receipts[place - 1].gas_used if place else 0
    created = None if transaction.to else generate_contract_address(transaction.sender, transaction.nonce)
    return {
        "type": quantity(transaction.type_id or 0),
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
        "effectiveGasPrice": quantity(_price(transaction)),
        "logsBloom": _bloom(receipt.bloom),
        "logs": logs_json(block, place),
    }


def logs_json(block: Block, place: int) -> list[dict[str, Any]]:
    """Logs of the block's transaction number `place`."""
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


def _price(transaction: Any) -> int:
    """Wei that each gas costs, where the base fee is zero."""
    return int(min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas))


def _bloom(bits: int) -> str:
    return hexed(bits.to_bytes(256, "big"))
