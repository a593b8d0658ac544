"""A member's key file: one secp256k1 key in an Ethereum keystore, and everything else derived from it.

The file is a Web3 Secret Storage object, version 3
(https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage), which wallets read too.
The X25519 key and the seeds of hash onions are HKDF-SHA256 (RFC 5869) of its 32-byte secret, so that one
backup is a whole backup. Its field "hansa" repeats the X25519 public key in the clear; wallets ignore it.

A file from elsewhere is checked before its password is tried: it says itself how much time and memory that
takes, and the library obeys.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hansa import errors
from hansa.crypto import sealing
from hansa.crypto.signatures import account
from hansa.ports import Signer

_LIMIT = sys.getrecursionlimit()
from eth_keyfile.exceptions import EthKeyfileValueError  # noqa: E402
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json  # noqa: E402

# This import allows 100,000 frames, which the C stack does not hold: a stranger's nested JSON would kill
# the process.
sys.setrecursionlimit(_LIMIT)

SCRYPT_WORK = 2**18
"""Scrypt's n for new files, with r = 8 and p = 1: 256 MiB and about a second, as geth does."""

FILE_LIMIT = 64 * 1024
PASSWORD_LIMIT = 1024
MAX_SCRYPT_BYTES = 2**30
"""Most memory, 128 * n * r, that a file may ask for."""

MAX_SCRYPT_WORK = 2**24
"""Most steps n * r * p; eight times those of geth."""

