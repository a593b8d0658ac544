"""What operations on shares cost under ABY3 over FM64, by a small table of measured constants.

Measured on one machine with two cores, three processes over loopback, SPU 0.9.5, from SPU's own log (sends and bytes)
and the shortest of four runs (milliseconds). Sends are a party's, one after the other: with a delay on the line a step
takes about that much longer for each. Bytes are all parties' together. Milliseconds are a fit, good to a third or so
(3 of 4 operations within a fifth); elsewhere only their proportions are worth anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MILLIS_A_SEND: Final = 0.75
MILLIS_A_BYTE: Final = 2.0e-5
MILLIS_A_PRODUCT: Final = 3.6e-5
MILLIS_A_PICK: Final = 2.2e-3
MILLIS_A_RUN: Final = 5.0


@dataclass(frozen=True, slots=True)
class Cost:
    """sends: of one party, in sequence. bytes: of all parties. millis: on loopback."""

    sends: float = 0.0
    bytes: float = 0.0
    millis: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.sends + other.sends, self.bytes + other.bytes, self.millis + other.millis)


def _cost(sends: float, size: float, more: float = 0.0) -> Cost:
    return Cost(sends, size, sends * MILLIS_A_SEND + size * MILLIS_A_BYTE + more)


def product(rows: int, inner: int, columns: int) -> Cost:
    """A matrix product, or with inner = 1 a product element by element, cut back."""
    return _cost(8 / 3, 52 * rows * columns, rows * inner * columns * MILLIS_A_PRODUCT)


def compare(elements: int) -> Cost:
    """Signs of all elements."""
    return _cost(8, 108 * elements)


def select(elements: int) -> Cost:
    """Element or zero, by a shared bit."""
    return _cost(8 / 3, 64 * elements)


def scale(elements: int) -> Cost:
    """Times a public fraction, cut back."""
    return _cost(5 / 3, 28 * elements)


def softmax(rows: int, classes: int) -> Cost:
    """Softmax of each row: a tree of maxima, powers, one reciprocal a row."""
    return _cost(78 + 11 * math.ceil(math.log2(max(2, classes))), rows * (1164 + 668 * classes))


def sigmoid(elements: int) -> Cost:
    """Sigmoid of each element."""
    return _cost(74, 1780 * elements)


def pick(elements: int) -> Cost:
    """Rows by public numbers: no traffic, but SPU copies element by element."""
    return _cost(0, 0, elements * MILLIS_A_PICK)


def move(elements: int, parties: int) -> Cost:
    """To one party in the clear, or from one as shares: 16 bytes an element from or to each other party."""
    return _cost(1, 16 * elements * (parties - 1))


def start() -> Cost:
    """Starting one executable."""
    return Cost(0, 0, MILLIS_A_RUN)
