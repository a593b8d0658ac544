from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trapdoors import CONTEXT, TEST_PRIMES, entropy, made, member

from hansa import errors
from hansa.crypto import double_trapdoor as dt
from hansa.crypto.double_trapdoor import parameters as public
from hansa.crypto.double_trapdoor import primes, tables

MADE = made()
P = MADE.parameters
N = int(P.modulus)
KEY = member()

sizes_and_modes = pytest.mark.parametrize(("bits", "mode"), [(512, "short"), (512, "full"), (2048, "short")])


def encrypted(plaintext: int, key: dt.WeakKey = KEY, seed: int = 0) -> dt.Ciphertext:
    return dt.encrypt(P, key.public, plaintext, dt.draw_exponent(P, entropy(seed)))


def opened(elements: list[int], setup: dt.SetUp = MADE) -> list[int]:
    halves = (setup.key_centre, setup.server)
    answers = [dt.raise_to_half(setup.parameters, elements, h, CONTEXT, entropy()) for h in halves]
    for answer in answers:
        dt.check_half(setup.parameters, elements, answer, CONTEXT)
    return dt.combine(setup.parameters, elements, answers)


@sizes_and_modes
def test_weak_strong_and_split_paths_agree_across_keys(bits, mode):
    setup, draw = made(bits, mode), entropy(1)
    p = setup.parameters
    dt.check_parameters(p, bits)
    keys = [member(i, bits, mode) for i in (1, 2)]
    plain = [[random.Random(i).randrange(p.modulus), 0, p.modulus - 1] for i in range(2)]
    rows = [
        [dt.encrypt(p, key.public, m, dt.draw_exponent(p, draw)) for m in row]
        for key, row in zip(keys, plain, strict=True)
    ]
    for key, row, numbers in zip(keys, rows, plain, strict=True):
        assert [dt.weak_decrypt(p, key, c) for c in row] == numbers
        assert [dt.strong_decrypt(*TEST_PRIMES[bits], c.t1) for c in row] == numbers
        assert opened([c.t1 for c in row], setup) == numbers
    products = dt.add_across_keys(p, rows)
    sums = [sum(column) % p.modulus for column in zip(*plain, strict=True)]
    assert opened(products, setup) == sums
    assert [dt.strong_decrypt(*TEST_PRIMES[bits], t) for t in products] == sums


def test_exponents_have_the_length_of_their_mode():
    assert made().parameters.exponent_bits == 256
    full = made(mode="full").parameters
    assert full.exponent_bits == 512 + 128
    assert 600 < member(mode="full").trapdoor.bit_length() <= 640
    assert member().trapdoor.bit_length() <= 256
    assert dt.draw_exponent(full, lambda size: b"\xff" * size) == 2**640 - 1


@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=6))
def test_a_product_under_one_key_is_the_sum_mod_n(numbers):
    [total] = dt.add_under_one_key(P, [[encrypted(m, seed=i)] for i, m in enumerate(numbers)])
    assert dt.weak_decrypt(P, KEY, total) == sum(numbers) % N
    assert opened([total.t1]) == [sum(numbers) % N]


@pytest.mark.parametrize("mode", ["short", "full"])
@given(exponent=st.integers(0, 2**256 - 1), top=st.integers(0, 2**640))
def test_tables_compute_powers(mode, exponent, top):
    p = made(mode=mode).parameters
    for e in (exponent, exponent + (top << p.exponent_bits - 256)):
        assert tables.table_power(p, p.generator, e) == pow(int(p.generator), e, N * N)


def test_a_table_refuses_an_exponent_that_it_does_not_cover():
    limit = 1 << P.exponent_bits + public.NONCE_BITS
    for exponent in (-1, limit):
        with pytest.raises(ValueError, match="exponent"):
            tables.table_power(P, P.generator, exponent)


@pytest.mark.parametrize("plaintext", [-1, N])
def test_a_plaintext_out_of_range_is_refused(plaintext):
    with pytest.raises(errors.Misconfigured):
        encrypted(plaintext)


