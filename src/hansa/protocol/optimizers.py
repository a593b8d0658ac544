"""Server optimisers on integers: every verifier gets the same bits on any machine.

    none        W' = W + d
    momentum    m' = beta1 m + d                   W' = W + lr m'
    adam        m' = beta1 m + (1 - beta1) d       W' = W + lr m' / (sqrt v' + tau)
                v' = beta2 v + (1 - beta2) d^2
    yogi        as adam, but v' = v - (1 - beta2) d^2 sign(v - d^2)

d is the round's joint update. Momentum: Hsu et al., "Measuring the Effects of Non-Identical Data Distribution
for Federated Visual Classification" (2019). Adam and Yogi: Reddi et al., "Adaptive Federated Optimization"
(2021), algorithm 2, without bias correction, v starting at tau^2.

Parameters are rounded to 2**-16 (tau and lr of adam and yogi: to 2**-12 and 2**-8 of the model's unit). The
state keeps 12 bits below the model's unit in m and 8 below its square in v. Bounds: m saturates below 2**43;
adam and yogi clip d to 27 bits and the step's direction to 2**15 times lr. All products then fit int64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.crypto import fixedpoint
from hansa.protocol import framing
from hansa.records import AggregationTerms, Limits, Model

DEFAULTS: Final[Mapping[str, Mapping[str, float]]] = {
    "none": {},
    "momentum": {"lr": 1.0, "beta1": 0.9},
    "adam": {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "tau": 0.001},
    "yogi": {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "tau": 0.001},
}
"""Parameters of every optimiser and what they are when the terms do not say."""

_KIND: Final = "hansa/optimizer/1"
_FIELDS: Final = {"optimizer": str, "step": int, "length": int, "adaptive": bool}
_HEADER_LIMIT: Final = 1024
_ONE: Final = 1 << 16
_M_BITS: Final = 12
_M_MAX: Final = 2**43 - 1
_V_BITS: Final = 8
_V_MAX: Final = 2**62
_D_MAX: Final = 2**27 - 1
_RATIO_MAX: Final = 2**31 - 1
_LR_BITS: Final = 8

_Values = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class OptimizerState:
    """What an optimiser carries from round to round: steps taken, int64 `first` and `second` moments.

    `first` is empty under "none"; `second` is empty unless the optimiser is adaptive.
    """

    optimizer: str
    step: int
    first: _Values
    second: _Values


def initial_state(terms: AggregationTerms, length: int, scale: int) -> OptimizerState:
    """State before the first round, for a model of `length` values. Raises `Misconfigured` for bad terms."""
    settings = _settings(terms)
    adaptive = "tau" in settings
    first = np.zeros(length if settings else 0, np.int64)
    root = _fixed(settings["tau"], scale + _V_BITS // 2) if adaptive else 0
    second = np.full(length if adaptive else 0, min(root * root, _V_MAX), np.int64)
    return OptimizerState(terms.optimizer, 0, first, second)


def step(
    terms: AggregationTerms, model: Model, delta: NDArray[np.int32], state: OptimizerState
) -> tuple[NDArray[np.int32], OptimizerState]:
    """Values of the next model, saturated at int32, and the next state; `delta` is from `mean_delta`.

    Raises `Misconfigured` when the terms' parameters cannot be used, `Untrusted` when the state is of another
    optimiser or length.
    """
    settings = _settings(terms)
    _check_state(
        state, terms.optimizer, delta.size if settings else 0, delta.size if "tau" in settings else 0
    )
    first, second = np.empty_like(state.first), np.empty_like(state.second)
    values = np.empty(delta.size, np.int32)
    move = _mover(terms.optimizer, settings, model.layout.scale)
    for part in fixedpoint.blocks(delta.size):
        change, first[part], second[part] = move(
            delta[part].astype(np.int64), state.first[part], state.second[part]
        )
        values[part] = fixedpoint.saturate(model.values[part] + change)
    return values, OptimizerState(terms.optimizer, state.step + 1, first, second)


def encode_state(state: OptimizerState) -> bytes:
    """Canonical bytes: header, then little-endian int64 of both moments."""
    header = {
        "optimizer": state.optimizer,
        "step": state.step,
        "length": state.first.size,
        "adaptive": bool(state.second.size),
    }
    moments = (m.astype("<i8", copy=False).tobytes() for m in (state.first, state.second))
    return framing.pack(_KIND, header, *moments)


def decode_state(data: bytes, *, limits: Limits, terms: AggregationTerms, length: int) -> OptimizerState:
    """Read a state for these terms and a model of `length` values.

    Raises `Untrusted` when it is not canonical, of another optimiser or length, or beyond the bounds.
    """
    with framing.evidence(data):
        if len(data) > limits.blob:
            raise errors.Untrusted(f"state of {len(data)} bytes exceeds the limit of {limits.blob}")
        header, body = framing.unpack(data, _KIND, _FIELDS, limit=_HEADER_LIMIT)
        settings = _settings(terms)
        firsts, seconds = (length if settings else 0), (length if "tau" in settings else 0)
        if (header["length"], header["adaptive"]) != (firsts, seconds > 0) or header["step"] < 0:
            raise errors.Untrusted(f"optimiser state does not fit a model of {length} values")
        if len(body) != 8 * (firsts + seconds):
            raise errors.Untrusted(f"optimiser state of {firsts} values has {len(body)} bytes")
        moments = np.frombuffer(body, "<i8").astype(np.int64)
        state = OptimizerState(header["optimizer"], header["step"], moments[:firsts], moments[firsts:])
        _check_state(state, terms.optimizer, firsts, seconds)
        if not _within(state.first, -_M_MAX, _M_MAX) or not _within(state.second, 0, _V_MAX):
            raise errors.Untrusted("a moment of the optimiser state is out of bounds")
        return state


def _within(values: _Values, low: int, high: int) -> bool:
    return not values.size or (int(values.min()) >= low and int(values.max()) <= high)


def _check_state(state: OptimizerState, optimizer: str, firsts: int, seconds: int) -> None:
    if (state.optimizer, state.first.size, state.second.size) != (optimizer, firsts, seconds):
        raise errors.Untrusted(f"the state is not one of {optimizer!r} for this model")


def _settings(terms: AggregationTerms) -> dict[str, Fraction]:
    """Exact parameters of the terms' optimiser, with defaults. Raises `Misconfigured`."""
    if terms.optimizer not in DEFAULTS:
        raise errors.Misconfigured(
            f"unknown optimizer {terms.optimizer!r}", hint=f"Optimizers: {', '.join(DEFAULTS)}."
        )
    defaults, given = DEFAULTS[terms.optimizer], dict(terms.optimizer_params)
    for name in given.keys() - defaults.keys():
        raise errors.Misconfigured(
            f"optimizer {terms.optimizer!r} has no parameter {name!r}",
            hint=f"It has: {', '.join(defaults) or 'none'}.",
        )
    settings = {name: Fraction(str(given.get(name, value))) for name, value in defaults.items()}
    for name, value in settings.items():
        ceiling = 1 if name.startswith("beta") else 16
        if not 0 <= value < ceiling or (value == 0 and not name.startswith("beta")):
            raise errors.Misconfigured(f"{name} = {float(value)} must be above 0 and below {ceiling}")
    return settings


