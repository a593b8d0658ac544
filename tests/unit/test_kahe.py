"""The one-time mask: sums are exact, and what does not belong to a sum is noticed when it is opened."""

from __future__ import annotations

import hashlib
from io import BytesIO
from itertools import count as counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hansa import errors
from hansa.crypto import kahe

PUBLIC = bytes(range(16))
SMALL = kahe.parameters(3, 16)
WIDE = kahe.parameters(1000, 24)


def entropy_of(seed):
    numbers = counter()
    return lambda n: hashlib.shake_256(f"{seed}/{next(numbers)}".encode()).digest(n)


def values_of(parameters, count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(-parameters.bound, parameters.bound + 1, count, dtype=np.int32)


def upload(parameters, values, seed=0, **how):
    entropy = entropy_of(seed)
    secret = kahe.draw_secret(entropy)
    return secret, kahe.mask(parameters, PUBLIC, secret, values, entropy, **how)


def total(parameters, count, *uploads):
    """Sum of the secrets, sum of the wires."""
    accumulator = kahe.Accumulator(parameters, count)
    accumulator.add(*(wire for _, wire in uploads))
    return sum(secret.astype(np.int64) for secret, _ in uploads), accumulator.sum_bytes()


def changed(wire, index, flip=1):
    wire = bytearray(wire)
    wire[index] ^= flip
    return bytes(wire)


# Sums


@pytest.mark.parametrize("count", [0, 1, 2047, 2048, 2049, kahe.GROUP, kahe.GROUP + 5000])
def test_the_sum_of_masks_opens_to_the_sum_of_values(count):
    values = [values_of(SMALL, count, seed) for seed in range(3)]
    keys, wires = total(SMALL, count, *(upload(SMALL, v, seed) for seed, v in enumerate(values)))
    opened = kahe.unmask(SMALL, PUBLIC, keys, wires, count, 3)
    assert opened.dtype == np.int64
    assert np.array_equal(opened, np.sum(values, axis=0, dtype=np.int64))
    assert len(wires) == kahe.wire_bytes(SMALL, count)


def test_the_sum_of_a_thousand_full_scale_uploads_is_exact():
    count = 4096
    signs = np.where(np.arange(count) % 2, 1, -1).astype(np.int32)
    values = signs * np.int32(WIDE.bound)
    accumulator = kahe.Accumulator(WIDE, count)
    keys = np.zeros(kahe.DEGREE, np.int64)
    for seed in range(1000):
        secret, wire = upload(WIDE, values, seed)
        keys += secret
        accumulator.add(wire)
    assert accumulator.contributions == 1000
    opened = kahe.unmask(WIDE, PUBLIC, keys, accumulator.sum_bytes(), count, 1000)
    assert np.array_equal(opened, 1000 * values.astype(np.int64))
    with pytest.raises(errors.Misconfigured, match="more than 1000 masks"):
        accumulator.add(wire)


@hypothesis_settings(max_examples=25)
@given(
    st.integers(1, 60), st.integers(2, 20), st.integers(1, 9000), st.integers(1, 4), st.integers(0, 2**32 - 1)
)
def test_any_parameters_give_the_sum_back(cohort, bits, count, members, seed):
    parameters = kahe.parameters(cohort, bits)
    members = min(members, cohort)
    values = [values_of(parameters, count, seed + member) for member in range(members)]
    keys, wires = total(parameters, count, *(upload(parameters, v, seed + m) for m, v in enumerate(values)))
    opened = kahe.unmask(parameters, PUBLIC, keys, wires, count, members)
    assert np.array_equal(opened, np.sum(values, axis=0, dtype=np.int64))


def test_streams_give_the_same_bytes_and_values_as_whole_arrays():
    count = 8 * kahe.GROUP + 3000
    values = values_of(WIDE, count)
    secret, wire = upload(WIDE, values)
    entropy = entropy_of(0)
    pieces = list(kahe.mask_chunks(WIDE, PUBLIC, kahe.draw_secret(entropy), values, entropy, threads=2))
    assert len(pieces) == 2
    assert b"".join(pieces) == wire
    other_secret, other = upload(WIDE, values, seed=1)
    keys, summed = total(WIDE, count, (secret, wire), (other_secret, other))
    assert b"".join(kahe.sum_chunks(WIDE, count, [BytesIO(wire), BytesIO(other)])) == summed
    opened = list(kahe.unmask_chunks(WIDE, PUBLIC, keys, BytesIO(summed), count, 2))
    assert np.array_equal(np.concatenate(opened), 2 * values.astype(np.int64))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(threads):
    count = 17 * kahe.GROUP + 1
    values = values_of(WIDE, count)
    secret, wire = upload(WIDE, values)
    assert upload(WIDE, values, threads=threads)[1] == wire
    opened = kahe.unmask(WIDE, PUBLIC, secret, wire, count, 1, threads=threads)
    assert np.array_equal(opened, values)


def test_the_order_of_addition_does_not_change_the_sum():
    uploads = [upload(SMALL, values_of(SMALL, 3000, seed), seed) for seed in range(3)]
    assert total(SMALL, 3000, *uploads)[1] == total(SMALL, 3000, *reversed(uploads))[1]


# Parameters


@pytest.mark.parametrize(("bits", "width", "largest"), [(16, 4, 40), (24, 5, 40), (32, 6, 40), (24, 6, 2048)])
def test_each_wire_serves_its_largest_cohort_and_not_one_member_more(bits, width, largest):
    parameters = kahe.parameters(largest, bits)
    assert parameters.width == width
    if width == 6:
        with pytest.raises(errors.Misconfigured, match="do not fit"):
            kahe.parameters(largest + 1, bits)
    else:
        assert kahe.parameters(largest + 1, bits).width > width


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_sums_at_the_edge_of_each_wire_are_exact(bits):
    parameters = kahe.parameters(40, bits)
    values = np.array([parameters.bound, -parameters.bound, 0], np.int32)
    keys, wires = total(parameters, 3, *(upload(parameters, values, seed) for seed in range(40)))
    opened = kahe.unmask(parameters, PUBLIC, keys, wires, 3, 40)
    assert opened.tolist() == [40 * parameters.bound, -40 * parameters.bound, 0]


@given(st.integers(1, 20_000), st.integers(0, 40))
def test_parameters_leave_the_headroom_of_the_design_or_are_refused(cohort, bits):
    try:
        found = kahe.parameters(cohort, bits)
    except errors.Misconfigured:
        return
    assert found.prime % 4096 == 1
    assert found.prime < 2 ** (8 * found.width)
    needed = bits + 1.5 * np.log2(cohort) + np.log2(80) + 1
    assert np.log2(found.prime) >= needed - 2 ** (1 - bits)  # the bound is one less than a power of two
    assert found.delta >= 4 * kahe.noise_limit(cohort)


def test_a_thousand_members_with_24_bits_take_6_bytes_and_a_scale_of_2_to_the_13():
    assert (WIDE.width, WIDE.delta) == (6, 2**13)


def test_values_beyond_the_bound_are_refused():
    values = np.zeros(9 * kahe.GROUP, np.int32)
    values[-1] = SMALL.bound + 1
    for bad in (values, -values, values[-2:]):
        with pytest.raises(errors.Misconfigured, match="beyond 32767"):
            upload(SMALL, bad)
    with pytest.raises(errors.Misconfigured, match="flat array of int32"):
        upload(SMALL, np.zeros(3, np.int64))


@pytest.mark.parametrize("secret", [np.zeros(2047, np.int8), np.full(2048, 33, np.int8)])
def test_what_is_no_secret_masks_nothing(secret):
    with pytest.raises(errors.Misconfigured, match="a secret has 2048"):
        kahe.mask(SMALL, PUBLIC, secret, np.zeros(1, np.int32), entropy_of(0))


def test_a_public_key_has_16_or_32_bytes():
    secret = kahe.draw_secret(entropy_of(0))
    with pytest.raises(errors.Misconfigured, match="16 or 32"):
        kahe.mask(SMALL, bytes(24), secret, np.zeros(1, np.int32), entropy_of(0))
    with pytest.raises(errors.Misconfigured, match="16 or 32"):
        kahe.unmask(SMALL, bytes(15), secret, bytes(8192), 1, 1)


# What is noticed


def opened_pair(count=kahe.GROUP + 4096):
    values = [values_of(SMALL, count, seed) for seed in range(2)]
    keys, wires = total(SMALL, count, *(upload(SMALL, v, seed) for seed, v in enumerate(values)))
    return keys, wires, count


@pytest.mark.parametrize("index", [0, 1, 1023, 2047])
def test_one_wrong_coefficient_of_the_key_sum_is_noticed(index):
    keys, wires, count = opened_pair(2048)
    keys[index] += 1 if keys[index] < 0 else -1
    with pytest.raises(errors.Untrusted, match="noise"):
        kahe.unmask(SMALL, PUBLIC, keys, wires, count, 2)


def test_a_wrong_public_key_is_noticed():
    keys, wires, count = opened_pair()
    with pytest.raises(errors.Untrusted, match="noise"):
        kahe.unmask(SMALL, changed(PUBLIC, 7), keys, wires, count, 2)


@pytest.mark.parametrize("where", [0, 12345, -1])
def test_a_flipped_bit_is_noticed(where):
    keys, wires, count = opened_pair()
    with pytest.raises(errors.Untrusted, match="noise|below the prime"):
        kahe.unmask(SMALL, PUBLIC, keys, changed(wires, where), count, 2)


def test_swapped_groups_are_noticed():
    keys, wires, count = opened_pair(2 * kahe.GROUP)
    half = len(wires) // 2
    with pytest.raises(errors.Untrusted, match="noise"):
        kahe.unmask(SMALL, PUBLIC, keys, b"".join((wires[half:], wires[:half])), count, 2)


def test_a_missing_mask_and_a_missing_secret_are_noticed():
    uploads = [upload(SMALL, values_of(SMALL, 2048, seed), seed) for seed in range(3)]
    keys, wires = total(SMALL, 2048, *uploads)
    with pytest.raises(errors.Untrusted, match="noise"):
        kahe.unmask(SMALL, PUBLIC, keys, total(SMALL, 2048, *uploads[:2])[1], 2048, 3)
    with pytest.raises(errors.Untrusted, match="noise"):
        kahe.unmask(SMALL, PUBLIC, keys - uploads[0][0], wires, 2048, 3)


def test_a_key_sum_that_so_many_secrets_cannot_make_is_refused():
    keys, wires, count = opened_pair()
    for sign in (1, -1):
        large = keys.copy()
        large[5] = sign * 65
        with pytest.raises(errors.Untrusted, match="beyond 64"):
            kahe.unmask(SMALL, PUBLIC, large, wires, count, 2)
    with pytest.raises(errors.Untrusted, match="not 2048 coefficients"):
        kahe.unmask(SMALL, PUBLIC, keys[:-1], wires, count, 2)
    for contributions in (0, 4):
        with pytest.raises(errors.Misconfigured, match="1 to 3 masks"):
            kahe.unmask(SMALL, PUBLIC, keys, wires, count, contributions)


def test_a_member_that_did_not_clip_is_noticed():
    loose = kahe.Parameters(SMALL.cohort, 20, SMALL.width, SMALL.prime, SMALL.delta)
    values = np.array([0, 3 * SMALL.bound + 1], np.int32)
    keys, wires = total(SMALL, 2, upload(loose, values))
    with pytest.raises(errors.Untrusted, match="beyond 1 times the bound"):
        kahe.unmask(SMALL, PUBLIC, keys, wires, 2, 1)


def test_values_in_the_padding_are_noticed():
    keys, wires = total(SMALL, 100, upload(SMALL, np.ones(101, np.int32)))
    with pytest.raises(errors.Untrusted, match="behind its end"):
        kahe.unmask(SMALL, PUBLIC, keys, wires, 100, 1)


# Wires


@pytest.mark.parametrize(
    "parameters", [SMALL, kahe.parameters(40, 24), WIDE], ids=lambda p: f"{p.width} bytes"
)
def test_malformed_wires_are_refused_everywhere(parameters):
    count = 3000
    secret, wire = upload(parameters, values_of(parameters, count))
    kahe.check_wire(parameters, count, wire)
    width, size = parameters.width, len(wire) // parameters.width
    not_residue = bytearray(wire)
    prime = parameters.prime.to_bytes(width, "little")
    not_residue[4 * 7 : 4 * 8] = prime[:4]
    upper = 4 * size + (width - 4) * 7
    not_residue[upper : upper + width - 4] = prime[4:]
    for bad in (b"", wire[:-1], bytes(wire) + b"\0", bytes(not_residue)):
        for refuse in (
            lambda bad=bad: kahe.check_wire(parameters, count, bad),
            lambda bad=bad: kahe.Accumulator(parameters, count).add(wire, bad),
            lambda bad=bad: list(kahe.sum_chunks(parameters, count, [BytesIO(wire), BytesIO(bad)])),
            lambda bad=bad: kahe.unmask(parameters, PUBLIC, secret, bad, count, 1),
            lambda bad=bad: list(kahe.unmask_chunks(parameters, PUBLIC, secret, BytesIO(bad), count, 1)),
        ):
            with pytest.raises(errors.Untrusted):
                refuse()
    largest = bytearray(not_residue)
    largest[4 * 7] -= 1  # p - 1 is a residue: p is odd
    kahe.check_wire(parameters, count, largest)


def test_a_refused_wire_leaves_the_sum_as_it_was():
    good, also_good = (upload(WIDE, values_of(WIDE, 3000, seed), seed)[1] for seed in range(2))
    accumulator = kahe.Accumulator(WIDE, 3000)
    accumulator.add(good)
    before = accumulator.sum_bytes()
    with pytest.raises(errors.Untrusted, match="mask 2 of 2"):
        accumulator.add(also_good, b"\xff" * len(good))
    assert accumulator.sum_bytes() == before
    assert accumulator.contributions == 1


def test_a_wire_in_the_middle_of_a_buffer_is_read_all_the_same():
    secret, wire = upload(WIDE, values_of(WIDE, 3000))
    shifted = memoryview(b"x" + bytes(wire))[1:]
    opened = kahe.unmask(WIDE, PUBLIC, secret, shifted, 3000, 1)
    assert np.array_equal(opened, values_of(WIDE, 3000))


# Secrets and noise


def test_secrets_are_centred_binomial_and_do_not_repeat():
    entropy = entropy_of("secrets")
    secrets = np.array([kahe.draw_secret(entropy) for _ in range(100)]).astype(np.int64)
    assert len({s.tobytes() for s in secrets}) == 100
    assert abs(secrets.mean()) < 0.05  # five standard deviations of the mean of 204,800
    assert abs(secrets.var() - 16) < 0.3
    assert np.abs(secrets).max() <= 32


def test_noise_is_centred_binomial_and_never_repeats():
    # A mask of nothing under the secret zero is the transform of its noise; a scale of 1 opens it as values.
    count = 17 * kahe.GROUP  # more than two chunks
    nothing = np.zeros(2048, np.int8)
    wire = kahe.mask(WIDE, PUBLIC, nothing, np.zeros(count, np.int32), entropy_of("noise"))
    finer = kahe.Parameters(1000, 24, WIDE.width, WIDE.prime, 1)
    noise = kahe.unmask(finer, PUBLIC, nothing, wire, count, 1)
    assert abs(noise.mean()) < 0.03  # five standard deviations of the mean
    assert abs(noise.var() - 16) < 0.2
    assert np.abs(noise).max() <= 32
    assert len({part.tobytes() for part in np.split(noise, 17 * 16)}) == 17 * 16


def test_two_masks_of_the_same_values_share_nothing():
    values = np.zeros(2048, np.int32)
    first, second = upload(SMALL, values, 0)[1], upload(SMALL, values, 1)[1]
    same = np.frombuffer(first, np.uint32) == np.frombuffer(second, np.uint32)
    assert np.count_nonzero(same) < 3


def test_secret_and_noise_differ_even_where_entropy_repeats():
    secret = kahe.draw_secret(bytes)
    wire = kahe.mask(WIDE, PUBLIC, np.zeros(2048, np.int8), np.zeros(2048, np.int32), bytes)
    finer = kahe.Parameters(1000, 24, WIDE.width, WIDE.prime, 1)
    noise = kahe.unmask(finer, PUBLIC, np.zeros(2048, np.int8), wire, 2048, 1)
    assert not np.array_equal(noise, secret)
