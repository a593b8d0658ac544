"""What two folders on one disk share, and what stays as with two stores; the rest is in the conformance suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hansa import encoding, errors
from hansa.stores import objects, onedisk, parts

LIMIT = 1 << 20
BLOB = b"sealed" * 100


@pytest.fixture
def disk(tmp_path: Path) -> tuple[onedisk.OneDisk, onedisk.OneDisk]:
    return onedisk.create(tmp_path / "store", tmp_path / "kept")


def file(store: onedisk.OneDisk, digest: bytes) -> Path:
    return Path(store.folder) / parts.blob_key(digest)


def test_a_blob_in_both_is_one_file_that_either_may_forget(disk):
    store, kept = disk
    digest = kept.put(BLOB)
    assert store.put(BLOB, digest) == digest
    assert file(store, digest).samefile(file(kept, digest))
    store.discard(digest)
    assert not store.has(digest)
    assert not store.digests()
    assert kept.get(digest, limit=LIMIT) == BLOB
    with pytest.raises(errors.Unavailable):
        store.get(digest, limit=LIMIT)


def test_another_process_reads_what_was_linked(disk):
    store, kept = disk
    digest = kept.put(BLOB)
    store.put(BLOB, digest)
    assert objects.create(str(store.folder)).get(digest, limit=LIMIT) == BLOB


def test_a_file_that_this_process_did_not_write_is_not_trusted(tmp_path, disk):
    digest = encoding.digest(BLOB)
    path = file(disk[1], digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"forged" * 100)
    disk[0].put(BLOB)
    assert not path.samefile(file(disk[0], digest))
    assert disk[0].get(digest, limit=LIMIT) == BLOB
    with pytest.raises(errors.Untrusted, match="other bytes"):
        disk[1].get(digest, limit=LIMIT)
    disk[1].put(BLOB)
    assert disk[1].get(digest, limit=LIMIT) == BLOB


def test_a_blob_that_went_missing_is_put_back(disk):
    for store in disk:
        digest = store.put(BLOB)
        file(store, digest).unlink()
        assert not store.has(digest)
        store.put(BLOB)
        assert file(store, digest).read_bytes() == BLOB


def test_what_stands_is_not_written_again(disk):
    store, _ = disk
    before = file(store, store.put(BLOB)).stat()
    after = file(store, store.put(BLOB)).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_other_bytes_under_a_known_digest_are_never_answered(disk):
    store, kept = disk
    digest = encoding.digest(BLOB)
    for one in disk:
        one.put(b"forged", digest)
        with pytest.raises(errors.Untrusted, match="other bytes"):
            one.get(digest, limit=LIMIT)
    store.put(BLOB, digest)
    assert store.get(digest, limit=LIMIT) == BLOB
    with pytest.raises(errors.Untrusted, match="other bytes"):
        kept.get(digest, limit=LIMIT)


def test_damage_done_to_a_file_is_found_and_not_spread(disk):
    """In place, so that it reaches both names; and whatever was read before."""
    store, kept = disk
    digest = kept.put(BLOB)
    store.put(BLOB)
    assert store.get(digest, limit=LIMIT) == kept.get(digest, limit=LIMIT) == BLOB
    later = file(kept, digest).stat().st_mtime_ns + 10**7
    file(kept, digest).write_bytes(b"X" + BLOB[1:])
    os.utime(file(kept, digest), ns=(later, later))
    for one in disk:
        with pytest.raises(errors.Untrusted, match="other bytes"):
            one.get(digest, limit=LIMIT)
    store.put(BLOB)
    assert store.get(digest, limit=LIMIT) == BLOB
    with pytest.raises(errors.Untrusted, match="other bytes"):
        kept.get(digest, limit=LIMIT)
    kept.put(BLOB)
    assert kept.get(digest, limit=LIMIT) == BLOB


def test_a_damaged_file_is_not_linked(disk):
    store, kept = disk
    digest = kept.put(BLOB)
    later = file(kept, digest).stat().st_mtime_ns + 10**7
    file(kept, digest).write_bytes(b"X" + BLOB[1:])
    os.utime(file(kept, digest), ns=(later, later))
    store.put(BLOB)
    assert objects.create(str(store.folder)).get(digest, limit=LIMIT) == BLOB


def test_a_disk_without_links_holds_two_files(disk, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    store, kept = disk
    digest = kept.put(BLOB)
    store.put(BLOB)
    assert not file(store, digest).samefile(file(kept, digest))
    assert store.get(digest, limit=LIMIT) == kept.get(digest, limit=LIMIT) == BLOB


def test_memory_stays_within_its_bounds(disk, monkeypatch):
    monkeypatch.setattr(onedisk, "LATELY", 1000)
    store, _ = disk
    blobs = [bytes([k]) * 300 for k in range(10)]
    digests = [store.put(blob) for blob in blobs]
    assert [store.get(d, limit=LIMIT) for d in digests] == blobs
    assert store._size == sum(len(seen.data) for seen in store._lately.values()) == 900
    assert store.get(store.put(bytes(1001)), limit=LIMIT) == bytes(1001)
    assert store._size == 900


def test_messages_that_pass_through_leave_no_file(disk):
    store, _ = disk
    store.put_at("outbox/f/1/commit/0", b"signed")
    store.put_at("welcome/f/1/0", b"kept")
    assert store.list("outbox/f") == ["outbox/f/1/commit/0"]
    assert store.list("outbox/f/1/comm") == store.list("outbox/g") == []
    assert store.list("welcome/f/1") == ["welcome/f/1/0"]
    assert [p.name for p in store.folder.iterdir()] == ["welcome"]
    with pytest.raises(errors.Missing, match="not in"):
        store.get_at("outbox/f/1/commit/1", limit=10)
    store.delete("outbox/f/1/commit/0")
    store.delete("outbox/f/1/commit/0")
    assert store.list("outbox") == []


def test_messages_of_old_rounds_are_forgotten_when_they_are_many(disk, monkeypatch):
    monkeypatch.setattr(onedisk, "FOLDERS", 2)
    store, _ = disk
    for round in range(8):
        for id in range(4):
            store.put_at(f"outbox/f/{round}/commit/{id}", b"signed")
    left = store.list("outbox")
    assert {key.split("/")[2] for key in left} == {"6", "7"}
    for key in left:
        store.delete(key)
    assert not store._passing
