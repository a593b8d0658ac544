"""Both kernels against exact integers, and against each other bit for bit."""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
import pytest
from tests.unit.test_kahe import PUBLIC, entropy_of, values_of

from hansa.crypto import kahe
from hansa.crypto.kahe import kernel as kernel_choice
from hansa.crypto.kahe import kernel_numba, kernel_numpy
from hansa.crypto.kahe.parameters import PRIMES
from hansa.crypto.kahe.ring import centred, reversed_bits, ring
from hansa.crypto.kahe.stream import Coins, Publics

KERNELS = pytest.mark.parametrize("kernel", [kernel_numba, kernel_numpy], ids=["numba", "numpy"])
EACH_PRIME = pytest.mark.parametrize("prime", PRIMES.values(), ids=[f"{width} bytes" for width in PRIMES])


@EACH_PRIME
def test_the_primes_are_prime_and_the_largest_of_their_kind(prime):
    width = next(w for w, p in PRIMES.items() if p == prime)
    candidates = range(2 ** (8 * width) - 4095, prime - 1, -4096)
    assert [c for c in candidates if _is_prime(c)] == [prime]


@EACH_PRIME
def test_psi_is_a_root_of_x_to_the_2048_plus_1(prime):
    assert pow(ring(prime).psi, 2048, prime) == prime - 1


