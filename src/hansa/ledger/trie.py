"""The Merkle Patricia tries of accounts and of their storage, kept decoded between blocks.

Nodes never change: an update makes new ones along its path and shares the others, and a node is encoded
and hashed once, when the root is asked for. Definition: yellow paper, appendix D. All keys are hashes,
hence equally long, so that branches hold no values. Journals, caches and accounts are py-evm's.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import rlp
from eth.constants import BLANK_ROOT_HASH
from eth.db.accesslog import KeyAccessLoggerDB
from eth.db.account import AccountDB
from eth.db.batch import BatchDB
from eth.db.cache import CacheDB
from eth.db.hash_trie import HashTrie
from eth.db.journal import JournalDB
from eth.db.storage import AccountStorageDB, StorageLookup
from eth_hash.auto import keccak
from eth_utils.encoding import int_to_big_endian
from lru import LRU
from rlp.codec import encode_raw

from hansa import errors

WARM_ROOTS = 32
DIGITS = "0123456789abcdef"
DIGIT = {digit: place for place, digit in enumerate(DIGITS)}
LEAF, ODD = 2, 1
"""Flags of the hex-prefix encoding."""


@dataclass(slots=True, eq=False)
class Node:
    """A leaf without children, an extension with one, or a branch with 16; `path` in hexadecimal digits.

    A child that was not read yet is its hash. `name` is how the parent refers to the node: its hash, or
    the node itself if that is shorter; None while it was not encoded.
    """

    path: str
    value: bytes
    children: list[Node | bytes | None]
    name: Any = None


_warm: LRU[bytes, Node] = LRU(WARM_ROOTS)
"""Root by its hash, of any chain: what is read was compared with its hash."""


class Trie:
    """A trie over `nodes`, their encodings by hash. To py-evm it is a `HexaryTrie`."""

    def __init__(self, nodes: MutableMapping[bytes, bytes], root: bytes) -> None:
        self._nodes = nodes
        self.root_hash = root

    @property
    def root_hash(self) -> bytes:
        """Hash of the root; all new nodes are among `nodes` then."""
        if self._root is None:
            return BLANK_ROOT_HASH
        name = self._name(self._root)
        if not isinstance(name, bytes):
            name = self._write(encode_raw(name))
        _warm[name] = self._root
        return name

    @root_hash.setter
    def root_hash(self, root: bytes) -> None:
        self._root: Node | None = None
        if root != BLANK_ROOT_HASH:
            self._root = _warm.get(root)
            if self._root is None:
                self._root = _warm[root] = self._read(root)

    def __getitem__(self, key: bytes) -> bytes:
        """Value of `key`, empty if there is none. Raises `Untrusted`, as the other methods do."""
        node = self._root
        path = key.hex()
        while node is not None:
            if len(node.children) == 16:
                node = self._child(node, DIGIT[path[0]])
                path = path[1:]
                continue
            if not path.startswith(node.path):
                break
            if not node.children:
                return node.value
            path = path[len(node.path) :]
            node = self._child(node, 0)
        return b""

    def __contains__(self, key: bytes) -> bool:
        return self[key] != b""

    def __setitem__(self, key: bytes, value: bytes) -> None:
        if value:
            self._root = self._put(self._root, key.hex(), value)
        else:
            del self[key]

    def __delitem__(self, key: bytes) -> None:
        self._root = self._remove(self._root, key.hex())

    @contextmanager
    def squash_changes(self) -> Iterator[Trie]:
        """Change the trie wholly or, if an error comes, not at all."""
        before = self._root
        try:
            yield self
        except BaseException:
            self._root = before
            raise

    def _put(self, node: Node | None, path: str, value: bytes) -> Node:
        if node is None:
            return Node(path, value, [])
        if len(node.children) == 16:
            children, place = list(node.children), DIGIT[path[0]]
            children[place] = self._put(self._child(node, place), path[1:], value)
            return Node("", b"", children)
        common = common_prefix(path, node.path)
        if common < len(node.path):
            fork: list[Node | bytes | None] = [None] * 16
            rest = node.path[common + 1 :]
            below = Node(rest, node.value, node.children) if rest or not node.children else None
            fork[DIGIT[node.path[common]]] = below or node.children[0]
            fork[DIGIT[path[common]]] = Node(path[common + 1 :], value, [])
            return _extended(path[:common], Node("", b"", fork))
        if not node.children:
            return Node(path, value, [])
        return Node(node.path, b"", [self._put(self._child(node, 0), path[common:], value)])

    def _remove(self, node: Node | None, path: str) -> Node | None:
        if node is None or not path.startswith(node.path):
            return node
        if not node.children:
            return None
        branch = len(node.children) == 16
        place = DIGIT[path[0]] if branch else 0
        old = self._child(node, place)
        new = self._remove(old, path[1 if branch else len(node.path) :])
        if new is old:
            return node
        if not branch:
            assert new is not None  # below an extension is a branch, and that had two children at least
            return _extended(node.path, new)
        changed = Node("", b"", [*node.children[:place], new, *node.children[place + 1 :]])
        left = [i for i, child in enumerate(changed.children) if child is not None]
        if len(left) > 1:
            return changed
        last = self._child(changed, left[0])
        assert last is not None
        return _extended(DIGITS[left[0]], last)

    def _child(self, node: Node, place: int) -> Node | None:
        child = node.children[place]
        if isinstance(child, bytes):
            child = node.children[place] = self._read(child)
        return child

    def _read(self, name: bytes) -> Node:
        try:
            data = self._nodes[name]
            if keccak(data) == name:
                return _node(rlp.decode(data), name)
        except KeyError:
            pass
        raise errors.Untrusted("the chain's file lacks a node of its state, or has a damaged one")

    def _write(self, data: bytes) -> bytes:
        name = keccak(data)
        self._nodes[name] = data
        return name

    def _name(self, node: Node) -> Any:
        if node.name is None:
            names = [
                b"" if child is None else child if isinstance(child, bytes) else self._name(child)
                for child in node.children
            ]
            if len(names) == 16:
                item = [*names, b""]
            else:
                flags = (0 if names else LEAF) | (ODD if len(node.path) % 2 else 0)
                prefix = f"{flags:x}" if flags & ODD else f"{flags:x}0"
                item = [bytes.fromhex(prefix + node.path), names[0] if names else node.value]
            data = encode_raw(item)
            node.name = item if len(data) < 32 else self._write(data)
        return node.name


def common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    """How many items two sequences begin with together."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _extended(path: str, node: Node) -> Node:
    """What stands above `node` to reach it by `path`."""
    if not path:
        return node
    return (
        Node(path, b"", [node])
        if len(node.children) == 16
        else Node(path + node.path, node.value, node.children)
    )