def test_a_wrong_key_opens_nothing():
    with pytest.raises(errors.Untrusted, match="does not open"):
        dt.weak_decrypt(P, member(2), encrypted(5))


@pytest.mark.parametrize("t1", [0, int(TEST_PRIMES[512][0]), N, N * N, -1])
def test_what_is_no_unit_is_opened_by_nobody(t1):
    bad = dataclasses.replace(encrypted(5), t1=t1)
    for opening in (lambda: dt.weak_decrypt(P, KEY, bad), lambda: opened([bad.t1])):
        with pytest.raises(errors.Untrusted, match="shares a factor"):
            opening()


def test_an_element_of_order_two_disturbs_no_opening_and_shows_no_parity():
    rows = [[encrypted(m, member(m), m)] for m in (1, 2, 3)]
    minus = dt.Ciphertext(N * N - rows[1][0].t1, rows[1][0].t2)
    assert opened(dt.add_across_keys(P, [rows[0], [minus], rows[2]])) == [6]
    for ciphertext in (minus, dt.Ciphertext(rows[1][0].t1, N * N - rows[1][0].t2)):
        assert dt.weak_decrypt(P, member(2), ciphertext) == 2
    assert {int(member(i).trapdoor) % 2 for i in range(1, 9)} == {0, 1}


def test_one_half_or_a_wrong_one_opens_nothing():
    setup, elements = made(), [encrypted(m, seed=m).t1 for m in (4, 5)]
    halves = (setup.key_centre, setup.server)
    centre, server = (dt.raise_to_half(P, elements, h, CONTEXT, entropy()) for h in halves)
    assert dt.combine(P, elements, [server, centre]) == [4, 5]
    for answers in (
        [],
        [centre],
        [centre, centre],
        [centre, dataclasses.replace(server, powers=server.powers[:1])],
    ):
        with pytest.raises(errors.Untrusted, match="one answer from the key centre and one from a server"):
            dt.combine(P, elements, answers)
    other = dt.raise_to_half(
        P, elements, dt.Half(dt.Side.SERVER, setup.server.exponent + 1), CONTEXT, entropy()
    )
    for wrong in (other, dataclasses.replace(server, powers=server.powers[::-1])):
        with pytest.raises(errors.Untrusted, match="does not open"):
            dt.combine(P, elements, [centre, wrong])


def test_halves_of_another_split_of_the_same_trapdoor_are_refused():
    """Both splits open, but not one half of each."""
    again = dt.split(*TEST_PRIMES[512], entropy(7))
    assert again.parameters.generator == P.generator
    assert again.server.exponent != made().server.exponent
    element = encrypted(4).t1
    answer = dt.raise_to_half(P, [element], again.server, CONTEXT, entropy())
    with pytest.raises(errors.Untrusted, match="the server's half"):
        dt.check_half(P, [element], answer, CONTEXT)


def test_a_set_up_draws_safe_primes_of_one_size_and_keeps_none():
    setup = dt.set_up(2048, entropy(3))
    dt.check_parameters(setup.parameters, 2048)
    n = int(setup.parameters.modulus)
    assert n.bit_length() == 2048
    key = dt.derive_key(setup.parameters, bytes(32))
    assert opened([dt.encrypt(setup.parameters, key.public, 7, 2**255).t1], setup) == [7]
    values = [h.exponent for h in (setup.key_centre, setup.server)]
    for number in (*values, *dataclasses.astuple(setup.parameters)[:5]):
        assert number == n or public.gmpy2.gcd(number, n) == 1


def test_safe_primes_are_safe():
    p = primes.safe_prime(160, entropy(5))
    assert p.bit_length() == 160
    assert p >> 158 == 3
    assert primes.is_safe_prime(p)
    assert not primes.is_safe_prime(13)
    assert not primes.is_safe_prime(15)
    assert primes.is_safe_prime(23)
    assert p == primes.safe_prime(160, entropy(5)) != primes.safe_prime(160, entropy(6))


