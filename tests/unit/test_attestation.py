"""The verifier: what it accepts, and that everything else is refused with a sentence that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.quoted import (
    DOMAIN,
    ENCLAVE,
    GENUINE,
    NONCE,
    NOW,
    SIMULATED,
    SIMULATION,
    STATEMENT,
    accepting,
    genuine,
    simulated,
    with_parts,
    with_quote,
)

from hansa import errors
from hansa.attestation import (
    Policy,
    Product,
    Record,
    SgxMeasurement,
    archive,
    archived,
    examine,
    intel_root,
    quotes,
    read_record,
    read_statement,
    report_data,
    reverify,
    signatures,
    simulated_pki,
    verify,
    verifying,
)
from hansa.attestation.simulated_pki import Conditions
from hansa.encoding import digest, encode
from hansa.records import Evidence
from hansa.stores import objects

DAY = 24 * 3600


def evidence(measured: object = ENCLAVE, **how: object) -> Evidence:
    return simulated(measured, **how).quote(report_data(STATEMENT, NONCE))


def judged(given: Evidence, policy: Policy = SIMULATED, now: int = NOW) -> Record:
    return verify(given, policy, now, STATEMENT, NONCE)


def refused(reason: str, given: Evidence, policy: Policy = SIMULATED, now: int = NOW) -> None:
    with pytest.raises(errors.Untrusted, match=reason) as refusal:
        judged(given, policy, now)
    assert refusal.value.hint
    assert refusal.value.digest in (digest(given.quote), digest(given.collateral))


@pytest.mark.parametrize("measured", [ENCLAVE, DOMAIN])
def test_a_simulated_quote_passes_the_same_verifier_and_its_record_says_so(measured: object) -> None:
    given = evidence(measured)
    record = judged(given)
    assert (record.mode, record.measurement, record.nonce) == ("simulated", measured, NONCE)
    assert (record.quote, record.collateral) == (digest(given.quote), digest(given.collateral))
    assert (record.policy, record.statement, record.root) == (
        SIMULATED.digest,
        STATEMENT.digest,
        digest(SIMULATION),
    )
    assert (record.verified, record.status, record.advisories) == (NOW, "UpToDate", ())
    assert record.issued <= NOW <= record.expires


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_quotes_are_accepted_by_a_policy_made_for_them_only(name: str) -> None:
    given, now = genuine(name), GENUINE[name]
    assert examine(given, accepting(name), now).refusals == ()
    strict = examine(given, Policy(intel_root()), now)
    assert strict.facts is not None
    reasons = " ".join(str(each) for each in strict.refusals)
    assert "the policy does not name what runs there" in reasons
    if name != "tdx_quote_td15ex":
        assert "days old" in reasons
    assert ("ConfigurationAndSWHardeningNeeded" in reasons) == (name == "sgx_quote")
    assert ("INTEL-SA-00289, INTEL-SA-00615" in reasons) == (name == "sgx_quote")


def test_a_genuine_quote_binds_no_statement_of_ours() -> None:
    refused("binds another statement", genuine("sgx_quote"), accepting("sgx_quote"), GENUINE["sgx_quote"])


def test_a_simulated_quote_is_refused_where_hardware_is_asked_for() -> None:
    refused("another root", evidence(), replace(SIMULATED, root=intel_root()))


def test_a_genuine_quote_is_refused_where_a_simulation_is_asked_for() -> None:
    policy = replace(accepting("tdx_quote"), root=SIMULATION)
    refused("another root", genuine("tdx_quote"), policy, GENUINE["tdx_quote"])


def test_another_simulation_is_another_root() -> None:
    refused("another root", evidence(made=simulated_pki.maker(b"another")))


@pytest.mark.parametrize("measured", [ENCLAVE, DOMAIN])
def test_debugged_enclaves_are_refused(measured: object) -> None:
    refused("debug mode", evidence(measured, debug=True))


def test_revoked_processors_are_refused() -> None:
    serial = simulated().serial
    refused("has revoked the processor's key", evidence(conditions=Conditions(revoked=(serial,))))
    assert judged(evidence(conditions=Conditions(revoked=(serial + 1,))))


def test_a_revoked_state_is_refused_whatever_the_policy() -> None:
    refused("revoked", evidence(conditions=Conditions(status="Revoked")))


@pytest.mark.parametrize("status", ["OutOfDate", "ConfigurationNeeded", "OutOfDateConfigurationNeeded"])
def test_states_that_are_not_listed_are_refused(status: str) -> None:
    given = evidence(conditions=Conditions(status=status))
    refused(f"state is {status}", given)
    assert judged(given, replace(SIMULATED, statuses=(status,))).status == status


def test_advisories_must_be_listed_each() -> None:
    given = evidence(conditions=Conditions("SWHardeningNeeded", ("INTEL-SA-2", "INTEL-SA-1")))
    refused("INTEL-SA-1, INTEL-SA-2", given)
    refused(": INTEL-SA-2", given, replace(SIMULATED, advisories=("INTEL-SA-1", "INTEL-SA-9")))
    policy = replace(SIMULATED, advisories=("INTEL-SA-1", "INTEL-SA-2"))
    assert judged(given, policy).advisories == ("INTEL-SA-1", "INTEL-SA-2")


def test_weaknesses_of_a_module_updated_under_a_running_domain_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library lists them apart from its verdict; no genuine quote with any is at hand."""
    name = "tdx_quote_td15ex"
    claims = verifying._claims

    def found(*given: object) -> dict[str, object]:
        listed = claims(*given)
        listed["platform"]["current_tcb_level"]["advisoryIDs"] = ["INTEL-SA-7"]
        return listed

    monkeypatch.setattr(verifying, "_claims", found)
    (refusal,) = examine(genuine(name), accepting(name), GENUINE[name]).refusals
    assert "INTEL-SA-7" in str(refusal)


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        (NOW + 1, "was signed 1 s in the future"),
        (NOW - simulated_pki.LIFETIME - 1, "expired 1 s ago"),
        (NOW - 7 * DAY - 1, "7.0 days old"),
        (NOW - 29 * DAY, "29.0 days old"),
    ],
)
def test_collateral_of_another_time_is_refused(issued: int, reason: str) -> None:
    refused(reason, evidence(conditions=Conditions(issued=issued)))


