"""Providers of real processors against imitations of their files: whatever is missing or strange is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import tees
from tests.quoted import simulated

from hansa import errors
from hansa.attestation import quotes
from hansa.attestation.hardware import Gramine, TrustDomain


def test_no_gramine_no_provider(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="this is no Gramine enclave"):
        Gramine(tees.collateral, tmp_path)
    with pytest.raises(errors.Misconfigured, match="'none'"):
        Gramine(tees.collateral, tees.gramine_files(tmp_path, "none"))


def test_a_quoting_service_that_is_down_is_worth_another_try(tmp_path: Path) -> None:
    gramine = Gramine(tees.collateral, Path(tees.gramine_files(tmp_path)))
    with pytest.raises(errors.Unavailable, match="Gramine gives no quote"):
        gramine.quote(bytes(64))


def test_what_is_no_quote_is_refused(tmp_path: Path) -> None:
    gramine = Gramine(tees.collateral, Path(tees.gramine_files(tmp_path)))
    (tmp_path / "quote").write_bytes(b"?" * 5000)
    with pytest.raises(errors.Untrusted, match="not a quote"):
        gramine.quote(bytes(64))


def test_collateral_is_fetched_for_the_canonical_quote(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def fetch(quote: bytes) -> bytes:
        asked.append(quote)
        return b"{}"

    evidence = TrustDomain(fetch, tees.tsm_files(tmp_path)).quote(bytes(64))
    assert asked == [evidence.quote]
    assert evidence.collateral == b"{}"
    assert quotes.read(evidence.quote).tee == "tdx"


def test_no_trust_domain_no_provider(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="this is no TDX guest"):
        TrustDomain(tees.collateral, tmp_path / "missing")
    other = TrustDomain(tees.collateral, tees.tsm_files(tmp_path, provider="sev_guest"))
    with pytest.raises(errors.Misconfigured, match="'sev_guest'"):
        other.quote(bytes(64))
    assert list(tmp_path.iterdir()) == []


def test_an_answer_to_anothers_question_is_asked_for_again(tmp_path: Path) -> None:
    given = bytes(range(64))
    evidence = TrustDomain(tees.collateral, tees.tsm_files(tmp_path, rivals=2)).quote(given)
    assert quotes.read(evidence.quote).report_data == given
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(errors.Unavailable, match="keeps writing"):
        TrustDomain(tees.collateral, tees.tsm_files(tmp_path, rivals=99)).quote(given)
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_that_refuses_is_worth_another_try(tmp_path: Path) -> None:
    guest = TrustDomain(tees.collateral, tmp_path)
    with pytest.raises(errors.Unavailable, match="the TDX guest gives no quote"):
        guest.quote(bytes(64))


def test_simulated_attestors_differ_by_their_entropy() -> None:
    from tests.quoted import ENCLAVE, NOW

    from hansa.attestation.simulated import Simulated

    one, two = Simulated(ENCLAVE, lambda: NOW), Simulated(ENCLAVE, lambda: NOW)
    assert one.serial != two.serial
    assert one.quote(bytes(64)).quote != two.quote(bytes(64)).quote
    assert simulated().quote(bytes(64)) == simulated().quote(bytes(64))