@pytest.mark.parametrize("bits", [512, 1024, 3071])
def test_a_set_up_makes_no_other_sizes(bits):
    with pytest.raises(errors.Misconfigured, match="not offered"):
        dt.set_up(bits, entropy())


def unsafe_prime(bits: int) -> int:
    """A prime p = 1 mod 4: (p - 1) / 2 is even."""
    p = 3 << bits - 2 | 1
    while not public.gmpy2.is_prime(p):
        p += 4
    return p


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (TEST_PRIMES[512][0], TEST_PRIMES[512][0]),
        (TEST_PRIMES[512][0], unsafe_prime(256)),
        (TEST_PRIMES[512][0], TEST_PRIMES[512][1] + 2),
        (TEST_PRIMES[512][0], TEST_PRIMES[2048][0]),
    ],
    ids=["equal", "unsafe", "composite", "of mixed sizes"],
)
def test_a_split_demands_two_different_safe_primes_of_one_size(p, q):
    with pytest.raises(errors.Misconfigured, match="not two different safe primes"):
        dt.split(p, q, entropy())


def test_secrets_stand_in_no_representation():
    setup = made()
    for value, secret in (
        (setup, setup.server.exponent),
        (setup, setup.key_centre.exponent),
        (KEY, KEY.trapdoor),
    ):
        assert str(int(secret)) not in repr(value)


def test_a_key_follows_from_its_secret_and_the_parameters():
    assert dt.derive_key(P, bytes(32)) == dt.derive_key(P, bytes(32))
    assert dt.derive_key(P, bytes(32)) != dt.derive_key(P, bytes(31) + b"\1")
    assert dt.derive_key(P, bytes(32)).trapdoor != member(0, 2048).trapdoor
    with pytest.raises(errors.Misconfigured, match="shorter than 32"):
        dt.derive_key(P, bytes(31))


# --- parameters ---


def changed(**values: object) -> dt.Parameters:
    return dataclasses.replace(P, **values)


def another(p: int, q: int) -> dt.Parameters:
    """Parameters as consistent as they can be for a bad N = pq."""
    n = p * q
    return dt.Parameters(n, public.generator(n), public.base(n), 1, 1, 256, P.roots)


def dividing_primes() -> tuple[int, int]:
    """Primes p, q with p | q - 1, of 200 and 312 bits, so that gcd(N, phi(N)) = p."""
    p = int(public.gmpy2.next_prime(3 << 198))
    k = 3 << 111
    while not (public.gmpy2.is_prime(k * p + 1) and (k * p + 1) * p >> 511 == 1):
        k += 2
    return p, k * p + 1


HALF_PRIME = int(TEST_PRIMES[512][0])

BAD_PARAMETERS = {
    "wrong size": (lambda: made(2048).parameters, "has 2048 bits, not 512"),
    "even": (lambda: changed(modulus=N - 1), "small factor"),
    "small factor": (lambda: another(3, (1 << 510) + 1), "small factor"),
    "prime": (lambda: another(1, int(public.gmpy2.next_prime(1 << 511))), "prime or a power"),
    "perfect square": (lambda: another(HALF_PRIME, HALF_PRIME), "prime or a power"),
    "g**2 = 1": (lambda: changed(generator=N * N - 1), "generator"),
    "g = 1": (lambda: changed(generator=1), "generator"),
    "g = 1 + N": (lambda: changed(generator=N + 1), "generator"),
    "-g": (lambda: changed(generator=N * N - P.generator), "generator"),
    "g not an N-th power": (lambda: changed(generator=P.generator * (N + 1) % (N * N)), "generator"),
    "another g": (lambda: changed(generator=pow(int(P.generator), 3, N * N)), "generator"),
    "another w": (lambda: changed(base=P.base * P.base % N), "generator or base"),
    "exponents too short": (lambda: changed(exponent_bits=128), "exponents of 128 bits"),
    "no unit": (lambda: changed(server=HALF_PRIME), "unit"),
    "zero": (lambda: changed(server=0), "unit"),
    "above N": (lambda: changed(server=P.server + N), "not below N"),
    "key centre's key": (lambda: changed(key_centre=P.key_centre * P.base % N), "halves of one trapdoor"),
    "server's key": (lambda: changed(server=N - P.server), "halves of one trapdoor"),
    "swapped roots": (lambda: changed(roots=P.roots[::-1]), "proof of gcd"),
    "a wrong root": (lambda: changed(roots=(*P.roots[:7], N - P.roots[7])), "proof of gcd"),
    "missing root": (lambda: changed(roots=P.roots[:7]), "proof of gcd"),
    "no roots": (lambda: changed(roots=()), "proof of gcd"),
}


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_bad_parameters_are_refused(name):
    make, message = BAD_PARAMETERS[name]
    with pytest.raises(errors.Untrusted, match=message):
        dt.check_parameters(make(), 512)


