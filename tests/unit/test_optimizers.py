from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa import encoding, errors
from hansa.crypto import fixedpoint
from hansa.protocol import framing, optimizers
from hansa.records import AggregationTerms, Layout, Limits, Model

LOW, HIGH = -(2**31), 2**31 - 1
SCALE = 16
NAMES = ("none", "momentum", "adam", "yogi")
int32s = st.one_of(st.integers(LOW, HIGH), st.integers(-(2**18), 2**18), st.sampled_from([LOW, HIGH, 0]))


def terms(optimizer: str, **params: float) -> AggregationTerms:
    return AggregationTerms(optimizer=optimizer, optimizer_params=tuple(sorted(params.items())))


def model(values) -> Model:
    return Model(Layout(("w",), ((len(values),),), SCALE), np.array(values, np.int32))


def run(given_terms: AggregationTerms, start: list[int], deltas: list[list[int]], scale: int = SCALE):
    current = Model(Layout(("w",), ((len(start),),), scale), np.array(start, np.int32))
    state = optimizers.initial_state(given_terms, len(start), scale)
    for delta in deltas:
        values, state = optimizers.step(given_terms, current, np.array(delta, np.int32), state)
        current = Model(current.layout, values)
    return current.values, state


def floating(optimizer: str, start: list[float], deltas: list[list[float]], lr, beta1, beta2=0.99, tau=0.001):
    """The published formulas in floating point."""
    w, m, v = np.array(start), np.zeros(len(start)), np.full(len(start), tau**2)
    for delta in map(np.array, deltas):
        if optimizer == "momentum":
            m = beta1 * m + delta
            w = w + lr * m
            continue
        m = beta1 * m + (1 - beta1) * delta
        if optimizer == "adam":
            v = beta2 * v + (1 - beta2) * delta**2
        else:
            v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
        w = w + lr * m / (np.sqrt(v) + tau)
    return w


@given(st.lists(st.tuples(int32s, int32s), min_size=1, max_size=5))
def test_none_adds_and_saturates(pairs):
    start, delta = ([p[k] for p in pairs] for k in (0, 1))
    values, state = run(terms("none"), start, [delta])
    assert values.tolist() == [min(max(a + b, LOW), HIGH) for a, b in pairs]
    assert (state.step, state.first.size, state.second.size) == (1, 0, 0)


def half_away(value: Fraction) -> int:
    magnitude = math.floor(abs(value) + Fraction(1, 2))
    return magnitude if value > 0 else -magnitude


@given(
    st.integers(LOW, HIGH), st.lists(int32s, min_size=1, max_size=12), st.sampled_from([0.0, 0.5, 0.9, 0.999])
)
def test_momentum_equals_an_exact_oracle(start, deltas, beta):
    values, state = run(terms("momentum", beta1=beta, lr=0.75), [start], [[d] for d in deltas])
    beta_units, bound = math.floor(Fraction(str(beta)) * 2**16 + Fraction(1, 2)), 2**43 - 1
    m, w = 0, start
    for d in deltas:
        m = min(max(half_away(Fraction(m * beta_units, 2**16)) + (d << 12), -bound), bound)
        w = min(max(w + half_away(Fraction(m * 3, 4 * 2**12)), LOW), HIGH)
    assert (int(values[0]), int(state.first[0])) == (w, m)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "yogi"])
@pytest.mark.parametrize("size", [0.001, 0.05, 2.0])
def test_integers_follow_the_published_formulas(optimizer, size):
    rng = np.random.default_rng(3)
    start = rng.normal(0, 1, 40)
    deltas = rng.normal(size / 3, size, (12, 40))
    lr = 0.5 if optimizer == "momentum" else 0.02
    params = {"lr": lr, "beta1": 0.9} | ({} if optimizer == "momentum" else {"beta2": 0.99, "tau": 0.001})
    scale = 20
    whole, _ = fixedpoint.quantise(start, scale)
    steps = [fixedpoint.quantise(d, scale)[0].tolist() for d in deltas]
    values, _ = run(terms(optimizer, **params), whole.tolist(), steps, scale)
    expected = floating(optimizer, start.tolist(), deltas.tolist(), **params)
    moved = np.abs(expected - start).mean()
    assert np.abs(values * 2.0**-scale - expected).max() < 0.01 * moved


@pytest.mark.parametrize("optimizer", NAMES)
@pytest.mark.parametrize("extreme", [LOW, HIGH])
@pytest.mark.parametrize("scale", [0, 16, 30])
def test_extreme_deltas_keep_their_sign_and_their_bounds(optimizer, extreme, scale):
    params = (
        {} if optimizer == "none" else {"lr": 15.99 if optimizer == "momentum" else 0.007, "beta1": 0.99999}
    )
    values, state = run(terms(optimizer, **params), [0], [[extreme]] * 60, scale)
    if optimizer in ("none", "momentum"):
        assert values[0] == extreme
    elif scale:
        assert values[0] != 0
        assert (values[0] > 0) == (extreme > 0)
    data = optimizers.encode_state(state)
    optimizers.decode_state(data, limits=Limits(), terms=terms(optimizer, **params), length=1)


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
def test_adaptive_steps_clip_the_delta(optimizer):
    bound = 2**27 - 1
    clipped, state = run(terms(optimizer), [0, 0], [[bound, -bound]] * 3)
    values, same = run(terms(optimizer), [0, 0], [[HIGH, LOW]] * 3)
    assert values.tolist() == clipped.tolist()
    assert optimizers.encode_state(same) == optimizers.encode_state(state)


