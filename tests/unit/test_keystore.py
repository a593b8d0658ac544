"""Key files: read and written as wallets do, opened only by their password, refused when they are bad."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account as Wallet
from eth_hash.auto import keccak

from hansa import errors
from hansa.crypto import sealing, signatures
from hansa.node.onion import Onion
from hansa.ports import Signer
from hansa.signers import keystore

PASSWORD = "Grüße, 32 Bücher"
WORK = 2
SECRET = bytes(range(1, 33))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "member.key"
    keystore.create(path, PASSWORD, work=WORK)
    return path


def written(path: Path, document: Any) -> Path:
    """A key file of this content, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return path


def wallet_file(path: Path, kdf: str = "scrypt") -> Path:
    """A key file as eth-account writes it."""
    return written(path, Wallet.encrypt(SECRET, PASSWORD, kdf=kdf, iterations=WORK))


def refused(path: Path, password: str = PASSWORD) -> str:
    """The message and hint of the error when a file is opened; it shows no secret."""
    with pytest.raises(errors.Misconfigured) as caught:
        keystore.load(path, password)
    assert caught.value.hint
    text = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in text
    assert SECRET.hex() not in text
    return f"{caught.value} {caught.value.hint}"


def test_what_was_created_opens_with_its_password(file):
    key = keystore.load(file, PASSWORD)
    assert keystore.read_public(file) == key.public
    assert key.public.sealing == sealing.public_key(key.sealing_key)
    signer: Signer = key.signer
    signature = signer.sign(b"data")
    assert signatures.recover(keccak(b"data"), signature) == signer.address == key.public.address
    assert keystore.load(file, PASSWORD) == key


def test_two_keys_differ(tmp_path):
    made = [keystore.create(tmp_path / name, PASSWORD, work=WORK) for name in "ab"]
    assert made[0].address != made[1].address
    assert made[0].sealing != made[1].sealing


def test_wallets_read_our_files(file):
    secret = bytes(Wallet.decrypt(file.read_text(), PASSWORD))
    assert signatures.address(secret) == keystore.load(file, PASSWORD).public.address


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_we_read_files_of_wallets(tmp_path, kdf):
    path = wallet_file(tmp_path / "wallet.json", kdf)
    key = keystore.load(path, PASSWORD)
    assert key.signer == signatures.account(SECRET)
    assert key == keystore.member_key(SECRET)
    assert keystore.read_public(path) is None, "a wallet's file does not say the X25519 key"


def test_the_usual_cost_is_that_of_geth():
    """Below it, a stolen file is cheaper to guess at than a wallet's."""
    import inspect

    assert inspect.signature(keystore.create).parameters["work"].default == 262_144


def test_derived_keys_stay_what_they_are():
    """Another derivation would lock members out of what was sealed to them."""
    key = keystore.member_key(SECRET)
    assert key.sealing_key.hex() == "a45eaacdee3a4455559d681b2da25f9013b71ec8a1e307c51f2371532db91b25"
    assert (
        keystore.onion_seed(key, b"f" * 32, 3).hex()
        == "05407bdc746e2288afb376231a3d7548bba6fef0620a7e7f4100c80ee920ceab"
    )


def test_no_two_federations_or_joinings_share_an_onion():
    """A layer that one of them reveals gives away all later layers of the other."""
    key, other = keystore.member_key(SECRET), keystore.member_key(SECRET[::-1])
    made = [(k, f * 32, n) for k in (key, other) for f in (b"a", b"b") for n in (0, 1, 256)]
    heads = {Onion(keystore.onion_seed(*of), 4).head for of in made}
    assert len(heads) == len(made)


def test_no_representation_shows_a_secret(file):
    key = keystore.load(file, PASSWORD)
    secret = bytes(Wallet.decrypt(file.read_text(), PASSWORD))
    for hidden in (secret, key.sealing_key, key.onion_root):
        for shown in (repr(key), str(key), f"{key.public}"):
            assert hidden.hex() not in shown
            assert repr(hidden)[2:-1] not in shown


def test_a_key_file_holds_no_secret_in_the_clear(file):
    key = keystore.load(file, PASSWORD)
    secret = bytes(Wallet.decrypt(file.read_text(), PASSWORD))
    content = file.read_bytes().lower()
    for hidden in (secret, key.sealing_key, key.onion_root):
        assert hidden.hex().encode() not in content
        assert hidden not in content


