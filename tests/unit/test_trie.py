"""The storage trie against py-evm's: the same roots, nodes and values after any history."""

from __future__ import annotations

import pytest
from eth.constants import BLANK_ROOT_HASH
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from hansa import errors
from hansa.ledger import trie
from hansa.ledger.trie import Trie

# Two bytes a key, most of them alike, make long paths, extensions, and nodes so short that parents hold them.
keys = st.binary(min_size=2, max_size=2) | st.sampled_from([b"\0\0", b"\0\1", b"\0\x10", b"\1\0", b"\1\1"])
values = st.just(b"") | st.binary(min_size=1, max_size=2) | st.binary(min_size=32, max_size=40)
blocks = st.lists(st.lists(st.tuples(keys, values), max_size=12), max_size=6)


@settings(max_examples=300)
@given(blocks, st.booleans())
def test_the_same_roots_nodes_and_values(history: list[list[tuple[bytes, bytes]]], warm: bool) -> None:
    nodes: dict[bytes, bytes] = {}
    expected: dict[bytes, bytes] = {}
    root = BLANK_ROOT_HASH
    for block in history:
        ours, theirs = Trie(nodes, root), HexaryTrie(expected, root)
        for key, value in block:
            ours[key] = value
            theirs[key] = value
            assert ours[key] == value
        root = ours.root_hash
        assert root == theirs.root_hash
        # Theirs also keeps the nodes in between; ours are those that the root leads to.
        assert nodes.items() <= expected.items()
        if not warm:
            trie._warm.clear()
        again = Trie(nodes, root)
        for key in {key for past in history for key, _ in past}:
            assert again[key] == HexaryTrie(nodes, root)[key] == theirs[key]
            assert (key in again) == (key in theirs)


def test_old_roots_stay_readable() -> None:
    nodes: dict[bytes, bytes] = {}
    current, roots = Trie(nodes, BLANK_ROOT_HASH), []
    for n in range(50):
        current[keccak(bytes([n % 7]))] = bytes([n + 1]) * 32
        roots.append(current.root_hash)
    for n, root in enumerate(roots):
        assert Trie(nodes, root)[keccak(bytes([n % 7]))] == bytes([n + 1]) * 32


@pytest.mark.parametrize("damage", ["flip", "drop"])
def test_a_damaged_node_is_untrusted(damage: str) -> None:
    nodes: dict[bytes, bytes] = {}
    written = Trie(nodes, BLANK_ROOT_HASH)
    for n in range(100):
        written[keccak(bytes([n]))] = bytes([n]) * 32
    root = written.root_hash
    trie._warm.clear()
    victim = next(name for name in nodes if name != root)
    if damage == "drop":
        del nodes[victim]
    else:
        nodes[victim] = bytes([*nodes[victim][:-1], nodes[victim][-1] ^ 1])
    with pytest.raises(errors.Untrusted):
        [Trie(nodes, root)[keccak(bytes([n]))] for n in range(100)]


def test_changes_come_wholly_or_not_at_all() -> None:
    written = Trie({}, BLANK_ROOT_HASH)
    written[b"\0\0"] = b"before"
    root = written.root_hash

    def change(fail: bool) -> None:
        with written.squash_changes() as changing:
            changing[b"\0\1"] = b"changed"
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        change(fail=True)
    assert written.root_hash == root
    change(fail=False)
    assert written.root_hash != root
