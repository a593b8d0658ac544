"""Vectors of the mask, checked by a slow implementation that shares nothing with the package.

`python -m tests.unit.test_kahe_vectors` writes the vectors anew, from the package.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import count as counter
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hansa.crypto import kahe

FILE = Path(__file__).parents[1] / "vectors" / "kahe.json"
CASES = json.loads(FILE.read_text()) if FILE.exists() else []
LANES = 16


def entropy_of(seed):
    numbers = counter()
    return lambda n: hashlib.shake_256(f"{seed}/{next(numbers)}".encode()).digest(n)


def value_at(i, bits):
    bound = 2 ** (bits - 1) - 1
    return i * 2654435761 % (2 * bound + 1) - bound


class Slow:
    """The definitions, in Python's integers, one coefficient at a time."""

    def __init__(self, case):
        self.case = case
        self.prime, self.width = case["prime"], case["width"]
        entropy = entropy_of(case["seed"])
        self.secret_key = hashlib.sha256(b"hansa/kahe-secret/1" + entropy(32)).digest()[:16]
        self.noise_key = hashlib.sha256(b"hansa/kahe-noise/1" + entropy(32)).digest()[:16]
        self.secret = [self.noise(self.secret_key, i) for i in range(2048)]
        base = 2
        while pow(base, (self.prime - 1) // 2, self.prime) != self.prime - 1:
            base += 1
        self.psi = pow(base, (self.prime - 1) // 4096, self.prime)

    def stream(self, key, start, size):
        block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        first, last = start // 16, (start + size - 1) // 16
        text = b"".join(block.update(n.to_bytes(16, "big")) for n in range(first, last + 1))
        return text[start - 16 * first :][:size]

    def noise(self, key, index):
        return int.from_bytes(self.stream(key, 8 * index, 8), "big").bit_count() - 32

    def group(self, index):
        """Number, size and place in it of a coefficient of the wire."""
        full = LANES * 2048
        size = -(-self.case["count"] // 2048) * 2048
        number = index // full
        return number, min(full, size - number * full), index % full

    def place(self, index):
        """Where the bytes of a coefficient lie on the wire: below and above bit 32."""
        number, size, inside = self.group(index)
        start = number * LANES * 2048 * self.width
        return start + 4 * inside, start + 4 * size + (self.width - 4) * inside

    def public(self, index):
        low, high = self.place(index)
        key = bytes.fromhex(self.case["public_key"])
        word = self.stream(key, low, 4)
        if self.width > 4:
            word += self.stream(key, high, self.width - 4)
        return int.from_bytes(word, "little")

    def replaced(self, number, size):
        """The public coefficients of a group that had to be drawn again, in order."""
        key = bytes.fromhex(self.case["public_key"])
        first = number * LANES * 2048
        start, found = ((1 << 127) + (number << 32)) * 16, {}
        for index in range(first, first + size):
            word = self.public(index)
            while word >= self.prime:
                word = int.from_bytes(self.stream(key, start, self.width), "little")
                start += self.width
                found[index] = word
        return found

    def at(self, polynomial, row):
        """A polynomial at the root of a row: psi to the power 2 * reversed(row) + 1."""
        root = pow(self.psi, 2 * int(f"{row:011b}"[::-1], 2) + 1, self.prime)
        value = 0
        for coefficient in reversed(polynomial):
            value = (value * root + coefficient) % self.prime
        return value

    @cache  # noqa: B019
    def message(self, number, size, lane):
        """Coefficients of one polynomial of a group: scaled values and noise."""
        first = number * LANES * 2048
        return [
            self.case["delta"] * (value_at(i, self.case["value_bits"]) if i < self.case["count"] else 0)
            + self.noise(self.noise_key, i)
            for i in range(first + lane, first + size, size // 2048)
        ]

    def coefficient(self, index, replaced):
        number, size, inside = self.group(index)
        row, lane = divmod(inside, size // 2048)
        public = replaced.get(index, self.public(index))
        return (
            self.at(self.message(number, size, lane), row) + public * self.at(self.secret, row)
        ) % self.prime


def mask_of(case):
    parameters = kahe.parameters(case["cohort"], case["value_bits"])
    values = np.array([value_at(i, case["value_bits"]) for i in range(case["count"])], np.int32)
    entropy = entropy_of(case["seed"])
    secret = kahe.draw_secret(entropy)
    return secret, kahe.mask(parameters, bytes.fromhex(case["public_key"]), secret, values, entropy)


each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['width']} bytes, {c['count']} values")


def test_there_are_vectors():
    assert {case["width"] for case in CASES} == {4, 5, 6}
    assert any(case["replaced"] for case in CASES)


@each_case
def test_the_package_gives_the_vectors(case):
    secret, wire = mask_of(case)
    assert hashlib.sha256(secret.tobytes()).hexdigest() == case["secret_sha256"]
    assert hashlib.sha256(wire).hexdigest() == case["wire_sha256"]


@each_case
def test_the_slow_implementation_gives_the_vectors(case):
    slow = Slow(case)
    parameters = kahe.parameters(case["cohort"], case["value_bits"])
    assert (parameters.prime, parameters.width, parameters.delta) == (slow.prime, slow.width, case["delta"])
    assert hashlib.sha256(bytes(s % 256 for s in slow.secret)).hexdigest() == case["secret_sha256"]
    number, size, _ = slow.group(case["count"] - 1)
    replaced = slow.replaced(number, size) if case["replaced"] else {}
    assert sorted(replaced) == case["replaced"]
    for index, coefficient in case["coefficients"].items():
        assert slow.coefficient(int(index), replaced) == coefficient


@pytest.mark.parametrize("case", CASES[:1], ids=["whole"])
def test_the_slow_implementation_gives_a_whole_wire(case):
    slow = Slow(case)
    wire = b"".join(slow.coefficient(index, {}).to_bytes(4, "little") for index in range(2048))
    assert hashlib.sha256(wire).hexdigest() == case["wire_sha256"]


def _write():
    wanted = [(40, 16, 2000, 0), (40, 16, 9 * 2048, 15), (40, 24, 3 * 2048 - 1, 1), (1000, 24, 34_000, 2)]
    cases = []
    for cohort, bits, count, seed in wanted:
        parameters = kahe.parameters(cohort, bits)
        case = {
            "cohort": cohort, "value_bits": bits, "count": count, "seed": seed,
            "public_key": hashlib.sha256(b"vector %d" % seed).hexdigest()[: 32 if seed % 2 else 64],
            "prime": parameters.prime, "width": parameters.width, "delta": parameters.delta,
        }  # fmt: skip
        slow = Slow(case)
        number, size, _ = slow.group(count - 1)
        case["replaced"] = sorted(slow.replaced(number, size)) if size < 20_000 else []
        secret, wire = mask_of(case)
        case["secret_sha256"] = hashlib.sha256(secret.tobytes()).hexdigest()
        case["wire_sha256"] = hashlib.sha256(wire).hexdigest()
        case["coefficients"] = {}
        for index in sorted({0, 1, count // 2, count - 1, *case["replaced"]}):
            low, high = slow.place(index)
            word = bytes(wire[low : low + 4]) + bytes(wire[high : high + slow.width - 4])
            case["coefficients"][str(index)] = int.from_bytes(word, "little")
        cases.append(case)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    _write()