@pytest.mark.parametrize("optimizer", ["adam", "yogi"])
@given(st.lists(int32s, min_size=1, max_size=6))
def test_opposite_deltas_give_opposite_steps(optimizer, deltas):
    values, _ = run(terms(optimizer), [0, 0], [[d, -max(d, -HIGH)] for d in (max(d, -HIGH) for d in deltas)])
    assert values[0] == -values[1]


def test_results_do_not_depend_on_blocks():
    rng = np.random.default_rng(0)
    length = 2 * fixedpoint.BLOCK + 3
    start, delta = (rng.integers(-(2**20), 2**20, length, dtype=np.int32) for _ in range(2))
    for optimizer in NAMES:
        whole, _ = run(terms(optimizer), start.tolist(), [delta.tolist()] * 2)
        for part in (
            slice(0, 100),
            slice(fixedpoint.BLOCK - 50, fixedpoint.BLOCK + 50),
            slice(length - 9, length),
        ):
            alone, _ = run(terms(optimizer), start[part].tolist(), [delta[part].tolist()] * 2)
            assert np.array_equal(alone, whole[part])


@pytest.mark.parametrize("optimizer", NAMES)
def test_a_state_comes_back_and_training_goes_on_from_it(optimizer):
    values, state = run(terms(optimizer), [5, -9, 0], [[1000, -2000, 3], [7, 7, 7]])
    data = optimizers.encode_state(state)
    back = optimizers.decode_state(data, limits=Limits(), terms=terms(optimizer), length=3)
    assert optimizers.encode_state(back) == data
    delta = np.array([9, 9, 9], np.int32)
    one, after_one = optimizers.step(terms(optimizer), model(values), delta, state)
    two, after_two = optimizers.step(terms(optimizer), model(values), delta, back)
    assert one.tolist() == two.tolist()
    assert optimizers.encode_state(after_one) == optimizers.encode_state(after_two)
    assert after_one.step == 3


def state_blob(body: bytes, **changes) -> bytes:
    header = {"optimizer": "adam", "step": 1, "length": 1, "adaptive": True} | changes
    return framing.pack("hansa/optimizer/1", header, body)


def moments(*values: int) -> bytes:
    return np.array(values, "<i8").tobytes()


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        state_blob(moments(1, 1, 1)),
        state_blob(moments(1)),
        state_blob(moments(2**43, 1)),
        state_blob(moments(1, -1)),
        state_blob(moments(1, 2**62 + 1)),
        state_blob(moments(1, 1), step=-1),
        state_blob(moments(1, 1), step=True),
        state_blob(moments(1, 1), length=2),
        state_blob(moments(1, 1), adaptive=False),
        state_blob(moments(1, 1), optimizer="yogi"),
        state_blob(moments(1, 1), surprise=1),
    ],
)
def test_a_malformed_state_is_refused(bad):
    good = state_blob(moments(1, 1))
    assert optimizers.decode_state(good, limits=Limits(), terms=terms("adam"), length=1).step == 1
    with pytest.raises(errors.Untrusted) as caught:
        optimizers.decode_state(bad, limits=Limits(), terms=terms("adam"), length=1)
    assert caught.value.digest == encoding.digest(bad)


def test_a_state_above_the_limit_is_refused():
    with pytest.raises(errors.Untrusted, match="exceeds the limit of 10"):
        optimizers.decode_state(
            state_blob(moments(1, 1)), limits=Limits(blob=10), terms=terms("adam"), length=1
        )


def test_a_step_refuses_the_state_of_another_optimiser_or_length():
    delta = np.zeros(2, np.int32)
    for state in (
        optimizers.initial_state(terms("yogi"), 2, SCALE),
        optimizers.initial_state(terms("adam"), 3, SCALE),
    ):
        with pytest.raises(errors.Untrusted, match="not one of 'adam'"):
            optimizers.step(terms("adam"), model([0, 0]), delta, state)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (terms("sgd"), "unknown optimizer"),
        (terms("none", lr=1.0), "no parameter 'lr'"),
        (terms("momentum", tau=1.0), "no parameter 'tau'"),
        (terms("momentum", lr=0.0), "lr = 0.0"),
        (terms("momentum", lr=16.0), "lr = 16.0"),
        (terms("adam", beta1=1.0), "beta1 = 1.0"),
        (terms("adam", beta2=-0.1), "beta2 = -0.1"),
        (terms("adam", tau=0.0), "tau = 0.0"),
    ],
)
def test_parameters_without_meaning_are_a_misconfiguration(bad, message):
    with pytest.raises(errors.Misconfigured, match=message) as caught:
        optimizers.initial_state(bad, 1, SCALE)
    assert caught.value.hint or "must be" in str(caught.value)


def test_a_rate_beyond_the_bits_is_a_misconfiguration():
    given_terms = terms("adam", lr=15.0)
    state = optimizers.initial_state(given_terms, 1, 30)
    wide = Model(Layout(("w",), ((1,),), 30), np.zeros(1, np.int32))
    with pytest.raises(errors.Misconfigured, match="lr is too large"):
        optimizers.step(given_terms, wide, np.zeros(1, np.int32), state)
