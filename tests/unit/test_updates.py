from __future__ import annotations

import dataclasses
import math
import random
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from hansa import encoding, errors
from hansa.protocol import framing, updates
from hansa.records import Limits, Update

LIMITS = Limits()
LOW, HIGH = -(2**31), 2**31 - 1
int32s = st.one_of(st.integers(LOW, HIGH), st.integers(-3, 3), st.sampled_from([LOW, HIGH]))


def sample(values=None, indices=None, length=8, **changes) -> Update:
    dense = np.array([0, 1, -1, HIGH, LOW, 5, 6, 7], np.int32)
    given = {
        "federation": b"f" * 32,
        "round": 3,
        "member": 2,
        "version": 1,
        "base": b"b" * 32,
        "examples": 100,
        "millis": 1500,
        "timestamp": 1_700_000_000,
        "length": length,
        "values": dense if values is None else np.array(values, np.int32),
        "indices": None if indices is None else np.array(indices, np.uint32),
    }
    return Update(**given | changes)


def same(a: Update, b: Update) -> bool:
    plain = [f.name for f in dataclasses.fields(Update) if f.name not in ("values", "indices")]
    return (
        all(getattr(a, n) == getattr(b, n) for n in plain)
        and np.array_equal(a.values, b.values)
        and (a.indices is None) == (b.indices is None)
        and (a.indices is None or np.array_equal(a.indices, b.indices))
    )


def reheaded(data: bytes, body: bytes | None = None, **changes) -> bytes:
    """The same update with some header fields, or the body, replaced."""
    size = int.from_bytes(data[:4], "big")
    header = encoding.decode(data[4 : 4 + size]) | changes
    kind = header.pop("kind")
    return framing.pack(kind, header, data[4 + size :] if body is None else body)


@given(st.lists(int32s, max_size=60))
def test_a_dense_update_comes_back(values):
    update = sample(values, length=len(values))
    data = updates.encode_update(update)
    back = updates.decode_update(data, limits=LIMITS, length=len(values))
    assert same(back, update)
    assert updates.encode_update(back) == data


@given(st.dictionaries(st.integers(0, 2**32 - 1) | st.integers(0, 40), int32s, max_size=40))
def test_a_sparse_update_comes_back(cells):
    indices = sorted(cells)
    length = 2**32
    update = sample([cells[i] for i in indices], indices, length)
    back = updates.decode_update(updates.encode_update(update), limits=LIMITS, length=length)
    assert same(back, update)


def test_small_numbers_are_packed_and_noise_is_not():
    rng = np.random.default_rng(0)
    small = sample(np.rint(rng.normal(0, 600, 50_000)), length=50_000)
    noise = sample(rng.integers(LOW, HIGH, 50_000), length=50_000)
    packed, plain = updates.encode_update(small), updates.encode_update(noise)
    assert len(packed) < 0.5 * 4 * 50_000
    assert len(plain) > 4 * 50_000
    for data, update in ((packed, small), (plain, noise)):
        assert same(updates.decode_update(data, limits=LIMITS, length=50_000), update)
        assert data == updates.encode_update(update)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff" * 8,
        reheaded(updates.encode_update(sample()), federation=b"f"),
        reheaded(updates.encode_update(sample()), base=b"b" * 33),
        reheaded(updates.encode_update(sample()), round=-1),
        reheaded(updates.encode_update(sample()), round=2**63),
        reheaded(updates.encode_update(sample()), round=True),
        reheaded(updates.encode_update(sample()), member=1.0),
        reheaded(updates.encode_update(sample()), count=7),
        reheaded(updates.encode_update(sample()), count=-1),
        reheaded(updates.encode_update(sample()), length=7),
        reheaded(updates.encode_update(sample()), length=9, count=9),
        reheaded(updates.encode_update(sample()), sparse=True),
        reheaded(updates.encode_update(sample()), sparse=1),
        reheaded(updates.encode_update(sample()), packed=False),
        reheaded(updates.encode_update(sample()), surprise=0),
        reheaded(updates.encode_update(sample([1] * 9, range(9), 9)), length=8),
        reheaded(updates.encode_update(sample([1, 2], [3, 8], 9)), length=8),
        reheaded(updates.encode_update(sample([1] * 7, length=7)), length=8),
        updates.encode_update(sample([1, 2], [7, 8], 9)),
        updates.encode_update(sample()) + b"\0",
        updates.encode_update(sample())[:-1],
    ],
)
def test_malformed_bytes_are_refused_with_their_digest(bad):
    with pytest.raises(errors.Untrusted) as caught:
        updates.decode_update(bad, limits=LIMITS, length=8)
    assert caught.value.digest == encoding.digest(bad)


def test_the_first_index_outside_the_model_is_refused():
    inside = updates.encode_update(sample([1, 2], [0, 7], 8))
    assert updates.decode_update(inside, limits=LIMITS, length=8).indices.tolist() == [0, 7]
    outside = reheaded(updates.encode_update(sample([1, 2], [0, 8], 9)), length=8)
    with pytest.raises(errors.Untrusted, match="index 8"):
        updates.decode_update(outside, limits=LIMITS, length=8)


def test_indices_that_wrap_around_are_refused():
    """Gaps of 2**32 - 1 would come back into range if they were summed in 32 bits."""
    update = sample([1, 2, 3], [0, 1, 2], 8)
    gaps = np.array([0, 2**32 - 1, 0], np.uint32)
    body = updates._to_planes(gaps) + updates._to_planes(np.zeros(3, np.uint32))
    with pytest.raises(errors.Untrusted, match="outside"):
        updates.decode_update(
            reheaded(updates.encode_update(update), body, packed=False), limits=LIMITS, length=8
        )


