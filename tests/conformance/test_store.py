"""Every adapter of the `Store` port goes through the same suite."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests import s3

from hansa import encoding, errors
from hansa.records import Limits
from hansa.stores import objects, onedisk, parts

LIMIT = 1 << 20


def blob_key(digest: bytes) -> str:
    return f"blobs/{digest.hex()[:2]}/{digest.hex()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = s3.Server(tmp_path_factory.mktemp("s3"))
    yield made
    made.stop()


@pytest.fixture
def proxy(server):
    made = s3.Proxy(server.port)
    yield made
    made.close()


@pytest.fixture(params=["memory", "folder", "file-url", "s3", "one-disk"])
def store(request, tmp_path):
    if request.param == "one-disk":
        return onedisk.create(tmp_path / "store", tmp_path / "kept")[0]
    if request.param == "s3":
        return s3.opened(request.getfixturevalue("server").port, tmp_path.name)
    urls = {"memory": "memory:///", "folder": str(tmp_path / "new"), "file-url": f"file://{tmp_path}/a%20b"}
    return objects.create(urls[request.param])


def test_a_blob_is_found_by_its_digest(store):
    digest = store.put(b"hello")
    assert digest == hashlib.sha256(b"hello").digest()
    assert store.has(digest)
    assert store.get(digest, limit=LIMIT) == b"hello"
    assert store.put(b"hello") == digest


def test_a_digest_that_the_caller_knows_is_taken(store, large):
    for data in (b"hello", large):
        digest = hashlib.sha256(data).digest()
        assert store.put(data, digest) == digest
        assert store.get(digest, limit=len(data)) == data


def test_bytes_that_were_put_under_another_digest_are_refused(store, large):
    for data in (b"hello", large):
        wrong = store.put(data, bytes(32))
        with pytest.raises(errors.Untrusted, match="other bytes") as caught:
            store.get(wrong, limit=len(data))
        assert caught.value.digest == hashlib.sha256(data).digest()
        store.discard(wrong)
    with pytest.raises(errors.Untrusted, match="32 bytes"):
        store.put(b"hello", b"short")


@pytest.fixture
def large(monkeypatch):
    """A blob of ten parts, two of them equal and the last a small one; parts are small, to be quick."""
    monkeypatch.setattr(parts, "PART", 4096)
    data = os.urandom(8 * 4096)
    return data + data[:4096] + b"end"


def test_an_empty_blob_and_one_of_several_parts(store, large):
    for data in (b"", large[:4096], large[:4097], large):
        digest = store.put(data)
        assert store.has(digest)
        assert store.get(digest, limit=len(data)) == data
        assert store.put(data) == digest


def test_a_blob_of_the_true_size_of_parts(store):
    data = os.urandom(1 << 16) * 200
    assert len(data) > parts.PART
    assert store.get(store.put(data), limit=len(data)) == data


def test_a_large_blob_above_the_limit_is_refused_before_its_parts_are_read(store, large):
    digest = store.put(large)
    for key in store.list(parts.folder(digest)):
        if key != parts.manifest_key(digest):
            store.delete(key)
    with pytest.raises(errors.Untrusted, match="limit"):
        store.get(digest, limit=len(large) - 1)


def test_a_large_blob_without_one_of_its_parts_is_not_there(store, large):
    digest = store.put(large)
    part = parts.part_key(digest, hashlib.sha256(large[-3:]).digest())
    store.delete(part)
    assert not store.has(digest)
    with pytest.raises(errors.Unavailable, match="is not in"):
        store.get(digest, limit=len(large))
    store.put_at(part, b"en")
    assert not store.has(digest)
    with pytest.raises(errors.Untrusted, match="other bytes"):
        store.get(digest, limit=len(large))
    store.put(large)
    assert store.has(digest)
    assert store.get(digest, limit=len(large)) == large


def test_a_part_with_other_bytes_is_found_and_written_again(store, large):
    digest = store.put(large)
    store.put_at(parts.part_key(digest, hashlib.sha256(large[:4096]).digest()), bytes(4096))
    with pytest.raises(errors.Untrusted, match="other bytes"):
        store.get(digest, limit=len(large))
    store.put(large)
    assert store.get(digest, limit=len(large)) == large


@pytest.mark.parametrize("size", [0, -1, 4096 * 3, 2**60, None])
def test_a_manifest_that_does_not_fit_is_refused(store, large, size):
    digest = hashlib.sha256(large).digest()
    lie = {"size": size, "parts": [bytes(32), bytes(32)]}
    store.put_at(parts.manifest_key(digest), encoding.encode(lie))
    assert not store.has(digest)
    with pytest.raises(errors.Untrusted, match="manifest"):
        store.get(digest, limit=2**61)
    store.put(large)
    assert store.get(digest, limit=len(large)) == large


def test_a_blob_is_forgotten_with_all_its_parts(store, large):
    kept = store.put(b"kept")
    for digest in (store.put(b"small"), store.put(large)):
        assert store.has(digest)
        for _ in range(2):
            store.discard(digest)
            assert not store.has(digest)
    assert store.list("blobs") == [blob_key(kept)]
    assert store.list("large") == []


def test_all_digests_are_known(store, large):
    blobs = {store.put(b"small"), store.put(large)}
    broken = hashlib.sha256(b"broken off").digest()
    store.put_at(parts.part_key(broken, bytes(32)), b"")
    store.put_at("blobs/xx/other", b"")
    assert store.digests() == blobs | {broken}
    store.discard(broken)
    assert store.digests() == blobs


def bounded_by(store, limit):
    if isinstance(store, onedisk.OneDisk):
        return replace(store, inner=replace(store.inner, limit=limit))
    return replace(store, limit=limit)


def test_a_blob_that_no_node_would_read_is_not_written(store, large):
    bounded = bounded_by(store, len(large) - 1)
    for call in (lambda: bounded.put(large), lambda: bounded.put_at("a", large)):
        with pytest.raises(errors.Misconfigured, match="above the limit") as caught:
            call()
        assert "smaller model" in caught.value.hint
    assert store.list("large") == []


def test_the_limit_is_that_of_what_nodes_read():
    assert objects.create("memory:///").limit == Limits().blob


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
from hansa import encoding, errors
from hansa.records import Limits
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
    store = objects.create("http://127.0.0.1:9/x?allow_http=true", retry_config={"max_retries": 0})
    with pytest.raises(errors.Unavailable, match="does not serve") as caught:
        store.get(bytes(32), limit=LIMIT)
    assert "network" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("foo://x", {}),
        ("s3://x/y", {"bogus": 1}),
        ("s3://x", {"timeout": 3}),
        ("s3://x?timeout=soon", {}),
        ("s3://x", {"config": {"proxy_url": "x"}}),
        ("s3://x?secret_access_key=a", {}),
        ("gs://x?endpoint=http://127.0.0.1:9", {}),
    ],
)
def test_an_address_that_cannot_be_used_is_a_misconfiguration(url, options):
    with pytest.raises(errors.Misconfigured) as caught:
        objects.create(url, **options)
    assert caught.value.hint


def test_credentials_in_an_address_are_refused_and_not_shown():
    with pytest.raises(errors.Misconfigured) as caught:
        objects.create("https://user:secret@example.invalid/path")
    assert "secret" not in str(caught.value) + caught.value.hint


# S3 over its own protocol, against a server process


def test_plain_http_is_refused_unless_the_address_allows_it(server):
    url = f"s3://{s3.BUCKET}?endpoint=http://127.0.0.1:{server.port}"
    for address in (url, f"{url}&allow_http=false", f"http://127.0.0.1:{server.port}"):
        with pytest.raises(errors.Misconfigured, match="plain HTTP") as caught:
            objects.create(address)
        assert "allow_http=true" in caught.value.hint


def test_options_of_the_address_reach_the_store_and_show_where_it_is(server, tmp_path):
    store = s3.opened(server.port, tmp_path.name)
    store.put(b"x")
    assert list((server.folder / s3.BUCKET / tmp_path.name / "blobs").iterdir())
    assert store.place == f"s3://{s3.BUCKET}/{tmp_path.name} at http://127.0.0.1:{server.port}"


def test_plain_http_from_the_environment_is_advised_on(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET)
    with pytest.raises(errors.Unavailable) as caught:
        objects.create(f"s3://{s3.BUCKET}/env").put(b"x")
    assert "allow_http=true" in caught.value.hint
    store = objects.create(f"s3://{s3.BUCKET}/env?allow_http=true")
    assert store.get(store.put(b"x"), limit=1) == b"x"


def calls(store):
    return (
        lambda: store.put(b"x"),
        lambda: store.get(bytes(32), limit=1),
        lambda: store.has(bytes(32)),
        lambda: store.list("outbox"),
        lambda: store.discard(bytes(32)),
    )


@pytest.mark.parametrize("wrong", [{"secret_access_key": "other"}, {"access_key_id": "other"}])
def test_wrong_credentials_are_named_and_not_shown(server, wrong):
    for call in calls(s3.opened(server.port, "x", **wrong)):
        with pytest.raises(errors.Unavailable) as caught:
            call()
        assert "credentials" in caught.value.hint
        said = str(caught.value) + caught.value.hint
        assert "\n" not in said
        assert "<" not in said
        assert s3.SECRET not in said


def test_a_store_that_lets_read_but_not_write(server, proxy):
    store = s3.opened(proxy.port, "x")
    digest = store.put(b"x")
    proxy.fault = lambda method, _path: "deny" if method in ("PUT", "POST", "DELETE") else None
    assert store.get(digest, limit=1) == b"x"
    for call in (lambda: store.put(b"y"), lambda: store.delete("a")):
        with pytest.raises(errors.Unavailable) as caught:
            call()
        assert "permissions" in caught.value.hint


def test_a_bucket_that_does_not_exist_is_no_missing_blob(server):
    url = f"s3://nowhere?endpoint=http://127.0.0.1:{server.port}&allow_http=true"
    store = objects.create(url, access_key_id=s3.KEY, secret_access_key=s3.SECRET, region="us-east-1")
    for call in (lambda: store.put(b"x"), lambda: store.get(bytes(32), limit=1), lambda: store.list("a")):
        with pytest.raises(errors.Unavailable) as caught:
            call()
        assert "Make the bucket" in caught.value.hint


def test_a_server_that_stops_and_comes_back(server, tmp_path):
    store = s3.opened(server.port, tmp_path.name)
    digest = store.put(b"before")
    server.stop()
    try:
        for call in calls(store):
            with pytest.raises(errors.Unavailable) as caught:
                call()
            assert "network" in caught.value.hint
    finally:
        server.start()
    assert store.get(digest, limit=9) == b"before"
    assert store.has(store.put(b"after"))


def test_a_body_that_breaks_off_is_unavailable_and_comes_whole_the_next_time(server, proxy):
    store = s3.opened(proxy.port, "cut")
    data = os.urandom(1 << 20)
    digest = store.put(data)
    proxy.fault = lambda method, _path: "truncate" if method == "GET" else None
    with pytest.raises(errors.Unavailable):
        store.get(digest, limit=len(data))
    proxy.fault = lambda _method, _path: None
    assert store.get(digest, limit=len(data)) == data


def test_an_object_above_the_limit_is_not_downloaded(server, proxy):
    store = s3.opened(proxy.port, "limit")
    store.put_at("big", bytes(64 << 20))
    with pytest.raises(errors.Untrusted, match="limit 1000"):
        store.get_at("big", limit=1000)
    assert proxy.sent < 32 << 20


# uploads that break off


def test_an_upload_goes_on_where_it_broke_off(server, proxy, large, tmp_path):
    """Ten parts, two of them equal: nine requests and the manifest."""
    store = s3.opened(proxy.port, tmp_path.name)
    proxy.fault = lambda method, _path: "cut" if method == "PUT" and proxy.wrote("/large/") > 4 else None
    with pytest.raises(errors.Unavailable):
        store.put(large)
    assert proxy.wrote("/large/") == 5
    assert not store.has(hashlib.sha256(large).digest())
    proxy.requests.clear()
    proxy.fault = lambda _method, _path: None
    digest = s3.opened(proxy.port, tmp_path.name).put(large)
    assert proxy.wrote("/large/") == 9 - 4 + 1
    assert store.get(digest, limit=len(large)) == large


KILLED = """
import os, signal, sys
from hansa.stores import objects, parts
parts.PART = 4096
write, left = objects.ObjectStore._write, 4
def dying(self, key, data):
    global left
    write(self, key, data)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
objects.ObjectStore._write = dying
objects.create(sys.argv[1]).put(open(sys.argv[2], "rb").read())
"""


def test_a_killed_upload_into_a_folder_goes_on(tmp_path, large, monkeypatch):
    (tmp_path / "data").write_bytes(large)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": str(Path(objects.__file__).parents[2])},
        timeout=60,
    )
    assert done.returncode == -9
    store = objects.create(str(tmp_path / "store"))
    digest = hashlib.sha256(large).digest()
    assert len(store.list(parts.folder(digest))) == 4
    assert not store.has(digest)
    written = []
    put = objects.obstore.put
    monkeypatch.setattr(objects.obstore, "put", lambda s, k, d, **o: (written.append(k), put(s, k, d, **o)))
    assert store.put(large) == digest
    assert len(written) == 9 - 4 + 1
    assert store.get(digest, limit=len(large)) == large
