"""`hansa sandbox` as a process: joined by others, killed, started again, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import anvil, ticker

from hansa import errors
from hansa.crypto import signatures
from hansa.ledger.rpc import Endpoint, hexed, number
from hansa.ledger.sender import Receipt, Sender
from hansa.ledger.transactions import Call
from hansa.sandbox import CHAIN_ID

pytestmark = pytest.mark.slow

SIGNER = signatures.account(bytes(range(1, 33)))
HANSA = (sys.executable, "-c", "from hansa.cli.main import main; main()")


@contextmanager
def sandbox(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A sandbox that has said where it is."""
    words = [*HANSA, "sandbox", "--home", str(home), "--json", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            lines = []
            while not lines or lines[-1] != "}\n":
                lines.append(process.stdout.readline())
                assert lines[-1], process.communicate()
            yield process, json.loads("".join(lines))
        finally:
            process.kill()


def ticked(url: str, value: int, contract: bytes | None = None) -> bytes:
    """Tick the contract, after it was deployed."""
    sender = Sender(Endpoint(url, CHAIN_ID, attempts=8), SIGNER, CHAIN_ID)
    if contract is None:
        made = sender.send([Call(None, ticker.bytecode())])[0]
        assert isinstance(made, Receipt)
        assert made.contract
        contract = made.contract
    assert isinstance(sender.send([Call(contract, ticker.data("tick", value))])[0], Receipt)
    return contract


def value(url: str, contract: bytes) -> int:
    call = {"to": hexed(contract), "data": hexed(ticker.data("value"))}
    return int(Endpoint(url, CHAIN_ID, attempts=8).request("eth_call", (call, "latest")), 16)


def test_it_goes_on_after_kill_and_after_term(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with sandbox(home, "--port", "0") as (process, said):
        contract = ticked(said["rpc"], 7)
        process.send_signal(signal.SIGKILL)
        process.wait()
    port = said["rpc"].rsplit(":", 1)[1]
    with sandbox(home, "--port", port) as (process, again):
        assert (
            (again["rpc"], again["store"])
            == (said["rpc"], said["store"])
            == (said["rpc"], str(home / "store"))
        )
        assert value(said["rpc"], contract) == 7
        ticked(said["rpc"], 8, contract)
        process.send_signal(signal.SIGTERM)
        assert "start it again to go on" in process.communicate(timeout=60)[1]
        assert process.returncode == 0
    with sandbox(home, "--port", "0") as (_, said):
        assert value(said["rpc"], contract) == 8


def test_time_passes_without_anybody_sending(tmp_path: Path) -> None:
    with sandbox(tmp_path / "home", "--port", "0", "--block-time", "1") as (_, said):
        rpc = Endpoint(said["rpc"], CHAIN_ID)
        while number(rpc.request("eth_blockNumber")) < 2:
            time.sleep(0.1)
        first, second = (rpc.request("eth_getBlockByNumber", (height, False)) for height in ("0x0", "0x2"))
        assert number(second["timestamp"]) > number(first["timestamp"]) > 1_700_000_000


def test_a_port_or_a_folder_in_use_is_one_paragraph(tmp_path: Path) -> None:
    with sandbox(tmp_path / "home", "--port", "0") as (_, said):
        port = said["rpc"].rsplit(":", 1)[1]
        for home, reason in (
            ("other", f"port {port} of this machine is in use"),
            ("home", "another sandbox runs"),
        ):
            words = [*HANSA, "sandbox", "--home", str(tmp_path / home), "--port", port]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2
            assert reason in done.stderr
            assert len(done.stderr.splitlines()) == 2
            assert not done.stdout


def test_the_doctor_is_content(tmp_path: Path) -> None:
    with sandbox(tmp_path / "home", "--port", "0") as (_, said):
        words = [*HANSA, "doctor", "--json", "--rpc", said["rpc"], "--store", said["store"]]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert [c for c in found["checks"] if c["verdict"] != "ok" and c["of"] != "machine"] == []


def test_anvil_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(anvil.find_anvil()).parent), prepend=os.pathsep)
    home = tmp_path / "home"
    with sandbox(home, "--port", "0", "--anvil", "--block-time", "1") as (process, said):
        contract = ticked(said["rpc"], 7)
        rpc = Endpoint(said["rpc"], CHAIN_ID)
        assert "anvil" in rpc.request("web3_clientVersion")
        second = subprocess.run(
            [*HANSA, "sandbox", "--home", str(home)], capture_output=True, text=True, timeout=60
        )
        assert "another sandbox runs" in second.stderr, "the lock goes over to anvil"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        with pytest.raises(errors.Unavailable):
            Endpoint(said["rpc"], CHAIN_ID, attempts=1).request("eth_chainId")
    with sandbox(home, "--port", "0", "--anvil") as (_, said):
        assert value(said["rpc"], contract) == 7
