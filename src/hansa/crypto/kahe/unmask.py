"""Opening a sum of masks with the sum of their secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto.kahe import wires
from hansa.crypto.kahe.kernel import Kernel, default_kernel, keys_by_size
from hansa.crypto.kahe.ordered import in_order
from hansa.crypto.kahe.parameters import DEGREE, GROUP, SPREAD, Parameters, noise_limit, padded
from hansa.crypto.kahe.ring import ring
from hansa.crypto.kahe.stream import Publics, check_public_key
from hansa.crypto.kahe.workspace import Workspaces


def unmask(
    parameters: Parameters,
    public_key: bytes,
    secret_sum: NDArray[np.integer],
    total: wires.Bytes,
    count: int,
    contributions: int,
    *,
    threads: int = 1,
    kernel: Kernel | None = None,
) -> NDArray[np.int64]:
    """The exact sum of `contributions` members' values, int64 of shape (count,). As `unmask_chunks`, whole."""
    job = _job(parameters, public_key, secret_sum, count, contributions, kernel)
    array = wires.open_wire(parameters, count, total)
    out = np.empty(padded(count), np.int64)

    def work(chunk: slice) -> None:
        _open(job, chunk, array[chunk.start * parameters.width : chunk.stop * parameters.width], out[chunk])

    for _ in in_order(work, wires.chunks(out.size), threads):
        pass
    return out[:count]


def unmask_chunks(
    parameters: Parameters,
    public_key: bytes,
    secret_sum: NDArray[np.integer],
    total: BinaryIO,
    count: int,
    contributions: int,
    *,
    threads: int = 1,
    kernel: Kernel | None = None,
) -> Iterator[NDArray[np.int64]]:
    """The exact sum, piece by piece, from the sum of the wires. Use nothing before the end: a later piece may fail.

    Raises `Untrusted` if `total` is no wire of `count` values; if a coefficient of the key sum is beyond what
    so many secrets can make; if the noise is more than ten standard deviations, which one wrong coefficient
    of the key, a wrong public key and an altered or missing mask all lead to; if a sum is beyond
    `contributions` times the bound; if something stands behind the last value.
    """
    job = _job(parameters, public_key, secret_sum, count, contributions, kernel)

    def pieces() -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        for chunk in wires.chunks(padded(count)):
            size = chunk.stop - chunk.start
            yield chunk, wires.open_wire(parameters, size, total.read(size * parameters.width))
        if total.read(1):
            raise errors.Untrusted("bytes follow the last coefficient of the sum")

    def work(piece: tuple[slice, NDArray[np.uint8]]) -> NDArray[np.int64]:
        chunk, array = piece
        out = np.empty(chunk.stop - chunk.start, np.int64)
        _open(job, chunk, array, out)
        return out[: count - chunk.start]

    return in_order(work, pieces(), threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What the work on every chunk needs; `repr` shows no secret."""

    parameters: Parameters
    kernel: Kernel
    prepared: Any
    public_key: bytes
    keys: dict[int, Any] = field(repr=False)
    count: int
    contributions: int
    workspaces: Workspaces


def _job(
    parameters: Parameters,
    public_key: bytes,
    secret_sum: NDArray[np.integer],
    count: int,
    contributions: int,
    kernel: Kernel | None,
) -> _Job:
    check_public_key(public_key)
    key_sum = _checked_key(parameters, secret_sum, contributions)
    kernel = kernel or default_kernel()
    prepared = kernel.prepare(ring(parameters.prime))
    keys = keys_by_size(kernel, prepared, key_sum, count)
    workspaces = Workspaces(kernel, parameters.width)
    return _Job(parameters, kernel, prepared, public_key, keys, count, contributions, workspaces)


def _open(job: _Job, chunk: slice, array: NDArray[np.uint8], out: NDArray[np.int64]) -> None:
    """Write the sums of a chunk, with the zeros of the padding."""
    kernel, prime, width = job.kernel, job.parameters.prime, job.parameters.width
    publics = Publics(job.parameters, job.public_key, kernel, chunk.start // GROUP)
    with job.workspaces.lend() as room:
        for group in wires.groups(out.size):
            size = group.stop - group.start
            elements, masked = room.elements[:size], wires.part(array, group, width)
            if kernel.excess(masked, prime):
                raise errors.Untrusted("the sum of the masks has a coefficient that is not below the prime")
            public = publics.next(room.publics[: size * width])
            kernel.unblind(job.prepared, masked, public, job.keys[size], elements)
            kernel.inverse(job.prepared, elements)
            _check_opened(job, *kernel.decode(job.prepared, elements, job.parameters.delta, out[group]))
    if out[max(0, job.count - chunk.start) :].any():
        raise errors.Untrusted(
            "the sum of the masks has values behind its end",
            hint="A member masked a longer model, or hid something in the padding.",
        )


def _checked_key(
    parameters: Parameters, secret_sum: NDArray[np.integer], contributions: int
) -> NDArray[np.int64]:
    if not 1 <= contributions <= parameters.cohort:
        raise errors.Misconfigured(f"a sum of 1 to {parameters.cohort} masks opens, not of {contributions}")
    if secret_sum.shape != (DEGREE,) or not np.issubdtype(secret_sum.dtype, np.integer):
        raise errors.Untrusted(f"the sum of the secrets has not {DEGREE} coefficients")
    limit = SPREAD * contributions
    if int(secret_sum.max()) > limit or int(secret_sum.min()) < -limit:
        raise errors.Untrusted(
            f"the sum of the secrets has a coefficient beyond {limit}, which {contributions} secrets cannot make",
            hint="A member put something else than its secret under its key, or a half of the opening is wrong.",
        )
    return secret_sum.astype(np.int64)


def _check_opened(job: _Job, noise: int, value: int) -> None:
    contributions, bound = job.contributions, job.parameters.bound
    if noise > noise_limit(contributions):
        raise errors.Untrusted(
            f"the opened sum has noise of {noise}; {contributions} masks make at most {noise_limit(contributions)}",
            hint="The sum of the secrets, the public key or a mask is not the one that was used.",
        )
    if value > contributions * bound:
        raise errors.Untrusted(
            f"an opened sum of {value} is beyond {contributions} times the bound {bound}",
            hint="A member masked values that it had not clipped.",
        )
