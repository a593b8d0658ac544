"""An EVM chain inside the process: py-evm on one SQLite file, with the JSON-RPC face of a node.

    genesis    chain id, timestamp, gas limit, balances
    journal    append-only: what replay needs (timestamp, raw transactions) and what it must give (hash, root)
    blocks     header and receipts, derived from the journal
    sent       transaction hash -> block, derived
    nodes      state trie and code by hash, derived

A block is one SQLite transaction over all tables: after SIGKILL the file holds whole blocks only.
Time is the caller's: a block carries the timestamp given with `set_time` or `mine`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import rlp
from eth.abc import BlockHeaderAPI, StateAPI
from eth_typing import Hash32
from lru import LRU

from hansa import encoding, errors
from hansa.ledger import blocks
from hansa.ledger.answers import SENDING, answer, raw_transaction
from hansa.ledger.blocks import Block, Genesis
from hansa.ledger.json_blocks import receipt_json
from hansa.ledger.rpc import Fault, error_of, hexed, number

SCHEMA = """
create table genesis (only integer primary key check (only = 0), value blob not null);
create table journal (number integer primary key, timestamp integer not null,
                      transactions blob not null, hash blob not null, root blob not null);
create table blocks (number integer primary key, header blob not null, receipts blob not null);
create table sent (hash blob primary key, number integer not null, place integer not null) without rowid;
create table nodes (hash blob primary key, value blob not null) without rowid;
"""
TABLES = ("genesis", "journal", "blocks", "sent", "nodes")
CACHED_BLOCKS = 256
NEWEST = ("latest", "pending", "safe", "finalized")
"""Block tags that mean the last block: none is ever taken back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the journal: a block's input, its hash and the state root after it."""

    number: int
    timestamp: int
    transactions: tuple[bytes, ...]
    hash: bytes
    root: bytes


@dataclass(frozen=True, slots=True)
class Replayed:
    """What replay made of a journal row; `receipts` are JSON-RPC receipts with their logs."""

    number: int
    root_ok: bool
    hash_ok: bool
    receipts: tuple[dict[str, Any], ...]


@contextmanager
def _storage(action: str) -> Iterator[None]:
    """Turn what SQLite raises into `Unavailable` with advice."""
    try:
        yield
    except sqlite3.Error as e:
        full = "full" in str(e)
        hint = "free some space and run again" if full else "check the file, its rights and its disk"
        raise errors.Unavailable(f"cannot {action} the chain's file: {e}", hint=hint) from e


PATIENCE, BREATH = 30.0, 0.05
"""Seconds for which readers of the file are waited for, and between two tries."""


