"""The manifest for Gramine, as far as it can be checked without it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

from hansa.enclave import __main__ as program

TEMPLATE = Path(__file__).parents[2] / "deploy" / "gramine" / "hansa-enclave.manifest.template"


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    rendered = jinja2.Template(TEMPLATE.read_text(), undefined=jinja2.StrictUndefined).render(
        gramine=SimpleNamespace(libos="/gramine/libsysdb.so", runtimedir=lambda: "/gramine/lib"),
        python=SimpleNamespace(get_sys_path=lambda _: [Path(__file__).parent, Path(__file__)]),
        entrypoint="/usr/bin/python3.11",
        arch_libdir="/lib/x86_64-linux-gnu",
        enclave_size="4G",
        isvsvn=3,
    )
    return tomllib.loads(rendered)


def test_it_starts_the_program(manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = manifest["loader"]["argv"]
    assert arguments[1:5] == ["-I", "-B", "-m", "hansa.enclave"]
    monkeypatch.setattr("sys.argv", arguments[4:])
    # Without the processor it gets as far as to say so.
    assert program.main() == 2


def test_the_host_can_neither_read_it_nor_tell_it_anything(manifest: dict[str, Any]) -> None:
    sgx, loader = manifest["sgx"], manifest["loader"]
    assert sgx["debug"] is False
    assert sgx["remote_attestation"] == "dcap"
    assert sgx["file_check_policy"] == "strict"
    assert "allowed_files" not in sgx
    assert not [key for key in loader if key.startswith("insecure")]
    assert all(isinstance(value, str) for value in loader["env"].values())


def test_everything_that_is_mounted_is_measured(manifest: dict[str, Any]) -> None:
    trusted = {uri.rstrip("/") for uri in manifest["sgx"]["trusted_files"]}
    assert all(set(mount) == {"path", "uri"} for mount in manifest["fs"]["mounts"])
    assert {mount["uri"] for mount in manifest["fs"]["mounts"]} <= trusted