def _node(item: Any, name: Any) -> Node:
    if len(item) == 17:
        return Node("", b"", [_unread(child) for child in item[:16]], name)
    prefix = item[0].hex()
    flags = int(prefix[0], 16)
    path = prefix[1 if flags & ODD else 2 :]
    return Node(path, item[1], [], name) if flags & LEAF else Node(path, b"", [_unread(item[1])], name)


def _unread(child: Any) -> Node | bytes | None:
    return (child or None) if isinstance(child, bytes) else _node(child, child)


class _Lookup(StorageLookup):
    def _get_read_trie(self) -> Any:
        return self._write_trie or Trie(self._db, self._starting_root_hash)

    def _get_write_trie(self) -> Any:
        if self._write_trie is None:
            self._trie_nodes_batch = BatchDB(self._db, read_through_deletes=True)
            self._write_trie = Trie(self._trie_nodes_batch, self._starting_root_hash)
        return self._write_trie


class _Storage(AccountStorageDB):
    def __init__(self, db: Any, storage_root: Any, address: Any) -> None:
        super().__init__(db, storage_root, address)
        self._storage_lookup = _Lookup(db, storage_root, address)
        self._storage_cache = CacheDB(self._storage_lookup)
        self._locked_changes = JournalDB(self._storage_cache)
        self._journal_storage = JournalDB(self._locked_changes)

    def get(self, slot: int, from_journal: bool = True) -> int:
        self._accessed_slots.add(slot)
        source = self._journal_storage if from_journal else self._locked_changes
        try:
            encoded = source[int_to_big_endian(slot)]
        except KeyError:
            return 0
        # A number of at most 32 bytes is in RLP itself, or one byte of length and itself.
        return int.from_bytes(encoded if len(encoded) == 1 else encoded[1:], "big")


class Accounts(AccountDB):
    """py-evm's accounts, in such a trie, and their storage too."""

    def __init__(self, db: Any, state_root: Any = BLANK_ROOT_HASH) -> None:
        super().__init__(db, state_root)
        self._trie = HashTrie(cast(Any, Trie(self._batchtrie, state_root)))
        self._trie_logger = KeyAccessLoggerDB(self._trie, log_missing_keys=False)
        self._trie_cache = CacheDB(self._trie_logger)
        self._journaltrie = JournalDB(self._trie_cache)

    def _get_address_store(self, address: Any) -> Any:
        store = self._account_stores.get(address)
        if store is None:
            root = self._get_storage_root(address)
            store = self._account_stores[address] = _Storage(self._raw_store_db, root, address)
        return store