def _fixed(value: Fraction, bits: int) -> int:
    """`value` in units of 2**-bits, half up, at least 1 where it is not 0."""
    return max(int(value > 0), int(value * 2**bits + Fraction(1, 2)))


_Move = Callable[[_Values, _Values, _Values], tuple[_Values, _Values, _Values]]


def _mover(optimizer: str, settings: Mapping[str, Fraction], scale: int) -> _Move:
    """A function of (delta, first, second) of one block, giving (change of the values, first, second)."""
    if optimizer == "none":
        return lambda delta, first, second: (delta, first, second)
    beta1 = _fixed(settings["beta1"], 16)
    if optimizer == "momentum":
        rate = _fixed(settings["lr"], 16)

        def momentum(delta: _Values, first: _Values, second: _Values) -> tuple[_Values, _Values, _Values]:
            first = fixedpoint.divide_half_away(first * beta1, _ONE) + (delta << _M_BITS)
            first = np.clip(first, -_M_MAX, _M_MAX)
            return fixedpoint.divide_half_away(first * rate, 1 << (16 + _M_BITS)), first, second

        return momentum

    beta2, tau = _fixed(settings["beta2"], 16), _fixed(settings["tau"], scale + _M_BITS)
    rate = _fixed(settings["lr"], scale + _LR_BITS)
    if rate > _RATIO_MAX:
        raise errors.Misconfigured(f"lr is too large for a model of scale {scale}", hint="Lower the scale.")

    def adaptive(delta: _Values, first: _Values, second: _Values) -> tuple[_Values, _Values, _Values]:
        delta = np.clip(delta, -_D_MAX, _D_MAX)
        square = (delta * delta) << _V_BITS
        first = fixedpoint.divide_half_away(first * beta1 + (delta << _M_BITS) * (_ONE - beta1), _ONE)
        if optimizer == "adam":
            second = _scaled(second, beta2) + _scaled(square, _ONE - beta2)
        else:
            towards: _Values = np.sign(square - second)
            second = second + towards * _scaled(square, _ONE - beta2)
        second = np.clip(second, 0, _V_MAX)
        root = fixedpoint.square_roots(second) << (_M_BITS - _V_BITS // 2)
        ratio = np.clip(_divided(first << 16, root + tau), -_RATIO_MAX, _RATIO_MAX)
        return fixedpoint.divide_half_away(ratio * rate, 1 << (16 + _LR_BITS)), first, second

    return adaptive


def _scaled(values: _Values, factor: int) -> _Values:
    """floor(values * factor / 2**16) for 0 <= values <= 2**62 and 0 <= factor <= 2**16, without overflow."""
    return (values >> 16) * factor + (((values & 0xFFFF) * factor) >> 16)


def _divided(numerator: _Values, denominator: _Values) -> _Values:
    """Quotient rounded towards zero; denominators are positive."""
    return np.sign(numerator) * (np.abs(numerator) // denominator)
