"""`hansa keys` on a terminal and without one; passwords only where they may stand."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from eth_account import Account as Wallet

from hansa.cli import main as cli
from hansa.crypto import signatures
from hansa.signers import keystore

PASSWORD = "correct horse"
SECRET = bytes(range(1, 33))


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "create", partial(keystore.create, work=2))


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "member.key"
    keystore.create(path, PASSWORD)
    return path


@pytest.fixture
def wallet_file(tmp_path: Path) -> Path:
    """A keystore of another program, which does not say its X25519 key."""
    path = tmp_path / "wallet.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(Wallet.encrypt(SECRET, PASSWORD, iterations=2)))
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path
) -> tuple[int, str, str]:
    """Exit code and what `hansa keys` with these arguments writes to both streams, without a terminal."""
    monkeypatch.setattr(sys, "argv", ["hansa", "keys", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    written = capsys.readouterr()
    return int(stopped.value.code or 0), written.out, written.err


def on_a_terminal(folder: Path, *words: str | Path, answers: list[str]) -> tuple[int, str]:
    """Exit code and screen of `hansa keys` on a terminal on which somebody types these answers."""
    code = (
        "import sys; from functools import partial; from hansa.signers import keystore;"
        "keystore.create = partial(keystore.create, work=2);"
        "from hansa.cli.main import main; main()"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        # A shell's background job inherits that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-c", code, "keys", *map(str, words)])
    screen, typed = b"", 0
    while True:
        try:
            # A child that asks for nothing more ends the terminal.
            chunk = os.read(terminal, 4096) if select.select([terminal], [], [], 120)[0] else b""
        except OSError:
            chunk = b""
        if not chunk:
            break
        screen += chunk
        if screen.count(b": ") > typed < len(answers) and screen.endswith(b": "):
            os.write(terminal, answers[typed].encode() + b"\n")
            typed += 1
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), screen.decode()


def test_a_new_key_is_made_and_shown(monkeypatch, capsys, tmp_path, password_file):
    out = tmp_path / "member.key"
    code, text, err = run(monkeypatch, capsys, "new", "--out", out, "--password-file", password_file)
    public = keystore.load(out, PASSWORD).public
    assert (code, err) == (0, "")
    assert "0x" + public.address.hex() in text
    assert "0x" + public.sealing.hex() in text
    assert "nobody can restore" in text
    assert PASSWORD not in text


def test_a_program_gets_json(monkeypatch, capsys, tmp_path, password_file):
    out = tmp_path / "member.key"
    _, text, _ = run(monkeypatch, capsys, "new", "--out", out, "--password-file", password_file, "--json")
    public = keystore.load(out, PASSWORD).public
    expected = {
        "file": str(out),
        "address": "0x" + public.address.hex(),
        "x25519": "0x" + public.sealing.hex(),
    }
    assert json.loads(text) == expected
    assert json.loads(run(monkeypatch, capsys, "show", out, "--json")[1]) == expected


def test_our_file_is_shown_without_its_password(monkeypatch, capsys, key_file):
    public = keystore.load(key_file, PASSWORD).public
    code, text, _ = run(monkeypatch, capsys, "show", key_file)
    assert code == 0
    assert "0x" + public.address.hex() in text
    assert "0x" + public.sealing.hex() in text


def test_a_password_checks_what_the_file_says(monkeypatch, capsys, key_file, password_file):
    document = json.loads(key_file.read_text())
    document["address"] = "00" * 20
    key_file.write_text(json.dumps(document))
    assert run(monkeypatch, capsys, "show", key_file)[0] == 0
    code, text, err = run(monkeypatch, capsys, "show", key_file, "--password-file", password_file)
    assert (code, text) == (2, "")
    assert "is damaged" in err


def test_a_wallets_file_needs_its_password(monkeypatch, capsys, wallet_file, password_file):
    code, _, err = run(monkeypatch, capsys, "show", wallet_file)
    assert code == 2
    assert "no terminal" in err
    assert "--password-file" in err
    code, text, _ = run(monkeypatch, capsys, "show", wallet_file, "--password-file", password_file, "--json")
    assert code == 0
    assert json.loads(text)["address"] == "0x" + signatures.address(SECRET).hex()


@pytest.mark.parametrize("again", [False, True])
def test_errors_are_one_paragraph(monkeypatch, capsys, tmp_path, key_file, password_file, again):
    if again:
        words = ("new", "--out", key_file, "--password-file", password_file)
        expected = "never overwritten"
    else:
        words = ("show", tmp_path / "nowhere")
        expected = "cannot read"
    before = key_file.read_bytes()
    code, text, err = run(monkeypatch, capsys, *words)
    assert (code, text) == (2, "")
    assert expected in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 2
    assert key_file.read_bytes() == before


def test_a_wrong_password(monkeypatch, capsys, key_file, password_file):
    password_file.write_text("wrong horse\n")
    code, _, err = run(monkeypatch, capsys, "show", key_file, "--password-file", password_file)
    assert code == 2
    assert "does not open" in err
    assert "wrong horse" not in err


def test_without_a_terminal_nothing_is_read_as_a_password(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "new", "--out", tmp_path / "k")
    assert code == 2
    assert "no terminal" in err
    assert not (tmp_path / "k").exists()


def test_no_password_on_the_command_line(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "new", "--out", tmp_path / "k", "--password", PASSWORD)
    assert code == 2
    assert "No such option" in err


def test_a_password_is_asked_for_twice_and_not_shown(tmp_path):
    code, screen = on_a_terminal(
        tmp_path, "new", "--out", "k", answers=[PASSWORD, "another", PASSWORD, PASSWORD]
    )
    assert code == 0, screen
    assert "do not match" in screen
    assert PASSWORD not in screen
    assert "0x" + keystore.load(tmp_path / "k", PASSWORD).public.address.hex() in screen


def test_a_password_is_asked_for_once_to_open(tmp_path, wallet_file):
    code, screen = on_a_terminal(tmp_path, "show", wallet_file.name, answers=[PASSWORD])
    assert code == 0, screen
    assert PASSWORD not in screen
    assert "0x" + signatures.address(SECRET).hex() in screen


def test_ctrl_c_at_the_question(tmp_path):
    code, _ = on_a_terminal(tmp_path, "new", "--out", "k", answers=["\x03"])
    assert code == 130
    assert not (tmp_path / "k").exists()
