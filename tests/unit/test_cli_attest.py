"""`hansa attest`: what it prints of genuine and simulated quotes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.quoted import ENCLAVE, NOW, VECTORS, simulated

from hansa.attestation import simulated_pki

POLICY = VECTORS / "policy.toml"


def quote_and_collateral(name: str) -> tuple[str, ...]:
    return str(VECTORS / name), "--collateral", str(VECTORS / f"{name}_collateral.json")


@pytest.mark.parametrize(
    ("name", "at"),
    [("sgx_quote", "1752919277"), ("tdx_quote", "2025-07-19T10:00:34Z"), ("tdx_quote", "2025-07-19T10:00")],
)
def test_genuine_quotes_verify_at_their_times(hansa: Any, name: str, at: str) -> None:
    words = ("attest", "verify", *quote_and_collateral(name), "--at", at)
    code, out, _ = hansa(*words, "--policy", POLICY)
    assert code == 0
    assert "Accepted" in out
    assert "under Intel's root" in out
    code, out, _ = hansa(*words)
    assert code == 1
    assert "Not accepted" in out
    assert "days old, 7.0 days are allowed" in out
    assert "the policy does not name what runs there" in out


def test_the_default_refuses_a_configuration_that_is_not_safe(hansa: Any) -> None:
    words = ("attest", "verify", *quote_and_collateral("sgx_quote"), "--at", "1752919277")
    code, out, _ = hansa(*words, "--json")
    verdict = json.loads(out)
    assert (code, verdict["accepted"], verdict["mode"]) == (1, False, "hardware")
    assert verdict["proven"]["status"] == "ConfigurationAndSWHardeningNeeded"
    assert [each["what"].split(" ")[1] for each in verdict["refusals"]] == [
        "collateral",
        "processor's",
        "weaknesses",
        "policy",
    ]
    code, out, _ = hansa(*words, "--policy", POLICY, "--json")
    assert (code, json.loads(out)["refusals"]) == (0, [])


def test_without_a_time_it_is_now_and_then_the_sample_has_expired(hansa: Any) -> None:
    code, out, _ = hansa("attest", "verify", *quote_and_collateral("sgx_quote"))
    assert code == 1
    assert "the collateral expired" in out
    assert "nothing: see below" in out


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with a simulated quote, its collateral and a policy."""
    evidence = simulated(ENCLAVE).quote(bytes(64))
    (tmp_path / "quote").write_bytes(evidence.quote)
    (tmp_path / "collateral.json").write_bytes(evidence.collateral)
    pinned = f'[[enclave]]\nmrenclave = "{ENCLAVE.mrenclave.hex()}"\n'
    (tmp_path / "policy.toml").write_text('[accept]\nroot = "simulation"\n' + pinned)
    return tmp_path


def test_a_simulation_says_that_it_protects_nothing(hansa: Any, given: Path) -> None:
    words = ("attest", "verify", given / "quote", "--collateral", given / "collateral.json", "--at", NOW)
    code, out, _ = hansa(*words, "--policy", given / "policy.toml")
    assert code == 0
    assert "simulated: NO HARDWARE PROTECTION" in out
    assert "Intel's root" not in out
    code, out, _ = hansa(*words, "--policy", given / "policy.toml", "--json")
    assert json.loads(out)["mode"] == "simulated: NO HARDWARE PROTECTION"
    code, out, _ = hansa(*words)
    assert code == 1
    assert "another root than the policy's" in out


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_what_is_no_quote_is_refused_not_a_crash(hansa: Any, given: Path, as_json: tuple[str, ...]) -> None:
    (given / "quote").write_bytes(b"\x03\x00 no quote")
    code, out, _ = hansa(
        "attest", "verify", given / "quote", "--collateral", given / "collateral.json", *as_json
    )
    assert code == 1
    assert "not a quote of SGX or TDX" in out
    code, _, err = hansa("attest", "show", given / "quote")
    assert code == 1
    assert "not a quote of SGX or TDX" in err


def test_misuse_is_told_apart(hansa: Any, given: Path) -> None:
    collateral = ("--collateral", given / "collateral.json")
    for words, said in (
        ((given / "missing", *collateral), "cannot read"),
        ((given / "quote", "--collateral", given), "cannot read"),
        ((given / "quote", *collateral, "--at", "yesterday"), "'yesterday' is no time"),
        ((given / "quote", *collateral, "--at", "9" * 30), "is no time"),
        ((given / "quote", *collateral, "--policy", given / "quote"), "is not TOML"),
        ((given / "quote",), "--collateral"),
    ):
        code, _, err = hansa("attest", "verify", *words)
        assert code == 2, words
        assert said in err
        assert "Traceback" not in err


def test_show_prints_what_stands_in_a_quote(hansa: Any, given: Path) -> None:
    code, out, _ = hansa("attest", "show", VECTORS / "tdx_quote")
    assert code == 0
    assert "Intel SGX Root CA" in out
    assert "Nothing of this is verified" in out
    code, out, _ = hansa("attest", "show", VECTORS / "tdx_quote", "--json")
    fields = json.loads(out)
    assert (fields["tee"], fields["version"], fields["canonical"], fields["bytes"]) == ("tdx", 4, False, 5006)
    code, out, _ = hansa("attest", "show", given / "quote", "--json")
    fields = json.loads(out)
    assert (fields["mrenclave"], fields["canonical"]) == (ENCLAVE.mrenclave.hex(), True)
    assert "SIMULATION" in fields["processor"]


def test_names_in_certificates_cannot_command_a_terminal(
    hansa: Any, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = simulated_pki._name("Root CA\x1b[2J")
    monkeypatch.setattr(simulated_pki, "_name", lambda _: hostile)
    made = simulated_pki.maker(b"hostile")
    (given / "quote").write_bytes(simulated(ENCLAVE, made=made).quote(bytes(64)).quote)
    code, out, _ = hansa("attest", "show", given / "quote")
    assert code == 0
    assert "\x1b" not in out
    assert "Root CA?[2J" in " ".join(out.split())
