"""What the embedded chain answers to JSON-RPC: what a client of Hansa needs, and what other tools read blocks with.

Parameters are checked here: behind `hansa sandbox` they are a stranger's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

from eth_typing import Address

from hansa import errors
from hansa.ledger import blocks
from hansa.ledger.json_blocks import NO_FEE, block_json, logs_json, receipt_json, transaction_json
from hansa.ledger.rpc import Fault, hexed, number, quantity, unhex

if TYPE_CHECKING:
    from hansa.ledger.embedded import Chain

CALL_GAS = 10**9
"""Most gas that a call gets."""

NOBODY = bytes(20)
SENDING = ("eth_sendRawTransaction", "eth_sendRawTransactionSync")
"""What makes a block; the second one (EIP-7966) gives the receipt in return."""

NO_METHOD, BAD_PARAMETERS, FAILED = -32601, -32602, -32000


def answer(chain: Chain, method: str, params: Sequence[Any]) -> Any:
    """Result of one call that sends nothing, or its `Fault`."""
    if method not in ANSWERS:
        return Fault(NO_METHOD, f"the method {method[:60]} does not exist")
    least, most = _arity(method)
    if not least <= len(params) <= most:
        return Fault(BAD_PARAMETERS, f"{method} takes {least} to {most} parameters, not {len(params)}")
    try:
        return ANSWERS[method](chain, *params)
    except errors.Untrusted as e:
        return Fault(BAD_PARAMETERS, f"invalid parameters: {e}")
    except errors.Unavailable as e:
        return Fault(FAILED, str(e))


def raw_transaction(params: Sequence[Any]) -> bytes | Fault:
    """The parameter of the methods that send."""
    try:
        return unhex(params[0] if len(params) == 1 else None)
    except errors.Untrusted as e:
        return Fault(BAD_PARAMETERS, f"invalid parameters: {e}")


@cache
def _arity(method: str) -> tuple[int, int]:
    """Fewest and most parameters of a method."""
    parameters = list(signature(ANSWERS[method]).parameters.values())[1:]
    return sum(p.default is p.empty for p in parameters), len(parameters)


def _get_block(chain: Chain, tag: Any, full: Any = False) -> Any:
    height = chain.at(tag)
    return block_json(chain.block(height), full is True) if height <= chain.height else None


def _get_block_by_hash(chain: Chain, hash: Any, full: Any = False) -> Any:
    height = chain.height_of(unhex(hash, 32))
    return None if height is None else block_json(chain.block(height), full is True)


def _get_receipt(chain: Chain, transaction: Any) -> Any:
    found = chain.find(unhex(transaction, 32))
    return None if found is None else receipt_json(*found)


def _get_transaction(chain: Chain, transaction: Any) -> Any:
    found = chain.find(unhex(transaction, 32))
    return None if found is None else transaction_json(*found)


def _get_logs(chain: Chain, wanted: Any) -> Any:
    wanted = _object(wanted)
    if "blockHash" in wanted:  # EIP-234
        height = chain.height_of(unhex(wanted["blockHash"], 32))
        if height is None:
            return Fault(FAILED, "unknown block")
        first = last = height
    else:
        first, last = (chain.at(wanted.get(end, "latest")) for end in ("fromBlock", "toBlock"))
    addresses = _choice(wanted.get("address"), 20)
    topics = [_choice(topic, 32) for topic in _list(wanted.get("topics"))]
    found: list[dict[str, Any]] = []
    for height in chain.filled(first, last):
        block = chain.block(height)
        for place in range(len(block.receipts)):
            found += [log for log in logs_json(block, place) if _matches(log, addresses, topics)]
    return found


def _matches(log: dict[str, Any], addresses: set[str], topics: Sequence[set[str]]) -> bool:
    """The filter of eth_getLogs: no choice is any."""
    if addresses and log["address"] not in addresses:
        return False
    if len(log["topics"]) < len(topics):
        return False
    return all(not want or topic in want for want, topic in zip(topics, log["topics"], strict=False))


def _choice(value: Any, length: int) -> set[str]:
    """Data of so many bytes, or a list of such; empty where null stands for any. Raises `Untrusted`."""
    listed = [value] if isinstance(value, str) else _list(value)
    return {hexed(unhex(item, length)) for item in listed}


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list | tuple):
        raise errors.Untrusted(f"{str(value)[:40]!r} where a list belongs")
    return list(value or ())


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise errors.Untrusted(f"{str(value)[:40]!r} where an object belongs")
    return value


def _arguments(call: Any) -> tuple[bytes, bytes, bytes, int, int]:
    call = {name: value for name, value in _object(call).items() if value is not None}
    return (
        unhex(call["from"], 20) if "from" in call else NOBODY,
        unhex(call["to"], 20) if "to" in call else b"",
        unhex(call.get("data") or call.get("input") or "0x"),
        min(number(call["gas"]), CALL_GAS) if "gas" in call else CALL_GAS,
        number(call.get("value", "0x0")),
    )


def _call(chain: Chain, call: Any, tag: Any = "latest") -> Any:
    output = blocks.simulate(chain.state(tag), *_arguments(call))
    return output if isinstance(output, Fault) else hexed(output)


def _estimate(chain: Chain, call: Any, tag: Any = "pending") -> Any:
    gas = blocks.estimate(chain.state(tag), *_arguments(call))
    return gas if isinstance(gas, Fault) else quantity(gas)


def _get_code(chain: Chain, address: Any, tag: Any = "latest") -> str:
    return hexed(chain.state(tag).get_code(Address(unhex(address, 20))))


def _get_balance(chain: Chain, address: Any, tag: Any = "latest") -> str:
    return quantity(chain.state(tag).get_balance(Address(unhex(address, 20))))


def _get_nonce(chain: Chain, address: Any, tag: Any = "latest") -> str:
    return quantity(chain.state(tag).get_nonce(Address(unhex(address, 20))))


ANSWERS: dict[str, Callable[..., Any]] = {
    "web3_clientVersion": lambda _: "hansa/embedded",
    "net_version": lambda chain: str(chain.genesis.chain_id),
    "eth_chainId": lambda chain: quantity(chain.genesis.chain_id),
    "eth_syncing": lambda _: False,
    "eth_blockNumber": lambda chain: quantity(chain.height),
    "eth_gasPrice": lambda _: NO_FEE,
    "eth_maxPriorityFeePerGas": lambda _: NO_FEE,
    "eth_getBlockByNumber": _get_block,
    "eth_getBlockByHash": _get_block_by_hash,
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
