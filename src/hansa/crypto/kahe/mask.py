"""A member's side: mask values under a fresh secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto.kahe import wires
from hansa.crypto.kahe.kernel import Kernel, default_kernel, keys_by_size
from hansa.crypto.kahe.ordered import in_order
from hansa.crypto.kahe.parameters import DEGREE, GROUP, SPREAD, Parameters, padded, wire_bytes
from hansa.crypto.kahe.ring import ring
from hansa.crypto.kahe.stream import Coins, Entropy, Publics, check_public_key, draw_noise_key
from hansa.crypto.kahe.workspace import Workspaces


def mask(
    parameters: Parameters,
    public_key: bytes,
    secret: NDArray[np.int8],
    values: NDArray[np.int32],
    entropy: Entropy,
    *,
    threads: int = 1,
    kernel: Kernel | None = None,
) -> memoryview:
    """The wire of `values`. As `mask_chunks`, whole."""
    job = _job(parameters, public_key, secret, values, entropy, kernel)
    out = np.empty(wire_bytes(parameters, values.size), np.uint8)

    def work(chunk: slice) -> None:
        _fill(job, chunk, out[chunk.start * parameters.width : chunk.stop * parameters.width])

    for _ in in_order(work, wires.chunks(padded(values.size)), threads):
        pass
    return out.data


def mask_chunks(
    parameters: Parameters,
    public_key: bytes,
    secret: NDArray[np.int8],
    values: NDArray[np.int32],
    entropy: Entropy,
    *,
    threads: int = 1,
    kernel: Kernel | None = None,
) -> Iterator[memoryview]:
    """The wire of `values`, int32 of shape (count,), piece by piece; an array on disk (memmap) will do.

    `public_key`: 16 or 32 bytes that all members share and none chose, fresh each attempt. `secret`: of
    `draw_secret`, never used before. Draws 32 bytes of `entropy` for the key of the noise.

    Raises `Misconfigured` at a value beyond the bound, which would wrap the sum. Throw earlier pieces away
    then, and the secret with them.
    """
    job = _job(parameters, public_key, secret, values, entropy, kernel)

    def work(chunk: slice) -> memoryview:
        out = np.empty((chunk.stop - chunk.start) * parameters.width, np.uint8)
        _fill(job, chunk, out)
        return out.data

    return in_order(work, wires.chunks(padded(values.size)), threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What the work on every chunk needs; `repr` shows no secret."""

    parameters: Parameters
    kernel: Kernel
    prepared: Any
    public_key: bytes
    noise_key: bytes = field(repr=False)
    keys: dict[int, Any] = field(repr=False)
    values: NDArray[np.int32] = field(repr=False)
    workspaces: Workspaces


def _job(
    parameters: Parameters,
    public_key: bytes,
    secret: NDArray[np.int8],
    values: NDArray[np.int32],
    entropy: Entropy,
    kernel: Kernel | None,
) -> _Job:
    check_public_key(public_key)
    _check_secret(secret)
    _check_values(values)
    kernel = kernel or default_kernel()
    prepared = kernel.prepare(ring(parameters.prime))
    keys = keys_by_size(kernel, prepared, secret.astype(np.int64), values.size)
    workspaces = Workspaces(kernel, parameters.width)
    return _Job(parameters, kernel, prepared, public_key, draw_noise_key(entropy), keys, values, workspaces)


def _fill(job: _Job, chunk: slice, out: NDArray[np.uint8]) -> None:
    """Write the wire of a chunk of the values."""
    kernel, width, first = job.kernel, job.parameters.width, chunk.start // GROUP
    publics, coins = Publics(job.parameters, job.public_key, kernel, first), Coins(job.noise_key, first)
    values = job.values[chunk]
    with job.workspaces.lend() as room:
        for group in wires.groups(chunk.stop - chunk.start):
            size = group.stop - group.start
            elements = room.elements[:size]
            drawn = coins.next(room.coins[:size])
            if kernel.encode(values[group], job.parameters.bound, drawn, job.parameters.delta, elements):
                raise _beyond(job.parameters)
            kernel.forward(job.prepared, elements)
            public = publics.next(room.publics[: size * width])
            kernel.blind(job.prepared, elements, public, job.keys[size], wires.part(out, group, width))


def _check_values(values: NDArray[np.int32]) -> None:
    if values.ndim != 1 or values.dtype != np.int32:
        raise errors.Misconfigured("a mask takes a flat array of int32")


def _beyond(parameters: Parameters) -> errors.Misconfigured:
    return errors.Misconfigured(
        f"a value is beyond {parameters.bound}, the bound of {parameters.value_bits} bits",
        hint="Clip values before they are masked.",
    )


def _check_secret(secret: NDArray[np.int8]) -> None:
    if secret.shape != (DEGREE,) or int(np.abs(secret.astype(np.int64)).max()) > SPREAD:
        raise errors.Misconfigured(f"a secret has {DEGREE} coefficients from -{SPREAD} to {SPREAD}")
