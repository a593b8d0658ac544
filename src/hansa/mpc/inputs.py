"""What one owner shares: its rows checked, passed through the plain bottom, labels encoded, noise drawn.

Fixed point gives garbage without a word where numbers are too large, so every value is checked here, at its owner,
before anything leaves it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from safetensors.numpy import load as load_safetensors

from hansa import errors
from hansa.encoding import digest as digest_of
from hansa.mpc import bottleneck, layers
from hansa.mpc.layout import Arrangement, Shape
from hansa.mpc.network import Conv, Dense, Logistic, SoftmaxCrossEntropy
from hansa.mpc.schedule import initial_of
from hansa.mpc.training import Rows, Training

Array = NDArray[np.float32]

MAX_ROWS: Final = 1 << 20
WEIGHTS_LIMIT: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Checked rows of one owner: ids, and features and labels as they are shared, or None where it has none."""

    ids: tuple[str, ...]
    features: Array | None
    labels: Array | None


def check_rows(training: Training, rows: Rows, owner: int, *, folder: Path | None = None) -> Shared:
    """Check one owner's rows, pass them through the plain bottom, scale them, encode labels.

    folder: where weights files of the bottom lie, if not beside the script. Raises `Misconfigured`, without any value
    in the message, for rows that cannot be trained on.
    """
    declared = training.declared
    ids, features, labels = rows
    names = tuple(str(i) for i in ids)
    if not 1 <= len(names) <= MAX_ROWS or len(set(names)) != len(names):
        raise errors.Misconfigured(
            f"rows have {len(names)} ids, {len(set(names))} of them different",
            hint=f"An owner gives 1 to {MAX_ROWS} rows, each with an id of its own.",
        )
    columns = declared.columns
    if columns and owner not in range(len(columns)):
        raise errors.Misconfigured(f"owner {owner} has no columns; the script names {len(columns)} owners")
    wants_features = not columns or columns[owner] > 0
    wants_labels = not columns or declared.labels_by == owner
    shape = (columns[owner],) if columns else declared.inputs
    return Shared(
        names,
        _features(training, features, (len(names), *shape), folder) if wants_features else None,
        encode_labels(training, labels, len(names)) if wants_labels else None,
    )


def _array(values: Any, what: str, shape: Shape) -> Array:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as e:
        raise errors.Misconfigured(f"{what} are no numbers in rows of one length") from e
    if found.shape != shape:
        raise errors.Misconfigured(
            f"{what} have shape {found.shape}, not {shape}", hint="There is one row for each id."
        )
    if not np.isfinite(found).all():
        raise errors.Misconfigured(
            f"{what} hold NaN or infinity in {int((~np.isfinite(found)).sum())} places",
            hint="Fill in or drop what is missing.",
        )
    return found.astype(np.float32)


def _features(training: Training, values: Any, shape: Shape, folder: Path | None) -> Array:
    declared, layout = training.declared, training.layout
    x = _array(values, "features", shape)
    _check_bound(x, declared.bound, "features")
    if layout.bottom:
        parameters: dict[str, Array] = {}
        for placed in layout.bottom:
            parameters |= bottom_weights(training, placed.name, folder)
        x, _ = layers.forward(layout.bottom, parameters, x, np)
        x = x.astype(np.float32)
        _check_bound(x, declared.bound, "features behind the plain bottom")
    if declared.norm is not None:
        lengths = np.linalg.norm(x.reshape(len(x), -1), axis=1)
        x = x * np.minimum(1, declared.norm / np.maximum(lengths, 1e-12)).astype(np.float32).reshape(
            -1, *(1,) * (x.ndim - 1)
        )
    return x


def _check_bound(x: Array, bound: float, what: str) -> None:
    outside = int((np.abs(x) > bound).any(axis=tuple(range(1, x.ndim))).sum())
    if outside:
        raise errors.Misconfigured(
            f"{outside} rows of {what} hold values outside [-{bound:g}, {bound:g}], which fixed point may garble",
            hint="Standardise features, or cut off what is far out, in the script's rows().",
        )


