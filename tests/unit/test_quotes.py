"""The one form of a quote: what is read, what `normalise` does, and that nothing else passes."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quoted import DOMAIN, ENCLAVE, GENUINE, genuine, higher, raw, resized, simulated

from hansa import errors
from hansa.attestation import SgxMeasurement, TdxMeasurement, normalise, quotes, signatures

KINDS = {"sgx_quote": (3, "sgx"), "tdx_quote": (4, "tdx"), "tdx_quote_td15ex": (5, "tdx")}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_quotes_are_read_and_written_again(name: str) -> None:
    quote = quotes.read(normalise(raw(name)[0]))
    assert (quote.version, quote.tee) == KINDS[name]
    assert not quote.debug
    assert quotes.encode(quote) == normalise(raw(name)[0])


def test_fields_stand_where_intel_puts_them() -> None:
    sgx = quotes.read(genuine("sgx_quote").quote)
    assert isinstance(sgx.measurement, SgxMeasurement)
    assert sgx.measurement.mrenclave.hex().startswith("33d8736db756ed49")
    assert sgx.report_data.rstrip(b"\0") == b"Hello, world!"
    tdx = quotes.read(genuine("tdx_quote").quote)
    assert isinstance(tdx.measurement, TdxMeasurement)
    assert tdx.measurement.mrtd.hex().startswith("91eb2b44d141d4ec")
    assert [register.hex()[:8] for register in tdx.measurement.rtmrs] == [
        "44c0197b",
        "0084452c",
        "d833feef",
        "00000000",
    ]
    assert tdx.report_data.hex().startswith("9a9d48e7f6799642")


def test_normalising_cuts_padding_and_lowers_signatures_and_is_done_once() -> None:
    padded = raw("tdx_quote")[0]
    cut = normalise(padded)
    assert len(padded) - len(cut) == 70
    assert quotes.parse(padded[: len(cut)]).qe_signature == higher(quotes.parse(cut).qe_signature)
    assert normalise(cut) == cut
    assert raw("sgx_quote")[0] == normalise(raw("sgx_quote")[0])


@pytest.mark.parametrize("part", ["signature", "qe_signature"])
def test_the_higher_s_is_refused_until_it_is_normalised(part: str) -> None:
    good = simulated().quote(bytes(64)).quote
    quote = quotes.read(good)
    other = quotes.encode(replace(quote, **{part: higher(getattr(quote, part))}))
    with pytest.raises(errors.Untrusted, match="not in canonical form"):
        quotes.read(other)
    assert normalise(other) == good


def test_certificates_carry_the_lower_s_too() -> None:
    cut = raw("tdx_quote")[0][: len(normalise(raw("tdx_quote")[0]))]
    quote = quotes.parse(cut)
    canonical = signatures.canonical_chain(quote.chain)[0]
    leaf, lowered = (signatures.certificates(chain[:-1])[0] for chain in (quote.chain, canonical))
    assert leaf.signature != lowered.signature
    assert leaf.tbs_certificate_bytes == lowered.tbs_certificate_bytes
    with pytest.raises(errors.Untrusted, match="not in canonical form"):
        quotes.read(quotes.encode(replace(quote, qe_signature=signatures.lower(quote.qe_signature))))


@pytest.mark.parametrize(
    "change",
    [
        lambda chain: chain[:-1],
        lambda chain: chain + b"\0",
        lambda chain: b"\n" + chain,
        lambda chain: chain.replace(b"\n", b"\r\n"),
        lambda chain: chain.replace(b"\n", b"\n\n", 1),
        lambda chain: b"a processor's\n" + chain,
        lambda chain: chain[: chain.rindex(b"-----BEGIN")] + b"\0",
        lambda chain: chain[:-1] + chain[chain.rindex(b"-----BEGIN") :],
        lambda chain: chain.replace(b"BEGIN CERTIFICATE", b"BEGIN X509 CERTIFICATE", 1),
        lambda _: b"\0",
    ],
)
def test_certificates_are_written_in_one_way_and_not_mended(change: object) -> None:
    quote = quotes.parse(simulated().quote(bytes(64)).quote)
    changed = quotes.encode(replace(quote, chain=change(quote.chain)))
    with pytest.raises(errors.Untrusted, match="certificate"):
        normalise(changed)
    with pytest.raises(errors.Untrusted, match="certificate"):
        quotes.read(changed)


def test_what_stands_around_the_signed_part_of_a_certificate_is_not_mended() -> None:
    quote = quotes.parse(simulated().quote(bytes(64)).quote)
    blocks = quote.chain[:-1].split(b"-----END CERTIFICATE-----\n")
    leaf = base64.b64decode(blocks[0].removeprefix(b"-----BEGIN CERTIFICATE-----\n"))
    algorithm = bytes.fromhex("06082a8648ce3d040302")
    at = leaf.rindex(algorithm)
    other = leaf[:at] + algorithm[:-1] + b"\3" + leaf[at + len(algorithm) :]
    assert len(leaf) == len(other)
    text = base64.encodebytes(other).replace(b"\n", b"")
    lines = b"".join(text[k : k + 64] + b"\n" for k in range(0, len(text), 64))
    blocks[0] = b"-----BEGIN CERTIFICATE-----\n" + lines
    changed = replace(quote, chain=b"-----END CERTIFICATE-----\n".join(blocks) + b"\0")
    with pytest.raises(errors.Untrusted, match="not written in the one form of a certificate"):
        normalise(quotes.encode(changed))


def test_appended_bytes_are_refused_but_for_the_padding_of_a_driver() -> None:
    good = simulated().quote(bytes(64)).quote
    assert normalise(good + bytes(70)) == good
    for wrong in (good + b"\0", good + b"\1", resized(good, b"\0"), resized(good, b"\1")):
        with pytest.raises(errors.Untrusted):
            quotes.read(wrong)
    for wrong in (good + b"\1", good + bytes(5) + b"\1", resized(good, b"\0")):
        with pytest.raises(errors.Untrusted):
            normalise(wrong)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, 2, "version 2 for processor feature 0x0"),
        (0, 5, "version 5 for processor feature 0x0"),
        (0, 4, "version 4 for processor feature 0x0"),
        (2, 3, "key is of type 3"),
        (4, 0x81, "version 3 for processor feature 0x81"),
        (432, 1, "bytes follow its signature data"),
        (434, 9, "and .* are there"),
    ],
)
def test_what_is_not_known_is_refused(at: int, value: int, why: str) -> None:
    quote = bytearray(simulated(ENCLAVE).quote(bytes(64)).quote)
    struct.pack_into("<H", quote, at, value)
    with pytest.raises(errors.Untrusted, match=why):
        quotes.read(bytes(quote))


def test_certificates_must_be_in_the_quote() -> None:
    good = simulated(ENCLAVE).quote(bytes(64)).quote
    at = len(good) - len(quotes.read(good).chain) - 6
    by_reference = good[:at] + b"\3" + good[at + 1 :]
    with pytest.raises(errors.Untrusted, match="certificates are of type 3"):
        quotes.read(by_reference)


def test_a_quote_has_a_greatest_size() -> None:
    with pytest.raises(errors.Untrusted, match="32769 bytes"):
        quotes.read(simulated().quote(bytes(64)).quote.ljust(quotes.LIMIT + 1, b"\0"))


@pytest.mark.parametrize("name", GENUINE)
def test_every_beginning_of_a_quote_is_refused(name: str) -> None:
    good = genuine(name).quote
    for size in range(len(good)):
        with pytest.raises(errors.Untrusted):
            quotes.read(good[:size])


@settings(deadline=None)
@given(st.binary(max_size=6000))
def test_any_bytes_are_refused_with_a_sentence(data: bytes) -> None:
    for head in (b"", bytes.fromhex("0300020000000000"), bytes.fromhex("0500020081000000")):
        with pytest.raises(errors.Untrusted):
            normalise(head + data)
        with pytest.raises(errors.Untrusted):
            quotes.read(head + data)


@pytest.mark.parametrize("measured", [ENCLAVE, DOMAIN])
def test_simulated_quotes_are_canonical_and_say_what_they_are_told(measured: object) -> None:
    quote = quotes.read(simulated(measured).quote(bytes(range(64))).quote)
    assert quote.measurement == measured
    assert quote.report_data == bytes(range(64))
    assert quotes.read(simulated(measured, debug=True).quote(bytes(64)).quote).debug