@KERNELS
@EACH_PRIME
@pytest.mark.parametrize("lanes", [1, 3, 16])
def test_the_transform_is_the_polynomial_at_the_roots(kernel, prime, lanes):
    field = ring(prime)
    rng = np.random.default_rng(lanes)
    coefficients = rng.integers(-(prime // 2), prime // 2, 2048 * lanes)
    elements = coefficients.astype(kernel.DTYPE)
    kernel.forward(kernel.prepare(field), elements)
    for lane in (0, lanes - 1):
        polynomial = [int(c) for c in coefficients[lane::lanes]]
        for index in (0, 1, 1024, 1365, 2047):
            x, value = pow(field.psi, 2 * reversed_bits(index) + 1, prime), 0
            for coefficient in reversed(polynomial):
                value = (value * x + coefficient) % prime
            assert int(elements[index * lanes + lane]) % prime == value


@KERNELS
@EACH_PRIME
@pytest.mark.parametrize("lanes", [1, 3, 16])
def test_the_inverse_takes_the_transform_back(kernel, prime, lanes):
    prepared = kernel.prepare(ring(prime))
    extremes = np.array([0, 1, -1, prime // 2, -(prime // 2)])
    coefficients = np.random.default_rng(0).choice(extremes, 2048 * lanes)
    elements = coefficients.astype(kernel.DTYPE)
    kernel.forward(prepared, elements)
    residues = np.array([centred(int(e) % prime, prime) for e in elements], kernel.DTYPE)
    kernel.inverse(prepared, residues)
    assert all((int(r) - int(c)) % prime == 0 for r, c in zip(residues, coefficients, strict=True))


@KERNELS
@EACH_PRIME
def test_products_are_exact_at_the_edges_of_the_field(kernel, prime):
    prepared = kernel.prepare(ring(prime))
    secret = np.random.default_rng(1).integers(-32_000, 32_001, 2048)
    key = kernel.key(prepared, secret, 1)
    transformed = secret.astype(kernel.DTYPE)
    kernel.forward(prepared, transformed)
    edges = [0, 1, prime // 2, prime - 2, prime - 1]
    public = [edges[i] for i in np.random.default_rng(2).integers(0, 5, 2048)]
    for start in (0, 1, prime - 1):
        masked = planes_of([0] * 2048, prime)
        kernel.blind(
            prepared, np.full(2048, start).astype(kernel.DTYPE), planes_of(public, prime), key, masked
        )
        expected = [(start + a * int(s)) % prime for a, s in zip(public, transformed, strict=True)]
        assert integers_of(masked) == expected
        elements = np.empty(2048, kernel.DTYPE)
        kernel.unblind(prepared, masked, planes_of(public, prime), key, elements)
        assert all(int(e) % prime == start % prime for e in elements)


@KERNELS
@EACH_PRIME
def test_sums_are_exact_and_reduced_exactly(kernel, prime):
    rng = np.random.default_rng(3)
    multiples = [prime * (2**62 // prime // k) for k in range(1, 2000)]
    edges = np.array([0, 1, 2**62 - 1, *multiples, *(m - 1 for m in multiples), *(m + 1 for m in multiples)])
    sums = np.concatenate([edges, rng.integers(0, 2**62, 10_000)]).astype(np.uint64)
    out = planes_of([0] * sums.size, prime)
    kernel.reduce(sums, prime, out)
    assert integers_of(out) == [int(s) % prime for s in sums]
    before = sums.tolist()
    assert kernel.accumulate(out, prime, sums) == 0
    assert sums.tolist() == [b + b % prime for b in before]


@pytest.mark.parametrize("parameters", [kahe.parameters(40, 16), kahe.parameters(1000, 24)])
def test_streams_are_found_at_any_group(parameters):
    def publics(group, groups):
        stream = Publics(parameters, PUBLIC, kernel_numpy, group)
        return [
            integers_of(stream.next(np.empty(kahe.GROUP * parameters.width, np.uint8))) for _ in range(groups)
        ]

    def coins(group, groups):
        stream = Coins(PUBLIC, group)
        return [stream.next(np.empty(kahe.GROUP, np.uint64)).tolist() for _ in range(groups)]

    for found in (publics, coins):
        first, second, third = found(0, 3)
        assert [second, third] == found(1, 2)
        assert first != second


@KERNELS
@EACH_PRIME
def test_coefficients_that_are_no_residues_are_counted(kernel, prime):
    top = 2 ** (next(w for w, p in PRIMES.items() if p == prime) * 8) - 1
    planes = planes_of([0, prime - 1, prime, 5, top, prime + 1], prime)
    assert kernel.excess(planes, prime) == 3
    assert kernel.accumulate(planes, prime, np.zeros(6, np.uint64)) == 3


def planes_of(integers, prime):
    words = np.array(integers, np.uint64)
    high = (words >> np.uint64(32)).astype(np.uint16 if prime > 2**40 else np.uint8)
    return words.astype(np.uint32), high if prime > 2**32 else high[:0]


def integers_of(planes):
    low, high = planes
    upper = high.tolist() if high.size else [0] * low.size
    return [below + (above << 32) for below, above in zip(low.tolist(), upper, strict=True)]


@KERNELS
def test_values_and_noise_are_encoded_exactly(kernel):
    words = np.random.default_rng(4).integers(0, 2**64, 2048, dtype=np.uint64)
    words[:3] = 0, 2**64 - 1, 2**63
    out = np.empty(2048, kernel.DTYPE)
    values = np.array([5, -7, 8, -8, 2**31 - 1, -(2**31)], np.int32)
    assert kernel.encode(values, 7, words, 1024, out) == 4
    expected = [int(w).bit_count() - 32 for w in words]
    for i, value in enumerate(values.tolist()):
        expected[i] += value * 1024
    assert out.tolist() == expected


@pytest.mark.parametrize(("cohort", "bits"), [(40, 16), (40, 24), (1000, 24)])
@pytest.mark.parametrize("count", [1, 2048 * 3 + 5, kahe.GROUP + 4097])
def test_both_kernels_give_the_same_bits(cohort, bits, count):
    parameters = kahe.parameters(cohort, bits)
    values = values_of(parameters, count)
    secret = kahe.draw_secret(entropy_of("secret"))
    wires, sums, opened = [], [], []
    for kernel in (kernel_numba, kernel_numpy):
        wire = kahe.mask(parameters, PUBLIC, secret, values, entropy_of("noise"), kernel=kernel)
        accumulator = kahe.Accumulator(parameters, count, kernel=kernel)
        accumulator.add(*[wire] * 5)
        wires.append(bytes(wire))
        sums.append(accumulator.sum_bytes())
        opened.append(kahe.unmask(parameters, PUBLIC, secret, wire, count, 1, kernel=kernel))
    assert wires[0] == wires[1]
    assert sums[0] == sums[1]
    assert np.array_equal(opened[0], values)
    assert np.array_equal(opened[0], opened[1])


def test_without_numba_the_numpy_kernel_serves_and_that_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    kernel_choice.default_kernel.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert kahe.default_kernel() is kernel_numpy
            assert kahe.default_kernel() is kernel_numpy
        assert [r.message for r in caplog.records if "numba is not installed" in r.message] == [
            caplog.records[0].message
        ]
    finally:
        kernel_choice.default_kernel.cache_clear()


def _is_prime(n):
    """Miller and Rabin; with these bases exact below 3 * 10**24."""
    if any(n % q == 0 for q in (2, 3, 5, 7, 11, 13)):
        return False
    twos = ((n - 1) & -(n - 1)).bit_length() - 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        x = pow(base, (n - 1) >> twos, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True