def bottom_weights(training: Training, name: str, folder: Path | None = None) -> Mapping[str, Array]:
    """Weights of a frozen layer at the owners: from the seed, or from the file that the script pins by digest."""
    placed = next(p for p in training.layout.bottom if p.name == name)
    layer = placed.layer
    if not isinstance(layer, Dense | Conv) or not layer.weights:
        return initial_of(placed, training.declared.seed)
    path = (folder or training.folder) / layer.weights
    try:
        if path.stat().st_size > WEIGHTS_LIMIT:
            raise errors.Misconfigured(f"{path} is larger than {WEIGHTS_LIMIT} bytes")
        data = path.read_bytes()
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot read {path}: {e.strerror}", hint="It belongs beside the script."
        ) from e
    if digest_of(data).hex() != layer.digest:
        raise errors.Misconfigured(
            f"{path} is not the file whose digest the script names",
            hint="Get the file that the owners agreed on.",
        )
    try:
        found = load_safetensors(data)
    except Exception as e:
        raise errors.Misconfigured(f"{path} is no safetensors file") from e
    values: dict[str, Array] = {}
    for variable, shape in placed.parameters.items():
        key = variable.removeprefix(f"{name}.")
        if key not in found or found[key].shape != shape:
            raise errors.Misconfigured(
                f"{path} has no {key!r} of shape {shape} for {name}",
                hint="It holds weight (inputs, width) and bias.",
            )
        values[variable] = _array(found[key], f"{key} of {path}", shape)
    return values


def encode_labels(training: Training, labels: Any, count: int) -> Array:
    """Labels as they are shared, (count, outputs): one-hot classes, zeros and ones, or numbers."""
    declared, width = training.declared, training.layout.outputs[0]
    if isinstance(declared.loss, SoftmaxCrossEntropy | Logistic):
        classes = width if isinstance(declared.loss, SoftmaxCrossEntropy) else 2
        y = _array(labels, "labels", (count,))
        wrong = int((~np.isin(y, np.arange(classes))).sum())
        if wrong:
            raise errors.Misconfigured(
                f"{wrong} labels are not one of the classes 0 to {classes - 1}",
                hint="Number the classes from 0, one output each.",
            )
        return y[:, None] if classes == 2 and width == 1 else np.eye(classes, dtype=np.float32)[y.astype(int)]
    y = np.asarray(labels)
    found = _array(labels, "labels", (count,) if y.ndim == 1 and width == 1 else (count, width)).reshape(
        count, width
    )
    _check_bound(found, declared.bound, "labels")
    return found


def share_values(
    training: Training, rows: Shared, steps: int, owners: int, key: bytes
) -> Mapping[str, Array]:
    """All that one owner shares, by name: x, y, and its part of the noise, for so many `steps`.

    owners: how many share, at least. key: 32 secret bytes; noise follows from it.
    """
    found = {name: array for name, array in (("x", rows.features), ("y", rows.labels)) if array is not None}
    if training.layout.arrangement is not Arrangement.BOTTLENECK:
        return found
    for variable, deviation in bottleneck.noises(training.declared, training.layout).items():
        # Any one owner may work with the party and take its own part away: what the others drew must be enough.
        spread = np.float32(deviation / math.sqrt(max(1, owners - 1)))
        own = hashlib.sha256(key + variable.name.encode()).digest()
        shape = (steps, *variable.shape)
        found[variable.name] = (gaussian(math.prod(shape), own) * spread).reshape(shape)
    return found


def gaussian(count: int, key: bytes) -> Array:
    """`count` standard normal numbers from 32 secret bytes: AES-256 in counter mode, then Box and Muller (1958)."""
    half = (count + 1) // 2
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(16 * half))
    words = np.frombuffer(stream, dtype="<u8").reshape(2, half) >> np.uint64(11)
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * np.pi * uniform[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count].astype(np.float32)
