from __future__ import annotations

import hashlib
import io
import random
import tracemalloc
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from hansa import encoding, errors
from hansa.crypto import sealing

SECRET = bytes(range(32))
GRANT = hashlib.sha256(b"grant").digest()
CONTEXT = b"federation, round 3, member 1"
CHUNK = sealing.CHUNK_BYTES


def entropy(seed: int = 0) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def sealed(plaintext: bytes, **changes) -> bytes:
    given = {"secret": SECRET, "grant": GRANT, "context": CONTEXT, "entropy": entropy()} | changes
    return sealing.seal(plaintext, **given)


def keys(count: int) -> tuple[dict[int, bytes], dict[int, bytes]]:
    draw = entropy(99)
    private = {i: draw(32) for i in range(1, count + 1)}
    return private, {i: sealing.public_key(k) for i, k in private.items()}


def test_the_sending_half_follows_rfc_9180_appendix_a_1_1():
    ephemeral = sealing._derive_private_key(
        bytes.fromhex("7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234")
    )
    recipient = bytes.fromhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d")
    encapsulated = ephemeral.public_key().public_bytes_raw()
    assert (
        ephemeral.private_bytes_raw().hex()
        == "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736"
    )
    assert encapsulated.hex() == "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    dh = ephemeral.exchange(sealing.X25519PublicKey.from_public_bytes(recipient))
    shared = sealing._shared_secret(dh, encapsulated, recipient)
    assert shared.hex() == "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc"


@pytest.mark.parametrize("size", [0, 1, 32, 1000])
def test_the_library_opens_what_the_sending_half_seals(size):
    """Covers the key schedule for AES-256-GCM, for which the RFC prints no vector."""
    private = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    ephemeral = sealing._derive_private_key(bytes(32))
    message = sealing._hpke_seal(bytes(size), private.public_key().public_bytes_raw(), b"info", ephemeral)
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    assert suite.decrypt(message, private, b"info") == bytes(size)


def test_every_reader_opens_a_grant_and_the_same_seed_gives_the_same_bytes():
    private, public = keys(5)
    grant = sealing.make_grant(SECRET, public, CONTEXT)
    assert grant == sealing.make_grant(SECRET, dict(reversed(public.items())), CONTEXT)
    assert grant != sealing.make_grant(bytes(32), public, CONTEXT)
    assert sealing.read_grant(grant).readers == [1, 2, 3, 4, 5]
    for reader, key in private.items():
        assert sealing.open_grant(grant, reader, key, CONTEXT) == SECRET
    assert SECRET not in grant


def test_a_grant_opens_for_nobody_else():
    private, public = keys(3)
    grant = sealing.make_grant(SECRET, {1: public[1], 2: public[2]}, CONTEXT)
    for reader, key, context in (
        (3, private[3], CONTEXT),
        (1, private[2], CONTEXT),
        (2, private[1], CONTEXT),
        (1, private[1], CONTEXT + b"!"),
        (1, b"short", CONTEXT),
    ):
        with pytest.raises(errors.Untrusted) as caught:
            sealing.open_grant(grant, reader, key, context)
        assert caught.value.digest == encoding.digest(grant)


def test_grant_contexts_differ_in_every_part():
    parts = [
        (b"f" * 32, b"r" * 32, 1),
        (b"g" * 32, b"r" * 32, 1),
        (b"f" * 32, b"s" * 32, 1),
        (b"f" * 32, b"r" * 32, 2),
    ]
    assert len({sealing.grant_context(*p) for p in parts}) == 4


def test_a_sender_cannot_wrap_two_secrets_in_one_grant():
    private, public = keys(2)
    one, two = (sealing.make_grant(s, public, CONTEXT) for s in (SECRET, bytes(32)))
    forged = one[: -sealing.WRAP_BYTES] + two[-sealing.WRAP_BYTES :]
    assert sealing.open_grant(forged, 1, private[1], CONTEXT) == SECRET
    with pytest.raises(errors.Untrusted, match="does not wrap what it commits to"):
        sealing.open_grant(forged, 2, private[2], CONTEXT)


