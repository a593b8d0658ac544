"""Executables: the same bytes for the same script everywhere, kept by a hash of all that they depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.mpc.data import training

from hansa.mpc import Dense, ReLU, lowering

CODE = """
import hashlib
from hansa.mpc import Dense, ReLU, lowering
from tests.mpc.data import training
program = lowering.lower(training([Dense(4), ReLU(), Dense(10)]), (70,))
print(hashlib.sha256(b"".join(program.executables[k] for k in sorted(program.executables))).hexdigest())
"""


def test_two_processes_compile_the_same_bytes() -> None:
    """Parties and owners each compile for themselves, and the digest of the program is compared."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=120,
            env={"PYTHONPATH": "src:.", "PYTHONHASHSEED": seed, "PATH": ""},
        )
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout != ""


def test_what_was_compiled_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = training([Dense(4), ReLU(), Dense(10)])
    first = lowering.lower(declared, (70,), cache=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(first.executables)
    compiled: list[str] = []
    compile_graph = lowering.compile_graph

    def counted(name: str, graph: object) -> bytes:
        compiled.append(name)
        return compile_graph(name, graph)  # type: ignore[arg-type]

    monkeypatch.setattr(lowering, "compile_graph", counted)
    assert lowering.lower(declared, (70,), cache=tmp_path).executables == first.executables
    assert compiled == []
    damaged = files[0].read_bytes()
    files[0].write_bytes(damaged[:40] + bytes([damaged[40] ^ 1]) + damaged[41:])
    assert lowering.lower(declared, (70,), cache=tmp_path).executables == first.executables
    assert len(compiled) == 1
    lowering.lower(declared, (71,), cache=tmp_path)
    assert len(compiled) == 1 + len(first.executables)
