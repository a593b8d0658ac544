from __future__ import annotations

import math

import cbor2
import pytest
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from hansa import encoding, errors
from hansa.records import Fault, Finding

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=40)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_encoded_is_decoded(value):
    assert encoding.decode(encoding.encode(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    try:
        value = encoding.decode(data)
    except errors.Untrusted:
        return
    assert cbor2.dumps(value, canonical=True) == data


def test_a_refusal_names_the_bytes():
    with pytest.raises(errors.Untrusted) as caught:
        encoding.decode(b"\xff")
    assert caught.value.digest == encoding.digest(b"\xff")


@given(st.integers(0, 23) | st.integers(24, 2**64 - 1), PLAIN)
def test_no_tag_is_obeyed_wherever_it_stands(number, value):
    """The library would compile a pattern, build a decimal or a message for some of them."""
    tagged = cbor2.dumps(number, canonical=True)
    head = bytes([tagged[0] | 0xC0]) + tagged[1:]
    inside = head + encoding.encode(value)
    for data in (inside, b"\x82" + inside + b"\x01", b"\xa1\x61k" + inside):
        with pytest.raises(errors.Untrusted):
            encoding.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("c4821b7fffffffffffffff01"),  # 10 ** (2**63 - 1)
        bytes.fromhex("d823") + b"\x64(a+)",  # a pattern
        bytes.fromhex("c074323031332d30332d32315432303a30343a30305a"),  # a date
        bytes.fromhex("c249010000000000000000"),  # 2**64
        bytes.fromhex("81d81c80"),  # a shared list
    ],
)
def test_tags_that_do_harm_are_refused_unread(data):
    with pytest.raises(errors.Untrusted, match="tag"):
        encoding.decode(data)


def test_bytes_that_look_like_tags_are_no_tags():
    value = [b"\xc4" * 30, "\u00c4" * 30, -1.5, 2**40, {"k": b"\xd8\x23"}]
    assert encoding.decode(encoding.encode(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x18\x01",  # 1 in two bytes
        b"\x9f\x01\xff",  # a list without length
        b"\xa2\x61b\x01\x61a\x02",  # keys out of order
        b"\xa2\x61a\x01\x61a\x01",  # a key twice
        b"\x01\x01",  # something behind
        b"\x82\x01",  # something missing
        b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",  # 1.0 in eight bytes
        b"\x81" * 5000,
    ],
)
def test_only_the_canonical_form_is_read(data):
    with pytest.raises(errors.Untrusted):
        encoding.decode(data)


def test_the_limit_holds_before_anything_is_read():
    data = encoding.encode(bytes(100))
    assert encoding.decode(data, limit=len(data)) == bytes(100)
    with pytest.raises(errors.Untrusted, match="too long"):
        encoding.decode(data, limit=len(data) - 1)


def test_records_and_enumerations_become_plain():
    record = Finding("check", "subject", "message", b"e")
    assert encoding.decode(encoding.encode({"r": record, "f": Fault.EQUIVOCATION, "t": (1, 2)})) == {
        "r": {"check": "check", "subject": "subject", "message": "message", "evidence": b"e"},
        "f": 7,
        "t": [1, 2],
    }
    assert math.isnan(encoding.decode(encoding.encode(math.nan)))


def test_message_hashes_are_those_of_eip_712():
    """Against eth-account, which knows nothing of our code."""
    domain = encoding.domain_separator(5, b"\xaa" * 20, b"\x07" * 32)
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
                {"name": "salt", "type": "bytes32"},
            ],
            "Availability": [{"name": "round", "type": "uint256"}, {"name": "held", "type": "uint256[4]"}],
        },
        "primaryType": "Availability",
        "domain": {
            "name": "Hansa",
            "chainId": 5,
            "verifyingContract": "0x" + "aa" * 20,
            "salt": b"\x07" * 32,
        },
        "message": {"round": 3, "held": [1, 2, 3, 2**255]},
    }
    signable = encode_typed_data(full_message=typed)
    assert signable.header == domain
    assert encoding.keccak(b"\x19\x01" + signable.header + signable.body) == encoding.message_hash(
        domain, "Availability", 3, [1, 2, 3, 2**255]
    )


def test_two_federations_never_share_a_hash():
    base = (1, bytes(20), bytes(32))
    others = [(2, bytes(20), bytes(32)), (1, b"\1" * 20, bytes(32)), (1, bytes(20), b"\1" * 32)]
    hashes = {
        encoding.message_hash(encoding.domain_separator(*b), "Opening", 1, bytes(32)) for b in [base, *others]
    }
    assert len(hashes) == 4