def test_a_reader_sees_whether_a_grant_serves_the_others():
    private, public = keys(3)
    grant = sealing.make_grant(SECRET, public, CONTEXT)
    size = sealing.WRAP_BYTES
    assert sealing.serves(grant, SECRET, public, CONTEXT)
    assert sealing.serves(grant, SECRET, {2: public[2]}, CONTEXT)
    for spoiled, served in (
        (grant[:-1] + b"x", {1, 2}),
        (grant[: -2 * size] + bytes(size) + grant[-size:], {1, 3}),
    ):
        assert sealing.open_grant(spoiled, 1, private[1], CONTEXT) == SECRET
        for id in public:
            assert sealing.serves(spoiled, SECRET, {id: public[id]}, CONTEXT) == (id in served)
    left_out = sealing.make_grant(SECRET, {1: public[1], 2: public[2]}, CONTEXT)
    assert not sealing.serves(left_out, SECRET, public, CONTEXT)
    unusable = public | {2: bytes(32)}
    assert sealing.serves(sealing.make_grant(SECRET, unusable, CONTEXT), SECRET, unusable, CONTEXT)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"short", b""])
def test_an_unusable_key_locks_out_only_its_owner(key):
    private, public = keys(3)
    grant = sealing.make_grant(SECRET, public | {2: key}, CONTEXT)
    assert sealing.read_grant(grant).readers == [1, 3]
    assert sealing.open_grant(grant, 3, private[3], CONTEXT) == SECRET
    with pytest.raises(errors.Untrusted, match="no reader"):
        sealing.make_grant(SECRET, {2: key}, CONTEXT)


def test_the_bytes_of_a_grant():
    _, public = keys(2)
    grant = sealing.make_grant(SECRET, public, CONTEXT)
    assert grant[:4] == b"HSG1"
    assert grant[36:42] == bytes([0, 2, 0, 1, 0, 2])
    assert len(grant) == 42 + 2 * sealing.WRAP_BYTES


@pytest.mark.parametrize(
    "change",
    [
        lambda g: b"HSG2" + g[4:],
        lambda g: g[:36] + bytes([0, 2, 0, 2, 0, 1]) + g[42:],
        lambda g: g[:36] + bytes([0, 2, 0, 1, 0, 1]) + g[42:],
        lambda g: g[:36] + bytes([0, 1, 0, 1]) + g[42:],
        lambda g: g[:36] + bytes([0, 3, 0, 1, 0, 2, 0, 3]) + g[42:],
        lambda g: g[:36] + bytes(2),
        lambda g: g[:-1],
        lambda g: g + b"x",
        lambda g: g[:37],
        lambda g: b"",
        lambda g: bytes(sealing.GRANT_LIMIT + 1),
    ],
)
def test_a_malformed_grant_is_refused(change):
    _, public = keys(2)
    with pytest.raises(errors.Untrusted, match="not a grant"):
        sealing.read_grant(change(sealing.make_grant(SECRET, public, CONTEXT)))


def test_a_grant_for_the_largest_roster_can_be_read():
    _, public = keys(1)
    full = sealing.make_grant(SECRET, dict.fromkeys(range(1024), public[1]), CONTEXT)
    assert sealing.read_grant(full).readers == list(range(1024))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7])