@pytest.mark.parametrize("age", [0, 1, 7 * DAY])
def test_collateral_signed_within_seven_days_is_accepted(age: int) -> None:
    record = judged(evidence(conditions=Conditions(issued=NOW - age)))
    assert record.issued == NOW - age
    assert record.expires == NOW - age + simulated_pki.LIFETIME


def test_an_old_list_of_revocations_makes_collateral_old() -> None:
    old = json.loads(evidence(conditions=Conditions(issued=NOW - 9 * DAY)).collateral)
    refused("9.0 days old", with_parts(evidence(), pck_crl=old["pck_crl"]))


@pytest.mark.parametrize("name", ["pck_crl", "root_ca_crl"])
def test_a_list_of_revocations_of_the_future_is_refused(name: str) -> None:
    future = json.loads(evidence(conditions=Conditions(issued=NOW + 60)).collateral)
    refused("was signed 60 s in the future", with_parts(evidence(), **{name: future[name]}))


def test_an_old_evaluation_is_refused() -> None:
    policy = replace(SIMULATED, min_evaluation=18)
    refused("evaluation 17, at least 18", evidence(), policy)
    assert judged(evidence(conditions=Conditions(evaluation=18)), policy).evaluation == 18


def test_what_runs_must_be_pinned() -> None:
    other = replace(ENCLAVE, mrenclave=b"x" * 32)
    refused("does not name what runs there: MRENCLAVE 7878", evidence(other))
    refused("does not name what runs there: MRTD", evidence(DOMAIN), replace(SIMULATED, domains=()))
    for changed in (replace(DOMAIN, mrtd=b"x" * 48), replace(DOMAIN, rtmrs=(*DOMAIN.rtmrs[:3], b"x" * 48))):
        refused("does not name what runs there: MRTD", evidence(changed))
    refused("does not name what runs there", evidence(), Policy(SIMULATION))


def test_a_product_is_pinned_by_signer_number_and_version() -> None:
    policy = Policy(SIMULATION, products=(Product(ENCLAVE.mrsigner, ENCLAVE.product, ENCLAVE.svn),))
    assert judged(evidence(replace(ENCLAVE, mrenclave=b"x" * 32, svn=9)), policy)
    for other in (
        replace(ENCLAVE, mrsigner=b"x" * 32),
        replace(ENCLAVE, product=8),
        replace(ENCLAVE, svn=ENCLAVE.svn - 1),
    ):
        refused("does not name what runs there", evidence(other), policy)


def test_platforms_can_be_listed_by_identity_or_model() -> None:
    facts = examine(evidence(), SIMULATED, NOW).facts
    assert facts is not None
    for listed in (facts.platform, facts.model):
        assert judged(evidence(), replace(SIMULATED, platforms=(bytes(16), listed)))
    refused("not on the policy's list", evidence(), replace(SIMULATED, platforms=(bytes(16), bytes(6))))


@pytest.mark.parametrize(
    "change",
    [
        {"seal_key": b"x" * 32},
        {"signing_key": b"x" * 33},
        {"federation": b"x" * 32},
        {"terms": b"x" * 32},
        {"roster": b"x" * 32},
        {"program": "aggregator 2"},
    ],
)
def test_a_quote_binds_keys_federation_terms_roster_and_program(change: dict[str, object]) -> None:
    with pytest.raises(errors.Untrusted, match="binds another statement"):
        verify(evidence(), SIMULATED, NOW, replace(STATEMENT, **change), NONCE)


