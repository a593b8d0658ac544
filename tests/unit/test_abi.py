"""Our ABI codec against eth-abi, over every type that the contract and its signed messages use."""

from __future__ import annotations

import re

import eth_abi
import pytest
from eth_abi.exceptions import DecodingError
from hypothesis import given
from hypothesis import strategies as st

from hansa import abi, encoding, errors
from hansa.ledger import artefact

LISTS = ("uint256", "(uint256,uint256[4],bool)[]")


def all_types() -> list[tuple[str, ...]]:
    found = {(*encoding.field_types(name),) for name in encoding.TYPES}
    for f in artefact.functions().values():
        found |= {f.inputs, f.outputs}
    for entry in artefact.abi():
        if entry["type"] in ("event", "constructor"):
            found.add(artefact._types(entry["inputs"]))
    return sorted(found | {LISTS, ("uint256[]", "bytes32", "(address,bool)[]")})


def values_of(kind: str) -> st.SearchStrategy:
    if kind.endswith("]"):
        item, count = re.fullmatch(r"(.*)\[(\d*)\]", kind).groups()
        sizes = {"min_size": int(count), "max_size": int(count)} if count else {"max_size": 3}
        return st.lists(values_of(item), **sizes).map(tuple)
    if kind.startswith("("):
        return st.tuples(*map(values_of, abi._split(kind[1:-1])))
    return {
        "uint256": st.integers(0, 2**256 - 1),
        "bytes32": st.binary(min_size=32, max_size=32),
        "address": st.binary(min_size=20, max_size=20),
        "bool": st.booleans(),
    }[kind]


def arguments() -> st.SearchStrategy:
    def with_values(types):
        return st.tuples(st.just(types), st.tuples(*map(values_of, types)))

    return st.sampled_from(all_types()).flatmap(with_values)


def test_the_types_are_those_that_we_think() -> None:
    words = {word for types in all_types() for kind in types for word in re.findall(r"[a-z]+\d*", kind)}
    assert words == {"uint256", "bytes32", "address", "bool"}
    assert any(kind.endswith("[]") for types in all_types() for kind in types)
    assert ("uint256", "uint256[4]") in all_types()


@given(arguments())
def test_the_library_writes_and_reads_the_same(case) -> None:
    types, values = case
    data = abi.encode(types, values)
    assert data == eth_abi.encode(types, values)
    assert abi.decode(types, data) == eth_abi.decode(types, data)


@given(arguments(), st.data())
def test_damaged_bytes_are_refused_or_are_another_encoding(case, draws) -> None:
    """What the library refuses we refuse; what we read is what it reads, and has no other encoding."""
    types, values = case
    data = bytearray(abi.encode(types, values))
    for _ in range(draws.draw(st.integers(1, 3))):
        at = draws.draw(st.integers(0, len(data)))
        # Mostly words and their ends, where offsets, lengths and flags are.
        at = draws.draw(st.sampled_from([at, at - at % 32, at - at % 32 + 31]))
        change = draws.draw(st.binary(max_size=33) | st.sampled_from([b"\0", b"\1", b"\x40", b"\xff" * 32]))
        data[at : at + draws.draw(st.sampled_from([0, 1, 32, len(change)]))] = change
    damaged = bytes(data)
    try:
        found = abi.decode(types, damaged)
    except errors.Untrusted:
        return
    assert found == eth_abi.decode(types, damaged)
    assert eth_abi.encode(types, found) == damaged


@given(st.sampled_from(all_types()), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(types, data) -> None:
    try:
        found = abi.decode(types, data)
    except errors.Untrusted:
        return
    assert eth_abi.encode(types, found) == data


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("types", "words", "library_reads_it"),
    [
        (("bool",), [2], False),
        (("bool",), [1 << 255 | 1], False),
        (("address",), [1 << 160], False),
        (("uint256",), [], False),
        (("uint256",), [1, 2], True),
        ((), [1], True),
        (("uint256[]",), [32, 1], False),
        (("uint256[]",), [32], False),
        (("uint256[]",), [0, 0], False),
        (("uint256[]",), [2**256 - 32, 0], False),
        (("uint256[]",), [32, 2**256 - 1, 0], False),
        (("uint256[]",), [32, 2**63, 0], False),
        (("uint256[]",), [64, 0, 1, 7], True),
        (("uint256[]",), [32, 1, 7, 0], True),
        (("uint256[]", "uint256[]"), [64, 64, 0], True),
        (("(uint256,bool)[]",), [32, 1, 7, 3], False),
        (("(uint256,bool)[]",), [32, 1, 7], False),
    ],
)
def test_words_that_are_no_encoding_are_refused(types, words, library_reads_it) -> None:
    data = b"".join(map(word, words))
    with pytest.raises(errors.Untrusted):
        abi.decode(types, data)
    if library_reads_it:  # it allows other offsets and more bytes
        eth_abi.decode(types, data)
    else:
        with pytest.raises((DecodingError, OverflowError)):
            eth_abi.decode(types, data)


def test_a_part_of_a_word_is_refused() -> None:
    for size in (1, 31, 33, 63):
        with pytest.raises(errors.Untrusted, match=f"{size} bytes"):
            abi.decode(("uint256",), bytes(size))


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        ("uint256", -1, ValueError),
        ("uint256", 2**256, ValueError),
        ("uint256", True, TypeError),
        ("uint256", 1.0, TypeError),
        ("uint256", "1", TypeError),
        ("uint256", None, TypeError),
        ("bytes32", bytes(31), ValueError),
        ("bytes32", bytes(33), ValueError),
        ("bytes32", "0" * 32, TypeError),
        ("bytes32", 0, TypeError),
        ("address", bytes(19), ValueError),
        ("address", bytes(32), ValueError),
        ("address", "0x" + "00" * 20, TypeError),
        ("bool", 1, TypeError),
        ("bool", None, TypeError),
        ("uint256[4]", [1, 2, 3], ValueError),
        ("uint256[4]", [1, 2, 3, 4, 5], ValueError),
        ("uint256[4]", [1, 2, 3, 2**256], ValueError),
        ("uint256[4]", b"1234", TypeError),
        ("uint256[]", b"1234", TypeError),
        ("uint256[]", 3, TypeError),
        ("(uint256,bool)[]", [(1, True), (1,)], ValueError),
        ("(uint256,bool)[]", [(1, True), 1], TypeError),
    ],
)
def test_our_own_wrong_values_are_never_bent_into_shape(kind, value, error) -> None:
    with pytest.raises(error):
        abi.encode((kind,), (value,))


def test_the_number_of_values_is_the_number_of_types() -> None:
    for values in ((), (1, 2)):
        with pytest.raises(ValueError, match="zip"):
            abi.encode(("uint256",), values)


@pytest.mark.parametrize(
    "kind",
    ["uint8", "int256", "bytes", "string", "uint256[][]", "uint256[][2]", "(uint256[])", "()[]", "(uint256"],
)
def test_types_that_the_contract_does_not_use_are_unknown(kind) -> None:
    with pytest.raises(ValueError, match="contract"):
        abi.encode((kind,), (0,))
