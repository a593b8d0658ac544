"""What a member's machine runs its enclave with, and `hansa enclave`, which tries it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import enclaves
from tests.enclaves import Threaded

from hansa import errors, loading
from hansa.attestation import NO_PROTECTION
from hansa.enclave.providers import simulated_measurement
from hansa.loading import loader_for, loader_of
from hansa.memberfile import EnclaveTable
from hansa.records import Accept, Tee, Terms

RUNS = simulated_measurement().mrenclave.hex()


def now() -> int:
    return int(time.time())


def terms(**accept: Any) -> Terms:
    return enclaves.terms_of(tee=Tee(accept=Accept(**accept)))


def table(**written: Any) -> EnclaveTable:
    return EnclaveTable.model_validate(written)


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enclaves run in threads: the same bytes, without processes to start."""
    monkeypatch.setattr(loading, "Enclosure", Threaded)


# what member.toml says


def test_under_a_simulation_nothing_has_to_be_said() -> None:
    found = loader_for(terms(root="simulation"), None, now)
    assert (found.provider, found.mode) == ("simulated", "simulated")
    assert found.command[0] == sys.executable


def test_gramine_is_started_by_its_loader_and_a_trust_domain_by_the_interpreter() -> None:
    accepted = terms(root="intel", enclaves=(RUNS,))
    words = ["gramine-sgx", "/opt/hansa/hansa-enclave"]
    gramine = loader_for(accepted, table(provider="gramine", command=words), now)
    assert (gramine.command, gramine.mode) == (tuple(words), "hardware")
    tdx = loader_for(accepted, table(provider="tdx"), now)
    assert tdx.command[-2:] == ("--provider", "tdx")


@pytest.mark.parametrize(
    ("accept", "written", "said", "advice"),
    [
        ({"root": "intel"}, None, "this member has a seat, so it runs an enclave", "docs/enclaves.md"),
        ({"root": "intel"}, {"provider": "simulated"}, "processors under Intel's root only", '"gramine" or "tdx"'),
        ({"root": "simulation"}, {"provider": "tdx"}, "simulated enclaves only", 'provider = "simulated"'),
        ({"root": "intel"}, {"provider": "gramine"}, "needs the command that loads", "gramine-sgx"),
        ({"root": "intel"}, {"provider": "tdx", "collateral": "pccs"}, "'pccs' is no address", "https://"),
        ({"root": "simulation"}, {"command": ["x"]}, "needs neither command nor collateral", "[enclave]"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_starts(
    accept: dict[str, Any], written: dict[str, Any] | None, said: str, advice: str
) -> None:
    with pytest.raises(errors.Misconfigured) as caught:
        loader_for(terms(**accept), None if written is None else table(**written), now)
    assert said in str(caught.value)
    assert advice in caught.value.hint


# whether its enclave would be accepted


def test_an_enclave_of_this_version_is_accepted(threaded: None) -> None:
    agreed = terms(root="simulation", enclaves=(RUNS,))
    loading.check(loader_for(agreed, None, now), agreed, now())


def test_an_enclave_of_another_version_than_the_terms_pin_is_misconfigured(threaded: None) -> None:
    agreed = terms(root="simulation", enclaves=("ab" * 32,))
    with pytest.raises(
        errors.Misconfigured, match="members would refuse an enclave of this machine"
    ) as caught:
        loading.check(loader_for(agreed, None, now), agreed, now())
    assert "another version of Hansa is another program" in caught.value.hint


def test_what_says_that_it_is_another_kind_of_enclave_is_misconfigured(threaded: None) -> None:
    found = replace(loader_of(table(provider="tdx"), now), collateral=lambda _quote: b"")
    with pytest.raises(errors.Misconfigured, match="provider tdx is configured, and what was started says"):
        loading.tried(found)


# hansa enclave


def test_it_shows_what_a_simulated_enclave_measures(hansa: Any) -> None:
    code, out, _ = hansa("enclave", "--show", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["measurement"]["mrenclave"] == RUNS
    assert said["mode"] == NO_PROTECTION
    assert NO_PROTECTION in hansa("enclave", "--show")[1]


def test_it_says_how_to_find_what_real_processors_measure(hansa: Any) -> None:
    assert "gramine-sgx-sigstruct-view" in hansa("enclave", "--show", "--provider", "gramine")[1]
    code, out, _ = hansa("enclave", "--show", "--provider", "tdx", "--json")
    said = json.loads(out)
    assert (code, said["mode"], said["measurement"]) == (0, "hardware", None)
    assert "MRTD" in " ".join(said["how"])


def test_it_starts_one_and_judges_its_quote(hansa: Any, threaded: None, tmp_path: Path) -> None:
    code, out, _ = hansa("enclave")
    assert code == 0
    assert NO_PROTECTION in out
    assert f'enclaves = ["{RUNS}"]' in out
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[accept]\nroot = "simulation"\n[[enclave]]\nmrenclave = "{"ab" * 32}"\n')
    code, out, _ = hansa("enclave", "--policy", policy, "--json")
    said = json.loads(out)
    assert (code, said["accepted"]) == (1, False)
    assert said["measurement"]["mrenclave"] == RUNS
    assert said["refusals"]


def test_member_toml_says_what_runs_and_the_command_line_wins(hansa: Any, tmp_path: Path) -> None:
    file = tmp_path / "member.toml"
    file.write_text('[enclave]\nprovider = "gramine"\ncommand = ["no-such-loader", "x"]\n')
    code, _, err = hansa("enclave", "--config", file)
    assert code == 2
    assert "no-such-loader: No such file" in err
    code, _, err = hansa("enclave", "--config", file, "--command", "no-such-other y")
    assert (code, "no-such-other: No such file" in err) == (2, True)


def test_where_there_is_no_such_processor_it_says_so(hansa: Any) -> None:
    code, _, err = hansa("enclave", "--provider", "tdx")
    assert code == 2
    assert "this is no TDX guest" in err
    assert "Choose another provider" in err