def test_report_data_are_a_digest_of_statement_and_nonce_and_the_nonce() -> None:
    said = b"hansa/statement/1" + encode(STATEMENT) + NONCE
    assert report_data(STATEMENT, NONCE) == digest(said) + NONCE


def test_a_quote_answers_one_nonce_only() -> None:
    given = evidence()
    assert verify(given, SIMULATED, NOW, STATEMENT, NONCE)
    with pytest.raises(errors.Untrusted, match="an old quote"):
        verify(given, SIMULATED, NOW, STATEMENT, b"o" * 32)
    forged = simulated().quote(report_data(STATEMENT, NONCE)[:32] + b"o" * 32)
    with pytest.raises(errors.Untrusted, match="an old quote"):
        verify(forged, SIMULATED, NOW, STATEMENT, b"o" * 32)
    with pytest.raises(errors.Misconfigured, match="a nonce has 32 bytes"):
        verify(given, SIMULATED, NOW, STATEMENT, b"")


def resigned(given: Evidence, key: object, chain: list[object], what: str = "tcb_info") -> Evidence:
    """TCB info or QE identity signed by somebody else, with a chain that leads to the root."""
    text = json.loads(given.collateral)[what]
    parts = {f"{what}_signature": simulated_pki.sign(key, text.encode()).hex()}
    return with_parts(given, **parts, **{f"{what}_issuer_chain": signatures.pem(chain).decode()})


@pytest.mark.parametrize("what", ["tcb_info", "qe_identity"])
def test_a_processors_key_cannot_speak_for_its_maker(what: str) -> None:
    given, made = evidence(), simulated_pki.simulation()
    processor = simulated_pki.processor(made, b"\7" * 32)
    above = [made.authority.certificate, made.root.certificate]
    reason = "is not signed by SIMULATION SGX TCB Signing"
    refused(reason, resigned(given, processor.key, [processor.certificate, *above], what))
    refused(reason, resigned(given, made.authority.key, above, what))
    refused(reason, resigned(given, made.root.key, above[1:], what))
    signer = made.signer.certificate
    refused(reason, resigned(given, made.signer.key, [signer, made.authority.certificate, above[1]], what))
    assert judged(resigned(given, made.signer.key, [signer, above[1]], what))


def test_a_chain_that_another_parser_would_read_otherwise_is_of_no_use() -> None:
    """The library takes any block of PEM as a certificate; only what was checked here may reach it."""
    given, made = evidence(), simulated_pki.simulation()
    processor = simulated_pki.processor(made, b"\7" * 32)
    hidden = signatures.pem([processor.certificate, made.authority.certificate]).decode()
    shown = signatures.pem([made.signer.certificate, made.root.certificate]).decode()
    text = json.loads(given.collateral)["tcb_info"]
    forged = with_parts(
        given,
        tcb_info_issuer_chain=hidden.replace("CERTIFICATE", "SMUGGLED") + shown,
        tcb_info_signature=simulated_pki.sign(processor.key, text.encode()).hex(),
    )
    refused("Signature is invalid for tcb_info", forged)


def test_collateral_that_brings_its_own_processor_certificates_is_refused() -> None:
    chain = quotes.read(evidence().quote).chain[:-1].decode()
    refused("only the quote's count", with_parts(evidence(), pck_certificate_chain=chain))


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_what_the_maker_signed_cannot_be_changed(name: str) -> None:
    text = json.loads(evidence().collateral)[name].replace('"UpToDate"', '"SWHardeningNeeded"')
    refused("does not verify: Signature is invalid", with_parts(evidence(), **{name: text}))


def test_collateral_of_another_processor_is_refused() -> None:
    refused("does not verify", replace(evidence(), collateral=evidence(DOMAIN).collateral))
    with pytest.raises(errors.Untrusted):
        judged(replace(evidence(), collateral=genuine("sgx_quote").collateral))


