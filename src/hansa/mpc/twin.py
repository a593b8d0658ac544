"""The plaintext twin of a declared network: the same training in float32 under plain JAX, the oracle of shares.

It shares no formula with `layers`: gradients are jax.grad's, convolution and pooling are jax's own. It draws the same
first weights, batches and noise. What differs is fixed point: 18 bits behind the point, and truncations that round up
or down by chance. Tests hold weights after 4 steps to 0.001 (most agree to 0.0003). Where the input of a ReLU lies
closer to 0 than that error, shares and twin may take different sides, as two floating-point machines would; single
weights then differ by about lr / batch a step, and the accuracy of the network does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hansa.mpc import bottleneck
from hansa.mpc.layout import Layout, Placed
from hansa.mpc.network import (
    Conv,
    Declaration,
    Dense,
    Flatten,
    Logistic,
    Loss,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    SumPool,
)
from hansa.mpc.outline import total_rows
from hansa.mpc.schedule import ROWS, feeds, initial, steps_an_epoch
from hansa.mpc.training import Training

Array = NDArray[np.float32]
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Parameters by variable name, epochs done, and what a noised bottleneck showed: (step, row in batch, value)."""

    parameters: Mapping[str, Array]
    epochs: int
    shown: list[Array]


def apply(placed: Placed, parameters: Parameters, x: Any) -> Any:
    """One layer on a batch of rows."""
    match placed.layer:
        case Dense():
            return x @ parameters[f"{placed.name}.weight"] + parameters[f"{placed.name}.bias"]
        case Conv(filters=filters, size=size):
            kernel = parameters[f"{placed.name}.weight"].reshape(size, size, placed.inputs[2], filters)
            z = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return z + parameters[f"{placed.name}.bias"]
        case ReLU():
            return jnp.where(x > 0, x, 0.0)
        case Sigmoid():
            return jax.nn.sigmoid(x)
        case SumPool(size=size):
            window = (1, size, size, 1)
            return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID")
        case Flatten():
            return x.reshape(x.shape[0], -1)
    raise AssertionError(placed)


def outputs(layout: Layout, parameters: Parameters, x: Any) -> Array:
    """The trained network on rows as they are shared (behind a plain bottom, where there is one); no noise."""
    for segment in layout.segments:
        for placed in segment.layers:
            x = apply(placed, parameters, x)
    return np.asarray(x, dtype=np.float32)


def accuracy(training: Training, parameters: Parameters, x: Any, y: Any) -> float:
    """Share of rows whose label, as `inputs.encode_labels` gives it, is the likeliest class."""
    z, labels = outputs(training.layout, parameters, x), np.asarray(y)
    if z.shape[1] > 1:
        return float((z.argmax(axis=1) == labels.argmax(axis=1)).mean())
    edge = 0.0 if isinstance(training.declared.loss, Logistic) else float((labels.min() + labels.max()) / 2)
    return float(((z > edge) == (labels > (labels.min() + labels.max()) / 2)).mean())


def loss_rows(loss: Loss, z: Any, y: Any) -> Any:
    """Loss of each row; `y` as it is shared."""
    match loss:
        case SoftmaxCrossEntropy():
            return -(y * jax.nn.log_softmax(z)).sum(axis=1)
        case Logistic():
            return (jax.nn.softplus(z) - y * z).sum(axis=1)
        case _:
            return ((z - y) ** 2).sum(axis=1) / 2


def train(
    training: Training,
    x: Array,
    y: Array,
    *,
    noise: Mapping[str, Array] | None = None,
    steps: int | None = None,
) -> Trained:
    """Train on joined rows as they are shared. noise: joined, by name, a slot a step, for a noised bottleneck."""
    declared, layout = training.declared, training.layout
    total = total_rows(training, [len(x)] * max(1, len(declared.columns)))
    per_epoch = steps_an_epoch(declared, total)
    parameters = {k: jnp.asarray(v) for k, v in initial(layout, declared.seed).items()}
    for placed in layout.bottom:
        for name in placed.parameters:
            del parameters[name]
    velocity = {k: jnp.zeros_like(v) for k, v in parameters.items()}
    advance = _bottleneck_step(declared, layout) if noise else _step(declared, layout)
    error, shown, epochs = 0.0, [], 0
    for step in range(declared.epochs * per_epoch if steps is None else steps):
        rows = feeds(declared, total, step)[ROWS]
        drawn = {k: v[step] for k, v in (noise or {}).items()}
        parameters, velocity, squared, seen = advance(parameters, velocity, x[rows], y[rows], drawn)
        error += float(squared)
        shown.append(np.asarray(seen))
        if (step + 1) % per_epoch == 0:
            epochs += 1
            if declared.stop is not None and error < declared.stop.below * declared.batch * per_epoch:
                break
            error = 0.0
    return Trained({k: np.asarray(v) for k, v in parameters.items()}, epochs, shown if noise else [])


