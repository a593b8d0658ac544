from __future__ import annotations

import sqlite3

import pytest

from hansa import errors
from hansa.node.journal import SMALL, open_journal

WHO = (b"f" * 32, b"w" * 20)


@pytest.fixture
def journal():
    return open_journal(None, *WHO)


def test_entries_stay(tmp_path):
    first = open_journal(tmp_path / "j", *WHO)
    first.put(1, {"a": b"1", "b": b""})
    first.close()
    again = open_journal(tmp_path / "j", *WHO)
    assert again.get(1, "a") == b"1"
    assert again.get(1, "b") == b""
    assert again.get(1, "c") is again.get(2, "a") is None
    assert again.keys(1) == {"a", "b"}


def test_an_entry_never_changes(journal):
    journal.put(1, {"a": b"1"})
    journal.put(1, {"a": b"1"})
    with pytest.raises(errors.Misconfigured, match="already holds") as caught:
        journal.put(1, {"b": b"2", "a": b"other"})
    assert "Two nodes must not share" in caught.value.hint
    assert journal.get(1, "a") == b"1"
    assert journal.get(1, "b") is None


def test_entries_are_written_all_or_none(journal):
    journal.put(1, {"z": b"1"})
    with pytest.raises(errors.Misconfigured):
        journal.put(1, {"a": b"1", "z": b"2"})
    assert journal.keys(1) == {"z"}


def test_what_is_kept_in_memory_is_what_lies_on_the_disk(tmp_path):
    """Small values are kept in memory, large ones are not; nobody can tell."""
    small, large = b"s" * SMALL, b"l" * (SMALL + 1)
    first = open_journal(tmp_path / "j", *WHO)
    assert first.get(1, "small") is None
    first.put(1, {"small": small, "large": large})
    for journal in (first, open_journal(tmp_path / "j", *WHO)):
        assert journal.keys(1) == {"small", "large"}
        assert (journal.get(1, "small"), journal.get(1, "large"), journal.get(2, "small")) == (
            small,
            large,
            None,
        )


def test_a_second_node_over_the_same_journal_is_found_out(tmp_path):
    """Each looked before the other wrote."""
    one, two = (open_journal(tmp_path / "j", *WHO) for _ in range(2))
    assert one.get(1, "commit") is two.get(1, "commit") is None
    one.put(1, {"commit": b"one"})
    with pytest.raises(errors.Misconfigured, match="already holds other"):
        two.put(1, {"commit": b"two"})
    two.put(1, {"commit": b"one"})
    assert two.get(1, "commit") == b"one"


def test_the_latest_entry_before_a_round(journal):
    for round in (1, 3, 5):
        journal.put(round, {"residual": bytes([round])})
    assert [journal.latest("residual", r) for r in (1, 2, 3, 4, 9)] == [None, b"\1", b"\1", b"\3", b"\5"]


def test_old_entries_are_forgotten_but_what_is_carried_over(journal):
    for round in (1, 2, 3, 4):
        journal.put(round, {"residual": bytes([round]), "best": b"b", "commit": b"c"})
    journal.forget(4)
    assert [journal.keys(r) for r in (1, 2, 3)] == [set(), set(), {"residual", "best"}]
    assert journal.keys(4) == {"residual", "best", "commit"}
    assert journal.latest("residual", 4) == b"\3"


def test_what_opening_of_a_round_was_answered_is_never_forgotten(journal):
    """A chain may go back by more rounds than a journal keeps entries of."""
    journal.put(1, {"asked": b"one", "half": b"h"})
    journal.put(2, {"asked": b"two"})
    journal.forget(9)
    assert (journal.get(1, "asked"), journal.get(2, "asked")) == (b"one", b"two")
    assert journal.get(1, "half") is None


def test_a_broken_file_is_named_with_advice(tmp_path):
    journal = open_journal(tmp_path / "j", *WHO)
    journal._db.execute("drop table entries")
    with pytest.raises(errors.Misconfigured, match="cannot be used") as caught:
        journal.get(1, "a")
    assert "backup" in caught.value.hint


def test_a_full_disk_can_be_waited_for(tmp_path):
    journal = open_journal(tmp_path / "j", *WHO)
    pages = journal._db.execute("pragma page_count").fetchone()[0]
    journal._db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(errors.Unavailable, match="disk is full"):
        journal.put(1, {"a": bytes(50_000)})
    journal._db.execute("pragma max_page_count = 10000")
    journal.put(1, {"a": bytes(50_000)})
    assert journal.get(1, "a") == bytes(50_000)


@pytest.mark.parametrize("other", [(b"x" * 32, WHO[1]), (WHO[0], b"x" * 20)])
def test_a_journal_belongs_to_one_member_of_one_federation(tmp_path, other):
    open_journal(tmp_path / "j", *WHO).close()
    with pytest.raises(errors.Misconfigured, match="belongs to another"):
        open_journal(tmp_path / "j", *other)


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_durable_means_that_the_disk_is_waited_for(tmp_path, durable, level):
    journal = open_journal(tmp_path / "j", *WHO, durable=durable)
    assert journal._db.execute("pragma synchronous").fetchone()[0] == level
    assert journal._db.execute("pragma journal_mode").fetchone()[0] == "wal"


def test_what_was_written_survives_a_node_that_never_closes(tmp_path):
    journal = open_journal(tmp_path / "j", *WHO)
    journal.put(1, {"a": b"1"})
    other = sqlite3.connect(tmp_path / "j")
    assert other.execute("select value from entries").fetchone() == (b"1",)
