"""Whether a declared network stays inside the range of fixed point, which fails silently where it is left.

SPU holds a number as an integer of 64 bits (FM64) with 18 bits behind the point, and a product has 36 before it is
cut back: a sum of products at or above 2^27 = 2^(63 - 36) wraps and gives garbage (seen in our probe of SPU 0.9.5).
FM128 has 26 bits behind the point by default: 2^75.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from hansa import errors
from hansa.mpc.layout import Layout
from hansa.mpc.network import OWNERS, Conv, Declaration, Dense, SumPool
from hansa.mpc.schedule import initial_of

LIMITS: Final = {"FM64": 2.0**27, "FM128": 2.0**75}
"""Least magnitude of a sum of products that wraps, by field."""

GROWTH: Final = 4.0
"""Spectral norms of trained weights are taken to stay within this multiple of the first ones: an assumption."""


def largest_sum(declared: Declaration, layout: Layout) -> float:
    """An upper bound on sums of products on the way forward and back, as far as `GROWTH` holds.

    By norms: |x W + b| <= |x| |W|; and the gradient of a layer's weights, summed over a batch whose row i has
    gradient d_i at the layer's output, is at most batch * |x| * max |d_i|.
    """
    forward = declared.bound * math.sqrt(math.prod(layout.inputs if layout.bottom else declared.inputs))
    if declared.norm is not None:
        forward = min(forward, declared.norm)
    worst, backward = forward, 1.0
    norms: list[float] = []
    for placed in layout.layers:
        match placed.layer:
            case Dense() | Conv():
                weight = initial_of(placed, declared.seed)[f"{placed.name}.weight"]
                if placed.place == OWNERS:
                    continue
                patches = placed.layer.size if isinstance(placed.layer, Conv) else 1
                norms.append(GROWTH * float(np.linalg.norm(weight, 2)) * patches)
                forward = forward * norms[-1] + 1.0
            case SumPool(size=size):
                forward *= size
        worst = max(worst, forward)
    for norm in reversed(norms):
        worst = max(worst, declared.batch * forward * backward)
        forward /= norm
        backward *= norm
    return worst


def check_range(declared: Declaration, layout: Layout) -> None:
    """Raise `Misconfigured` where sums may leave the range of the field."""
    reached, limit = largest_sum(declared, layout), LIMITS[declared.field]
    if reached >= limit:
        raise errors.Misconfigured(
            f"sums may reach 2^{math.log2(reached):.0f}; {declared.field} fails silently from "
            f"2^{math.log2(limit):.0f} on",
            hint="Standardise features and give a smaller bound, or a norm; or a smaller batch; or take fewer layers. "
            'field="FM128" doubles the bytes and has room.',
        )
