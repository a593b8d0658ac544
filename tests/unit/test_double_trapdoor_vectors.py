"""Vectors made by the package, checked by an independent, slow implementation in plain Python integers.

After a wanted change of format or hashing: python -m tests.unit.test_double_trapdoor_vectors
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.trapdoors import CONTEXT, TEST_PRIMES, entropy

from hansa.crypto import double_trapdoor as dt

FILE = Path(__file__).parents[1] / "vectors" / "double_trapdoor.json"
CASES = [(512, "short"), (512, "full"), (2048, "short")]


def vector(bits: int, mode: dt.Mode) -> dict[str, Any]:
    """Everything that a small round sends, from entropy that anybody can repeat."""
    draw = entropy(bits)
    count = 3 if bits == 512 else 1
    setup = dt.split(*TEST_PRIMES[bits], draw, mode)
    p = setup.parameters
    members = []
    for number in (1, 2):
        secret = bytes([number]) * 32
        key = dt.derive_key(p, secret)
        possession = dt.prove_possession(p, key, CONTEXT, draw)
        plaintexts = [number, p.modulus - number, 1 << 100 * number][-count:]
        ciphertexts, proof = dt.encrypt_and_prove(p, key.public, plaintexts, CONTEXT, draw)
        members.append(
            {
                "secret": secret.hex(),
                "public": dt.write_public(p, key.public).hex(),
                "possession": dt.write_possession(p, possession).hex(),
                "plaintexts": [hex(m) for m in plaintexts],
                "ciphertexts": dt.write_ciphertexts(p, ciphertexts).hex(),
                "knowledge": dt.write_knowledge(p, proof).hex(),
                "content_key": bytes(range(32)).hex(),
                "wrapped": dt.wrap_key(p, key.public, bytes(range(32)), CONTEXT, draw).hex(),
            }
        )
    rows = [dt.read_ciphertexts(p, bytes.fromhex(m["ciphertexts"]), count) for m in members]
    products = dt.add_across_keys(p, rows)
    answers = [dt.raise_to_half(p, products, h, CONTEXT, draw) for h in (setup.key_centre, setup.server)]
    return {
        "bits": bits,
        "mode": mode,
        "p": hex(TEST_PRIMES[bits][0]),
        "q": hex(TEST_PRIMES[bits][1]),
        "context": CONTEXT.hex(),
        "parameters": dt.write_parameters(p).hex(),
        "halves": [dt.write_half(p, h).hex() for h in (setup.key_centre, setup.server)],
        "members": members,
        "products": [hex(t) for t in products],
        "answers": [dt.write_answer(p, a).hex() for a in answers],
        "sums": [hex(m) for m in dt.combine(p, products, answers)],
    }


def stored(bits: int, mode: str) -> dict[str, Any]:
    return next(v for v in json.loads(FILE.read_text()) if (v["bits"], v["mode"]) == (bits, mode))


cases = pytest.mark.parametrize(("bits", "mode"), CASES)


@cases
def test_the_package_makes_the_vectors(bits, mode):
    assert vector(bits, mode) == stored(bits, mode)


# --- the slow implementation: nothing of the package below this line ---


def shake(bits: int, label: bytes, *parts: int | bytes) -> int:
    text = b"hansa/double-trapdoor/1"
    for part in (label, *parts):
        data = part if isinstance(part, bytes) else part.to_bytes((part.bit_length() + 7) // 8, "big")
        text += len(data).to_bytes(8, "big") + data
    size = (bits + 7) // 8
    return int.from_bytes(hashlib.shake_256(text).digest(size), "big") >> (8 * size - bits)


def cut(text: str, *sizes: int) -> list[int]:
    data, numbers = bytes.fromhex(text), []
    for size in sizes:
        numbers.append(int.from_bytes(data[:size], "big"))
        data = data[size:]
    assert data == b""
    return numbers


class Slow:
    """Public values and the whole strong trapdoor of a vector, from its primes."""

    def __init__(self, v: dict[str, Any]) -> None:
        p, q = int(v["p"], 16), int(v["q"], 16)
        self.n, self.bits, self.size = p * q, v["bits"], v["bits"] // 8
        self.square = self.n**2
        self.order = 2 * (p // 2) * (q // 2)
        self.exponents = 256 if v["mode"] == "short" else self.bits + 128
        self.response = (self.exponents + 400 + 7) // 8
        self.g = pow(self.below_n(b"generator"), 2 * self.n, self.square)
        self.w = pow(self.below_n(b"base"), 2, self.n)
        # d = 0 mod 2p'q' and d = 1 mod N.
        self.d = self.order * pow(self.order, -1, self.n)
        self.context = bytes.fromhex(v["context"])

    def below_n(self, label: bytes, *parts: int) -> int:
        return shake(self.bits + 128, label, self.n, *parts) % self.n

    def trapdoor(self, member: dict[str, Any]) -> int:
        return shake(self.exponents, b"trapdoor", self.n, bytes.fromhex(member["secret"]))

    def strong(self, t1: int) -> int:
        u = pow(t1, self.d, self.square)
        assert u % self.n == 1
        return (u - 1) // self.n

    def weak(self, t1: int, t2: int, theta: int) -> int:
        u = t1 * pow(t2, -theta, self.square) % self.square
        assert u % self.n == 1
        return (u - 1) // self.n

    def pairs(self, text: str) -> list[tuple[int, int]]:
        numbers = cut(text, *[2 * self.size] * (len(text) // 4 // self.size))
        return list(zip(numbers[::2], numbers[1::2], strict=True))


@cases
def test_parameters_and_halves(bits, mode):
    v = stored(bits, mode)
    s = Slow(v)
    fields = cbor2.loads(bytes.fromhex(v["parameters"]))
    exponent_bits, roots = fields[1], [int.from_bytes(r, "big") for r in fields[7]]
    n, w, v_k, v_s, g = (int.from_bytes(f, "big") for f in fields[2:7])
    assert (fields[0], exponent_bits, n, w, g) == (1, s.exponents, s.n, s.w, s.g)
    assert [pow(r, n, n) for r in roots] == [s.below_n(b"root", j) for j in range(8)]
    (side_k, c_k), (side_s, c_s) = (cut(h, 1, s.size) for h in v["halves"])
    assert (side_k, side_s) == (1, 2)
    assert [v_k, v_s] == [pow(w, c_k, n), pow(w, c_s, n)]
    # The trapdoor d is 1 + cN in the exponent: d_K = c_K N and d_S = 1 + c_S N are a split of it.
    assert (1 + (c_k + c_s) * n - s.d) % (s.order * n) == 0
    assert pow(g, s.order // 2, s.square) == 1
    assert 1 not in (pow(g, 2, s.square), pow(g, int(v["p"], 16) // 2, s.square))


@cases
def test_keys_ciphertexts_and_their_proofs(bits, mode):
    v = stored(bits, mode)
    s = Slow(v)
    for member in v["members"]:
        theta = s.trapdoor(member)
        h = pow(s.g, theta, s.square)
        assert cut(member["public"], 2 * s.size) == [h]

        e, z = cut(member["possession"], 16, s.response)
        a = pow(s.g, 2 * z, s.square) * pow(h, -2 * e, s.square) % s.square
        assert e == shake(128, b"possession", s.context, s.n, s.g, h, a)

        pairs = s.pairs(member["ciphertexts"])
        plaintexts = [int(m, 16) for m in member["plaintexts"]]
        assert [s.weak(*pair, theta) for pair in pairs] == plaintexts
        assert [s.strong(t1) for t1, _ in pairs] == plaintexts

        e, z, y = cut(member["knowledge"], 16, s.response, s.size)
        elements = [t for pair in pairs for t in pair]
        seed = shake(256, b"knowledge", s.context, s.n, s.g, h, *elements)
        x1 = x2 = 1
        for j, (t1, t2) in enumerate(pairs):
            weight = 2 * shake(128, b"weight", seed, j)
            x1, x2 = x1 * pow(t1, weight, s.square), x2 * pow(t2, weight, s.square)
        a1 = pow(h, z, s.square) * (1 + y * s.n) * pow(x1, -e, s.square) % s.square
        a2 = pow(s.g, z, s.square) * pow(x2, -e, s.square) % s.square
        assert e == shake(128, b"knowledge/challenge", seed, a1, a2)


@cases
def test_opening(bits, mode):
    v = stored(bits, mode)
    s = Slow(v)
    rows = [s.pairs(m["ciphertexts"]) for m in v["members"]]
    products = [one[0] * two[0] % s.square for one, two in zip(*rows, strict=True)]
    assert [int(t, 16) for t in v["products"]] == products
    sums = [
        sum(int(m, 16) for m in column) % s.n
        for column in zip(*(m["plaintexts"] for m in v["members"]), strict=True)
    ]
    assert [int(m, 16) for m in v["sums"]] == sums == [s.strong(t) for t in products]

    halves = [cut(h, 1, s.size)[1] for h in v["halves"]]
    # The textbook's way: powers mod N**2 by the split d_K = c_K N, d_S = 1 + c_S N.
    d_k, d_s = halves[0] * s.n, 1 + halves[1] * s.n
    for t, m in zip(products, sums, strict=True):
        assert pow(t, d_k, s.square) * pow(t, d_s, s.square) % s.square == (1 + m * s.n) % s.square

    for half, answer in zip(halves, v["answers"], strict=True):
        *powers, e, z = cut(answer, *[s.size] * len(products), 16, (s.bits + 400 + 7) // 8)
        assert powers == [pow(t, 2 * half, s.n) for t in products]
        verifier = pow(s.w, half, s.n)
        seed = shake(256, b"half", s.context, s.n, s.w, verifier, *products, *powers)
        x = y = 1
        for j, (t, power) in enumerate(zip(products, powers, strict=True)):
            weight = 2 * shake(128, b"weight", seed, j)
            x, y = x * pow(t, 2 * weight, s.n) % s.n, y * pow(power, weight, s.n) % s.n
        a = pow(s.w, 2 * z, s.n) * pow(verifier, -2 * e, s.n) % s.n
        b = pow(x, z, s.n) * pow(y, -e, s.n) % s.n
        assert e == shake(128, b"half/challenge", seed, a, b)


@cases
def test_wrapped_keys(bits, mode):
    v = stored(bits, mode)
    s = Slow(v)
    for member in v["members"]:
        theta, wrapped = s.trapdoor(member), bytes.fromhex(member["wrapped"])
        header, body = wrapped[: 4 * s.size], wrapped[4 * s.size :]
        [(t1, t2)] = s.pairs(header.hex())
        m, h = s.weak(t1, t2, theta), pow(s.g, theta, s.square)
        assert s.strong(t1) == m  # the escrow
        r = shake(s.exponents, b"wrap/exponent", s.context, s.n, h, m)
        assert t2 == pow(s.g, r, s.square)
        key = shake(256, b"wrap/key", s.context, h, m, header).to_bytes(32, "big")
        assert AESGCM(key).decrypt(bytes(12), body, s.context).hex() == member["content_key"]


if __name__ == "__main__":
    FILE.write_text(json.dumps([vector(*case) for case in CASES], indent=1) + "\n")
