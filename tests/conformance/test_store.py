"""Every adapter of the `Store` port goes through the same suite."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hansa import errors
from hansa.stores import objects

LIMIT = 1 << 20


def blob_key(digest: bytes) -> str:
    return f"blobs/{digest.hex()[:2]}/{digest.hex()}"


@pytest.fixture(params=["memory", "folder", "file-url"])
def store(request, tmp_path):
    urls = {"memory": "memory:///", "folder": str(tmp_path / "new"), "file-url": f"file://{tmp_path}/a%20b"}
    return objects.create(urls[request.param])


def test_a_blob_is_found_by_its_digest(store):
    digest = store.put(b"hello")
    assert digest == hashlib.sha256(b"hello").digest()
    assert store.has(digest)
    assert store.get(digest, limit=LIMIT) == b"hello"
    assert store.put(b"hello") == digest


def test_an_empty_blob_and_one_of_several_parts(store):
    large = os.urandom(1 << 16) * 200
    for data in (b"", large):
        assert store.get(store.put(data), limit=len(data)) == data


def test_a_missing_blob_is_unavailable(store):
    assert not store.has(bytes(32))
    with pytest.raises(errors.Unavailable, match="is not in") as caught:
        store.get(bytes(32), limit=LIMIT)
    assert caught.value.hint


def test_a_flipped_byte_is_found_on_every_read(store):
    digest = store.put(b"hello")
    assert store.get(digest, limit=LIMIT) == b"hello"
    store.put_at(blob_key(digest), b"hellp")
    for _ in range(2):
        with pytest.raises(errors.Untrusted) as caught:
            store.get(digest, limit=LIMIT)
        assert caught.value.digest == hashlib.sha256(b"hellp").digest()
    store.put(b"hello")
    assert store.get(digest, limit=LIMIT) == b"hello"


def test_a_blob_above_the_limit_is_refused_before_it_is_read(store, monkeypatch):
    digest = store.put(bytes(1000))
    assert len(store.get(digest, limit=1000)) == 1000
    # A result with a size and no body: reading it would be an AttributeError.
    monkeypatch.setattr(objects.obstore, "get", lambda *_: SimpleNamespace(meta={"size": 1000}))
    with pytest.raises(errors.Untrusted, match="1000 bytes, limit 999"):
        store.get(digest, limit=999)


def test_named_bytes_are_replaced_and_forgotten(store):
    store.put_at("outbox/f/1/commit/3", b"one")
    store.put_at("outbox/f/1/commit/3", b"two")
    assert store.get_at("outbox/f/1/commit/3", limit=3) == b"two"
    with pytest.raises(errors.Untrusted):
        store.get_at("outbox/f/1/commit/3", limit=2)
    store.delete("outbox/f/1/commit/3")
    store.delete("outbox/f/1/commit/3")
    with pytest.raises(errors.Unavailable):
        store.get_at("outbox/f/1/commit/3", limit=3)


def test_listing_is_sorted_and_stays_in_its_folder(store):
    for key in ("outbox/f/2/b", "outbox/f/10/a", "outbox/fa/x", "other"):
        store.put_at(key, b"")
    assert store.list("outbox/f") == ["outbox/f/10/a", "outbox/f/2/b"]
    assert store.list("nothing") == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.x",
        "a\\b",
        "a\nb",
        "x" * 513,
        "a#1",
        "a\n",
    ],
)
def test_a_key_cannot_leave_the_store(store, key):
    for call in (
        lambda: store.put_at(key, b"x"),
        lambda: store.get_at(key, limit=1),
        lambda: store.list(key),
        lambda: store.delete(key),
    ):
        with pytest.raises(errors.Untrusted, match="is no key"):
            call()


def test_a_digest_of_a_wrong_length_is_refused(store):
    with pytest.raises(errors.Untrusted, match="32 bytes"):
        store.get(b"short", limit=LIMIT)


def test_a_folder_keeps_its_blobs_and_shows_no_half_written_file(tmp_path):
    digest = objects.create(str(tmp_path)).put(b"kept")
    half = tmp_path / (blob_key(digest) + "#1")
    half.write_bytes(b"ke")
    store = objects.create(str(tmp_path))
    assert store.get(digest, limit=4) == b"kept"
    assert store.list("blobs") == [blob_key(digest)]


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path):
    store = objects.create(str(tmp_path))
    (tmp_path / "blobs").write_text("a file in the way")
    with pytest.raises(errors.Unavailable) as caught:
        store.put(b"x")
    assert "\n" not in str(caught.value)


FULL_DISK = """
import sys
from hansa import errors
from hansa.stores import objects
store = objects.create(sys.argv[1])
small = store.put(b"small")
try:
    store.put(bytes(1 << 20))
except errors.Unavailable as e:
    assert "disk is full" in e.hint, e.hint
    assert store.get(small, limit=5) == b"small"
    assert len(store.list("blobs")) == 1
    print("refused")
"""


def test_a_full_disk_is_unavailable_and_leaves_nothing_behind(tmp_path):
    """On a real file system of 64 KiB, in a mount namespace of its own."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        pytest.skip("needs Linux and unshare to mount a small file system")
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k none "$1" && shift && exec "$@"', "sh"]
    if subprocess.run([*mount, str(tmp_path), "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespace")
    source = Path(objects.__file__).parents[2]
    done = subprocess.run(
        [*mount, str(tmp_path), sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert done.stdout == "refused\n", done.stderr


def test_a_store_that_does_not_answer_is_unavailable():
    store = objects.create(
        "http://127.0.0.1:9/x", client_options={"allow_http": True}, retry_config={"max_retries": 0}
    )
    with pytest.raises(errors.Unavailable, match="does not serve") as caught:
        store.get(bytes(32), limit=LIMIT)
    assert "network" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "options"), [("foo://x", {}), ("s3://x/y", {"bogus": 1}), ("s3://x", {"timeout": 3})]
)
def test_an_address_that_cannot_be_used_is_a_misconfiguration(url, options):
    with pytest.raises(errors.Misconfigured) as caught:
        objects.create(url, **options)
    assert caught.value.hint


def test_credentials_in_an_address_are_refused_and_not_shown():
    with pytest.raises(errors.Misconfigured) as caught:
        objects.create("https://user:secret@example.invalid/path")
    assert "secret" not in str(caught.value) + caught.value.hint