def test_no_roots_exist_where_n_is_not_prime_to_phi(monkeypatch):
    p, q = dividing_primes()
    n, order = p * q, (p - 1) * (q - 1)
    assert order % p == 0
    # Hardly any number has an N-th root, the challenges do not.
    assert all(pow(int(c), order // p, n) != 1 for c in public.root_challenges(n))
    monkeypatch.setattr(public, "base", lambda _: 1)
    fitting = dataclasses.replace(another(p, q), roots=(1,) * 8)
    with pytest.raises(errors.Untrusted, match="proof of gcd"):
        dt.check_parameters(fitting, 512)


# --- content keys ---


def test_a_wrapped_key_opens_for_its_owner_only():
    content = bytes(range(32))
    wrapped = dt.wrap_key(P, KEY.public, content, CONTEXT, entropy())
    assert len(wrapped) == dt.wrapped_bytes(P)
    assert dt.unwrap_key(P, KEY, wrapped, CONTEXT) == content
    assert content not in wrapped
    for key, context, data in (
        (member(2), CONTEXT, wrapped),
        (KEY, CONTEXT + b"!", wrapped),
        (KEY, CONTEXT, wrapped[:-1]),
        (KEY, CONTEXT, wrapped + b"\0"),
        (KEY, CONTEXT, b""),
        (member(1, 2048), CONTEXT, wrapped),
        *((KEY, CONTEXT, flipped(wrapped, at)) for at in range(0, len(wrapped), 7)),
    ):
        with pytest.raises(errors.Untrusted, match="does not open"):
            dt.unwrap_key(P, key, data, context)
    with pytest.raises(errors.Misconfigured):
        dt.wrap_key(P, KEY.public, content[1:], CONTEXT, entropy())


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_wrapped_key_is_refused_if_it_would_tell_of_the_trapdoor():
    """All else is as an honest sender makes it: squares open -T2 and a factor 1 + cN, encrypting again does not."""
    for number in (1, 2, 3, 4):
        key = member(number)
        honest = dt.encrypt(P, key.public, 5, 1 << 200)
        for t1, t2, m in (
            (honest.t1, honest.t2, 5),
            (honest.t1, N * N - honest.t2, 5),
            (N * N - honest.t1, honest.t2, 5),
            (honest.t1, honest.t2 * (1 + N) % (N * N), (5 - key.trapdoor) % N),
        ):
            crafted = dt.Ciphertext(t1, t2)
            assert dt.weak_decrypt(P, key, crafted) == m
            header = dt.write_ciphertexts(P, [crafted])
            body = dt.wrapping._cipher(key.public, m, header, CONTEXT).encrypt(bytes(12), bytes(32), CONTEXT)
            with pytest.raises(errors.Untrusted, match="does not open"):
                dt.unwrap_key(P, key, header + body, CONTEXT)
