"""What an app's parts remember: each node's `context.state`, and replies that its ServerApp has been given.

One SQLite file in the run's folder. An entry never changes, so that a run that was killed gives the ServerApp the
same replies again, and each ClientApp the state that it left.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Stored

from hansa import errors

SCHEMA = """
create table if not exists states (
    node integer not null, moment integer not null, value blob not null, primary key (node, moment)
);
create table if not exists replies (
    round integer not null, batch integer not null, node integer not null, value blob not null,
    primary key (round, batch, node)
);
create table if not exists updates (
    round integer not null, node integer not null, value blob not null, primary key (round, node)
);
"""
TRAINED = 0
"""The batch under which a round's training stands; what is asked besides is numbered from 1."""


class Memory:
    """Entries by round and node. Raises `Unavailable` when the file cannot be read or written."""

    def __init__(self, path: Path | None) -> None:
        """In a file, or in this process only."""
        self._path = str(path or ":memory:")
        try:
            self._db = sqlite3.connect(self._path)
            self._db.executescript("pragma journal_mode = wal; pragma synchronous = off;" + SCHEMA)
        except sqlite3.Error as e:
            raise errors.Unavailable(f"cannot use {self._path}: {e}", hint="Free some space.") from e

    def state(self, node: int, before: int) -> RecordDict:
        """What a node's context held after its last task before a moment; empty at the beginning."""
        query = "select value from states where node = ? and moment < ? order by moment desc limit 1"
        row = self._one(query, node, before)
        return RecordDict() if row is None else _read(row)

    def keep_state(self, node: int, moment: int, state: RecordDict) -> None:
        """What it holds after the task of this moment; a task that is done again leaves the same."""
        self._put("insert or replace into states values (?, ?, ?)", node, moment, _bytes(state))

    def reply(self, round: int, batch: int, node: int) -> RecordDict | None:
        """What a node answered, if it did."""
        row = self._one(
            "select value from replies where round = ? and batch = ? and node = ?", round, batch, node
        )
        return None if row is None else _read(row)

    def keep_reply(self, round: int, batch: int, node: int, content: RecordDict) -> None:
        """Keep what a node answered."""
        self._put("insert or replace into replies values (?, ?, ?, ?)", round, batch, node, _bytes(content))

    def update(self, round: int, node: int) -> bytes | None:
        """The canonical bytes of an update that was opened, if it was."""
        return self._one("select value from updates where round = ? and node = ?", round, node)

    def keep_update(self, round: int, node: int, data: bytes) -> None:
        """Keep an opened update: a strategy that needs single ones gets it when the round is final."""
        self._put("insert or replace into updates values (?, ?, ?)", round, node, data)

    def adopt(self, other: Memory) -> None:
        """Take over what another one holds, where this one holds nothing."""
        for table in ("states", "replies", "updates"):
            rows = other._db.execute(f"select * from {table}").fetchall()  # noqa: S608 - names from above
            for row in rows:
                self._put(f"insert or ignore into {table} values ({', '.join('?' * len(row))})", *row)  # noqa: S608

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _one(self, query: str, *values: int) -> bytes | None:
        try:
            row = self._db.execute(query, values).fetchone()
        except sqlite3.Error as e:
            raise errors.Unavailable(f"cannot read {self._path}: {e}", hint="Free some space.") from e
        return None if row is None else bytes(row[0])

    def _put(self, query: str, *values: int | bytes) -> None:
        try:
            with self._db:
                self._db.execute(query, values)
        except sqlite3.Error as e:
            raise errors.Unavailable(f"cannot write {self._path}: {e}", hint="Free some space.") from e


def _bytes(content: RecordDict) -> bytes:
    return bytes(recorddict_to_proto(content).SerializeToString())


def _read(data: bytes) -> RecordDict:
    return recorddict_from_proto(Stored.FromString(data))