def test_a_flipped_byte_never_gives_the_same_update():
    update = sample([0] * 400, length=400)
    data = updates.encode_update(update)
    for i in range(len(data)):
        try:
            back = updates.decode_update(
                data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :], limits=LIMITS, length=400
            )
        except errors.Untrusted:
            continue
        # zstandard has bits without a meaning; the digest, which is signed, covers them.
        assert not same(back, update) or i > int.from_bytes(data[:4], "big") + 4


def test_ten_times_the_allowed_size_is_refused():
    data = updates.encode_update(sample([7] * 80, length=80))
    with pytest.raises(errors.Untrusted):
        updates.decode_update(data, limits=LIMITS, length=8)
    with pytest.raises(errors.Untrusted, match="exceeds the limit"):
        updates.decode_update(bytes(10 * (8 * 4 + 1024)), limits=LIMITS, length=8)
    with pytest.raises(errors.Untrusted, match="exceeds the limit of 100"):
        updates.decode_update(data, limits=Limits(blob=100), length=80)


def bomb(size: int, *, announce: bool) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=announce).compress(bytes(size))


@pytest.mark.parametrize("announce", [True, False])
def test_a_decompression_bomb_is_refused_in_bounded_memory(announce):
    length = 100_000
    data = reheaded(
        updates.encode_update(sample([0] * length, length=length)), bomb(1 << 28, announce=announce)
    )
    tracemalloc.start()
    with pytest.raises(errors.Untrusted, match="packed body announces"):
        updates.decode_update(data, limits=LIMITS, length=length)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_bomb_that_lies_about_its_size_is_refused():
    length = 100_000
    honest = zstandard.ZstdCompressor().compress(bytes(4 * length))
    large = zstandard.ZstdCompressor().compress(bytes(100 * length))
    size = (4 * length).to_bytes(4, "little")
    assert honest.count(size) == 1
    lying = large.replace((100 * length).to_bytes(4, "little"), size)
    assert zstandard.get_frame_parameters(lying).content_size == 4 * length
    good = updates.encode_update(sample([0] * length, length=length))
    for body in (lying, honest + honest, honest + b"\0", honest[:-1]):
        with pytest.raises(errors.Untrusted, match="packed body"):
            updates.decode_update(reheaded(good, body), limits=LIMITS, length=length)


COMMITTED = {
    "federation": b"f" * 32,
    "round": 3,
    "member": 2,
    "version": 1,
    "base": b"b" * 32,
    "length": 8,
    "examples": 100,
    "millis": 1500,
    "timestamp": 1_700_000_000,
}


def test_an_update_that_matches_its_commitment_passes():
    updates.check_update(sample(), **COMMITTED)
    updates.check_update(sample([1], [3]), **COMMITTED)


@pytest.mark.parametrize("name", COMMITTED)
def test_every_field_is_held_against_the_commitment(name):
    other = bytes(32) if isinstance(COMMITTED[name], bytes) else COMMITTED[name] + 1
    with pytest.raises(errors.Untrusted, match=f"says {name} = "):
        updates.check_update(sample(), **COMMITTED | {name: other})


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(errors.Untrusted, match="7 values"):
        updates.check_update(sample([1] * 7), **COMMITTED)
    with pytest.raises(errors.Untrusted, match="1 values"):
        updates.check_update(sample([1], [2, 3]), **COMMITTED)


@given(
    st.lists(int32s, min_size=1, max_size=30), st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.99, 1.0]), st.data()
)
def test_top_gamma_equals_sorting_and_loses_nothing(delta, gamma, data):
    residual = data.draw(st.none() | st.lists(int32s, min_size=len(delta), max_size=len(delta)))
    total = [min(max(d + r, LOW), HIGH) for d, r in zip(delta, residual or [0] * len(delta), strict=True)]
    given_residual = None if residual is None else np.array(residual, np.int32)
    indices, values, rest = updates.top_gamma(np.array(delta, np.int32), given_residual, gamma)
    order = sorted(range(len(total)), key=lambda i: (-abs(total[i]), i))
    assert indices.tolist() == sorted(order[: math.ceil(gamma * len(total))])
    assert values.tolist() == [total[i] for i in indices]
    assert [
        rest[i] + (values[list(indices).index(i)] if i in indices else 0) for i in range(len(total))
    ] == total


def test_top_gamma_reads_gamma_as_a_decimal_fraction():
    """0.07 * 100 is 7.000000000000001 in binary; seven values are meant."""
    indices, _, _ = updates.top_gamma(np.arange(100, dtype=np.int32), None, 0.07)
    assert indices.tolist() == list(range(93, 100))


def test_ties_go_to_the_lowest_index_in_a_large_vector():
    rng = random.Random(0)
    delta = np.array([rng.choice([-1, 0, 1]) for _ in range(10_000)], np.int32)
    indices, _, _ = updates.top_gamma(delta, None, 0.5)
    ones = np.flatnonzero(delta)
    assert indices.tolist() == ones[:5000].tolist()


def test_top_gamma_leaves_its_inputs_alone():
    delta, residual = np.array([5, -9], np.int32), np.array([1, 1], np.int32)
    updates.top_gamma(delta, residual, 0.5)
    assert (delta.tolist(), residual.tolist()) == ([5, -9], [1, 1])


@pytest.mark.parametrize("gamma", [0.0, -0.1, 1.1, float("nan")])
def test_a_gamma_without_meaning_is_refused(gamma):
    with pytest.raises(errors.Misconfigured, match="gamma"):
        updates.top_gamma(np.zeros(3, np.int32), None, gamma)
    with pytest.raises(errors.Misconfigured, match="residual"):
        updates.top_gamma(np.zeros(3, np.int32), np.zeros(2, np.int32), 0.5)
