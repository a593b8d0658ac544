from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from hansa import encoding, errors
from hansa.protocol import framing, model
from hansa.records import Layout, Limits, Model

LIMITS = Limits()
LAYOUT = Layout(("a.bias", "a.weight", "scalar"), ((2,), (2, 3), ()), 16)
GOLDEN = "1caebbf37072214263d579e3d35eed469f90faafe9b981f32248523e6706c044"
VALUES = np.array([0, 1, -1, 2**31 - 1, -(2**31), 5, 6, 7, 8], np.int32)


def sample() -> Model:
    return Model(LAYOUT, VALUES.copy())


def blob(body: bytes = VALUES.astype("<i4").tobytes(), **changes) -> bytes:
    header = {"names": LAYOUT.names, "shapes": LAYOUT.shapes, "scale": 16} | changes
    return framing.pack("hansa/model/1", header, body)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30), st.integers(0, 30))
def test_a_model_comes_back(values, scale):
    layout = Layout(("w",), ((len(values),),), scale)
    original = Model(layout, np.array(values, np.int32))
    data = model.encode_model(original)
    back = model.decode_model(data, LIMITS, layout)
    assert (back.layout, back.values.tolist()) == (layout, values)
    assert model.encode_model(back) == data
    assert model.model_digest(back) == encoding.digest(data)


def test_the_bytes_are_fixed_for_ever():
    assert model.encode_model(sample()) == blob()
    assert model.model_digest(sample()).hex() == GOLDEN


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x00\x00",
        b"\xff\xff\xff\xff",
        blob()[:-1],
        blob() + b"\0",
        blob(body=b""),
        blob(names=("a.weight", "a.bias", "scalar")),
        blob(names=("a", "a", "b")),
        blob(names=("", "a", "b")),
        blob(names=("a", "b")),
        blob(names=(1, 2, 3)),
        blob(names="abc"),
        blob(shapes=((2,), (2, -3), ())),
        blob(shapes=((2,), (2, 3.0), ())),
        blob(shapes=((2,), (2, True), ())),
        blob(shapes=((2,), 6, ())),
        blob(shapes=((2,), (1,) * 33, ())),
        blob(shapes=((2,), (2, 4), ())),
        blob(shapes=((2,), (2**31 - 1,) * 32, ())),
        blob(scale=-1),
        blob(scale=31),
        blob(scale=True),
        blob(scale=16.0),
        blob(extra=1),
        blob(kind="hansa/update/1"),
    ],
)
def test_what_is_not_canonical_is_refused_with_its_digest(bad):
    with pytest.raises(errors.Untrusted) as caught:
        model.decode_model(bad, LIMITS)
    assert caught.value.digest == encoding.digest(bad)


def test_a_header_that_claims_bytes_beyond_the_end_is_refused():
    data = model.encode_model(Model(Layout((), (), 0), np.empty(0, np.int32)))
    assert model.decode_model(data, LIMITS).values.size == 0
    with pytest.raises(errors.Untrusted, match="too short for its header"):
        model.decode_model(data[:3] + bytes([data[3] + 1]) + data[4:], LIMITS)


def test_every_flipped_header_bit_is_refused_or_another_model():
    good = blob()
    head = len(good) - 4 * VALUES.size
    for i in range(head):
        bad = good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :]
        try:
            read = model.decode_model(bad, LIMITS)
        except errors.Untrusted:
            continue
        assert read.layout != LAYOUT
        assert model.encode_model(read) == bad


@pytest.mark.parametrize(
    "layout",
    [
        Layout(LAYOUT.names, LAYOUT.shapes, 15),
        Layout(LAYOUT.names, ((2,), (3, 2), ()), 16),
        Layout(("a.bias", "b.weight", "scalar"), LAYOUT.shapes, 16),
    ],
)
def test_another_layout_is_refused(layout):
    assert model.decode_model(blob(), LIMITS, LAYOUT).layout == LAYOUT
    with pytest.raises(errors.Untrusted, match="other names, shapes or scale"):
        model.decode_model(blob(), LIMITS, layout)


@pytest.mark.parametrize("limits", [Limits(blob=60), Limits(parameters=8), Limits(record=20)])
def test_limits_hold(limits):
    with pytest.raises(errors.Untrusted):
        model.decode_model(blob(), limits)


def test_arrays_are_sorted_by_name_and_integers_stay_local():
    arrays = {
        "b": np.array([[0.5, -0.25]], np.float32),
        "a": np.array(1.0, np.float64),
        "steps": np.array(7, np.int64),
    }
    made, saturated = model.from_arrays(arrays, 2)
    assert made.layout == Layout(("a", "b"), ((), (1, 2)), 2)
    assert made.values.tolist() == [4, 2, -1]
    assert saturated == 0
    back = model.to_arrays(made)
    assert list(back) == ["a", "b"]
    assert all(np.array_equal(back[n], arrays[n]) and back[n].dtype == np.float32 for n in back)


def test_saturations_are_counted_over_all_arrays():
    made, saturated = model.from_arrays({"a": np.array([3e9, 0.0]), "b": np.array([-3e9])}, 0)
    assert saturated == 2
    assert made.values.tolist() == [2**31 - 1, 0, -(2**31)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad):
    with pytest.raises(errors.Untrusted):
        model.from_arrays({"a": np.zeros(3), "b": np.array([0.0, bad])}, 16)


def test_safetensors_holds_the_same_arrays_and_is_reproducible():
    data = model.to_safetensors(sample())
    assert data == model.to_safetensors(sample())
    read, expected = safetensors.numpy.load(data), model.to_arrays(sample())
    assert read.keys() == expected.keys()
    assert all(np.array_equal(read[n], expected[n]) for n in expected)
