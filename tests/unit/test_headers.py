"""Headers hashed again: known ones of public chains, and those of a chain whose validators sign them."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from eth_hash.auto import keccak

from hansa import errors
from hansa.ledger import headers
from hansa.ledger.headers import EXTRA, FIELDS, LATER, may_log, read_block_header

EMPTY = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
MAINNET = {
    "hash": "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
    "parentHash": "0x" + "00" * 32,
    "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
    "miner": "0x" + "00" * 20,
    "stateRoot": "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
    "transactionsRoot": EMPTY,
    "receiptsRoot": EMPTY,
    "logsBloom": "0x" + "00" * 256,
    "difficulty": "0x400000000",
    "number": "0x0",
    "gasLimit": "0x1388",
    "gasUsed": "0x0",
    "timestamp": "0x0",
    "extraData": "0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa",
    "mixHash": "0x" + "00" * 32,
    "nonce": "0x0000000000000042",
}
"""Block 0 of Ethereum."""


def sealed(form: Any, extra: list[Any], **changes: str) -> dict[str, Any]:
    """A header whose extraData has five parts, with the hash that a form gives it."""
    value: dict[str, Any] = {**MAINNET, "extraData": "0x" + rlp.encode(extra).hex(), **changes}
    names = [*FIELDS, *(field for field in LATER if field[0] in value)]
    fields = [headers._field(value, *field) for field in names]
    fields[EXTRA] = rlp.encode(form(extra))
    return value | {"hash": "0x" + keccak(rlp.encode(fields)).hex()}


FORMS = {"QBFT": lambda e: [*e[:3], b"", []], "IBFT 2.0": lambda e: e[:3]}
AGREED: list[Any] = [bytes(32), [b"\1" * 20, b"\2" * 20], [], b"\3", [b"\4" * 65, b"\5" * 65]]


def test_the_first_header_of_ethereum() -> None:
    assert read_block_header(MAINNET).sound


@pytest.mark.parametrize("name", [name for name, _ in FIELDS])
def test_every_field_is_in_the_hash(name: str) -> None:
    text = str(MAINNET[name])
    changed = MAINNET | {name: text[:-1] + ("1" if text[-1] != "1" else "2")}
    assert not read_block_header(changed).sound


@pytest.mark.parametrize("name", [name for name, _ in FIELDS])
def test_a_missing_field_is_no_header(name: str) -> None:
    with pytest.raises(errors.Untrusted, match=name):
        read_block_header({k: v for k, v in MAINNET.items() if k != name})


@pytest.mark.parametrize("form", FORMS)
def test_seals_and_round_are_not_in_the_hash(form: str) -> None:
    value = sealed(FORMS[form], AGREED, baseFeePerGas="0x0")
    assert read_block_header(value).sound
    other = value | {"extraData": "0x" + rlp.encode([*AGREED[:3], b"", [b"\6" * 65]]).hex()}
    assert read_block_header(other).sound
    without = value | {"extraData": "0x" + rlp.encode([AGREED[0], AGREED[1][:1], *AGREED[2:]]).hex()}
    assert not read_block_header(without).sound, "a validator was taken away"


def test_a_bloom_filter_rules_out_other_contracts() -> None:
    """The three bits of an address, counted as the yellow paper does."""
    contract = bytes.fromhex("0000000000000000000000000000000000001000")
    digest = keccak(contract)
    bloom = 0
    for at in (0, 2, 4):
        bloom |= 1 << int.from_bytes(digest[at : at + 2], "big") % 2048
    header = read_block_header(MAINNET | {"logsBloom": f"0x{bloom:0512x}"})
    assert may_log(header, contract)
    assert not may_log(header, bytes(20))
    assert not may_log(read_block_header(MAINNET), contract)
