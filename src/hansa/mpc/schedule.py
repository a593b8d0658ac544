"""What every party derives for itself from the script: first weights, rows of each batch, slots of noise.

Randomness is made here, outside SPU, whose runtime gives garbage for `jax.random`. Two machines must draw the same
numbers whatever their numpy: `RandomState` and the raw stream of `PCG64` are the two that numpy keeps frozen (NEP 19).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hansa.mpc.layout import Layout, Placed
from hansa.mpc.network import Declaration
from hansa.mpc.program import Variable

ROWS: Final = "rows"
SLOT: Final = "slot"

Array = NDArray[np.float32]
Indices = NDArray[np.int32]


def steps_an_epoch(declared: Declaration, rows: int) -> int:
    """Whole batches in `rows` rows; each epoch leaves out other rows than the last where some are left over."""
    return rows // declared.batch


def row_feed(declared: Declaration) -> Variable:
    """The public variable with the row numbers of a step's batch."""
    return Variable(ROWS, (declared.batch,), "int32")


def slot_feed() -> Variable:
    """The public variable with the number of the step, by which noise is picked."""
    return Variable(SLOT, (1,), "int32")


def feeds(declared: Declaration, rows: int, step: int) -> Mapping[str, Indices]:
    """Values of the public variables at step 0, 1, ... of the whole training; the same at a step that runs again."""
    epoch, place = divmod(step, steps_an_epoch(declared, rows))
    order = _order(declared.seed, epoch, rows)
    batch = order[place * declared.batch : (place + 1) * declared.batch]
    return {ROWS: batch, SLOT: np.array([step], dtype=np.int32)}


def _order(seed: int, epoch: int, rows: int) -> Indices:
    """Permutation of the rows in an epoch: by the rank of one random number a row."""
    raw = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(rows)
    return np.argsort(raw, kind="stable").astype(np.int32)


def initial(layout: Layout, seed: int) -> Mapping[str, Array]:
    """First weights of all layers by variable name; those of a layer do not depend on the others.

    Normal with variance 2 / inputs (He et al., "Delving deep into rectifiers", arXiv 1502.01852), biases 0.
    """
    return {name: value for placed in layout.layers for name, value in initial_of(placed, seed).items()}


def initial_of(placed: Placed, seed: int) -> Mapping[str, Array]:
    """First weights of one layer."""
    values: dict[str, Array] = {}
    for name, shape in placed.parameters.items():
        if len(shape) == 1:
            values[name] = np.zeros(shape, dtype=np.float32)
        else:
            own = int.from_bytes(hashlib.sha256(f"hansa/mpc/{seed}/{name}".encode()).digest()[:4], "big")
            draw = np.random.RandomState(own).standard_normal(shape)
            values[name] = (draw * math.sqrt(2 / shape[0])).astype(np.float32)
    return values
