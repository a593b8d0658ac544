"""Many small signed numbers in one plaintext, side by side, so that sums do not run into each other.

A number x with |x| <= bound travels as x + bound, in a field wide enough for the sum of as many contributions as
there may be: 2 * bound * contributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import gmpy2
import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto.double_trapdoor.parameters import Parameters

_WIDEST = 62
"""Bits of a field, so that sums fit int64."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Fields of `width` bits, `fields` a plaintext, for up to `contributions` numbers in [-bound, bound]."""

    bound: int
    contributions: int
    width: int
    fields: int

    def plaintexts(self, length: int) -> int:
        """How many plaintexts a vector of `length` numbers takes."""
        return -(-length // self.fields)


def choose_packing(parameters: Parameters, bound: int, contributions: int) -> Packing:
    """The narrowest fields in which that many contributions cannot overflow, and as many as N holds.

    Raises `Misconfigured` where a field would take more than 62 bits.
    """
    width = (2 * bound * contributions).bit_length()
    if bound < 1 or contributions < 1 or width > _WIDEST:
        raise errors.Misconfigured(
            f"numbers up to {bound} from {contributions} members do not fit a field",
            hint="Use fewer members or less precision.",
        )
    return Packing(bound, contributions, width, (parameters.modulus.bit_length() - 1) // width)


def pack(packing: Packing, values: NDArray[np.integer]) -> list[int]:
    """Plaintexts of a vector. Raises `Misconfigured` if a value is out of bounds."""
    if values.size and not -packing.bound <= values.min() <= values.max() <= packing.bound:
        raise errors.Misconfigured(
            f"a value is out of [-{packing.bound}, {packing.bound}]", hint="Clip values before packing."
        )
    raised = (values.astype(np.int64) + packing.bound).tolist()
    step = packing.fields
    return [gmpy2.pack(raised[at : at + step], packing.width) for at in range(0, len(raised), step)]


def unpack_sum(packing: Packing, plaintexts: list[int], length: int, contributions: int) -> NDArray[np.int64]:
    """The sum of as many packed vectors of `length` numbers as there were contributions.

    Raises `Misconfigured` for more contributions than the fields were made for, and `Untrusted` if a field holds
    what that many honest contributions cannot add up to.
    """
    if not 1 <= contributions <= packing.contributions:
        raise errors.Misconfigured(
            f"fields made for {packing.contributions} contributions cannot hold {contributions}",
            hint="Name the largest cohort when choosing the packing.",
        )
    if len(plaintexts) != packing.plaintexts(length):
        raise errors.Untrusted("an opened sum has another length than it should", hint="Look who sent it.")
    fields: list[int] = []
    for index, plaintext in enumerate(plaintexts):
        count = min(packing.fields, length - index * packing.fields)
        digits = gmpy2.unpack(gmpy2.mpz(plaintext), packing.width)
        if len(digits) > count:
            raise _overflow()
        fields += map(int, digits)
        fields += [0] * (count - len(digits))
    if max(fields, default=0) > 2 * packing.bound * contributions:
        raise _overflow()
    return np.array(fields, np.int64) - packing.bound * contributions


def _overflow() -> errors.Untrusted:
    return errors.Untrusted(
        "an opened sum is larger than its contributions can be",
        hint="A member sent values out of bounds, or the halves are wrong.",
    )
