"""Sealing of blobs to the readers of a roster, so that a store's operator sees nothing.

A sender makes one *grant* a roster version: a random epoch secret, wrapped by HPKE (RFC 9180, base mode,
X25519, HKDF-SHA256, AES-256-GCM) to every reader. A sealed blob names its grant and carries a salt; its key
is HKDF-SHA256(epoch secret, salt, context). So the cost of a blob does not depend on the number of readers.

A blob is a header and chunks of 256 KiB, each under AES-256-GCM with the nonce `prefix | counter | last`: the
STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar: "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015). Chunks cannot be swapped, dropped or appended. Header and context are
authenticated with every chunk.

AES-GCM does not commit to its key: a hostile sender could craft a blob that two readers open to two
different updates. A grant therefore carries a hash of the epoch secret, and a reader refuses a wrap of any
other secret. The ephemeral keys of a grant come from the secret itself: whoever opens its own wrap can tell
whether the wraps of others are right, so that no sender shares with some readers only and stays unnoticed.

Why the sending half of HPKE is spelled out here: the library's `Suite.encrypt` draws its ephemeral key
itself, but a simulation must give the same bytes from the same seed. The tests hold this code against the
vectors of RFC 9180, appendix A.1; what it sends is opened by the library.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from hansa import encoding, errors

Entropy = Callable[[int], bytes]
"""Gives as many random bytes as asked for."""


class Source(Protocol):
    """What can be read from, as a file opened in binary mode."""

    def readinto(self, room: memoryview, /) -> int | None:
        """Fill `room` or a part of it from its start; gives the number of bytes, none at the end."""


KEY_BYTES = 32
SECRET_BYTES = 32
CHUNK_BYTES = 256 * 1024
TAG_BYTES = 16
HEADER_BYTES = 76
WRAP_BYTES = KEY_BYTES + SECRET_BYTES + TAG_BYTES
GRANT_LIMIT = 256 * 1024
"""Room for the wraps of `records.MAX_MEMBERS` readers."""

_MAGIC = b"HSB1"
_GRANT_MAGIC = b"HSG1"
_IDS = 38
"""Where a grant's list of readers begins."""

_PREFIX_BYTES = 7
_WRAP_DOMAIN = b"hansa/grant/1"
_COMMIT_DOMAIN = b"hansa/grant-secret/1"
_BLOB_DOMAIN = b"hansa/blob/1"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_KEM_ID = b"KEM\x00\x20"
_SUITE_ID = b"HPKE\x00\x20\x00\x01\x00\x02"