@pytest.mark.parametrize(
    "part", ["signed", "signature", "attestation_key", "qe_report", "qe_signature", "qe_data"]
)
def test_every_part_of_a_quote_is_covered(part: str) -> None:
    def change(quote: quotes.Quote) -> quotes.Quote:
        value = bytearray(getattr(quote, part))
        value[-1] ^= 1
        return replace(quote, **{part: bytes(value)})

    refused("does not verify", with_quote(evidence(), change))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text[:-1] + b',"tcb_info":' + json.dumps(json.loads(text)["tcb_info"]).encode() + b"}",
        lambda text: text[:-1] + b',"more":""}',
        lambda text: text.replace(b'"root_ca_crl":"30', b'"root_ca_crl":"zz'),
        lambda text: text.replace(b'"root_ca_crl":"30', b'"root_ca_crl":"31'),
        lambda text: text.replace(b"BEGIN CERTIFICATE", b"BEGIN"),
        lambda text: b"[" * 100_000,
        lambda text: b"[]",
        lambda text: b"\xff" + text,
        lambda text: text + b" " * 300_000,
        lambda text: text.replace(b"issueDate", b"issuedate"),
        lambda text: text.replace(b'\\"issueDate\\":\\"2', b'\\"issueDate\\":\\"x'),
        lambda text: json.dumps(json.loads(text) | {"tcb_info": "[]"}).encode(),
        lambda text: json.dumps(json.loads(text) | {"tcb_info": {}}).encode(),
    ],
)
def test_malformed_collateral_is_refused_with_a_sentence(change: Callable[[bytes], bytes]) -> None:
    given = evidence()
    with pytest.raises(
        errors.Untrusted, match="^the collateral (cannot|has|names|is)|^what should be certificates"
    ) as refusal:
        judged(replace(given, collateral=change(given.collateral)))
    assert refusal.value.digest == digest(change(given.collateral))


@pytest.mark.parametrize(
    "wrong",
    [
        {"enclaves": (b"short",)},
        {"domains": (replace(DOMAIN, mrtd=b""),)},
        {"statuses": ("Revoked",)},
        {"platforms": (b"seven!!",)},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(errors.Misconfigured, match="policy cannot be used"):
        replace(SIMULATED, **wrong)


@pytest.mark.parametrize("measured", [ENCLAVE, DOMAIN])
def test_a_record_can_be_read_and_verified_again(measured: object) -> None:
    given = evidence(measured)
    record = judged(given)
    assert read_record(record.encoded) == record
    reverify(record, given, SIMULATED, STATEMENT)
    reverify(replace(record, verifier="dcap-qvl 9.9"), given, SIMULATED, STATEMENT)


def test_an_audit_sees_any_change_of_record_or_evidence() -> None:
    given = evidence()
    record = judged(given)
    for name, other in (
        ("mode", "hardware"),
        ("status", "SWHardeningNeeded"),
        ("platform", bytes(32)),
        ("measurement", SgxMeasurement(b"x" * 32, ENCLAVE.mrsigner, 7, 3)),
        ("attestation_key", bytes(32)),
    ):
        with pytest.raises(errors.Untrusted, match=f"does not follow from its evidence: {name}$"):
            reverify(replace(record, **{name: other}), given, SIMULATED, STATEMENT)
    with pytest.raises(errors.Untrusted, match="policy"):
        reverify(record, given, replace(SIMULATED, max_age=8 * DAY), STATEMENT)
    with pytest.raises(errors.Untrusted, match="an old quote"):
        reverify(replace(record, nonce=bytes(32)), given, SIMULATED, STATEMENT)
    with pytest.raises(errors.Untrusted, match="in the future"):
        reverify(replace(record, verified=NOW - 30 * DAY), given, SIMULATED, STATEMENT)
    spaced = replace(given, collateral=given.collateral.replace(b"{", b"{ ", 1))
    with pytest.raises(errors.Untrusted, match="does not follow from its evidence: collateral$"):
        reverify(record, spaced, SIMULATED, STATEMENT)


def test_evidence_is_archived_by_its_digests(tmp_path: Path) -> None:
    given, store = evidence(), objects.create(f"file://{tmp_path}")
    record = judged(given)
    with pytest.raises(errors.Unavailable):
        archived(store, record)
    archive(store, given)
    reverify(record, archived(store, record), SIMULATED, STATEMENT)


def test_records_and_statements_are_read_strictly() -> None:
    record = judged(evidence())
    assert read_statement(encode(STATEMENT)) == STATEMENT
    good = {name: getattr(record, name) for name in Record.__slots__}
    for wrong in (
        {},
        [],
        good | {"more": 1},
        good | {"issued": "yesterday"},
        good | {"measurement": DOMAIN.rtmrs},
        good | {"measurement": {"mrenclave": b""}},
        good | {"advisories": [1]},
        good | {"advisories": 1},
    ):
        with pytest.raises(errors.Untrusted, match="not a record"):
            read_record(encode(wrong))
    for wrong in ({}, [], replace(STATEMENT, terms=b""), replace(STATEMENT, program=b"x"), [STATEMENT]):
        with pytest.raises(errors.Untrusted, match="not an enclave's statement"):
            read_statement(encode(wrong))


def test_the_verifier_that_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from hansa.attestation.library import library

    monkeypatch.setitem(sys.modules, "dcap_qvl", None)
    library.cache_clear()
    verifying._judge.cache_clear()
    verifying._for_library.cache_clear()
    with pytest.raises(errors.Misconfigured, match="dcap-qvl is not installed"):
        judged(evidence())
    monkeypatch.undo()
    assert judged(evidence())
