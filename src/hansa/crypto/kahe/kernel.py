"""What a kernel does to a group of polynomials, and which kernel there is.

Two kernels do the same: `kernel_numba` in compiled loops over doubles, `kernel_numpy` on 64-bit integers.
Each is exact: it computes in residues of its own choice, and every result that leaves it (coefficients of a
wire, sums, values) is the one representative that mathematics defines. So both give the same bits, with any
compiler, vector unit and number of threads.

A group is a flat array of 2048 * lanes elements, coefficient i // lanes of polynomial i % lanes. Elements
have the kernel's `DTYPE`.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hansa.crypto.kahe.parameters import DEGREE, GROUP, padded
from hansa.crypto.kahe.ring import Ring

Elements = NDArray[Any]
"""Residues of a group, in the dtype of the kernel."""
High = NDArray[np.uint8] | NDArray[np.uint16]
Planes = tuple[NDArray[np.uint32], High]
"""Coefficients as on the wire: their lower 32 bits, and what is above; empty where the wire has 4 bytes."""

log = logging.getLogger(__name__)


class Kernel(Protocol):
    """Arithmetic modulo a prime on groups. A `prepared` ring or key is the kernel's own affair."""

    @property
    def DTYPE(self) -> type[np.generic]:
        """Type of an element."""

    def prepare(self, ring: Ring) -> Any:
        """Tables of a ring."""

    def key(self, prepared: Any, secret: NDArray[np.int64], lanes: int) -> Any:
        """The transform of a secret, 2048 coefficients of at most 2**31, for groups of so many lanes."""

    def excess(self, planes: Planes, prime: int) -> int:
        """How many coefficients are not below the prime."""

    def encode(
        self, values: NDArray[np.int32], bound: int, coins: NDArray[np.uint64], delta: int, out: Elements
    ) -> int:
        """delta * value + noise, where the noise is the number of ones among 64 coins, less 32.

        Values fill the beginning of `out`; zeros follow. Returns how many are beyond the bound.
        """

    def forward(self, prepared: Any, elements: Elements) -> None:
        """Transform in place."""

    def inverse(self, prepared: Any, elements: Elements) -> None:
        """Inverse of `forward`, in place."""

    def blind(self, prepared: Any, elements: Elements, public: Planes, key: Any, out: Planes) -> None:
        """elements + public * key, in [0, prime)."""

    def unblind(self, prepared: Any, masked: Planes, public: Planes, key: Any, out: Elements) -> None:
        """masked - public * key."""

    def decode(
        self, prepared: Any, elements: Elements, delta: int, out: NDArray[np.int64]
    ) -> tuple[int, int]:
        """Values nearest to elements / delta; the largest magnitude of a remainder, and of a value."""

    def accumulate(self, planes: Planes, prime: int, sums: NDArray[np.uint64]) -> int:
        """Add coefficients to `sums`; how many are not below the prime."""

    def reduce(self, sums: NDArray[np.uint64], prime: int, out: Planes) -> None:
        """Sums below 2**62, modulo the prime."""


@lru_cache
def default_kernel() -> Kernel:
    """The compiled kernel where numba is installed. It compiles at first use, and keeps the result on disk."""
    if importlib.util.find_spec("numba") is None:
        log.warning("numba is not installed: masks take about ten times as long; pip install 'hansa[secagg]'")
        return numpy_kernel()
    from hansa.crypto.kahe import kernel_numba

    return kernel_numba


def numpy_kernel() -> Kernel:
    """The kernel that needs nothing but numpy."""
    from hansa.crypto.kahe import kernel_numpy

    return kernel_numpy


def keys_by_size(kernel: Kernel, prepared: Any, secret: NDArray[np.int64], count: int) -> dict[int, Any]:
    """The key of a full group and of the last one, by their number of elements."""
    sizes = {min(GROUP, padded(count)), padded(count) % GROUP} - {0}
    return {size: kernel.key(prepared, secret, size // DEGREE) for size in sizes}
