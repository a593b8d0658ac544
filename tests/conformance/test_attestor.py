"""What every `Attestor` promises: quotes in canonical form, over the 64 bytes it was given, that verify."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests import tees
from tests.quoted import DOMAIN, ENCLAVE, NOW, SIMULATED, STATEMENT, simulated

from hansa import errors
from hansa.attestation import quotes, report_data, verify
from hansa.attestation.hardware import Gramine, TrustDomain
from hansa.ports import Attestor

KINDS: dict[str, Callable[[Path], Attestor]] = {
    "simulated sgx": lambda _: simulated(ENCLAVE),
    "simulated tdx": lambda _: simulated(DOMAIN),
    "gramine": lambda folder: Gramine(tees.collateral, tees.gramine_files(folder)),
    "tdx": lambda folder: TrustDomain(tees.collateral, tees.tsm_files(folder)),
}


@pytest.fixture(params=KINDS)
def attestor(request: pytest.FixtureRequest, tmp_path: Path) -> Attestor:
    return KINDS[request.param](tmp_path)


def test_its_quotes_verify_for_the_statement_and_nonce_they_were_asked_with(attestor: Attestor) -> None:
    for nonce in (b"1" * 32, b"2" * 32):
        evidence = attestor.quote(report_data(STATEMENT, nonce))
        assert verify(evidence, SIMULATED, NOW, STATEMENT, nonce).nonce == nonce


def test_its_quotes_are_canonical_and_over_what_was_given(attestor: Attestor) -> None:
    for given in (bytes(range(64)), bytes(64)):
        evidence = attestor.quote(given)
        assert quotes.read(evidence.quote).report_data == given
        assert quotes.normalise(evidence.quote) == evidence.quote


@pytest.mark.parametrize("size", [0, 63, 65])
def test_it_quotes_64_bytes_and_nothing_else(attestor: Attestor, size: int) -> None:
    with pytest.raises(errors.Misconfigured, match=f"over 64 bytes, not {size}"):
        attestor.quote(bytes(size))
