from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trapdoors import CONTEXT, entropy, made, member

from hansa import errors
from hansa.crypto import double_trapdoor as dt

P = made().parameters


def test_the_keys_of_masks_take_eleven_ciphertexts_of_3072_bits():
    packing = dt.choose_packing(made(3072).parameters, 32, 1000)
    assert (packing.width, packing.fields, packing.plaintexts(2048)) == (16, 191, 11)


@pytest.mark.parametrize(
    ("bound", "contributions"), [(32, 1000), (1, 1), (2**23, 1000), (127, 3), (2**40, 1024)]
)
@pytest.mark.parametrize("sign", [-1, 1, 0])
def test_both_extremes_are_exact_for_the_largest_cohort(bound, contributions, sign):
    packing = dt.choose_packing(P, bound, contributions)
    assert packing.width * packing.fields < P.modulus.bit_length() <= packing.width * (packing.fields + 1)
    length = packing.fields * 2 + 1
    values = np.full(length, sign * bound)
    if sign == 0:
        values = np.where(np.arange(length) % 2, bound, -bound)
    packed = dt.pack(packing, values)
    assert max(packed) * contributions < P.modulus
    sums = [m * contributions for m in packed]
    assert (dt.unpack_sum(packing, sums, length, contributions) == values * contributions).all()


def test_one_member_more_is_refused():
    packing = dt.choose_packing(P, 32, 10)
    packed = dt.pack(packing, np.full(5, 32))
    for contributions in (11, 0, -1):
        with pytest.raises(errors.Misconfigured, match="made for 10 contributions"):
            dt.unpack_sum(packing, [m * 11 for m in packed], 5, contributions)


@given(st.data())
def test_sums_through_ciphertexts_are_exact(data):
    bound, members = data.draw(st.integers(1, 2**20)), data.draw(st.integers(1, 5))
    length = data.draw(st.integers(1, 60))
    packing = dt.choose_packing(P, bound, data.draw(st.integers(members, 50)))
    numbers = st.lists(st.integers(-bound, bound), min_size=length, max_size=length)
    vectors = [np.array(data.draw(numbers)) for _ in range(members)]
    rows = [
        [dt.encrypt(P, member().public, m, i + 1) for m in dt.pack(packing, v)] for i, v in enumerate(vectors)
    ]
    opened = [dt.weak_decrypt(P, member(), c) for c in dt.add_under_one_key(P, rows)]
    assert (dt.unpack_sum(packing, opened, length, members) == sum(vectors)).all()


@pytest.mark.parametrize("value", [33, -33, 2**62])
def test_a_value_out_of_bounds_is_not_packed(value):
    with pytest.raises(errors.Misconfigured, match="out of"):
        dt.pack(dt.choose_packing(P, 32, 10), np.array([0, value]))


@pytest.mark.parametrize(("bound", "contributions"), [(0, 5), (-1, 5), (5, 0), (2**62, 1), (2**52, 1024)])
def test_fields_that_cannot_be_made_are_refused(bound, contributions):
    with pytest.raises(errors.Misconfigured, match="do not fit a field"):
        dt.choose_packing(P, bound, contributions)


def test_what_contributions_cannot_add_up_to_is_refused():
    packing = dt.choose_packing(P, 5, 3)
    packed = dt.pack(packing, np.arange(-5, 6))
    dt.unpack_sum(packing, packed, 11, 1)
    for sums, length, contributions in (
        ([packed[0] * 2], 11, 1),
        (packed, 10, 1),
        ([packed[0] + (1 << packing.width * 11)], 11, 1),
        ([P.modulus - 1], 11, 3),
    ):
        with pytest.raises(errors.Untrusted, match="larger than its contributions"):
            dt.unpack_sum(packing, sums, length, contributions)
    for sums, length in (([], 11), (packed * 2, 11), (packed, packing.fields + 1)):
        with pytest.raises(errors.Untrusted, match="another length"):
            dt.unpack_sum(packing, sums, length, 1)


def test_a_mask_key_of_a_cohort_opens_by_halves():
    setup, packing = made(), dt.choose_packing(P, 32, 1000)
    vectors = [np.random.default_rng(i).integers(-32, 33, 100) for i in range(3)]
    rows = []
    for number, vector in enumerate(vectors):
        key = member(number)
        ciphertexts, proof = dt.encrypt_and_prove(P, key.public, dt.pack(packing, vector), CONTEXT, entropy())
        dt.check_knowledge(P, key.public, ciphertexts, proof, CONTEXT)
        rows.append(ciphertexts)
    total = dt.add_across_keys(P, rows)
    answers = [dt.raise_to_half(P, total, h, CONTEXT, entropy()) for h in (setup.key_centre, setup.server)]
    opened = dt.unpack_sum(packing, dt.combine(P, total, answers), 100, 3)
    assert (opened == sum(vectors)).all()
