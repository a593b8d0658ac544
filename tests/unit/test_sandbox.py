"""A sandbox's folder: one process, one kind of chain, and what killed it before does not matter."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hansa import errors, sandbox
from hansa.ledger.rpc import number


def test_a_chain_begins_once_and_goes_on(tmp_path: Path) -> None:
    with sandbox.home(tmp_path / "new" / "home") as home, sandbox.embedded(home, 1_000) as chain:
        chain.mine([], 1_005)
        first = chain.request("eth_getBlockByNumber", ("0x0", False))
        assert number(first["timestamp"]) == 1_000
    with sandbox.home(tmp_path / "new" / "home") as home, sandbox.embedded(home, 2_000) as chain:
        assert chain.request("eth_getBlockByNumber", ("0x0", False)) == first
        assert (chain.height, chain.genesis.chain_id) == (1, sandbox.CHAIN_ID)
        assert home.store.is_dir()


def test_a_chain_that_was_killed_while_it_began_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "chain.sqlite").touch()
    with sandbox.home(tmp_path) as home, sandbox.embedded(home, 1_000) as chain:
        assert chain.height == 0


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    with (
        sandbox.home(tmp_path),
        pytest.raises(errors.Misconfigured, match="another sandbox runs"),
        sandbox.home(tmp_path),
    ):
        pass
    with sandbox.home(tmp_path):
        pass


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.Misconfigured, match="cannot use"), sandbox.home(tmp_path / "file"):
        pass


def test_one_folder_holds_one_kind_of_chain(tmp_path: Path) -> None:
    with sandbox.home(tmp_path) as home:
        home.state.touch()
        with pytest.raises(errors.Misconfigured, match=r"anvil\.json"):
            sandbox.embedded(home, 1_000)
        home.state.unlink()
        home.chain.touch()
        with pytest.raises(errors.Misconfigured, match=r"chain\.sqlite"):
            sandbox.anvil(home, 1, 1)


def test_anvil_runs_on_loopback_without_fees_and_keeps_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sandbox.home(tmp_path / "home") as home:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(errors.Misconfigured, match="not installed"):
            sandbox.anvil(home, 8545, 5)
        program = tmp_path / "anvil"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        words = sandbox.anvil(home, 8545, 5)
    line = " ".join(words)
    assert words[0] == str(program)
    for option in ("--host 127.0.0.1", "--port 8545", "--gas-price 0", "--block-base-fee-per-gas 0",
                   f"--state {tmp_path}/home/anvil.json", "--block-time 5", "--mixed-mining"):  # fmt: skip
        assert option in line


def test_ports() -> None:
    free = sandbox.free_port(0)
    assert sandbox.free_port(free) == free
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(errors.Misconfigured, match="in use") as caught:
            sandbox.free_port(taken.getsockname()[1])
        assert "--port" in caught.value.hint
