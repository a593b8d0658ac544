"""Transactions and receipts as a block's tries hold them, against the encodings of libraries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from eth._utils.address import generate_contract_address
from eth.db.trie import _make_trie_root_and_nodes
from eth_account import Account
from eth_typing import Address
from eth_utils.address import to_checksum_address

from hansa import errors
from hansa.crypto import signatures
from hansa.ledger.envelopes import envelope_of, root_of
from hansa.ledger.rpc import hexed, quantity

SECRET = bytes(31) + b"\7"
WHO = signatures.address(SECRET)
TO = to_checksum_address("0x" + "ab" * 20)
KEYS = [{"address": "0x" + "cd" * 20, "storageKeys": ["0x" + "01" * 32, "0x" + "00" * 32]}]
FEES = {"maxFeePerGas": 7, "maxPriorityFeePerGas": 3}
COMMON: dict[str, Any] = {"nonce": 3, "gas": 90_000, "to": TO, "value": 5, "data": "0x0102"}
DELEGATION = Account.sign_authorization({"chainId": 7, "address": TO, "nonce": 1}, SECRET)
KINDS: dict[str, dict[str, Any]] = {
    "before EIP-155": {"gasPrice": 7},
    "legacy": {"gasPrice": 7, "chainId": 2**40},
    "access list": {"gasPrice": 7, "chainId": 7, "type": 1, "accessList": KEYS},
    "fees": {**FEES, "chainId": 7, "type": 2, "accessList": KEYS},
    "delegation": {**FEES, "chainId": 7, "type": 4, "authorizationList": [DELEGATION]},
}


def told(fields: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """A transaction's bytes as eth-account signs it, and what a node says of it."""
    signed = Account.sign_transaction(fields, SECRET)
    value: dict[str, Any] = {k: quantity(v) if isinstance(v, int) else v for k, v in fields.items()}
    value["input"] = value.pop("data")
    if "authorizationList" in fields:
        entry = DELEGATION
        value["authorizationList"] = [
            {"chainId": quantity(entry.chain_id), "address": TO, "nonce": quantity(entry.nonce),
             "yParity": quantity(entry.y_parity), "r": quantity(entry.r), "s": quantity(entry.s)}
        ]  # fmt: skip
    said = {"hash": "0x" + signed.hash.hex().removeprefix("0x"), "from": hexed(WHO)}
    value |= {"v": quantity(signed.v), "r": quantity(signed.r), "s": quantity(signed.s), **said}
    return bytes(signed.raw_transaction), value


@pytest.mark.parametrize("kind", KINDS)
def test_a_transaction_of_each_type_is_made_again(kind: str) -> None:
    raw, value = told(COMMON | KINDS[kind])
    found = envelope_of(value)
    assert found.raw == raw
    assert (found.sender, found.to, found.nonce, found.gas, found.value, found.data) == (
        WHO, bytes.fromhex(TO[2:]), 3, 90_000, 5, b"\1\2",
    )  # fmt: skip
    assert found.created == b""


def test_what_a_transaction_creates_follows_from_sender_and_nonce() -> None:
    made = replace(envelope_of(told(COMMON | KINDS["legacy"])[1]), to=None)
    for nonce in (0, 1, 127, 128, 2**40):
        expected = generate_contract_address(Address(WHO), nonce)
        assert replace(made, nonce=nonce).created == expected


@pytest.mark.parametrize(
    "field", ["nonce", "gas", "value", "input", "to", "v", "r", "s", "hash", "from", "type"]
)
@pytest.mark.parametrize("kind", ["legacy", "fees"])
def test_any_other_field_is_another_transaction(kind: str, field: str) -> None:
    _, value = told(COMMON | KINDS[kind])
    last = value.get(field, "0x0")[-1]
    value[field] = value.get(field, "0x0")[:-1] + ("1" if last != "1" else "2")
    with pytest.raises(errors.HansaError):
        envelope_of(value)


def test_a_type_that_is_not_known_is_no_lie() -> None:
    with pytest.raises(errors.Unavailable, match="type 126"):
        envelope_of({"type": "0x7e"})


@pytest.mark.parametrize("n", [0, 1, 2, 16, 17, 127, 128, 129, 300])
def test_the_root_is_that_of_py_evm(n: int) -> None:
    items = [bytes([place % 256]) * (place % 70 + 1) for place in range(n)]
    assert root_of(items) == _make_trie_root_and_nodes(tuple(items))[0]
