"""The enclave as a process: how it starts, how it ends, what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.enclaves import Federation

from hansa import encoding, errors
from hansa.node import enclosure
from hansa.node.enclosure import Enclosure, command

ALLOWED = {
    "", "abi", "app", "attestation", "crypto", "crypto.fixedpoint", "crypto.sealing", "crypto.signatures", "enclave",
    "encoding", "errors", "partition", "protocol", "records",
}  # fmt: skip
"""Modules of `hansa`, which itself brings `app` and `partition`; of three packages any."""

ANY = ("attestation.", "enclave.", "protocol.")


@pytest.fixture
def started():
    enclave = Enclosure(command("simulated"), limit=1000, timeout=60)
    yield enclave
    enclave.close()


def test_it_says_that_nothing_protects_a_simulation(started: Enclosure) -> None:
    assert (started.program, started.mode) == ("hansa-enclave/1", "simulated")


@pytest.mark.parametrize("provider", ["gramine", "tdx"])
def test_without_the_processor_it_does_not_start_and_says_so(provider: str) -> None:
    with pytest.raises(errors.Misconfigured, match="no Gramine enclave|no TDX guest") as e:
        Enclosure(command(provider), limit=1000)
    assert "another provider" in e.value.hint


def test_a_command_that_is_not_there_is_the_operators_fault() -> None:
    with pytest.raises(errors.Misconfigured, match="gramine-sgx-nowhere: No such file"):
        Enclosure(["gramine-sgx-nowhere", "hansa"], limit=1000)


@pytest.mark.parametrize(
    "program", ["pass", "print('x' * 100)", "import sys; sys.exit('out of enclave memory')"]
)
def test_a_program_that_is_no_enclave_is_given_up(program: str) -> None:
    with pytest.raises(errors.Unavailable, match="the enclave is gone") as e:
        Enclosure([sys.executable, "-c", program], limit=1000)
    assert ("out of enclave memory" in str(e.value)) == ("memory" in program)


def test_a_program_that_answers_as_none_would_is_refused() -> None:
    program = "from hansa.enclave import messages as m; import os; os.write(1, m.encode(m.Done()))"
    with pytest.raises(errors.Misconfigured, match="no enclave"):
        Enclosure([sys.executable, "-c", program], limit=1000)


def test_a_program_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclosure, "START_TIMEOUT", 0.2)
    monkeypatch.setattr(enclosure, "_END_TIMEOUT", 0.2)
    with pytest.raises(errors.Unavailable, match="said nothing"):
        Enclosure([sys.executable, "-c", "input()"], limit=1000)


def test_an_enclave_that_stops_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclosure, "_END_TIMEOUT", 0.2)
    enclave = Enclosure(command("simulated"), limit=1000, timeout=0.5)
    os.kill(enclave._process.pid, signal.SIGSTOP)
    with pytest.raises(errors.Unavailable, match="said nothing"):
        enclave.finish()
    assert enclave._process.returncode == -signal.SIGKILL
    with pytest.raises(errors.Unavailable):
        enclave.finish()


def test_it_outlives_an_interrupt_and_not_its_host(started: Enclosure) -> None:
    started._process.send_signal(signal.SIGINT)
    made = Federation()
    started.begin(0, made.roster.federation, encoding.encode(made.terms), made.roster)
    started._socket.shutdown(1)
    started._process.wait(30)
    assert started._process.returncode == 0


def test_it_ends_when_its_host_is_killed() -> None:
    program = (
        "from hansa.node.enclosure import *; import os, time\n"
        "e = Enclosure(command('simulated'), limit=1000); print(e._process.pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as host:
        pid = int(host.stdout.readline())
        assert is_alive(pid)
        host.kill()
    deadline = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_trusted_is_small() -> None:
    program = "import hansa.enclave.__main__, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    inside = {n.removeprefix("hansa").removeprefix(".") for n in names if n.split(".")[0] == "hansa"}
    assert {n for n in inside if not n.startswith(ANY)} <= ALLOWED
    assert not names & {
        "torch",
        "dcap_qvl",
        "obstore",
        "pydantic",
        "typer",
        "rich",
        "eth",
        "asyncio",
        "ssl",
        "http",
    }
