"""`member.toml`: what is read, what is refused, and that the commands take their options from it."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from tests.authority import Authority

from hansa import errors
from hansa.cli import main as cli
from hansa.memberfile import MemberFile, load_member
from hansa.signers import keystore
from hansa.web import Proxy

NAME = "eip155:7:0x" + "11" * 20
GOOD = f"""
federation = "{NAME}"
rpc = ["http://127.0.0.1:1/secret-key", "https://two.example"]
key = "keys/member.key"
password_file = "/etc/hansa/password"
data = "~/rows.npz"
look = 2
confirmations = 3
relay = false
health = 0
proxy = "http://me:secret@proxy.example:3128"
[store]
url = "shared"
options = {{ region = "eu", client_options = {{ timeout = "5s" }} }}
[signer]
url = "https://signer.example:9000"
address = "0x{"ab" * 20}"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "member.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_and_paths_begin_at_it(tmp_path: Path) -> None:
    file = load_member(written(tmp_path, GOOD))
    assert file.options() == {
        "name": NAME,
        "rpc": ["http://127.0.0.1:1/secret-key", "https://two.example"],
        "store": str(tmp_path / "shared"),
        "key": tmp_path / "keys" / "member.key",
        "password_file": Path("/etc/hansa/password"),
        "data": Path("~/rows.npz").expanduser(),
        "look": 2.0,
        "relay": False,
        "health": 0,
    }
    assert file.store is not None
    assert file.store.options == {"region": "eu", "client_options": {"timeout": "5s"}}
    remote = file.store_options("s3://bucket")
    assert remote["proxy_url"] == "http://me:secret@proxy.example:3128"
    assert remote["region"] == "eu"
    assert file.confirmations == 3
    assert file.route().proxy == Proxy("proxy.example", 3128, "me:secret")
    assert file.route().tls is None


def test_short_forms_and_an_empty_file(tmp_path: Path) -> None:
    file = load_member(written(tmp_path, 'rpc = "http://node"\nstore = "s3://bucket/path"'))
    assert file.options() == {"rpc": ["http://node"], "store": "s3://bucket/path"}
    assert load_member(written(tmp_path, "")) == MemberFile()
    assert MemberFile().options() == {}


def test_authorities_and_certificates_are_found_from_the_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.sign("member")
    signer = f'[signer]\nurl = "https://s"\naddress = "0x{"ab" * 20}"\ncertificate = "{certificate.name}"'
    file = load_member(written(tmp_path, f'ca = "authority.pem"\n{signer}'))
    tls = file.route().tls
    assert tls is not None
    assert len(tls.get_ca_certs()) == 1
    own = file.signer_route().tls
    assert own is not None
    assert len(own.get_ca_certs()) == 1
    bucket = file.store_options("s3://bucket")
    assert bucket == {"root_certificate": authority.file.read_text()}
    assert file.store_options(str(tmp_path)) == {}
    file = load_member(written(tmp_path, 'ca = "nothing.pem"'))
    with pytest.raises(errors.Misconfigured, match="holds no certificates"):
        file.route()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rcp = 'http://node'", 'rcp: unknown key; did you mean "rpc"?'),
        ("rpc = []", "rpc: must be an address, or a list of them"),
        ("rpc = [5]", "rpc.0: "),
        ("look = 0", "look: "),
        ("confirmations = '3'", "confirmations: "),
        ("health = 65536", "health: "),
        ("key = 5", "key: must be a path"),
        ("[store]\nurl = 's3://b'\nsecret = 'hunter2'", "[store] secret: unknown key"),
        ("[signer]\nurl = 'https://s'", "[signer] address is missing"),
        ("[signer]\nurl = 'https://s'\naddress = 'hunter2'", "[signer] address: "),
        ("proxy = ['hunter2']", "proxy: "),
        ("[sotre]\nurl = 'x'", '[sotre]: unknown section; did you mean "store"?'),
        ("rpc = 'hunter2", "is not TOML"),
    ],
)
def test_a_mistake_is_named_and_no_value_is_shown(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured) as caught:
        load_member(written(tmp_path, text))
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


def test_what_is_no_file_of_a_member(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="cannot read"):
        load_member(tmp_path / "member.toml")
    with pytest.raises(errors.Misconfigured, match="holds the terms of a federation"):
        load_member(written(tmp_path, "[federation]\nname = 'x'\n[training]\nrounds = 3"))


def test_the_template_says_every_key_there_is() -> None:
    text = resources.files("hansa").joinpath("templates", "shared", "member.toml").read_text()
    assert set(tomllib.loads(text)) == {"store"}
    found = tomllib.loads(re.sub(r"^# (?=\w+ = |\[)", "", text, flags=re.MULTILINE))
    assert set(found) == set(MemberFile.model_fields)
    for section in ("store", "signer", "enclave"):
        (table,) = (t for t in MemberFile.model_fields[section].annotation.__args__ if t is not type(None))
        assert set(found[section]) == set(table.model_fields)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["hansa", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0), " ".join(capsys.readouterr().err.split())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    keystore.create(tmp_path / "member.key", "correct horse", work=2**10)
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "password").chmod(0o600)
    lines = f'federation = "{NAME}"\nrpc = "http://127.0.0.1:1"\nstore = "shared"'
    return written(tmp_path, f'{lines}\nkey = "member.key"\npassword_file = "password"')


def test_a_command_needs_nothing_but_the_file(config: Path, monkeypatch, capsys) -> None:
    code, said = run(monkeypatch, capsys, "start", "--config", str(config))
    assert (code, "cannot reach the node at 127.0.0.1:1:" in said) == (3, True), said
    monkeypatch.setenv("HANSA_CONFIG", str(config))
    code, said = run(monkeypatch, capsys, "start", "--rpc", "http://127.0.0.1:2")
    assert (code, "cannot reach the node at 127.0.0.1:2:" in said) == (3, True), said


def test_a_file_of_another_federation_is_refused(config: Path, monkeypatch, capsys) -> None:
    other = NAME.replace("11", "22")
    code, said = run(monkeypatch, capsys, "start", other, "--config", str(config))
    assert code == 2
    assert f"your member.toml is for {NAME}, and you named {other}" in said


def test_a_wrong_password(config: Path, monkeypatch, capsys) -> None:
    (config.parent / "password").write_text("hunter2\n")
    code, said = run(monkeypatch, capsys, "start", "--config", str(config))
    assert code == 2
    assert "the password does not open" in said
    assert "hunter2" not in said


def test_several_nodes_of_which_none_answers(config: Path, monkeypatch, capsys) -> None:
    more = ["--rpc", "http://127.0.0.1:1", "--rpc", "http://127.0.0.1:2"]
    code, said = run(monkeypatch, capsys, "start", "--config", str(config), *more)
    assert code == 3
    assert "none of the 2 nodes of the chain answers" in said
