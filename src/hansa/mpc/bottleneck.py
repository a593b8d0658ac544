"""A plain top behind a clipped, noised bottleneck: what is computed where, so that an epsilon can be stated.

The party with the top gets, each step, for each row of the batch `shown` = clip(h) + noise, and for each of its layers
the gradient summed over the batch, noised. Labels stay shared: it sends back its predictions as shares, and what
follows is linear in (prediction - label), done on shares with its weights and ReLU masks, which it shares too; so
neither comparison nor softmax is computed on shares.

One row changes nothing that is seen, or that steers what is seen later, by more than its noise is measured for. Let
row i be exchanged, features and label. Given all that was seen before:
- only its own `shown` changes, by at most clip * sqrt(width), twice that without a ReLU before the Reveal;
- given `shown`, a gradient of the top changes by |a_i| * |change of the label| * (norms of the weights behind), since
  a_i, what enters the layer, is made of `shown`. The party scales each a_i down to `gradient_clip` by this bound. It
  needs no label for that;
- the secret layer below is not seen, but steers what is shown of every later row: so its gradient is noised as well,
  on shares. Row i's part of it is at most |(x_i, 1)| * |prediction - label| * (norms of the top), bounded by owners
  who scale rows to `norm` and by the party, which shares its first weights scaled down to `gradient_clip`.
Each row takes part in at most one step an epoch, known to everybody: its losses add up over epochs, and no subsampling
makes them less. `privacy` accounts for that. See docs/adr for why, and for what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.mpc.layers import Arrays, prediction
from hansa.mpc.layout import Layout, Placed, Segment
from hansa.mpc.network import Declaration, Logistic, Loss, ReLU, Reveal
from hansa.mpc.program import Variable

Array = NDArray[np.float32]

SHOWN = "shown"


def reveal_of(layout: Layout) -> Reveal:
    """The protected reveal of a bottleneck."""
    reveal = layout.segments[-1].reveal
    assert reveal is not None
    return reveal


def _number(value: float | None) -> float:
    """A part of the declaration that `layout` made sure is there."""
    assert value is not None
    return value


def label_change(loss: Loss) -> float:
    """Largest Euclidean distance of two labels as they are shared, which is also the largest |prediction - label|."""
    return 1.0 if isinstance(loss, Logistic) else math.sqrt(2)


def shown_change(reveal: Reveal, below: Segment) -> float:
    """Largest Euclidean change of a row's clipped values."""
    width = math.sqrt(math.prod(below.outputs))
    return _number(reveal.clip) * width * (1 if isinstance(below.layers[-1].layer, ReLU) else 2)


def noises(declared: Declaration, layout: Layout) -> Mapping[Variable, float]:
    """Shape of one step's noise, by what it is added to, and its standard deviation."""
    reveal, (below, top) = reveal_of(layout), layout.segments
    gradient = _number(reveal.gradient_clip) * _number(reveal.gradient_noise)
    return {
        Variable(f"noise.{SHOWN}", (declared.batch, *below.outputs)): _number(reveal.clip)
        * _number(reveal.noise)
    } | {
        Variable(f"noise.{placed.name}", (placed.inputs[0] + 1, placed.outputs[0])): gradient
        for segment in (below, top)
        for placed in weighted(segment)
    }


def weighted(segment: Segment) -> tuple[Placed, ...]:
    """The segment's layers with weights."""
    return tuple(placed for placed in segment.layers if placed.parameters)


def extended(x: Any, xp: Any) -> Any:
    """`x` with a column of ones, so that one product gives the gradients of weights and bias."""
    return xp.concatenate([x, xp.ones((x.shape[0], 1), dtype=np.float32)], axis=1)


def clip(z: Any, reveal: Reveal, *, after_relu: bool, xp: Any) -> tuple[Any, Any]:
    """`z` cut to the clip and the mask of values strictly inside it: one comparison for both edges.

    max(z - low, 0) - max(z - high, 0) + low; the masks of the edges lie in each other, so that their difference is an
    exclusive or, which is free on shares.
    """
    high = np.float32(_number(reveal.clip))
    low = np.float32(0) if after_relu else -high
    edges = xp.concatenate([z - low, z - high])
    above = edges > 0
    kept = xp.where(above, edges, xp.zeros_like(edges))
    rows = z.shape[0]
    return kept[:rows] - kept[rows:] + low, above[:rows] ^ above[rows:]