@dataclass(frozen=True, slots=True)
class Grant:
    """A parsed grant: ids of its readers in ascending order, hash of the secret, one wrap a reader in a row."""

    readers: list[int]
    commitment: bytes
    wraps: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What a sealed blob says in the clear: digest of its grant, salt, bytes of plaintext."""

    grant: bytes
    salt: bytes
    length: int


def public_key(private_key: bytes) -> bytes:
    """X25519 public key (32 bytes) of a private key (32 bytes)."""
    return _private_key(private_key).public_key().public_bytes_raw()


@lru_cache(maxsize=2048)
def _private_key(private_key: bytes) -> X25519PrivateKey:
    # Loading a key costs as much as using it.
    return X25519PrivateKey.from_private_bytes(private_key)


def grant_context(federation: bytes, roster: bytes, sender: int) -> bytes:
    """What a grant is bound to: federation, digest of the roster, id of the sender."""
    return encoding.encode([federation, roster, sender])


def make_grant(secret: bytes, readers: Mapping[int, bytes], context: bytes) -> bytes:
    """Wrap an epoch secret of 32 bytes to the public keys of `readers`, by id.

    The ephemeral key of each wrap comes from the secret, so that whoever knows the secret can make the same
    grant again and see whether it serves others too (`serves`). The secret must be random.

    A reader whose key is no usable X25519 point (wrong length, low order) gets no wrap: by registering such a
    key it locked itself out, and it must not be able to keep others from sealing. Raises `Untrusted` when no
    usable key is left.
    """
    wraps = _wraps(secret, readers, context)
    if not wraps:
        raise errors.Untrusted("no reader has a usable public key", hint="Check the keys on the roster.")
    count = len(wraps)
    head = _GRANT_MAGIC + _commitment(secret, context) + count.to_bytes(2, "big")
    return head + struct.pack(f">{count}H", *wraps) + b"".join(wraps.values())


def serves(grant: bytes, secret: bytes, readers: Mapping[int, bytes], context: bytes) -> bool:
    """Whether a grant wraps its secret to each of these readers, the one right way. Raises `Untrusted`."""
    found = read_grant(grant)
    right = _wraps(secret, readers, context)
    return right.keys() <= set(found.readers) and all(_wrap(found, id) == w for id, w in right.items())


def _wraps(secret: bytes, readers: Mapping[int, bytes], context: bytes) -> dict[int, bytes]:
    wraps: dict[int, bytes] = {}
    for reader in sorted(readers):
        info = _wrap_info(context, reader)
        try:
            wraps[reader] = _hpke_seal(secret, readers[reader], info, _derive_private_key(secret + info))
        except ValueError:
            continue
    return wraps


def _wrap(grant: Grant, reader: int) -> bytes:
    start = WRAP_BYTES * grant.readers.index(reader)
    return grant.wraps[start : start + WRAP_BYTES]


def read_grant(data: bytes) -> Grant:
    """Parse a grant: magic, hash of the secret, count and ids of the readers (2 bytes each), their wraps.

    Raises `Untrusted` when its size is wrong, or readers stand in it twice or out of order.
    """
    count = int.from_bytes(data[_IDS - 2 : _IDS], "big")
    end = _IDS + 2 * count
    if data[:4] == _GRANT_MAGIC and count > 0 and len(data) == end + WRAP_BYTES * count <= GRANT_LIMIT:
        ids = list(struct.unpack(f">{count}H", data[_IDS:end]))
        if ids == sorted(set(ids)):
            return Grant(ids, data[4 : _IDS - 2], data[end:])
    raise errors.Untrusted("not a grant: sizes or order are wrong", digest=encoding.digest(data))


def open_grant(data: bytes, reader: int, private_key: bytes, context: bytes) -> bytes:
    """Epoch secret (32 bytes) out of a grant.

    Raises `Untrusted` when the grant is malformed, does not name this reader, was made for another context,
    key or reader, or wraps another secret than the one that the grant commits to.
    """
    grant = read_grant(data)
    if reader not in grant.readers:
        raise errors.Untrusted(f"the grant does not name reader {reader}", digest=encoding.digest(data))
    try:
        secret = _SUITE.decrypt(_wrap(grant, reader), _private_key(private_key), _wrap_info(context, reader))
    except (InvalidTag, ValueError) as e:
        raise errors.Untrusted(
            f"the grant does not open for reader {reader}",
            hint="The sender made it for another key, roster or federation.",
            digest=encoding.digest(data),
        ) from e
    if not hmac.compare_digest(_commitment(secret, context), grant.commitment):
        raise errors.Untrusted("the grant does not wrap what it commits to", digest=encoding.digest(data))
    return secret


def read_header(data: bytes) -> Header:
    """Header of a sealed blob; `data` may be the whole blob or its first `HEADER_BYTES`.

    Raises `Untrusted` when it is too short or no header. What it says is not authenticated yet.
    """
    if len(data) < HEADER_BYTES or data[:4] != _MAGIC:
        raise errors.Untrusted("not a sealed blob", digest=encoding.digest(data))
    return Header(data[4:36], data[36:68], int.from_bytes(data[68:HEADER_BYTES], "big"))


def sealed_size(length: int) -> int:
    """Bytes of a sealed blob of `length` bytes of plaintext."""
    return HEADER_BYTES + length + TAG_BYTES * _chunks(length)


def seal(
    plaintext: bytes | memoryview, secret: bytes, grant: bytes, context: bytes, *, entropy: Entropy
) -> bytes:
    """Seal a blob under the epoch secret of the grant with digest `grant`; see `seal_stream`."""
    source, length = memoryview(plaintext).cast("B"), len(plaintext)
    header, cipher, prefix = _begun(length, secret, grant, context, entropy)
    # What a buffer was made with comes out of it without a copy, once no view of it is left.
    out = BytesIO(bytes(sealed_size(length)))
    with out.getbuffer() as room:
        room[:HEADER_BYTES] = header
        at = HEADER_BYTES
        for nonce, start, size in _pieces(prefix, length):
            chunk = source[start : start + size]
            at += cipher.encrypt_into(nonce, chunk, header + context, room[at : at + size + TAG_BYTES])
    return out.getvalue()


def open_sealed(data: bytes, secret: bytes, context: bytes, *, limit: int) -> bytes:
    """Plaintext of a sealed blob of at most `limit` bytes of plaintext.

    Raises `Untrusted` (with the blob's digest) when the announced length exceeds the limit or does not fit
    the blob, when a byte, the order or the number of chunks is wrong, and when secret or context differ from
    the sender's. Whatever is announced, memory stays within the size of the blob itself.
    """
    try:
        return _opened(data, secret, context, limit)
    except errors.Untrusted as e:
        e.digest = encoding.digest(data)
        raise


def _opened(data: bytes, secret: bytes, context: bytes, limit: int) -> bytes:
    source = memoryview(data)
    header, cipher, prefix = _announced(data[:HEADER_BYTES], secret, context, limit)
    if len(data) != sealed_size(header.length):
        raise errors.Untrusted(f"sealed blob of {len(data)} bytes announces {header.length} of plaintext")
    bound = data[:HEADER_BYTES] + context
    out = BytesIO(bytes(header.length))
    with out.getbuffer() as room:
        at = HEADER_BYTES
        for nonce, start, size in _pieces(prefix, header.length):
            chunk = source[at : at + size + TAG_BYTES]
            at += len(chunk)
            _open_chunk(cipher, nonce, chunk, bound, room[start : start + size])
    return out.getvalue()


def seal_stream(
    source: Source,
    sink: BinaryIO,
    length: int,
    secret: bytes,
    grant: bytes,
    context: bytes,
    *,
    entropy: Entropy,
) -> None:
    """Seal `length` bytes of `source` into `sink` in constant memory.

    `context` names what the blob is (federation, round, sender, kind): it must be the same at the reader.
    Draws 32 bytes of entropy for the salt. Raises `Misconfigured` when the source does not hold exactly
    `length` bytes.
    """
    header, cipher, prefix = _begun(length, secret, grant, context, entropy)
    sink.write(header)
    plain, chunk = _buffers()
    for nonce, _, size in _pieces(prefix, length):
        if not _fill(source, plain[:size]):
            raise errors.Misconfigured(f"the source ended before its {length} bytes were sealed")
        cipher.encrypt_into(nonce, plain[:size], header + context, chunk[: size + TAG_BYTES])
        sink.write(chunk[: size + TAG_BYTES])
    if _fill(source, plain[:1]):
        raise errors.Misconfigured(f"the source holds more than the {length} bytes to be sealed")


def open_stream(source: Source, sink: BinaryIO, secret: bytes, context: bytes, *, limit: int) -> Header:
    """Open a sealed blob from `source` into `sink` in constant memory; gives its header.

    `sink` must be temporary: what lies in it counts only after a normal return, that is after the last tag.
    Raises `Untrusted` as `open_sealed` does, without a digest, since the source is not kept.
    """
    plain, chunk = _buffers()
    raw = bytes(chunk[:HEADER_BYTES]) if _fill(source, chunk[:HEADER_BYTES]) else b""
    header, cipher, prefix = _announced(raw, secret, context, limit)
    for nonce, start, size in _pieces(prefix, header.length):
        if not _fill(source, chunk[: size + TAG_BYTES]):
            raise errors.Untrusted(f"sealed blob ends in chunk {start // CHUNK_BYTES}")
        _open_chunk(cipher, nonce, chunk[: size + TAG_BYTES], raw + context, plain[:size])
        sink.write(plain[:size])
    if _fill(source, chunk[:1]):
        raise errors.Untrusted("bytes follow the last chunk of the sealed blob")
    return header


def _begun(
    length: int, secret: bytes, grant: bytes, context: bytes, entropy: Entropy
) -> tuple[bytes, AESGCM, bytes]:
    """Header, cipher and prefix of nonces of a new blob."""
    header = _MAGIC + grant + entropy(32) + length.to_bytes(8, "big")
    if len(header) != HEADER_BYTES:
        raise errors.Misconfigured("a grant's digest and a salt have 32 bytes each")
    return header, *_blob_cipher(secret, read_header(header), context)


def _announced(raw: bytes, secret: bytes, context: bytes, limit: int) -> tuple[Header, AESGCM, bytes]:
    """Header, cipher and prefix of nonces of a blob that begins with `raw`."""
    header = read_header(raw)
    if header.length > limit:
        raise errors.Untrusted(f"sealed blob announces {header.length} bytes, limit {limit}")
    return header, *_blob_cipher(secret, header, context)


def _pieces(prefix: bytes, length: int) -> Iterator[tuple[bytes, int, int]]:
    """Nonce, start and size of each chunk's plaintext."""
    for counter in range(_chunks(length)):
        start = counter * CHUNK_BYTES
        size = min(length - start, CHUNK_BYTES)
        yield prefix + counter.to_bytes(4, "big") + bytes([start + size == length]), start, size


def _open_chunk(cipher: AESGCM, nonce: bytes, chunk: memoryview, bound: bytes, into: memoryview) -> None:
    try:
        cipher.decrypt_into(nonce, chunk, bound, into)
    except InvalidTag as e:
        number = int.from_bytes(nonce[_PREFIX_BYTES:-1], "big")
        raise errors.Untrusted(
            f"chunk {number} of the sealed blob is not authentic",
            hint="It was altered, or sealed for another round, sender or grant.",
        ) from e


def _buffers() -> tuple[memoryview, memoryview]:
    """Room for a chunk's plaintext and for the chunk, used over and over: fresh memory costs more than AES."""
    return memoryview(bytearray(CHUNK_BYTES)), memoryview(bytearray(CHUNK_BYTES + TAG_BYTES))


def _fill(source: Source, room: memoryview) -> bool:
    """Fill `room`, if the source holds that much; pipes and sockets may give less at a time."""
    at = 0
    while at < len(room):
        got = source.readinto(room[at:])
        if not got:
            return False
        at += got
    return True


def _chunks(length: int) -> int:
    return max(1, -(-length // CHUNK_BYTES))


def _blob_cipher(secret: bytes, header: Header, context: bytes) -> tuple[AESGCM, bytes]:
    if header.length > CHUNK_BYTES * 2**32:
        raise errors.Untrusted("the counter of STREAM has room for 2^32 chunks")
    material = HKDF(SHA256(), 32 + _PREFIX_BYTES, header.salt, _BLOB_DOMAIN + context).derive(secret)
    return AESGCM(material[:32]), material[32:]


def _commitment(secret: bytes, context: bytes) -> bytes:
    return hashlib.sha256(_COMMIT_DOMAIN + secret + context).digest()


def _wrap_info(context: bytes, reader: int) -> bytes:
    return encoding.encode([_WRAP_DOMAIN, context, reader])


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract of RFC 9180, section 4."""
    return HKDF.extract(SHA256(), salt, b"HPKE-v1" + suite + label + ikm)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand of RFC 9180, section 4."""
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(SHA256(), length, labelled).derive(prk)


def _derive_private_key(ikm: bytes) -> X25519PrivateKey:
    """DeriveKeyPair of RFC 9180, section 7.1.3."""
    prk = _extract(_KEM_ID, b"", b"dkp_prk", ikm)
    return X25519PrivateKey.from_private_bytes(_expand(_KEM_ID, prk, b"sk", b"", KEY_BYTES))


def _shared_secret(dh: bytes, encapsulated: bytes, recipient: bytes) -> bytes:
    """ExtractAndExpand of RFC 9180, section 4.1."""
    prk = _extract(_KEM_ID, b"", b"eae_prk", dh)
    return _expand(_KEM_ID, prk, b"shared_secret", encapsulated + recipient, 32)


def _hpke_cipher(shared: bytes, info: bytes) -> tuple[AESGCM, bytes]:
    """KeySchedule of RFC 9180, section 5.1, in base mode: cipher and nonce of the first message."""
    psk_id_hash = _extract(_SUITE_ID, b"", b"psk_id_hash", b"")
    context = b"\x00" + psk_id_hash + _extract(_SUITE_ID, b"", b"info_hash", info)
    prk = _extract(_SUITE_ID, shared, b"secret", b"")
    key = _expand(_SUITE_ID, prk, b"key", context, KEY_BYTES)
    return AESGCM(key), _expand(_SUITE_ID, prk, b"base_nonce", context, 12)


def _hpke_seal(plaintext: bytes, recipient: bytes, info: bytes, ephemeral: X25519PrivateKey) -> bytes:
    """SealBase of RFC 9180, section 6.1, without AAD: `enc | ciphertext`. `ValueError`: unusable key."""
    encapsulated = ephemeral.public_key().public_bytes_raw()
    dh = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    cipher, nonce = _hpke_cipher(_shared_secret(dh, encapsulated, recipient), info)
    return encapsulated + cipher.encrypt(nonce, plaintext, None)