def test_only_its_owner_may_read_a_new_file(tmp_path):
    before = os.umask(0)
    try:
        keystore.create(tmp_path / "k", PASSWORD, work=WORK)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_file_that_others_may_use_is_refused(file, mode):
    file.chmod(mode)
    assert f"chmod 600 {file}" in refused(file)
    with pytest.raises(errors.Misconfigured, match="others on this machine"):
        keystore.read_public(file)
    file.chmod(0o400)
    keystore.load(file, PASSWORD)


@pytest.mark.parametrize("link", [False, True])
def test_a_key_is_never_overwritten(file, link):
    before = file.read_bytes()
    target = file
    if link:
        target = file.with_name("link")
        target.symlink_to(file.with_name("nowhere"))
    with pytest.raises(errors.Misconfigured, match="never overwritten"):
        keystore.create(target, PASSWORD, work=WORK)
    assert file.read_bytes() == before
    assert not file.with_name("nowhere").exists()


def test_a_disk_that_is_full_leaves_no_broken_file(tmp_path, monkeypatch):
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.Misconfigured, match="No space left"):
        keystore.create(tmp_path / "k", PASSWORD, work=WORK)
    assert list(tmp_path.iterdir()) == []


def test_places_where_no_file_can_be(tmp_path):
    with pytest.raises(errors.Misconfigured, match="cannot write .*No such file"):
        keystore.create(tmp_path / "nowhere" / "k", PASSWORD, work=WORK)
    assert "cannot read" in refused(tmp_path / "nowhere")
    assert "cannot read" in refused(tmp_path)


@pytest.mark.parametrize("password", ["", PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper()])
def test_a_wrong_password_opens_nothing(file, password):
    assert "password" in refused(file, password)


@pytest.mark.parametrize(("password", "message"), [("", "is empty"), ("\udcff", "UTF-8")])
def test_a_new_key_needs_a_password(tmp_path, file, password, message):
    with pytest.raises(errors.Misconfigured, match=message):
        keystore.create(tmp_path / "k", password, work=WORK)
    assert message in refused(file, password)
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("crypto", "ciphertext"), "the file is damaged: restore your backup"),
        (("crypto", "mac"), "the file is damaged: restore your backup"),
        (("crypto", "kdfparams", "salt"), "the file is damaged: restore your backup"),
        (("crypto", "cipherparams", "iv"), "its key is not the one that it names"),
        (("address",), "its key is not the one that it names"),
        (("hansa", "x25519"), "its key is not the one that it names"),
    ],
)
def test_a_flipped_digit_is_noticed(file, where, message):
    """The MAC of version 3 leaves out the IV: only the address tells that the key came out wrong."""
    document = inner = json.loads(file.read_text())
    *path, last = where
    for name in path:
        inner = inner[name]
    inner[last] = f"{int(inner[last][0], 16) ^ 1:x}" + inner[last][1:]
    assert message in refused(written(file, document))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"7", b'"key"', b"null", b"{}", b"[" * 50_000, b" " * 65_536 + b"{}"],
)
def test_what_is_no_keystore(tmp_path, content):
    message = refused(written(tmp_path / "k", content))
    assert "no usable Ethereum keystore" in message or "longer than" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": 4}, "version"),
        ({"version": "3"}, "version"),
        ({"version": True}, "version"),
        ({"crypto": None}, "crypto"),
        ({"address": 5}, "address"),
        ({"address": "00" * 19}, "address"),
        ({"hansa": {"version": 2}}, "hansa.version"),
        ({"hansa": {"version": 1, "x25519": "zz" * 32}}, "hansa.x25519"),
        ({"crypto.cipher": "aes-128-cbc"}, "cipher"),
        ({"crypto.kdf": "argon2"}, "kdf"),
        ({"crypto.kdf": "pbkdf2"}, "kdfparams"),
        ({"crypto.mac": "00"}, "mac"),
        ({"crypto.ciphertext": "00" * 33}, "ciphertext"),
        ({"crypto.cipherparams": {"iv": "00"}}, "iv"),
        ({"crypto.kdfparams.dklen": 2**31}, "dklen"),
        ({"crypto.kdfparams.dklen": 16}, "dklen"),
        ({"crypto.kdfparams.salt": ""}, "salt"),
        ({"crypto.kdfparams.n": 3}, "scrypt"),
        ({"crypto.kdfparams.n": 0}, "n:"),
        ({"crypto.kdfparams.n": 2.0}, "n:"),
        ({"crypto.kdfparams.r": -8}, "r:"),
        ({"crypto.kdfparams.p": None}, "p:"),
    ],
)
def test_what_is_wrong_in_a_keystore_is_named(file, change, named):
    document = json.loads(file.read_text())
    for where, value in change.items():
        inner = document
        *path, last = where.split(".")
        for name in path:
            inner = inner[name]
        inner[last] = value
    message = refused(written(file, document))
    assert "no usable Ethereum keystore of version 3" in message
    assert named in message