def top_outputs(declared: Declaration, layout: Layout) -> tuple[Variable, ...]:
    """What the party shares each step: predictions; of each layer its rows, scaled, and weights; masks of ReLUs."""
    top, batch = layout.segments[-1], declared.batch
    found = [Variable("prediction", (batch, *layout.outputs))]
    for placed in top.layers:
        if placed.parameters:
            found.append(Variable(f"{placed.name}.rows", (batch, placed.inputs[0] + 1)))
            found.append(Variable(f"{placed.name}.back", (placed.inputs[0], placed.outputs[0])))
        else:
            found.append(Variable(f"{placed.name}.mask", (batch, *placed.outputs)))
    return tuple(found)


def compute_top(declared: Declaration, layout: Layout, shown: Array, parameters: Arrays) -> Sequence[Array]:
    """The top's way forward, in the clear, at its party: the values of `top_outputs`."""
    reveal, (_, top) = reveal_of(layout), layout.segments
    limit = _number(reveal.gradient_clip)
    change = label_change(declared.loss)
    behind = _norms_behind(top, parameters)
    found: dict[str, Array] = {}
    x = shown
    for placed in top.layers:
        if isinstance(placed.layer, ReLU):
            mask = (x > 0).astype(np.float32)
            x = x * mask
            found[f"{placed.name}.mask"] = mask
            continue
        weight = parameters[f"{placed.name}.weight"]
        rows = extended(x, np)
        most = change * behind[placed.name] * np.linalg.norm(rows, axis=1, keepdims=True)
        found[f"{placed.name}.rows"] = rows * np.minimum(1, limit / most).astype(np.float32)
        found[f"{placed.name}.back"] = weight
        x = x @ weight + parameters[f"{placed.name}.bias"]
    first = weighted(top)[0].name
    norm = max(behind[first] * float(np.linalg.norm(found[f"{first}.back"], 2)), 1e-12)
    part = 2 * change * norm * math.sqrt(_number(declared.norm) ** 2 + 1)
    found[f"{first}.back"] = found[f"{first}.back"] * np.float32(min(1, limit / part))
    found["prediction"] = prediction(x, declared.loss, np)
    return [np.asarray(found[v.name], dtype=np.float32) for v in top_outputs(declared, layout)]


def _norms_behind(top: Segment, parameters: Arrays) -> dict[str, float]:
    """For each layer the product of the spectral norms of the layers behind it; a ReLU lengthens nothing."""
    product, found = 1.0, {}
    for placed in reversed(weighted(top)):
        found[placed.name] = product
        product *= max(float(np.linalg.norm(parameters[f"{placed.name}.weight"], 2)), 1e-12)
    return found


def top_gradients(layout: Layout) -> tuple[Variable, ...]:
    """The noised sums that the party gets each step: gradients of weights, and of the bias in the last line."""
    return tuple(
        Variable(f"{placed.name}.gradient", (placed.inputs[0] + 1, placed.outputs[0]))
        for placed in weighted(layout.segments[-1])
    )


def backward(
    layout: Layout, shared: Arrays, labels: Any, noise: Mapping[str, Any], mask: Any, rows: Any, xp: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """On shares: the top's noised gradients by variable name, and the secret layer's, noised, by parameter name.

    shared: the values of `top_outputs`. mask: of the clip. rows: features of the batch.
    """
    below, top = layout.segments
    d = shared["prediction"] - labels
    gradients: dict[str, Any] = {}
    for placed in reversed(top.layers):
        name = placed.name
        if isinstance(placed.layer, ReLU):
            d = d * shared[f"{name}.mask"]
            continue
        gradients[f"{name}.gradient"] = shared[f"{name}.rows"].T @ d + noise[f"noise.{name}"]
        d = d @ shared[f"{name}.back"].T
    d = xp.where(mask, d, xp.zeros_like(d))
    name = weighted(below)[0].name
    both = extended(rows, xp).T @ d + noise[f"noise.{name}"]
    return gradients, {f"{name}.weight": both[:-1], f"{name}.bias": both[-1]}