class Chain:
    """A chain on a SQLite file; one process writes. It is an `Rpc`, and a context manager."""

    def __init__(self, database: sqlite3.Connection, genesis: Genesis) -> None:
        self.genesis = genesis
        self._database = database
        self._nodes = blocks.Nodes(self._node)
        self._blocks: LRU[int, Block] = LRU(CACHED_BLOCKS)
        self._states: dict[bool, StateAPI] = {}
        height = database.execute("select max(number) from journal").fetchone()[0]
        if height is None:
            height = 0
            self._store(blocks.first_block(self._nodes, genesis))
        self._head = self.block(height)
        self._time = self._head.header.timestamp

    def __enter__(self) -> Chain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def checkpoint(self) -> None:
        """Leave one file without free pages, at the end of a run. Raises `Unavailable`.

        The journal mode returns to SQLite's default, so that readers need no other file; opening the
        chain again sets it. SQLite refuses that at once while somebody reads, who will have done soon.
        """
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._database.execute("pragma journal_mode = delete")
                break
            except sqlite3.OperationalError as e:
                if time.monotonic() >= until:
                    raise errors.Unavailable(
                        f"cannot compact the chain's file: {e}",
                        hint="Nothing is lost. End what reads it, and go on with the run by --resume.",
                    ) from e
                time.sleep(BREATH)
        with _storage("compact"):
            self._database.execute("vacuum")

    @property
    def time(self) -> int:
        """Timestamp of the next block."""
        return self._time

    def set_time(self, timestamp: int) -> None:
        """Set the next block's timestamp, which calls at "pending" see too; not before the head's."""
        if timestamp < self._head.header.timestamp:
            raise errors.Misconfigured(
                f"time {timestamp} lies before the last block's {self._head.header.timestamp}",
                hint="let time only grow",
            )
        if timestamp != self._time:
            self._time = timestamp
            self._states.pop(True, None)

    def mine(self, transactions: Sequence[bytes], timestamp: int | None = None) -> list[bytes | Fault]:
        """Make one block of raw transactions; returns each one's hash, or why it was left out.

        Without any valid transaction there is no block, except that an empty list makes an empty one.
        On disk before it returns. Raises `Unavailable` if it cannot be, and the chain is as before.
        """
        if timestamp is not None:
            self.set_time(timestamp)
        self._nodes.fresh.clear()
        header = blocks.next_header(self._head.header, self._time)
        block, results = blocks.execute(self._state(header), header, transactions)
        if block.transactions or not transactions:
            self._store(block, transactions, results)
            self._head = block
            self._states.clear()
        return results

    def request(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See `Rpc.request`."""
        result = self.batch([(method, params)])[0]
        if isinstance(result, Fault):
            raise error_of(result)
        return result

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """See `Rpc.batch`. Neighbouring calls that send make one block together."""
        results: list[Any] = []
        for sending, group in groupby(calls, lambda call: call[0] in SENDING):
            if sending:
                results += self._send(list(group))
            else:
                results += [answer(self, method, params) for method, params in group]
        return results

    def _send(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        raws = [raw_transaction(params) for _, params in calls]
        valid = [raw for raw in raws if isinstance(raw, bytes)]
        mined = iter(self.mine(valid) if valid else ())
        sent = [raw if isinstance(raw, Fault) else next(mined) for raw in raws]
        return [
            self._sent(method, hash) if isinstance(hash, bytes) else hash
            for (method, _), hash in zip(calls, sent, strict=True)
        ]

    def _sent(self, method: str, hash: bytes) -> Any:
        """What a client gets that sent a transaction: its hash, or its receipt."""
        found = self.find(hash) if method == SENDING[1] else None
        return receipt_json(*found) if found else hexed(hash)

    def _node(self, key: bytes) -> bytes | None:
        row = self._database.execute("select value from nodes where hash = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _state(self, header: BlockHeaderAPI) -> StateAPI:
        ancestors = self._ancestors(header.block_number)
        return blocks.state_at(self._nodes, header, self.genesis.chain_id, ancestors)

    def _ancestors(self, height: int) -> Iterator[Hash32]:
        query = "select hash from journal where number < ? order by number desc limit 256"
        for row in self._database.execute(query, (height,)):
            yield Hash32(row[0])

    def _store(self, block: Block, raws: Sequence[bytes] = (), results: Sequence[bytes | Fault] = ()) -> None:
        header = block.header
        accepted = [(raw, sent) for raw, sent in zip(raws, results, strict=True) if isinstance(sent, bytes)]
        journal = rlp.encode([raw for raw, _ in accepted])
        with _storage("write"), self._database:
            self._database.execute("begin immediate")
            self._database.execute(
                "insert into journal values (?, ?, ?, ?, ?)",
                (header.block_number, header.timestamp, journal, header.hash, header.state_root),
            )
            self._database.execute(
                "insert into blocks values (?, ?, ?)",
                (header.block_number, rlp.encode(header), rlp.encode([r.encode() for r in block.receipts])),
            )
            self._database.executemany(
                "insert into sent values (?, ?, ?)",
                [(sent, header.block_number, place) for place, (_, sent) in enumerate(accepted)],
            )
            self._database.executemany("insert or ignore into nodes values (?, ?)", self._nodes.fresh.items())
        self._nodes.stored()
        self._blocks[header.block_number] = block

    def block(self, height: int) -> Block:
        """Block at `height`. Raises `Unavailable` if there is none, `Untrusted` if it is damaged."""
        block = self._blocks.get(height)
        if block is None:
            with _storage("read"):
                row = self._database.execute(
                    "select header, transactions, receipts from blocks join journal using (number) "
                    "where number = ?",
                    (height,),
                ).fetchone()
            if row is None:
                raise errors.Unavailable(f"the chain has no block {height}")
            block = self._blocks[height] = blocks.unpack(*row)
        return block

    @property
    def height(self) -> int:
        """Number of the last block."""
        return int(self._head.header.block_number)

    def find(self, transaction: bytes) -> tuple[Block, int] | None:
        """Block and place in it of a transaction by its hash."""
        with _storage("read"):
            query = "select number, place from sent where hash = ?"
            row = self._database.execute(query, (transaction,)).fetchone()
        return None if row is None else (self.block(row[0]), row[1])

    def state(self, tag: Any = "latest") -> StateAPI:
        """State to run calls on. At "pending" time is that of the next block; old blocks work too.

        Raises `Untrusted`, `Unavailable` for a block that is not there.
        """
        pending = tag == "pending"
        height = self.at(tag)
        if height > self.height:
            raise errors.Unavailable(f"the chain has no block {height}")
        if height != self.height:
            return self._state(self.block(height).header)
        state = self._states.get(pending)
        if state is None:
            header = self._head.header
            state = self._state(blocks.next_header(header, self._time) if pending else header)
            self._states[pending] = state
        return state

    def at(self, tag: Any) -> int:
        """Height that a JSON-RPC block tag or number means. Raises `Untrusted`."""
        return 0 if tag == "earliest" else self.height if tag in NEWEST else number(tag)

    def height_of(self, hash: bytes) -> int | None:
        """Height of the block with this hash."""
        with _storage("read"):
            row = self._database.execute("select number from journal where hash = ?", (hash,)).fetchone()
        return None if row is None else int(row[0])

    def filled(self, first: int, last: int) -> list[int]:
        """Heights from `first` to `last` whose blocks hold transactions; most of an idle chain's do not."""
        query = (
            "select number from journal where number between ? and ? and transactions <> ? order by number"
        )
        bounds = min(first, self.height + 1), min(last, self.height)
        with _storage("read"):
            return [row[0] for row in self._database.execute(query, (*bounds, rlp.encode([])))]


def open_chain(path: Path, genesis: Genesis | None = None) -> Chain:
    """Open the chain in the file `path`, or begin one from `genesis`.

    Goes on from the last whole block whatever killed the process before. Raises `Misconfigured` when
    the file belongs to another genesis or there is neither, `Unavailable` when it cannot be read.
    """
    if genesis is None and not path.exists():
        raise errors.Misconfigured(f"there is no chain at {path}", hint="check the run folder's name")
    with _storage("open"):
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = normal")
        with database:
            database.execute("begin immediate")
            if not database.execute("select 1 from sqlite_master where name = 'genesis'").fetchone():
                if genesis is None:
                    raise errors.Misconfigured(f"{path} holds no chain", hint="check the run folder's name")
                for statement in SCHEMA.strip().rstrip(";").split(";"):
                    database.execute(statement)
                database.execute("insert into genesis values (0, ?)", (encoding.encode(genesis),))
        recorded = _genesis(database)
    if genesis is not None and recorded != genesis:
        database.close()
        raise errors.Misconfigured(
            f"{path} holds another chain: its genesis differs", hint="give the run another folder"
        )
    return Chain(database, recorded)


def _genesis(database: sqlite3.Connection) -> Genesis:
    try:
        row = database.execute("select value from genesis").fetchone()
        fields = encoding.decode(bytes(row[0]), limit=1 << 24)
        balances = tuple((bytes(address), int(wei)) for address, wei in fields.pop("balances"))
        return Genesis(balances=balances, **fields)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise errors.Untrusted(f"the chain's genesis is damaged: {e}") from e


@contextmanager
def looked_at(path: Path) -> Iterator[Chain]:
    """The chain in the file `path` as it is now, all of it at one moment; it is only read, and not held afterwards.

    Raises `Unavailable`, `Untrusted`.
    """
    where = f"{path.absolute().as_uri()}?mode=ro"
    with _storage("read"), closing(sqlite3.connect(where, uri=True, isolation_level=None)) as database:
        database.execute("begin")
        yield Chain(database, _genesis(database))


def read_journal(path: Path) -> tuple[Genesis, Iterator[Entry]]:
    """Genesis and journal of a chain's file, which is only read. Raises `Unavailable`, `Untrusted`."""
    with _storage("read"):
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        genesis = _genesis(database)

    def rows() -> Iterator[Entry]:
        with _storage("read"):
            for row in database.execute("select * from journal order by number"):
                height, timestamp, packed, block, root = row
                yield Entry(height, timestamp, blocks.raw_transactions(packed), block, root)
        database.close()

    return genesis, rows()


def replay(genesis: Genesis, entries: Iterable[Entry]) -> Iterator[Replayed]:
    """Execute a journal again in a fresh EVM in memory and compare every state root and block hash.

    After the first false transaction every later hash is false too. Raises `Untrusted` for a row that
    no chain could have written: a gap in the numbers, or time that runs backwards.
    """
    with Replay(genesis) as fresh:
        for entry in entries:
            yield fresh.step(entry)


class Replay:
    """A fresh chain in memory that a journal is executed on, row by row. A context manager."""

    def __init__(self, genesis: Genesis) -> None:
        self._database = sqlite3.connect("file::memory:", isolation_level=None, uri=True)
        self._database.executescript(SCHEMA)
        self._database.execute("insert into genesis values (0, ?)", (encoding.encode(genesis),))
        self._chain = Chain(self._database, genesis)
        self._next = 0

    def __enter__(self) -> Replay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chain.close()

    def step(self, entry: Entry) -> Replayed:
        """Execute one row. Raises `Untrusted` if it does not follow the one before."""
        chain = self._chain
        if entry.number != self._next:
            raise errors.Untrusted(f"journal row {entry.number} stands where {self._next} belongs")
        if entry.number:
            if entry.timestamp < chain.time:
                raise errors.Untrusted(f"time runs backwards in journal row {entry.number}")
            chain.mine(entry.transactions, entry.timestamp)
            if chain.height != entry.number:
                raise errors.Untrusted(f"journal row {entry.number} holds no valid transaction")
        self._next += 1
        block = chain.block(entry.number)
        return Replayed(
            number=entry.number,
            root_ok=block.header.state_root == entry.root,
            hash_ok=block.header.hash == entry.hash,
            receipts=tuple(receipt_json(block, place) for place in range(len(block.receipts))),
        )

    def differences(self, path: Path) -> list[str]:
        """What in a chain's file, after its last row was replayed, is not as replay makes it.

        Compares every row of every table, and every byte of a file that `checkpoint` left behind.
        """
        found = []
        with _storage("read"):
            self._database.execute("attach ? as other", (f"{path.absolute().as_uri()}?mode=ro",))
            for table in TABLES:
                for name, one, two in (("missing", "main", "other"), ("false", "other", "main")):
                    query = (
                        "select count(*) from "  # noqa: S608, all names are constants
                        f"(select * from {one}.{table} except select * from {two}.{table})"
                    )
                    (rows,) = self._database.execute(query).fetchone()
                    if rows:
                        found.append(f"{rows} rows of {table} {name}")
            self._database.execute("detach other")
        if not found and not self._same_bytes(path):
            found.append("bytes outside the rows")
        return found

    def _same_bytes(self, path: Path) -> bool:
        """Whether a file has the very bytes that SQLite gives to the replayed rows.

        Only these fields of its header are its own (https://sqlite.org/fileformat2.html, section 1.3):
        18 journal mode, 24 and again 92 count of changes, 40 schema cookie, 96 version of SQLite.
        """
        data = path.read_bytes()
        with TemporaryDirectory() as folder, _storage("read"):
            again = Path(folder) / "again.sqlite"
            self._database.execute("vacuum into ?", (str(again),))
            expected = bytearray(again.read_bytes())
        if data[18:20] == b"\2\2":
            expected[18:20] = data[18:20]
        expected[24:28] = expected[92:96] = data[24:28]
        expected[40:44], expected[96:100] = data[40:44], data[96:100]
        return bytes(expected) == data