@pytest.mark.parametrize(
    "asked",
    [
        {"n": 2**21, "r": 8, "p": 1},
        {"n": 2, "r": 2**23, "p": 1},
        {"n": 2**18, "r": 8, "p": 9},
        {"n": 2**200, "r": 1, "p": 1},
        {"c": 10_000_001, "prf": "hmac-sha256"},
    ],
)
def test_a_file_cannot_ask_for_absurd_work(file, asked, monkeypatch):
    def never(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("the key derivation was started")

    monkeypatch.setattr(keystore, "decode_keyfile_json", never)
    document = json.loads(file.read_text())
    document["crypto"]["kdf"] = "pbkdf2" if "c" in asked else "scrypt"
    document["crypto"]["kdfparams"] = {**asked, "dklen": 32, "salt": "00" * 16}
    assert "more time or memory" in refused(written(file, document))


def test_usual_parameters_are_not_absurd():
    salt = "00" * 16
    for n, r, p in [(2**18, 8, 1), (2**12, 8, 6), (2**17, 8, 1), (2**13, 8, 1)]:
        assert not keystore._too_costly(keystore._Scrypt(dklen=32, salt=salt, n=n, r=r, p=p))
    for c in (262_144, 1_000_000):
        assert not keystore._too_costly(keystore._Pbkdf2(dklen=32, salt=salt, c=c, prf="hmac-sha256"))


def test_only_what_was_checked_is_obeyed(file):
    """The library lower-cases names: a second "CRYPTO" would take the place of the one that was checked."""
    document = json.loads(file.read_text())
    foreign = json.loads(file.read_text())["crypto"]
    foreign["kdfparams"]["n"] = 2**40
    key = keystore.load(written(file, {**document, "CRYPTO": foreign}), PASSWORD)
    assert key.public.address.hex() == document["address"].lower()


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_a_ciphertext_that_holds_no_key(tmp_path, secret, monkeypatch):
    path = wallet_file(tmp_path / "k")
    monkeypatch.setattr(keystore, "decode_keyfile_json", lambda *_: secret)
    assert "damaged" in refused(path)


def test_passwords_come_from_the_only_line_of_a_file(tmp_path):
    for content in (PASSWORD, PASSWORD + "\n", PASSWORD + "\r\n"):
        assert keystore.read_password(written(tmp_path / "pw", content.encode())) == PASSWORD
    assert keystore.read_password(written(tmp_path / "pw", b" a b \n")) == " a b "


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff\xfe", b"x" * 1025])
def test_what_is_no_password_file(tmp_path, content):
    with pytest.raises(errors.Misconfigured) as caught:
        keystore.read_password(written(tmp_path / "pw", content))
    assert caught.value.hint


def test_a_password_file_that_others_may_read_is_refused(tmp_path):
    written(tmp_path / "pw", b"p").chmod(0o644)
    with pytest.raises(errors.Misconfigured) as caught:
        keystore.read_password(tmp_path / "pw")
    assert "chmod 600" in caught.value.hint


def test_the_library_may_not_raise_the_recursion_limit():
    """Deeply nested JSON of a hostile RPC would then end a node by a fault of its stack."""
    code = "import sys; n = sys.getrecursionlimit(); import hansa.signers.keystore; print(sys.getrecursionlimit() - n)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "0\n"


def test_public_keys_are_public(file):
    assert asdict(keystore.read_public(file)) == asdict(keystore.load(file, PASSWORD).public)