MAX_PBKDF2_ROUNDS = 10_000_000


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What others may know: the 20-byte address and the X25519 public key of 32 bytes."""

    address: bytes
    sealing: bytes


@dataclass(frozen=True, slots=True)
class MemberKey:
    """An opened key file; another signer may stand in for its own. No representation shows a secret."""

    signer: Signer
    sealing_key: bytes = field(repr=False)
    onion_root: bytes = field(repr=False)

    @property
    def public(self) -> PublicKeys:
        """What others may know of it."""
        return PublicKeys(self.signer.address, sealing.public_key(self.sealing_key))


def member_key(secret: bytes) -> MemberKey:
    """The keys that follow from a secp256k1 key of 32 bytes. Raises `Misconfigured`."""
    signer = account(secret)

    def derive(info: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=info).derive(secret)

    return MemberKey(signer, derive(b"hansa/key/sealing/1"), derive(b"hansa/key/onion/1"))


def onion_seed(key: MemberKey, federation: bytes, nonce: int) -> bytes:
    """Seed of the hash onion that joins a federation (32-byte id) with this nonce.

    A layer gives away all layers above it. So no two federations, and no two joinings, may share an onion:
    one that is ahead would betray the beacons of the other.
    """
    info = b"hansa/onion/1" + federation + nonce.to_bytes(32, "big")
    return HKDFExpand(SHA256(), 32, info).derive(key.onion_root)


def create(path: Path, password: str, *, work: int = SCRYPT_WORK) -> PublicKeys:
    """Draw a new key and write it to a new file, readable by its owner only.

    Raises `Misconfigured` when the file exists or cannot be written: no key is ever overwritten.
    """
    secret = secrets.token_bytes(32)
    public = member_key(secret).public
    document = create_keyfile_json(secret, _password(password), kdf="scrypt", iterations=work)
    document["hansa"] = {"version": 1, "x25519": public.sealing.hex()}
    content = json.dumps(document, indent=2).encode() + b"\n"
    with _io_errors(path, "write"):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
        except OSError:
            path.unlink()
            raise
    return public


def read_public(path: Path) -> PublicKeys | None:
    """What a key file says in the clear; None if another program made it. `load` holds it against the key.

    Raises `Misconfigured` when it is no key file, or others may read it.
    """
    stored = _read(path)
    if stored.address is None or stored.hansa is None:
        return None
    return PublicKeys(_address(stored.address), bytes.fromhex(stored.hansa.x25519))


def load(path: Path, password: str) -> MemberKey:
    """Open a key file.

    Raises `Misconfigured` when the password is wrong, or when the file is damaged, is no keystore, may be
    read by others or is too costly to open.
    """
    stored = _read(path)
    typed = _password(password)
    try:
        # Only what was checked: the library would also take a second "CRYPTO".
        secret = decode_keyfile_json(stored.model_dump(), typed)
    except EthKeyfileValueError:
        secret = None
    except ValueError:
        raise _unusable(path, "scrypt does not take its parameters") from None
    if secret is None:
        raise errors.Misconfigured(
            f"the password does not open {path}",
            hint="Type it again; if it is right, the file is damaged: restore your backup.",
        )
    try:
        key = member_key(secret)
    except errors.Misconfigured:
        raise _damaged(path) from None
    found = key.public
    if stored.address is not None and _address(stored.address) != found.address:
        raise _damaged(path)
    if stored.hansa is not None and bytes.fromhex(stored.hansa.x25519) != found.sealing:
        raise _damaged(path)
    return key


def read_password(path: Path) -> str:
    """The one line of a password file, without its end. Raises `Misconfigured`."""
    content = _content(path, PASSWORD_LIMIT)
    try:
        line = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        line = ""
    if not line or "\n" in line:
        raise errors.Misconfigured(
            f"{path} holds no password", hint="Write the password on its only line, as UTF-8."
        )
    return line


def _password(password: str) -> bytes:
    if not password:
        raise errors.Misconfigured("the password is empty", hint="Choose one; a key without it is no secret.")
    try:
        return password.encode()
    except UnicodeEncodeError:
        raise errors.Misconfigured(
            "the password cannot be written as UTF-8", hint="Check the terminal's encoding."
        ) from None


@contextmanager
def _io_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise errors.Misconfigured(
            f"{path} exists, and a key is never overwritten", hint="Name another file, or move that one away."
        ) from None
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot {what} {path}: {e.strerror}", hint="Check the path and who may use it."
        ) from None


def _content(path: Path, limit: int) -> bytes:
    """Bytes of a file that only its owner may read. Raises `Misconfigured`."""
    with _io_errors(path, "read"), path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(limit + 1)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise errors.Misconfigured(
            f"others on this machine may use {path} (mode {stat.S_IMODE(mode):03o})",
            hint=f"chmod 600 {shlex.quote(str(path))}",
        )
    if len(content) > limit:
        raise errors.Misconfigured(f"{path} is longer than {limit} bytes", hint="Check the path.")
    return content


def _unusable(path: Path, why: str) -> errors.Misconfigured:
    return errors.Misconfigured(
        f"{path} is no usable Ethereum keystore of version 3: {why}",
        hint="Check the path; hansa keys new --out FILE makes a new one.",
    )


def _damaged(path: Path) -> errors.Misconfigured:
    return errors.Misconfigured(
        f"{path} is damaged: its key is not the one that it names", hint="Restore your backup."
    )


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


class _Object(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)


class _Iv(_Object):
    iv: str = Field(pattern=r"^[0-9a-fA-F]{32}$")


class _Derivation(_Object):
    dklen: Literal[32]
    salt: str = Field(pattern=r"^([0-9a-fA-F]{2}){8,64}$")


class _Scrypt(_Derivation):
    n: int = Field(ge=2)
    r: int = Field(ge=1)
    p: int = Field(ge=1)


class _Pbkdf2(_Derivation):
    c: int = Field(ge=1)
    prf: Literal["hmac-sha256"]


class _Cipher(_Object):
    cipher: Literal["aes-128-ctr"]
    cipherparams: _Iv
    ciphertext: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    mac: str = Field(pattern=r"^[0-9a-fA-F]{64}$")


class _ByScrypt(_Cipher):
    kdf: Literal["scrypt"]
    kdfparams: _Scrypt


class _ByPbkdf2(_Cipher):
    kdf: Literal["pbkdf2"]
    kdfparams: _Pbkdf2


class _Hansa(_Object):
    version: Literal[1]
    x25519: str = Field(pattern=r"^[0-9a-fA-F]{64}$")


class _Keystore(_Object):
    version: Literal[3]
    crypto: _ByScrypt | _ByPbkdf2 = Field(discriminator="kdf")
    address: str | None = Field(None, pattern=r"^(0x)?[0-9a-fA-F]{40}$")
    hansa: _Hansa | None = None


def _read(path: Path) -> _Keystore:
    """What was checked of a key file; other fields are left out. Raises `Misconfigured`."""
    content = _content(path, FILE_LIMIT)
    try:
        stored = _Keystore.model_validate_json(content)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unusable(path, f"{where}: {first['msg']}" if where else first["msg"]) from None
    if _too_costly(stored.crypto.kdfparams):
        raise errors.Misconfigured(
            f"{path} asks for more time or memory than any wallet's keystore does",
            hint="Do not trust where it came from; export the key again with the usual parameters.",
        )
    return stored


def _too_costly(asked: _Scrypt | _Pbkdf2) -> bool:
    if isinstance(asked, _Pbkdf2):
        return asked.c > MAX_PBKDF2_ROUNDS
    return 128 * asked.n * asked.r > MAX_SCRYPT_BYTES or asked.n * asked.r * asked.p > MAX_SCRYPT_WORK
