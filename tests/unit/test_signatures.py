from __future__ import annotations

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from hansa.crypto import signatures

SECRET = bytes(range(1, 33))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@given(st.binary(min_size=32, max_size=32))
def test_who_signed_is_recovered(message):
    assert signatures.recover(message, signatures.sign(SECRET, message)) == signatures.address(SECRET)


def test_addresses_and_signatures_are_those_of_eth_account():
    account = Account.from_key(SECRET)
    assert "0x" + signatures.address(SECRET).hex() == account.address.lower()
    theirs = Account.unsafe_sign_hash(b"m" * 32, SECRET)
    s = theirs.s | (theirs.v - 27) << 255
    assert signatures.sign(SECRET, b"m" * 32) == theirs.r.to_bytes(32, "big") + s.to_bytes(32, "big")


@given(st.integers(0, 511))
def test_a_flipped_bit_names_somebody_else(bit):
    signature = bytearray(signatures.sign(SECRET, b"m" * 32))
    signature[bit // 8] ^= 1 << bit % 8
    assert signatures.recover(b"m" * 32, bytes(signature)) != signatures.address(SECRET)


@pytest.mark.parametrize(("s", "named"), [(ORDER // 2, True), (ORDER // 2 + 1, False), (2**255 - 1, False)])
def test_the_upper_half_of_s_is_refused(s, named):
    """(r, s) and (r, n - s) both verify in plain ECDSA: only one of the two may count."""
    r = signatures.sign(SECRET, b"m" * 32)[:32]
    assert (signatures.recover(b"m" * 32, r + s.to_bytes(32, "big")) is not None) is named


@pytest.mark.parametrize(
    "signature", [b"", bytes(63), bytes(64), bytes(65), b"\xff" * 64, b"\xff" * 32 + bytes(32)]
)
def test_what_is_no_signature_names_nobody(signature):
    assert signatures.recover(b"m" * 32, signature) is None
