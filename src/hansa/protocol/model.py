"""The canonical model: one int32 vector of all floating values, sorted by name, and its layout.

The digest of a model is that of its canonical bytes; every other format is derived from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.crypto import fixedpoint
from hansa.protocol import framing
from hansa.records import Layout, Limits, Model

_KIND = "hansa/model/1"
_FIELDS = {"names": list, "shapes": list, "scale": int}
_MAX_DIMENSIONS = 32
"""What numpy 1.26 can hold."""


def parameters(layout: Layout) -> int:
    """Number of values of a model of this layout."""
    return sum(math.prod(shape) for shape in layout.shapes)


def encode_model(model: Model) -> bytes:
    """Canonical bytes: header with names, shapes and scale, then little-endian int32."""
    header = {"names": model.layout.names, "shapes": model.layout.shapes, "scale": model.layout.scale}
    return framing.pack(_KIND, header, model.values.astype("<i4", copy=False).tobytes())


def decode_model(data: bytes, limits: Limits, layout: Layout | None = None) -> Model:
    """Read canonical bytes, of the given layout if there is one.

    Raises `Untrusted` when they exceed the limits, are not canonical, or have another layout.
    """
    with framing.evidence(data):
        if len(data) > limits.blob:
            raise errors.Untrusted(f"model of {len(data)} bytes exceeds the limit of {limits.blob}")
        header, body = framing.unpack(data, _KIND, _FIELDS, limit=limits.record)
        found = _read_layout(header)
        if layout is not None and found != layout:
            raise errors.Untrusted("the model has other names, shapes or scale than the terms say")
        count = parameters(found)
        if count > limits.parameters:
            raise errors.Untrusted(f"model of {count} parameters exceeds the limit of {limits.parameters}")
        if len(body) != 4 * count:
            raise errors.Untrusted(f"model of {count} parameters has {len(body)} bytes of values")
        return Model(found, np.frombuffer(body, "<i4").astype(np.int32))


def _read_layout(header: Mapping[str, Any]) -> Layout:
    names, shapes, scale = header["names"], header["shapes"], header["scale"]
    if not all(type(n) is str and n for n in names) or any(a >= b for a, b in pairwise(names)):
        raise errors.Untrusted("parameter names are not distinct, sorted text")
    if len(shapes) != len(names) or not all(_is_shape(s) for s in shapes):
        raise errors.Untrusted("there is not one shape for every parameter")
    if not 0 <= scale <= fixedpoint.MAX_SCALE:
        raise errors.Untrusted(f"scale {scale} is not between 0 and {fixedpoint.MAX_SCALE}")
    return Layout(tuple(names), tuple(tuple(s) for s in shapes), scale)


def _is_shape(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) <= _MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 2**31 for n in value)
    )


def model_digest(model: Model) -> bytes:
    """SHA-256 of the canonical bytes."""
    return encoding.digest(encode_model(model))


def from_arrays(arrays: Mapping[str, NDArray[Any]], scale: int) -> tuple[Model, int]:
    """Model of the floating arrays, and the number of values that had to be saturated.

    Integer arrays (counters, indices) stay local and are left out. Raises `Untrusted` on NaN and infinity.
    """
    names = tuple(sorted(n for n, a in arrays.items() if np.issubdtype(a.dtype, np.floating)))
    layout = Layout(names, tuple(arrays[n].shape for n in names), scale)
    values = np.empty(parameters(layout), np.int32)
    start = saturated = 0
    for name in names:
        part, clipped = fixedpoint.quantise(arrays[name], scale)
        values[start : start + part.size] = part
        start += part.size
        saturated += clipped
    return Model(layout, values), saturated


def to_arrays(model: Model) -> dict[str, NDArray[np.float32]]:
    """Float32 arrays by name, in the layout's order."""
    floats = fixedpoint.dequantise(model.values, model.layout.scale)
    arrays: dict[str, NDArray[np.float32]] = {}
    start = 0
    for name, shape in zip(model.layout.names, model.layout.shapes, strict=True):
        size = math.prod(shape)
        arrays[name] = floats[start : start + size].reshape(shape)
        start += size
    return arrays


def to_safetensors(model: Model) -> bytes:
    """The model as a safetensors file of float32 tensors."""
    return bytes(safetensors.numpy.save(to_arrays(model)))
