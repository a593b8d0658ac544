"""Every command that has something to say says it to programs too, as one object of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import Command
from tests.shared import Shared, embedded, found, served
from typer.main import get_command

from hansa.app import app_digest
from hansa.cli.main import app

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
WITHOUT = {
    "node": "goes on until it is stopped, and logs meanwhile: --json-logs",
    "kgc": "as node",
    "server": "as node",
    "party": "as node",
}
"""Commands that print no object, and why."""


def walk(command: Any, *path: str) -> Iterator[tuple[str, Command]]:
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from walk(below, *path, name)
    else:
        yield " ".join(path), command


def options(command: Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_every_command_prints_json_or_says_why_not() -> None:
    lacking = {name for name, command in walk(get_command(app)) if "--json" not in options(command)}
    assert lacking == set(WITHOUT)
    found = dict(walk(get_command(app)))
    assert all("--json-logs" in options(found[name]) for name in WITHOUT)


@pytest.fixture
def say(tmp_path: Path, hansa: Any) -> Iterator[Any]:
    """Runs a command of a key's owner with --json on a federation just deployed; gives what it printed."""
    with embedded(tmp_path) as chain:
        made = found(chain, tmp_path, lambda: chain.time, members=5, app=app_digest(DIGITS))
        with served(chain) as url:

            def run(who: str, name: str, *words: Any) -> Any:
                given = ["--rpc", url, "--store", made.store, "--key", made.folder / f"{who}.key"]
                given += ["--password-file", made.password(), "--json"]
                code, out, err = hansa(name, made.name, *words, *given)
                assert code == 0, err
                return json.loads(out)

            run.shared = made  # type: ignore[attr-defined]
            yield run


def test_a_federation_from_invitations_to_a_member_that_leaves(say: Any) -> None:
    shared: Shared = say.shared
    addresses = ["0x" + key.signer.address.hex() for key in shared.keys]
    assert say("owner", "invite", *addresses[:3]) == {"invited": addresses[:3], "before": 0}
    assert say("owner", "invite", *addresses) == {"invited": addresses[3:], "before": 3}
    for id, address in enumerate(addresses):
        joined = say(f"m{id}", "join", "--yes", "--app", DIGITS)
        assert joined == {"federation": "tiny", "role": "member", "id": id, "address": address}
    assert say("m3", "away") == {"member": 3, "standing": "away", "from_round": 1}
    assert say("m3", "back")["standing"] == "back"
    assert say("owner", "start") == {"round": 1, "members": 5}
    proposed = say("m0", "propose", "exclude", "3", "--yes")
    assert (proposed["missing"], proposed["carried"]) == (3, False)
    assert say("m1", "vote", proposed["motion"], "--yes") == {**proposed, "missing": 2}
    assert say("m4", "vote", "--yes")["missing"] == 1
    assert say("m2", "vote", "--yes") == {**proposed, "missing": 0, "carried": True}
    assert say("m2", "leave", "--yes") == {"member": 2, "standing": "left", "from_round": 2}


def test_a_new_federation_is_described_checked_and_deployed(hansa: Any, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*words: Any) -> Any:
        code, out, err = hansa(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    made = said("new", "lab")
    assert made["folder"] == "lab"
    assert {path.name for path in Path("lab").iterdir()} == set(made["files"])
    checked, explained = said("check", "lab"), said("explain", "lab")
    assert (checked["name"], checked["parameters"], checked["scheme"]) == ("lab", 530, "plaintext")
    assert checked["terms"] == explained["terms"]
    assert checked["gas_by_call"]["votes"] > 200_000
    assert "Your update" in {line["about"] for line in explained["page"]}
    (tmp_path / "chain").mkdir()
    with embedded(tmp_path / "chain") as chain, served(chain) as url:
        shared = found(chain, tmp_path / "chain", lambda: chain.time)
        seats = f'[governance]\nseats = ["0x{shared.keys[0].signer.address.hex()}"]'
        terms = Path("lab/federation.toml")
        terms.write_text(terms.read_text().replace("[governance]", seats))
        words = ("--rpc", url, "--store", shared.store, "--key", shared.folder / "owner.key")
        deployed = said("deploy", "lab", *words, "--password-file", shared.password())
    assert deployed["federation"].startswith("eip155:1337:0x")
    assert deployed["owner"] == "0x" + shared.owner.signer.address.hex()


def test_a_model_is_exported_for_pytorch(shared: Shared, hansa: Any, tmp_path: Path) -> None:
    import torch

    file = tmp_path / "model.pt"
    with served(shared.rpc) as url:
        words = ("--rpc", url, "--store", shared.store, "--key", shared.key_file(1))
        words = (*words, "--password-file", shared.password(), "--json")
        code, out, err = hansa("export", shared.name, file, "--format", "state-dict", *words)
        assert code == 0, err
        assert hansa("export", shared.name, tmp_path / "model.safetensors", *words)[0] == 0
    said = json.loads(out)
    assert (said["file"], said["format"], said["finished"]) == (str(file), "state-dict", True)
    from safetensors.numpy import load_file

    read = torch.load(file, weights_only=True)  # noqa: TID251 - what this test had written itself
    arrays = load_file(tmp_path / "model.safetensors")
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[name].numpy(), array) for name, array in arrays.items())
    assert said["parameters"] == sum(array.size for array in arrays.values())


@contextmanager
def without(module: str) -> Iterator[None]:
    kept = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if kept is not None:
            sys.modules[module] = kept


def test_without_pytorch_there_is_no_state_dict(shared: Shared, hansa: Any, tmp_path: Path) -> None:
    with served(shared.rpc) as url, without("torch"):
        words = ("--rpc", url, "--store", shared.store, "--key", shared.key_file(1))
        words = (*words, "--password-file", shared.password(), "--format", "state-dict")
        code, _, err = hansa("export", shared.name, tmp_path / "model.pt", *words)
    assert code == 2
    assert "is not installed" in err
    assert "pip install 'hansa[torch]'" in err
    assert not (tmp_path / "model.pt").exists()


def completion(*words: str, **environment: str) -> str:
    code = "import sys; sys.argv[0] = 'hansa'; from hansa.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | environment | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"), [("ru", {"run"}), ("keys s", {"show"}), ("new x --te", {"--template"})]
)
def test_a_shell_is_told_how_a_word_can_end(typed: str, offered: set[str]) -> None:
    words = f"hansa {typed}"
    count = str(words.count(" "))
    found = completion(_HANSA_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    assert set(found.split()) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_a_script(shell: str) -> None:
    script = completion("--show-completion", shell)
    assert f"_HANSA_COMPLETE=complete_{shell}" in script
    assert "hansa" in script