def _moved(declared: Declaration, parameters: Parameters, velocity: Parameters, gradients: Parameters) -> Any:
    """`Sgd` as its docstring says it; gradients are means over the batch."""
    momentum, lr = declared.optimizer.momentum, declared.optimizer.lr
    velocity = {k: momentum * velocity[k] + g for k, g in gradients.items()}
    return {k: parameters[k] - lr * v for k, v in velocity.items()}, velocity


def _predicted(loss: Loss, z: Any) -> Any:
    match loss:
        case SoftmaxCrossEntropy():
            return jax.nn.softmax(z)
        case Logistic():
            return jax.nn.sigmoid(z)
        case _:
            return z


def _step(declared: Declaration, layout: Layout) -> Callable[..., Any]:
    """A step of plain training, compiled."""

    def mean_loss(parameters: Parameters, x: Any, y: Any) -> Any:
        for segment in layout.segments:
            for placed in segment.layers:
                x = apply(placed, parameters, x)
        return loss_rows(declared.loss, x, y).mean(), ((_predicted(declared.loss, x) - y) ** 2).sum()

    def step(parameters: Parameters, velocity: Parameters, x: Any, y: Any, _noise: Parameters) -> Any:
        gradients, squared = jax.grad(mean_loss, has_aux=True)(parameters, x, y)
        return *_moved(declared, parameters, velocity, gradients), squared, jnp.zeros(())

    return jax.jit(step)  # type: ignore[no-any-return]


def _bottleneck_step(declared: Declaration, layout: Layout) -> Callable[..., Any]:
    """A step through a noised bottleneck: what is held back from a gradient stands under stop_gradient."""
    below, top = layout.segments
    reveal = bottleneck.reveal_of(layout)
    assert reveal.clip is not None
    assert reveal.gradient_clip is not None
    assert declared.norm is not None
    longest = math.sqrt(declared.norm**2 + 1)
    low = 0.0 if len(below.layers) == 2 else -reveal.clip
    change = bottleneck.label_change(declared.loss)
    still = jax.lax.stop_gradient

    def norm(parameters: Parameters, placed: Placed) -> Any:
        return jnp.linalg.norm(parameters[f"{placed.name}.weight"], 2)

    def sum_loss(parameters: Parameters, x: Any, y: Any, drawn: Any) -> Any:
        (dense,), tops = bottleneck.weighted(below), bottleneck.weighted(top)
        shown = jnp.clip(apply(dense, parameters, x), low, reveal.clip) + drawn
        behind = {p.name: math.prod(norm(parameters, q) for q in tops[i + 1 :]) for i, p in enumerate(tops)}
        whole = still(behind[tops[0].name] * norm(parameters, tops[0]))
        part = 2 * change * whole * longest
        scale = jnp.minimum(1, reveal.gradient_clip / part)
        h = still(shown) + scale * (shown - still(shown))
        for placed in top.layers:
            if isinstance(placed.layer, Dense):
                length = jnp.sqrt((h**2).sum(axis=1, keepdims=True) + 1)
                kept = still(jnp.minimum(1, reveal.gradient_clip / (change * behind[placed.name] * length)))
                w, b = parameters[f"{placed.name}.weight"], parameters[f"{placed.name}.bias"]
                h = h @ still(w) + still(b) + kept * (still(h) @ (w - still(w)) + (b - still(b)))
            else:
                h = apply(placed, parameters, h)
        return loss_rows(declared.loss, h, y).sum(), (((_predicted(declared.loss, h) - y) ** 2).sum(), shown)

    def step(parameters: Parameters, velocity: Parameters, x: Any, y: Any, noise: Parameters) -> Any:
        drawn = noise[f"noise.{bottleneck.SHOWN}"]
        gradients, (squared, shown) = jax.grad(sum_loss, has_aux=True)(parameters, x, y, drawn)
        for segment in (below, top):
            for placed in bottleneck.weighted(segment):
                added = noise[f"noise.{placed.name}"]
                gradients[f"{placed.name}.weight"] += added[:-1]
                gradients[f"{placed.name}.bias"] += added[-1]
        gradients = {k: g / declared.batch for k, g in gradients.items()}
        return *_moved(declared, parameters, velocity, gradients), squared, shown

    return jax.jit(step)  # type: ignore[no-any-return]
