"""A small contract for tests of chains: it stores, logs, refuses with codes, and burns gas."""

from __future__ import annotations

from functools import lru_cache

from eth_abi.abi import encode
from eth_hash.auto import keccak

SOURCE = """
#pragma version 0.4.3
event Ticked:
    value: indexed(uint256)
    sender: address
value: public(uint256)
count: public(uint256)
moment: public(uint256)
spent: HashMap[uint256, uint256]
@external
def tick(v: uint256):
    self.value = v
    self.count += 1
    self.moment = block.timestamp
    log Ticked(value=v, sender=msg.sender)
@external
def refuse(reason: uint256):
    raw_revert(abi_encode(reason, method_id=method_id("Refused(uint256)")))
@external
def after(deadline: uint256):
    if block.timestamp >= deadline:
        raw_revert(abi_encode(convert(4, uint256), method_id=method_id("Refused(uint256)")))
    self.count += 1
@external
def burn(slots: uint256):
    for i: uint256 in range(slots, bound=100000):
        self.spent[i] = 1
@external
@view
def ancestor(height: uint256) -> bytes32:
    return blockhash(height)
@external
@view
def now() -> uint256:
    return block.timestamp
"""

TICKED = keccak(b"Ticked(uint256,address)")


@lru_cache(maxsize=1)
def bytecode() -> bytes:
    """Creation code, compiled for the same EVM version as the federation's contract."""
    from vyper.compiler import compile_code
    from vyper.compiler.settings import Settings

    output = compile_code(SOURCE, output_formats=["bytecode"], settings=Settings(evm_version="paris"))
    return bytes.fromhex(output["bytecode"][2:])


def data(name: str, *arguments: int) -> bytes:
    """Calldata of a function whose arguments are all uint256."""
    types = ["uint256"] * len(arguments)
    return keccak(f"{name}({','.join(types)})".encode())[:4] + encode(types, arguments)
