"""Forward and backward of each layer, written out: the same lines compute on shares, under jax, and in the clear.

`xp` is `jax.numpy` where SPU's frontend traces, `numpy` where a party or an owner computes for itself. Gradients are
the textbook ones (Goodfellow, Bengio, Courville, "Deep Learning", 6.5): with z = x W + b and d the gradient of z,
those of W, b and x are x^T d, the sum of d over rows, and d W^T. They are sums over a batch, not means: the division
comes last, in `update`, where one multiplication cuts back all weights of a segment at once.

On shares a multiplication or a matrix product costs 2.7 sends a party, a comparison 8, a product with a public
fraction 1.7; additions, reshapes and picks by public indices cost none (ABY3, measured; see costs.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hansa.mpc.layout import Placed, Segment, Shape
from hansa.mpc.network import (
    Conv,
    Dense,
    Flatten,
    Logistic,
    Loss,
    ReLU,
    Sgd,
    Sigmoid,
    SoftmaxCrossEntropy,
    SumPool,
)
from hansa.mpc.program import Variable

Arrays = Mapping[str, Any]


def sigmoid(x: Any, xp: Any) -> Any:
    """`1 / (1 + exp(-x))`, in a form that does not overflow."""
    if xp is np:
        return (0.5 * (1 + np.tanh(x / 2))).astype(np.float32)
    import jax

    return jax.nn.sigmoid(x)  # one operation to SPU, which has a protocol for it


def softmax(x: Any, xp: Any) -> Any:
    """Softmax of each row; one reciprocal a row, where a quotient would take one an element."""
    powers = xp.exp(x - x.max(axis=1, keepdims=True))
    return powers * (1 / powers.sum(axis=1, keepdims=True))


def prediction(outputs: Any, loss: Loss, xp: Any) -> Any:
    """What is compared with labels; the gradient of each loss at the outputs is prediction minus label."""
    match loss:
        case SoftmaxCrossEntropy():
            return softmax(outputs, xp)
        case Logistic():
            return sigmoid(outputs, xp)
        case _:
            return outputs


def mean_loss(outputs: Any, labels: Any, loss: Loss) -> float:
    """Mean over the rows, in the clear: of the last layer's outputs, in a form that does not overflow."""
    z = outputs.astype(np.float64)
    match loss:
        case SoftmaxCrossEntropy():
            shifted = z - z.max(axis=1, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            return float(-(labels * logs).sum(axis=1).mean())
        case Logistic():
            return float((np.logaddexp(0, z) - labels * z).mean())
    return float(((z - labels) ** 2).sum(axis=1).mean() / 2)


def _patches(x: Any, size: int, xp: Any) -> Any:
    """Squares of (rows, height, width, channels), one a line: (rows * places, size * size * channels)."""
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    parts = [x[:, i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    return xp.concatenate(parts, axis=3).reshape(x.shape[0] * height * width, -1)


def _unpatch(d: Any, size: int, inputs: Shape, xp: Any) -> Any:
    """Transpose of `_patches`: each pixel gets the sum over the squares that it stood in."""
    rows_height, rows_width, channels = inputs[0] - size + 1, inputs[1] - size + 1, inputs[2]
    parts = d.reshape(-1, rows_height, rows_width, size * size, channels)
    total: Any = 0
    for place in range(size * size):
        i, j = divmod(place, size)
        edges = ((0, 0), (i, size - 1 - i), (j, size - 1 - j), (0, 0))
        total = total + xp.pad(parts[:, :, :, place, :], edges)
    return total


def saved_variables(placed: Placed, batch: int) -> tuple[Variable, ...]:
    """What the way back needs of the way forward."""
    match placed.layer:
        case Dense():
            return (Variable(f"{placed.name}.input", (batch, *placed.inputs)),)
        case Conv(size=size):
            places = placed.outputs[0] * placed.outputs[1]
            return (Variable(f"{placed.name}.patches", (batch * places, size * size * placed.inputs[2])),)
        case ReLU():
            return (Variable(f"{placed.name}.mask", (batch, *placed.inputs), "bool"),)
        case Sigmoid():
            return (Variable(f"{placed.name}.output", (batch, *placed.inputs)),)
        case _:
            return ()


def _forward(placed: Placed, parameters: Arrays, x: Any, xp: Any) -> tuple[Any, Any]:
    """Output of a layer and what `saved_variables` names, or None."""
    match placed.layer:
        case Dense():
            return x @ parameters[f"{placed.name}.weight"] + parameters[f"{placed.name}.bias"], x
        case Conv(size=size):
            patches = _patches(x, size, xp)
            z = patches @ parameters[f"{placed.name}.weight"] + parameters[f"{placed.name}.bias"]
            return z.reshape(-1, *placed.outputs), patches
        case ReLU():
            mask = x > 0
            return xp.where(mask, x, xp.zeros_like(x)), mask
        case Sigmoid():
            y = sigmoid(x, xp)
            return y, y
        case SumPool(size=size):
            height, width, channels = placed.outputs
            return x.reshape(-1, height, size, width, size, channels).sum(axis=(2, 4)), None
    return x.reshape(-1, *placed.outputs), None


def _backward(
    placed: Placed, parameters: Arrays, saved: Any, d: Any, xp: Any, *, onward: bool
) -> tuple[Any, dict[str, Any]]:
    """Gradient at a layer's input (None unless `onward`) and of its weights, summed over the batch."""
    match placed.layer:
        case Dense() | Conv():
            flat = d.reshape(-1, placed.outputs[-1])
            weight = f"{placed.name}.weight"
            gradients = {weight: saved.T @ flat, f"{placed.name}.bias": flat.sum(axis=0)}
            if not onward:
                return None, gradients
            back = flat @ parameters[weight].T
            if isinstance(placed.layer, Conv):
                back = _unpatch(back, placed.layer.size, placed.inputs, xp)
            return back, gradients
        case ReLU():
            return xp.where(saved, d, xp.zeros_like(d)), {}
        case Sigmoid():
            return d * (saved * (1 - saved)), {}
        case SumPool(size=size):
            height, width, channels = placed.outputs
            wide = d.reshape(-1, height, 1, width, 1, channels)
            full = xp.broadcast_to(wide, (wide.shape[0], height, size, width, size, channels))
            return full.reshape(-1, *placed.inputs), {}
        case Flatten():
            return d.reshape(-1, *placed.inputs), {}
    raise AssertionError(placed)


def forward(layers: Sequence[Placed], parameters: Arrays, x: Any, xp: Any) -> tuple[Any, dict[str, Any]]:
    """Outputs of `layers`, rows first, and what the way back needs, by variable name."""
    saved: dict[str, Any] = {}
    for placed in layers:
        x, kept = _forward(placed, parameters, x, xp)
        saved |= {v.name: kept for v in saved_variables(placed, 1)}
    return x, saved


def backward(
    segment: Segment, parameters: Arrays, saved: Arrays, d: Any, xp: Any, *, onward: bool
) -> tuple[Any, dict[str, Any]]:
    """Gradient at the segment's input (None unless `onward`) and of its weights, summed over the batch."""
    gradients: dict[str, Any] = {}
    weighted = [placed for placed in segment.layers if placed.parameters]
    for placed in reversed(segment.layers):
        further = onward or (bool(weighted) and placed is not weighted[0])
        kept = next((saved[v.name] for v in saved_variables(placed, 1)), None)
        d, own = _backward(placed, parameters, kept, d, xp, onward=further)
        gradients |= own
        if not further:
            return None, gradients
    return d, gradients


def update(
    shapes: Mapping[str, Shape],
    parameters: Arrays,
    velocity: Any,
    gradients: Arrays,
    optimizer: Sgd,
    batch: int,
    xp: Any,
) -> tuple[dict[str, Any], Any]:
    """Parameters after a step of `Sgd`, by name, and the velocity, which is kept multiplied by the learning rate.

    All weights are one vector here, so that their scaling is one operation on shares. `velocity` is None without
    momentum.
    """
    change = xp.concatenate([gradients[name].reshape(-1) for name in shapes]) * np.float32(
        optimizer.lr / batch
    )
    if optimizer.momentum:
        change = velocity * np.float32(optimizer.momentum) + change
    after, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        after[name] = parameters[name] - change[at : at + size].reshape(shape)
        at += size
    return after, change if optimizer.momentum else None
