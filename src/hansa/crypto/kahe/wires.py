"""The wire: a mask's coefficients, and the sum of many.

A wire is a row of groups. A group is a plane of the coefficients' lower 32 bits and, where a coefficient has
5 or 6 bytes, a plane of what is above, all little-endian. There is no header: parameters and count stand in
the terms, and the length follows from them. A sum in its reduced form is a wire too, and so has one digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto.kahe.kernel import Kernel, Planes, default_kernel
from hansa.crypto.kahe.parameters import GROUP, Parameters, padded, wire_bytes

CHUNK_GROUPS = 8
"""Groups that are worked on at a time where memory must stay constant: 262,144 values."""
CHUNK = CHUNK_GROUPS * GROUP

Bytes = bytes | bytearray | memoryview


class Accumulator:
    """The running sum of up to a cohort's wires of `count` values: 8 bytes a coefficient."""

    def __init__(self, parameters: Parameters, count: int, *, kernel: Kernel | None = None) -> None:
        self.contributions = 0
        self._parameters, self._count = parameters, count
        self._kernel = kernel or default_kernel()
        self._sums = np.zeros(padded(count), np.uint64)

    def add(self, *wires: Bytes) -> None:
        """Add wires; several at once go through the cache together.

        Raises `Untrusted`, and adds none, if one has a wrong length or a coefficient that is no residue;
        `Misconfigured` if these are more than the cohort.
        """
        if self.contributions + len(wires) > self._parameters.cohort:
            raise errors.Misconfigured(
                f"a sum of more than {self._parameters.cohort} masks may overflow",
                hint="The cohort of the parameters is the most that can be added.",
            )
        arrays = [open_wire(self._parameters, self._count, wire) for wire in wires]
        excess = [0] * len(arrays)
        for group in groups(self._sums.size):
            for index, array in enumerate(arrays):
                found = part(array, group, self._parameters.width)
                excess[index] += self._kernel.accumulate(found, self._parameters.prime, self._sums[group])
        if any(excess):
            self._take_back(arrays)
            raise _not_residues(f"mask {excess.index(max(excess)) + 1} of {len(wires)}")
        self.contributions += len(wires)

    def sum_bytes(self) -> memoryview:
        """The sum modulo p: a wire."""
        out = np.empty(wire_bytes(self._parameters, self._count), np.uint8)
        for group in groups(self._sums.size):
            found = part(out, group, self._parameters.width)
            self._kernel.reduce(self._sums[group], self._parameters.prime, found)
        return out.data

    def _take_back(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        for group in groups(self._sums.size):
            for array in arrays:
                low, high = part(array, group, self._parameters.width)
                self._sums[group] -= low
                if high.size:
                    self._sums[group] -= high.astype(np.uint64) << np.uint64(32)


def sum_chunks(
    parameters: Parameters, count: int, sources: Sequence[BinaryIO], *, kernel: Kernel | None = None
) -> Iterator[memoryview]:
    """The reduced sum of many wires, read piece by piece, in memory that does not grow with `count`.

    Raises `Untrusted` where a wire is too short, too long or has a coefficient that is no residue.
    """
    for chunk in chunks(padded(count)):
        size = chunk.stop - chunk.start
        accumulator = Accumulator(parameters, size, kernel=kernel)
        accumulator.add(*(source.read(size * parameters.width) for source in sources))
        yield accumulator.sum_bytes()
    if any(source.read(1) for source in sources):
        raise errors.Untrusted("bytes follow the last coefficient of a mask")


def check_wire(parameters: Parameters, count: int, wire: Bytes, *, kernel: Kernel | None = None) -> None:
    """Raises `Untrusted` unless this is a wire of `count` values: exact length, every coefficient below p."""
    kernel = kernel or default_kernel()
    array = open_wire(parameters, count, wire)
    for group in groups(padded(count)):
        if kernel.excess(part(array, group, parameters.width), parameters.prime):
            raise _not_residues("the mask")


def open_wire(parameters: Parameters, count: int, wire: Bytes) -> NDArray[np.uint8]:
    """The bytes of a wire of the right length. Raises `Untrusted`."""
    expected = wire_bytes(parameters, count)
    if len(wire) != expected:
        raise errors.Untrusted(
            f"a mask of {count} values has {expected} bytes, not {len(wire)}",
            hint="Its sender used other parameters or another model.",
        )
    array = np.frombuffer(wire, np.uint8)
    # Planes are read as words: a view into the middle of something else may be misaligned.
    return array if array.ctypes.data % 4 == 0 else array.copy()


def planes(group: NDArray[np.uint8], width: int) -> Planes:
    """Views of a group's two planes; the upper one is empty where a coefficient has 4 bytes."""
    size = group.size // width
    upper = group[4 * size :]
    return group[: 4 * size].view(np.uint32), upper.view(np.uint16) if width == 6 else upper


def part(array: NDArray[np.uint8], group: slice, width: int) -> Planes:
    """The planes of one group of a wire."""
    return planes(array[group.start * width : group.stop * width], width)


def groups(size: int) -> Iterator[slice]:
    """Slices of the groups of `size` coefficients."""
    return (slice(at, min(at + GROUP, size)) for at in range(0, size, GROUP))


def chunks(size: int) -> Iterator[slice]:
    """Slices of what is worked on at a time of `size` coefficients."""
    return (slice(at, min(at + CHUNK, size)) for at in range(0, size, CHUNK))


def _not_residues(what: str) -> errors.Untrusted:
    return errors.Untrusted(
        f"{what} has a coefficient that is not below the prime",
        hint="It was altered, or its sender used other parameters.",
    )
