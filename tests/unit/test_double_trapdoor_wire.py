from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trapdoors import CONTEXT, TEST_PRIMES, entropy, made, member

from hansa import encoding, errors
from hansa.crypto import double_trapdoor as dt

MADE = made()
P = MADE.parameters
N = int(P.modulus)
KEY = member()
CIPHERTEXTS, KNOWLEDGE = dt.encrypt_and_prove(P, KEY.public, [1, 2, 3], CONTEXT, entropy())
ANSWER = dt.raise_to_half(P, [c.t1 for c in CIPHERTEXTS], MADE.server, CONTEXT, entropy())
POSSESSION = dt.prove_possession(P, KEY, CONTEXT, entropy())

Kind = tuple[bytes, Callable[[bytes], Any], Callable[[Any], bytes], Any]
KINDS: dict[str, Kind] = {
    "parameters": (dt.write_parameters(P), dt.read_parameters, dt.write_parameters, P),
    "public key": (
        dt.write_public(P, KEY.public),
        lambda b: dt.read_public(P, b),
        lambda v: dt.write_public(P, v),
        KEY.public,
    ),
    "possession": (
        dt.write_possession(P, POSSESSION),
        lambda b: dt.read_possession(P, b),
        lambda v: dt.write_possession(P, v),
        POSSESSION,
    ),
    "ciphertexts": (
        dt.write_ciphertexts(P, CIPHERTEXTS),
        lambda b: dt.read_ciphertexts(P, b, 3),
        lambda v: dt.write_ciphertexts(P, v),
        CIPHERTEXTS,
    ),
    "knowledge": (
        dt.write_knowledge(P, KNOWLEDGE),
        lambda b: dt.read_knowledge(P, b),
        lambda v: dt.write_knowledge(P, v),
        KNOWLEDGE,
    ),
    "half of an opening": (
        dt.write_answer(P, ANSWER),
        lambda b: dt.read_answer(P, b, dt.Side.SERVER, 3),
        lambda v: dt.write_answer(P, v),
        ANSWER,
    ),
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@kinds
def test_what_was_written_is_read_and_no_other_length(kind):
    data, read, _, value = kind
    assert read(data) == value
    for wrong in (b"", data[:-1], data + b"\0", b"\0" + data, data * 2, data[1:]):
        with pytest.raises(errors.Untrusted) as caught:
            read(wrong)
        assert caught.value.digest == encoding.digest(wrong)


@kinds
@given(st.data())
def test_any_bytes_are_refused_or_are_the_one_encoding_of_a_value(kind, data):
    genuine, read, write, _ = kind
    noise = data.draw(
        st.one_of(st.binary(max_size=64), st.binary(min_size=len(genuine), max_size=len(genuine)))
    )
    place, bits = data.draw(st.integers(0, len(genuine) - 1)), data.draw(st.integers(1, 255))
    changed = genuine[:place] + bytes([genuine[place] ^ bits]) + genuine[place + 1 :]
    for candidate in (noise, changed):
        with contextlib.suppress(errors.Untrusted):
            assert write(read(candidate)) == candidate


def test_lengths_follow_from_the_size_of_n():
    big = made(3072).parameters
    key = member(1, 3072)
    ciphertexts, proof = dt.encrypt_and_prove(big, key.public, [1] * 11, CONTEXT, entropy())
    assert len(dt.write_ciphertexts(big, ciphertexts)) == 11 * 4 * 384 == 16896
    assert len(dt.write_knowledge(big, proof)) < 512
    assert dt.read_ciphertexts(big, dt.write_ciphertexts(big, ciphertexts), 11) == ciphertexts
    dt.check_knowledge(
        big, key.public, ciphertexts, dt.read_knowledge(big, dt.write_knowledge(big, proof)), CONTEXT
    )


@pytest.mark.parametrize("element", [0, N * N, N * N + 5, TEST_PRIMES[512][0], 3 * N, 2**1024 - 1])
def test_elements_out_of_range_or_with_a_factor_of_n_are_refused(element):
    bad = element.to_bytes(128, "big")
    data = dt.write_ciphertexts(P, CIPHERTEXTS)
    for place in range(6):
        with pytest.raises(errors.Untrusted, match="ciphertexts"):
            dt.read_ciphertexts(P, data[: 128 * place] + bad + data[128 * place + 128 :], 3)
    with pytest.raises(errors.Untrusted, match="public key"):
        dt.read_public(P, bad)


@pytest.mark.parametrize("element", [0, N, N + 5, TEST_PRIMES[512][0], 2**512 - 1])
def test_answers_out_of_range_or_with_a_factor_of_n_are_refused(element):
    data = dt.write_answer(P, ANSWER)
    for place in range(3):
        wrong = data[: 64 * place] + element.to_bytes(64, "big") + data[64 * place + 64 :]
        with pytest.raises(errors.Untrusted, match="half of an opening"):
            dt.read_answer(P, wrong, dt.Side.SERVER, 3)


def test_a_response_above_n_is_refused():
    data = dt.write_knowledge(P, KNOWLEDGE)
    with pytest.raises(errors.Untrusted):
        dt.read_knowledge(P, data[:-64] + N.to_bytes(64, "big"))


def test_values_of_another_size_are_refused():
    big, key = made(2048).parameters, member(1, 2048)
    ciphertexts, proof = dt.encrypt_and_prove(big, key.public, [1], CONTEXT, entropy())
    answer = dt.raise_to_half(big, [ciphertexts[0].t1], made(2048).server, CONTEXT, entropy())
    for read in (
        lambda: dt.read_ciphertexts(P, dt.write_ciphertexts(big, ciphertexts), 1),
        lambda: dt.read_ciphertexts(P, dt.write_ciphertexts(big, ciphertexts), 4),
        lambda: dt.read_knowledge(P, dt.write_knowledge(big, proof)),
        lambda: dt.read_public(P, dt.write_public(big, key.public)),
        lambda: dt.read_answer(P, dt.write_answer(big, answer), dt.Side.SERVER, 1),
        lambda: dt.read_public(big, dt.write_public(P, KEY.public)),
        lambda: dt.weak_decrypt(P, KEY, ciphertexts[0]),
    ):
        with pytest.raises(errors.Untrusted):
            read()


FIELDS = cbor2.loads(dt.write_parameters(P))


@pytest.mark.parametrize("place", range(len(FIELDS)))
@pytest.mark.parametrize(
    "value",
    [None, -1, 2, 1 << 40, b"", b"\0" * 64, b"\1" * 63, b"\1" * 65, b"\1" * 128, [], [b"\1" * 64] * 7, "x"],
)
def test_parameters_of_another_form_are_refused(place, value):
    changed = [*FIELDS[:place], value, *FIELDS[place + 1 :]]
    data = encoding.encode(changed)
    try:
        read = dt.read_parameters(data)
    except errors.Untrusted:
        return
    # The form is right, the value is not.
    assert dt.write_parameters(read) == data
    with pytest.raises(errors.Untrusted):
        dt.check_parameters(read, 512)


def test_parameters_have_one_encoding():
    for data in (
        cbor2.dumps(tuple(FIELDS), canonical=False) + b"\0",
        cbor2.dumps([*FIELDS, 0]),
        cbor2.dumps(FIELDS[:-1]),
        cbor2.dumps([*FIELDS[:-1], FIELDS[-1][:7]]),
        cbor2.dumps([*FIELDS[:-1], FIELDS[-1] * 2]),
        cbor2.dumps(dict(enumerate(FIELDS))),
        b"\x9f" + b"".join(cbor2.dumps(f) for f in FIELDS) + b"\xff",
        b"\x98\x08" + dt.write_parameters(P)[1:],
        bytes(100_000),
    ):
        with pytest.raises(errors.Untrusted):
            dt.read_parameters(data)
    for name in ("generator", "base", "key_centre", "server"):
        one = dataclasses.replace(P, **{name: 1})
        assert dt.read_parameters(dt.write_parameters(one)) == one


def test_a_half_is_read_from_its_key_file_only():
    for half in (MADE.key_centre, MADE.server):
        data = dt.write_half(P, half)
        assert dt.read_half(P, data) == half
        for wrong in (
            b"",
            data[:-1],
            data + b"\0",
            b"\3" + data[1:],
            data[:1] + bytes(64),
            data[:1] + N.to_bytes(64),
        ):
            with pytest.raises(errors.Misconfigured, match="cannot be read"):
                dt.read_half(P, wrong)
        with pytest.raises(errors.Misconfigured):
            dt.read_half(made(2048).parameters, data)
