"""What a node has done, in one SQLite file: a node killed between any two effects goes on from here.

An entry is written before its effect and never changes, so that a node never signs two different
messages for one slot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from hansa import errors

SMALL = 4096
"""Largest value, in bytes, that is kept in memory too."""

SCHEMA = """
create table if not exists owner (
    id integer primary key check (id = 0), federation blob not null, who blob not null
);
-- With rowids: without them every search of a key reads the large values that it passes.
create table if not exists entries (
    round integer not null, key text not null, value blob not null, primary key (round, key)
);
create table if not exists holdings (
    place text not null, name text not null, round integer not null, primary key (place, name)
) without rowid;
"""


class Journal:
    """Entries by round and key. Open one with `open_journal`."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._db = connection
        self._path = path
        self._small: dict[int, dict[str, bytes | None]] = {}

    def get(self, round: int, key: str) -> bytes | None:
        """An entry's value, or None."""
        entries = self._entries(round)
        if key not in entries:
            return None
        small = entries[key]
        return self._read(round, key) if small is None else small

    def keys(self, round: int) -> Set[str]:
        """Keys of a round's entries."""
        return self._entries(round).keys()

    def _entries(self, round: int) -> dict[str, bytes | None]:
        """A round's entries, read once; values above `SMALL` bytes stay on the disk."""
        if round not in self._small:
            query = "select key, case when length(value) <= ? then value end from entries where round = ?"
            self._small[round] = dict(self._run(query, (SMALL, round)).fetchall())
        return self._small[round]

    def _read(self, round: int, key: str) -> bytes | None:
        row = self._run("select value from entries where round = ? and key = ?", (round, key)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, round: int, entries: dict[str, bytes]) -> None:
        """Write entries, all or none.

        Raises `Misconfigured` when one exists with another value: two nodes share this journal.
        """
        try:
            with self._db:
                self._db.execute("begin immediate")
                self._db.executemany(
                    "insert into entries values (?, ?, ?)", [(round, k, v) for k, v in entries.items()]
                )
        except sqlite3.IntegrityError as e:
            if any(self._read(round, k) != v for k, v in entries.items()):
                raise errors.Misconfigured(
                    f"{self._path} already holds other entries of round {round}",
                    hint="Two nodes must not share a journal: stop one of them.",
                ) from e
        except sqlite3.Error as e:
            raise self._broken(e) from e
        self._entries(round).update({k: v if len(v) <= SMALL else None for k, v in entries.items()})

    def latest(self, key: str, before: int) -> bytes | None:
        """The value that an entry had in the last round before `before` that has it, or None."""
        query = "select value from entries where key = ? and round < ? order by round desc limit 1"
        row = self._run(query, (key, before)).fetchone()
        return None if row is None else bytes(row[0])

    def forget(self, before: int) -> None:
        """Drop the entries of rounds before `before`, but the newest of those that `latest` may want.

        What opening of a round was answered, and what set was signed for enclaves, is never dropped: however far a
        chain goes back, it stays the only one.
        """
        query = """delete from entries where round < ?1 and key not in ('asked', 'manifest') and
            (key not in ('residual', 'best') or round < (select max(round)
            from entries e where e.key = entries.key and e.round < ?1))"""
        self._run(query, (before,))
        self._small = {round: entries for round, entries in self._small.items() if round >= before}

    def hold(self, place: str, names: Iterable[str], round: int) -> None:
        """Stamp what is to be deleted some day with the last round that used it."""
        self._write(
            """insert into holdings values (?1, ?2, ?3)
            on conflict do update set round = max(round, excluded.round)""",
            [(place, name, round) for name in names],
        )

    def touch(self, names: Iterable[str], round: int) -> None:
        """Renew the stamps of names that are held, wherever."""
        self._write(
            "update holdings set round = max(round, ?2) where name = ?1", [(name, round) for name in names]
        )

    def holdings(self, place: str) -> Set[str]:
        """All names that are held in a place."""
        rows = self._run("select name from holdings where place = ?", (place,))
        return {str(name) for (name,) in rows}

    def outdated(self, before: int, limit: int) -> list[tuple[str, str]]:
        """Place and name of what no round from `before` on used, the oldest first, at most `limit`."""
        query = "select place, name from holdings where round < ? order by round, place, name limit ?"
        return [(str(place), str(name)) for place, name in self._run(query, (before, limit))]

    def unhold(self, gone: Iterable[tuple[str, str]]) -> None:
        """Strike what was deleted off the list."""
        self._write("delete from holdings where place = ? and name = ?", list(gone))

    def _write(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        if not rows:
            return
        try:
            with self._db:
                self._db.execute("begin immediate")
                self._db.executemany(query, rows)
        except sqlite3.Error as e:
            raise self._broken(e) from e

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._run("pragma wal_checkpoint(truncate)", ())
        self._db.close()

    def _run(self, query: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        try:
            return self._db.execute(query, values)
        except sqlite3.Error as e:
            raise self._broken(e) from e

    def _broken(self, cause: sqlite3.Error) -> errors.HansaError:
        if "full" in str(cause):
            return errors.Unavailable(
                f"cannot write {self._path}: the disk is full",
                hint="Free some space, then go on with --resume.",
            )
        return errors.Misconfigured(
            f"the journal {self._path} cannot be used: {cause}",
            hint="Restore it from a backup; without it the node cannot know what it signed.",
        )


def open_journal(path: Path | None, federation: bytes, who: bytes, *, durable: bool = True) -> Journal:
    """Open or make the journal of one member of one federation; `path` None keeps it in memory.

    `durable` waits for the disk at each entry, so that a power cut loses nothing that was signed; a
    simulation does without. Raises `Misconfigured` for a journal that is broken or somebody else's.
    """
    name = "memory" if path is None else str(path)
    try:
        db = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        db.execute("pragma journal_mode = wal")
        db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
        db.executescript(SCHEMA)
        db.execute("insert or ignore into owner values (0, ?, ?)", (federation, who))
        owner = db.execute("select federation, who from owner").fetchone()
    except sqlite3.Error as e:
        raise errors.Misconfigured(
            f"the journal {name} cannot be opened: {e}", hint="Restore a backup."
        ) from e
    if (bytes(owner[0]), bytes(owner[1])) != (federation, who):
        raise errors.Misconfigured(
            f"the journal {name} belongs to another member or federation",
            hint="Give each member and federation a journal of its own.",
        )
    return Journal(db, name)