def test_a_blob_comes_back_through_bytes_and_streams(size):
    plaintext = random.Random(size).randbytes(size)
    data = sealed(plaintext)
    assert len(data) == sealing.HEADER_BYTES + size + 16 * max(1, -(-size // CHUNK))
    assert sealing.read_header(data).length == size
    assert sealing.read_header(data[: sealing.HEADER_BYTES]).grant == GRANT
    assert sealing.open_sealed(data, SECRET, CONTEXT, limit=size) == plaintext
    source, sink = io.BytesIO(data), io.BytesIO()
    assert sealing.open_stream(source, sink, SECRET, CONTEXT, limit=size).grant == GRANT
    assert sink.getvalue() == plaintext
    assert sealed(memoryview(plaintext)) == data


def test_the_same_entropy_gives_the_same_bytes_and_other_entropy_other_ones():
    assert sealed(b"x") == sealed(b"x")
    assert sealed(b"x") != sealed(b"x", entropy=entropy(1))


def test_secret_context_and_grant_are_bound():
    data = sealed(b"hello")
    other_grant = data[:4] + bytes(32) + data[36:]
    for blob, secret, context in (
        (data, bytes(32), CONTEXT),
        (data, SECRET, b"round 4"),
        (other_grant, SECRET, CONTEXT),
    ):
        with pytest.raises(errors.Untrusted, match="not authentic") as caught:
            sealing.open_sealed(blob, secret, context, limit=5)
        assert caught.value.digest == encoding.digest(blob)


def test_every_flipped_byte_is_found():
    data = sealed(b"hello")
    for i in range(len(data)):
        bad = data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]
        with pytest.raises(errors.Untrusted):
            sealing.open_sealed(bad, SECRET, CONTEXT, limit=1 << 20)


def rewritten(data: bytes, chunks: list[int], length: int) -> bytes:
    """The blob with its header announcing `length` and the chunks of the original in a given order."""
    head, body, step = data[:68], data[sealing.HEADER_BYTES :], CHUNK + sealing.TAG_BYTES
    cut = [body[i : i + step] for i in range(0, len(body), step)]
    return head + length.to_bytes(8, "big") + b"".join(cut[c] for c in chunks)


@pytest.mark.parametrize(
    ("chunks", "length"),
    [
        ([1, 0, 2], 3 * CHUNK),
        ([0, 0, 2], 3 * CHUNK),
        ([0, 2, 1], 3 * CHUNK),
        ([0, 1], 2 * CHUNK),
        ([0], CHUNK),
        ([0, 1, 2, 2], 4 * CHUNK),
        ([0, 1], 3 * CHUNK),
        ([0, 1, 2, 2], 3 * CHUNK),
        ([], 0),
    ],
)
def test_chunks_cannot_be_swapped_repeated_dropped_or_appended(chunks, length):
    bad = rewritten(sealed(bytes(3 * CHUNK)), chunks, length)
    with pytest.raises(errors.Untrusted):
        sealing.open_sealed(bad, SECRET, CONTEXT, limit=1 << 30)
    with pytest.raises(errors.Untrusted):
        sealing.open_stream(io.BytesIO(bad), io.BytesIO(), SECRET, CONTEXT, limit=1 << 30)


@pytest.mark.parametrize("cut", [0, 3, sealing.HEADER_BYTES - 1, sealing.HEADER_BYTES, -1])
def test_a_truncated_blob_is_refused(cut):
    bad = sealed(bytes(CHUNK + 5))[:cut]
    for opens in (
        lambda: sealing.open_sealed(bad, SECRET, CONTEXT, limit=1 << 30),
        lambda: sealing.open_stream(io.BytesIO(bad), io.BytesIO(), SECRET, CONTEXT, limit=1 << 30),
    ):
        with pytest.raises(errors.Untrusted):
            opens()


@pytest.mark.parametrize("announced", [6, 2**40, 2**64 - 1])
def test_a_wrong_announced_length_is_refused_and_allocates_nothing(announced):
    bad = sealed(b"hello")
    bad = bad[:68] + announced.to_bytes(8, "big") + bad[76:]
    tracemalloc.start()
    with pytest.raises(errors.Untrusted):
        sealing.open_sealed(bad, SECRET, CONTEXT, limit=2**64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_blob_above_the_limit_is_refused():
    data = sealed(bytes(100))
    for opens in (
        lambda: sealing.open_sealed(data, SECRET, CONTEXT, limit=99),
        lambda: sealing.open_stream(io.BytesIO(data), io.BytesIO(), SECRET, CONTEXT, limit=99),
    ):
        with pytest.raises(errors.Untrusted, match="limit 99"):
            opens()


class Dribble(io.RawIOBase):
    """A source that gives at most 1,000 bytes a read, as a socket may."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def readinto(self, room) -> int:
        return self.inner.readinto(memoryview(room)[:1000])


def test_short_reads_do_not_matter():
    plaintext = random.Random(1).randbytes(CHUNK + 99)
    sink = io.BytesIO()
    sealing.seal_stream(Dribble(plaintext), sink, len(plaintext), SECRET, GRANT, CONTEXT, entropy=entropy())
    assert sink.getvalue() == sealed(plaintext)
    back = io.BytesIO()
    sealing.open_stream(Dribble(sink.getvalue()), back, SECRET, CONTEXT, limit=len(plaintext))
    assert back.getvalue() == plaintext


@pytest.mark.parametrize("length", [4, 6])
def test_a_source_of_another_size_is_not_sealed(length):
    with pytest.raises(errors.Misconfigured, match="source"):
        sealing.seal_stream(
            io.BytesIO(b"hello"), io.BytesIO(), length, SECRET, GRANT, CONTEXT, entropy=entropy()
        )


def test_streams_take_constant_memory(tmp_path):
    (tmp_path / "plain").write_bytes(bytes(32 * CHUNK))

    def peak(chunks: int) -> int:
        with (tmp_path / "plain").open("rb") as source, (tmp_path / "sealed").open("wb") as sink:
            source.seek(-chunks * CHUNK, io.SEEK_END)
            tracemalloc.start()
            sealing.seal_stream(source, sink, chunks * CHUNK, SECRET, GRANT, CONTEXT, entropy=entropy())
        with (tmp_path / "sealed").open("rb") as source, (tmp_path / "opened").open("wb") as sink:
            sealing.open_stream(source, sink, SECRET, CONTEXT, limit=chunks * CHUNK)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(32) < peak(2) + CHUNK
