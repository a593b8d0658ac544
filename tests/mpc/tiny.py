"""Programs of a few numbers, in place of what a declared network is lowered to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import spu
import spu.utils.frontend as frontend

from hansa.mpc.dealing import make_shares
from hansa.mpc.program import EVERYONE, Compute, Feed, Open, Program, Run, Share, Variable
from hansa.mpc.session import Party, Start
from hansa.mpc.setting import Setting
from hansa.mpc.shares import Share as Held

JOB = b"j" * 32
ROWS, BATCH, STEPS, EPOCHS = 16, 4, 4, 2
RATE = 0.25

X, Y = Variable("x", (ROWS, 3)), Variable("y", (ROWS, 1))
W, SEEN = Variable("w", (3, 1)), Variable("seen", (), "int32")
PICK, LOSS, OVER = Variable("pick", (BATCH,), "int32"), Variable("loss", ()), Variable("over", (), "int32")
OUT, GRADIENT, BIAS = Variable("out", (BATCH, 1)), Variable("gradient", (BATCH, 1)), Variable("bias", (1,))

_rng = np.random.default_rng(5)
DATA = {
    "x": _rng.uniform(-1, 1, X.shape).astype(np.float32),
}
DATA["y"] = DATA["x"] @ np.array([[1.0], [-2.0], [0.5]], np.float32)


FIRST = {"w": np.full(W.shape, 0.5, np.float32)}


def feeds(step: int) -> Mapping[str, np.ndarray[Any, Any]]:
    order = np.random.RandomState(step // STEPS).permutation(ROWS).astype(np.int32)
    place = step % STEPS
    return {"pick": order[place * BATCH : (place + 1) * BATCH]}


def compiled(
    function: Callable[..., Any],
    inputs: Sequence[Variable],
    outputs: Sequence[str],
    public: Sequence[str] = (),
) -> bytes:
    secret, open = spu.Visibility.VIS_SECRET, spu.Visibility.VIS_PUBLIC
    arrays = [np.zeros(v.shape, v.dtype) for v in inputs]
    visible = [open if v.name in public else secret for v in inputs]
    names = [v.name for v in inputs]
    executable, _ = frontend.compile(
        frontend.Kind.JAX, function, arrays, {}, names, visible, lambda _: list(outputs)
    )
    return executable.SerializeToString()


def regression(*, over: float = 1e-9, epochs: int = EPOCHS) -> Program:
    """Linear regression in shares alone; counts the rows it saw, exactly; ends early when the loss is below `over`."""

    def step(x: Any, y: Any, w: Any, seen: Any, pick: Any) -> Any:
        a = x[pick]
        return w - RATE * a.T @ (a @ w - y[pick]) / BATCH, seen + pick.sum(dtype=jnp.int32)

    def end(x: Any, y: Any, w: Any) -> Any:
        return (jnp.mean((x @ w - y) ** 2) < over).astype(jnp.int32)

    return Program(
        epochs=epochs,
        steps=STEPS,
        inputs=(X, Y),
        state=(W, SEEN),
        plain_state={},
        outputs=(W, SEEN),
        start=(),
        step=(Feed(PICK), Run("step")),
        epoch=(Run("end"), Open(OVER, EVERYONE)),
        finish=(),
        stop=OVER,
        executables={
            "step": compiled(step, (X, Y, W, SEEN, PICK), ("w", "seen"), ("pick",)),
            "end": compiled(end, (X, Y, W), ("over",)),
        },
        layers={"step": "linear", "end": "stopping"},
    )


def halved() -> Program:
    """The same, but bias and gradient of the outputs are computed in the clear at party 1."""

    def forward(x: Any, w: Any, pick: Any) -> Any:
        return x[pick] @ w

    def backward(x: Any, w: Any, seen: Any, gradient: Any, pick: Any) -> Any:
        return w - RATE * x[pick].T @ gradient, seen + pick.sum(dtype=jnp.int32)

    batch_y = Variable("batch_y", (BATCH, 1))
    return Program(
        epochs=EPOCHS,
        steps=STEPS,
        inputs=(X, Y),
        state=(W, SEEN),
        plain_state={1: (BIAS,)},
        outputs=(W, SEEN, BIAS),
        start=(),
        step=(
            Feed(PICK),
            Run("forward"),
            Run("labels"),
            Open(OUT, 1),
            Open(batch_y, 1),
            Compute("top", 1, (OUT, batch_y, BIAS), (GRADIENT, BIAS)),
            Share(GRADIENT, 1),
            Run("backward"),
        ),
        epoch=(),
        finish=(Share(BIAS, 1),),
        stop=None,
        executables={
            "forward": compiled(forward, (X, W, PICK), ("out",), ("pick",)),
            "labels": compiled(lambda y, pick: y[pick], (Y, PICK), ("batch_y",), ("pick",)),
            "backward": compiled(backward, (X, W, SEEN, GRADIENT, PICK), ("w", "seen"), ("pick",)),
        },
        layers={"forward": "linear", "backward": "linear", "out": "top", "gradient": "top"},
    )


def top(
    out: np.ndarray[Any, Any], y: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    gradient = (out + bias - y) / BATCH
    return gradient.astype(np.float32), (bias - RATE * gradient.sum(0)).astype(np.float32)


def dealt(setting: Setting) -> list[dict[str, Held]]:
    """By rank, the shares that owners give a party."""
    variables = {v.name: v for v in (X, Y)}
    made = {n: make_shares(DATA[n], variables[n], job=JOB, setting=setting) for n in variables}
    return [{n: shares[rank] for n, shares in made.items()} for rank in range(setting.parties)]


def start(party: Party, shares: Sequence[Mapping[str, Held]]) -> Start:
    return Start(shares[party.rank], FIRST, feeds, {"top": top})


def expected(
    *, bias: bool = False, epochs: int = EPOCHS
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """Weights, bias and rows seen of the same training in the clear."""
    w, b, seen = FIRST["w"].astype(np.float64), np.zeros(1), 0
    for step in range(epochs * STEPS):
        pick = feeds(step)["pick"]
        a = DATA["x"][pick]
        gradient = (a @ w + b * bias - DATA["y"][pick]) / BATCH
        w, b, seen = w - RATE * a.T @ gradient, b - RATE * gradient.sum(0), seen + int(pick.sum())
    return w, b, seen
