"""Where each layer of a declaration computes, of what shape, and whether that is allowed.

`resolve` refuses, before anything is read or sent, what the declaration leaves open and what would give data away
without saying so. Each refusal names the nearest choice that is safe.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import PurePath

from hansa import errors
from hansa.mpc.network import (
    FIELDS,
    OWNERS,
    PARTIES,
    Conv,
    Declaration,
    Dense,
    Flatten,
    Layer,
    Logistic,
    Place,
    ReLU,
    Reveal,
    Sigmoid,
    SoftmaxCrossEntropy,
    Squared,
    SumPool,
)

Shape = tuple[int, ...]


class Arrangement(Enum):
    """The four ways of dividing a network; all but the last give nothing away, or noised values with an epsilon."""

    CIPHERTEXT = "all ciphertext"
    OWNER_BOTTOM = "plain bottom at the owners"
    BOTTLENECK = "plain top behind a noised bottleneck"
    PUBLISHED = "plain layers as published"


@dataclass(frozen=True, slots=True)
class Placed:
    """A layer with its name ("dense1"), its place, and the shapes of one row before and after it."""

    name: str
    layer: Layer
    place: Place
    inputs: Shape
    outputs: Shape

    @property
    def parameters(self) -> dict[str, Shape]:
        """Shapes of its weights by variable name; empty where it has none."""
        match self.layer:
            case Dense(width=width):
                return {f"{self.name}.weight": (self.inputs[0], width), f"{self.name}.bias": (width,)}
            case Conv(filters=filters, size=size):
                fan_in = size * size * self.inputs[2]
                return {f"{self.name}.weight": (fan_in, filters), f"{self.name}.bias": (filters,)}
            case _:
                return {}


@dataclass(frozen=True, slots=True)
class Segment:
    """Layers in a row at one place; `reveal` is how values came to be plain there."""

    place: Place
    layers: tuple[Placed, ...]
    reveal: Reveal | None

    @property
    def inputs(self) -> Shape:
        """Shape of one row that enters."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> Shape:
        """Shape of one row that leaves."""
        return self.layers[-1].outputs

    @property
    def parameters(self) -> dict[str, Shape]:
        """Shapes of its weights by variable name, in order."""
        return {name: shape for placed in self.layers for name, shape in placed.parameters.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """A checked declaration. bottom: what owners compute before sharing. segments: what parties compute, in order."""

    arrangement: Arrangement
    bottom: tuple[Placed, ...]
    segments: tuple[Segment, ...]
    outputs: Shape

    @property
    def layers(self) -> tuple[Placed, ...]:
        """All layers in order."""
        return (*self.bottom, *(placed for segment in self.segments for placed in segment.layers))

    @property
    def inputs(self) -> Shape:
        """Shape of one row as it is shared."""
        return self.segments[0].inputs


def resolve(declared: Declaration) -> Layout:
    """Place every layer. Raises `Misconfigured` for a declaration that is wrong, leaves a choice open, or leaks."""
    _check_training(declared)
    placed, reveals = _place(declared)
    _check_outputs(declared, placed[-1].outputs)
    bottom = tuple(p for p in placed if p.place == OWNERS)
    segments = _segments(placed[len(bottom) :], reveals)
    if not segments or not any(segment.parameters for segment in segments):
        raise errors.Misconfigured(
            "no layer with weights is left to train on shares",
            hint="Keep at least the last Dense(...) secret.",
        )
    if bottom and declared.columns:
        raise errors.Misconfigured(
            "layers at the owners need whole rows, and each owner holds some columns only",
            hint="Make the first layers secret, or join the columns at one owner.",
        )
    if declared.stop is not None and declared.labels is not None:
        raise errors.Misconfigured(
            "stop compares predictions with shared labels, and the labels are revealed", hint="Remove stop."
        )
    layout = Layout(_arrangement(declared, bottom, segments), bottom, segments, placed[-1].outputs)
    if layout.arrangement is Arrangement.BOTTLENECK:
        _check_bottleneck(declared, layout)
    return layout


def _check_training(declared: Declaration) -> None:
    if declared.protocol not in PARTIES:
        raise errors.Misconfigured(
            f"protocol {declared.protocol!r} is not one of {', '.join(PARTIES)}",
            hint='Take protocol="ABY3", three parties. SECURENN gives wrong softmax.',
        )
    if declared.field not in FIELDS:
        raise errors.Misconfigured(
            f"field {declared.field!r} is not one of {', '.join(FIELDS)}", hint='Take field="FM64".'
        )
    for name in ("epochs", "batch"):
        value = getattr(declared, name)
        if type(value) is not int or value < 1:
            raise errors.Misconfigured(f"{name} must be a whole number above 0, not {value!r}")
    if type(declared.seed) is not int or not 0 <= declared.seed < 2**32:
        raise errors.Misconfigured(f"seed must be a whole number from 0 to 2**32 - 1, not {declared.seed!r}")
    for name, value in (("lr", declared.optimizer.lr), ("bound", declared.bound)):
        if not (math.isfinite(value) and value > 0):
            raise errors.Misconfigured(f"{name} must be a number above 0, not {value!r}")
    if not 0 <= declared.optimizer.momentum < 1:
        raise errors.Misconfigured(f"momentum must be in [0, 1), not {declared.optimizer.momentum!r}")
    if declared.stop is not None and not declared.stop.below > 0:
        raise errors.Misconfigured(
            f"Stop(below={declared.stop.below!r}) would never stop; it must be above 0"
        )
    if not 0 < declared.delta < 1:
        raise errors.Misconfigured(f"delta must be between 0 and 1, not {declared.delta!r}")
    if declared.norm is not None and not (math.isfinite(declared.norm) and declared.norm > 0):
        raise errors.Misconfigured(f"norm must be a number above 0, not {declared.norm!r}")
    if declared.columns and (
        len(declared.inputs) != 1
        or sum(declared.columns) != declared.inputs[0]
        or min(declared.columns) < 0
        or declared.labels_by not in range(len(declared.columns))
    ):
        raise errors.Misconfigured(
            f"columns {declared.columns} with labels by owner {declared.labels_by} do not make up inputs of "
            f"shape {declared.inputs}",
            hint="columns names the number of features of each owner; they add up to the inputs.",
        )
    if (
        not declared.layers
        or not declared.inputs
        or any(type(n) is not int or n < 1 for n in declared.inputs)
    ):
        raise errors.Misconfigured(
            "the network needs layers, and inputs of whole numbers above 0",
            hint="Write for instance Network([Dense(1)], inputs=(13,)).",
        )


def _check_reveal(reveal: Reveal, declared: Declaration) -> None:
    parties = PARTIES[declared.protocol]
    if type(reveal.to) is not int or reveal.to not in range(parties):
        raise errors.Misconfigured(
            f"Reveal(to={reveal.to!r}) names no computing party",
            hint=f"{declared.protocol} has parties 0 to {parties - 1}.",
        )
    protection = (reveal.clip, reveal.noise, reveal.gradient_clip, reveal.gradient_noise)
    for value in protection:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise errors.Misconfigured(f"clip and noise of a Reveal must be above 0, not {value!r}")
    if not reveal.protected and any(value is not None for value in protection):
        raise errors.Misconfigured(
            "a Reveal has some of clip, noise, gradient_clip and gradient_noise, and not all",
            hint="Give all four, or none with accept_leakage=True. Noise on one side alone protects nothing.",
        )


def _place(declared: Declaration) -> tuple[list[Placed], dict[str, Reveal]]:
    """Layers with names, places and shapes; and by the name of the layer behind it each Reveal."""
    first = next((item for item in declared.layers if isinstance(item, Dense | Conv)), None)
    if first is None:
        raise errors.Misconfigured("the network has no layer with weights", hint="Add a Dense(...).")
    here: Place = OWNERS if first.at == OWNERS else None
    pending: Reveal | None = None
    placed: list[Placed] = []
    reveals: dict[str, Reveal] = {}
    shape = declared.inputs
    for number, item in enumerate(declared.layers, 1):
        if isinstance(item, Reveal):
            _check_reveal(item, declared)
            if pending is not None or (here is not None and here != OWNERS):
                raise errors.Misconfigured(
                    f"item {number}, a Reveal, stands where values are plain already", hint="Remove it."
                )
            here, pending = item.to, item
            continue
        name = f"{type(item).__name__.lower()}{number}"
        if isinstance(item, Dense | Conv):
            here = _place_of(item, name, here, pending)
        outputs = _outputs(item, name, shape)
        placed.append(Placed(name, item, here, shape, outputs))
        if pending is not None:
            reveals[name], pending = pending, None
        shape = outputs
    if pending is not None:
        raise errors.Misconfigured(
            "the network ends with a Reveal, and no layer uses what it shows", hint="Remove it."
        )
    return placed, reveals


def _place_of(layer: Dense | Conv, name: str, here: Place, pending: Reveal | None) -> Place:
    """Where a layer with weights computes, given where the values before it are."""
    if layer.secret is not None and layer.secret == (layer.at is not None):
        raise errors.Misconfigured(
            f"{name} is both secret and at={layer.at!r}"
            if layer.secret
            else f"{name} is neither secret nor at a party",
            hint="Write secret=True, or at=... alone.",
        )
    there = layer.at
    if there != OWNERS and (layer.frozen or layer.weights or layer.digest):
        raise errors.Misconfigured(
            f"{name} is frozen or has weights, and is not at the owners",
            hint="Frozen layers belong at the owners, before sharing: at=OWNERS, frozen=True.",
        )
    if there == OWNERS:
        if here != OWNERS:
            raise errors.Misconfigured(
                f"{name} is at the owners, behind layers that are not",
                hint="Owners compute the first layers only; make this one secret.",
            )
        if not layer.frozen:
            raise errors.Misconfigured(
                f"{name} is a plain layer at the owners that would be trained: the gradient that comes back to an "
                "owner tells labels (measured: binary labels at 100 %)",
                hint="Train it beforehand on public or own data and write frozen=True, weights=..., digest=...; or "
                "frozen=True alone, for weights from the agreed seed; or make it secret.",
            )
        if (
            bool(layer.weights) != bool(re.fullmatch("[0-9a-f]{64}", layer.digest))
            or PurePath(layer.weights).name != layer.weights
        ):
            raise errors.Misconfigured(
                f"{name} names its weights without their digest, or by a path",
                hint="weights is a file name beside the script, digest its SHA-256 in hex.",
            )
        return OWNERS
    if there is None:
        if pending is not None:
            raise errors.Misconfigured(
                f"a Reveal stands before {name}, which is secret: what it shows would serve nothing",
                hint=f"Remove the Reveal, or write at={pending.to} in {name}.",
            )
        return None
    if pending is None and here != there:
        raise errors.Misconfigured(
            f"{name} is plain at {there!r}, and no Reveal before it says so",
            hint=f"Make it secret=True; or write Reveal(to={there!r}, clip=..., noise=..., gradient_clip=..., "
            "gradient_noise=...) before it.",
        )
    if here != there:
        raise errors.Misconfigured(
            f"{name} is at {there!r}, what it needs is revealed to {here!r}",
            hint="Name the same party in both.",
        )
    return there


def _outputs(item: Layer, name: str, shape: Shape) -> Shape:
    """Shape of a row after a layer. Raises `Misconfigured` where the layer cannot take `shape`."""
    match item:
        case Dense(width=width):
            if type(width) is not int or width < 1:
                raise errors.Misconfigured(f"{name} needs a width above 0, not {width!r}")
            if len(shape) != 1:
                raise errors.Misconfigured(
                    f"{name} gets rows of shape {shape}", hint="Put Flatten() before it."
                )
            return (width,)
        case Conv(filters=filters, size=size):
            if len(shape) != 3 or min(filters, size) < 1 or size > min(shape[:2]):
                raise errors.Misconfigured(
                    f"{name} with squares of {size} cannot take rows of shape {shape}",
                    hint="A Conv needs (height, width, channels), no smaller than its squares.",
                )
            return (shape[0] - size + 1, shape[1] - size + 1, filters)
        case SumPool(size=size):
            if len(shape) != 3 or size < 1 or shape[0] % size or shape[1] % size:
                raise errors.Misconfigured(
                    f"{name} cannot divide rows of shape {shape} into squares of {size}",
                    hint="Height and width must be multiples of its size.",
                )
            return (shape[0] // size, shape[1] // size, shape[2])
        case Flatten():
            return (math.prod(shape),)
        case ReLU() | Sigmoid():
            return shape
    raise errors.Misconfigured(
        f"item {name} of the network is no layer",
        hint="Layers: Dense, Conv, ReLU, Sigmoid, SumPool, Flatten.",
    )


def _check_outputs(declared: Declaration, outputs: Shape) -> None:
    match declared.loss:
        case Logistic():
            good = outputs == (1,)
            wanted = "one output: end with Dense(1)"
        case SoftmaxCrossEntropy():
            good = len(outputs) == 1 and outputs[0] >= 2
            wanted = "an output for each class, at least 2: end with Dense(classes)"
        case Squared():
            good = len(outputs) == 1
            wanted = "outputs in a row: end with a Dense"
    if not good:
        raise errors.Misconfigured(
            f"{type(declared.loss).__name__} cannot take outputs of shape {outputs}",
            hint=f"It needs {wanted}.",
        )


def _segments(placed: list[Placed], reveals: dict[str, Reveal]) -> tuple[Segment, ...]:
    groups: list[list[Placed]] = []
    for layer in placed:
        if groups and groups[-1][0].place == layer.place and layer.name not in reveals:
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return tuple(Segment(g[0].place, tuple(g), reveals.get(g[0].name)) for g in groups)


def _arrangement(
    declared: Declaration, bottom: tuple[Placed, ...], segments: tuple[Segment, ...]
) -> Arrangement:
    plain = [segment for segment in segments if segment.place is not None]
    shown = [segment.reveal for segment in plain if segment.reveal] + (
        [declared.labels] if declared.labels else []
    )
    ends_plain = segments[-1].place is not None
    if declared.labels is not None:
        _check_reveal(declared.labels, declared)
        if not ends_plain or declared.labels.to != segments[-1].place or declared.labels.protected:
            raise errors.Misconfigured(
                "labels are revealed where no last plain layer needs them",
                hint="Leave labels=None: they stay shared.",
            )
    if not plain:
        if declared.accept_leakage:
            raise errors.Misconfigured(
                "accept_leakage=True, and nothing leaks", hint="Remove it: it would hide a later mistake."
            )
        return Arrangement.OWNER_BOTTOM if bottom else Arrangement.CIPHERTEXT
    if declared.labels is None and ends_plain and not all(r.protected for r in shown):
        raise errors.Misconfigured(
            f"the last layers are plain at party {segments[-1].place}, and labels are not revealed to it",
            hint="Give the Reveal clip, noise, gradient_clip and gradient_noise, and labels stay shared; or make the "
            "last layers secret; or, as published, labels=Reveal(to=...) with accept_leakage=True.",
        )
    if (
        all(reveal.protected for reveal in shown)
        and declared.labels is None
        and ends_plain
        and len(segments) == 2
    ):
        if declared.accept_leakage:
            raise errors.Misconfigured(
                "accept_leakage=True, and all that is opened is clipped and noised",
                hint="Remove it: it would hide a later mistake.",
            )
        return Arrangement.BOTTLENECK
    if any(reveal.protected for reveal in shown):
        raise errors.Misconfigured(
            "clip and noise are kept only at one boundary: secret layers, then plain ones to the end, labels shared",
            hint="Keep the layers behind the Reveal plain to the end and labels=None; or make them all secret.",
        )
    if not declared.accept_leakage:
        raise errors.Misconfigured(
            f"values are opened to party {plain[0].place} as they are, from which rows and labels can be rebuilt",
            hint="Make these layers secret; or give the Reveal clip, noise, gradient_clip and gradient_noise; or, "
            "knowing what it gives away (`hansa mpc plan`), write accept_leakage=True.",
        )
    return Arrangement.PUBLISHED


def _check_bottleneck(declared: Declaration, layout: Layout) -> None:
    """What the proof of the bottleneck's epsilon needs (docs/adr, "A bottleneck with an epsilon")."""
    below, top = layout.segments
    weighted = [p for p in below.layers if p.parameters]
    plain_kinds = all(isinstance(p.layer, Dense | ReLU) for p in (*below.layers, *top.layers))
    order = [type(p.layer) for p in below.layers]
    if len(weighted) != 1 or not plain_kinds or order not in ([Dense], [Dense, ReLU]) or layout.bottom:
        raise errors.Misconfigured(
            "below a noised Reveal stand other layers than one secret Dense, with a ReLU or without",
            hint="A row's influence through deeper secret layers cannot be bounded without clipping every row's "
            "gradient on shares. Make the layers behind it secret, or keep one Dense before it.",
        )
    if any(
        isinstance(a.layer, ReLU) and isinstance(b.layer, ReLU) for a, b in pairwise(top.layers)
    ) or not isinstance(top.layers[0].layer, Dense):
        raise errors.Misconfigured(
            "the layers behind a noised Reveal begin with a Dense", hint="Move the ReLU before it."
        )
    if isinstance(declared.loss, Squared):
        raise errors.Misconfigured(
            "with Squared the gradient has no bound that noise could be measured by",
            hint="Take Logistic or SoftmaxCrossEntropy with a noised Reveal.",
        )
    if declared.stop is not None:
        raise errors.Misconfigured(
            "stop opens a bit that is not noised, which no epsilon would cover",
            hint="Remove stop, or the Reveal.",
        )
    if declared.norm is None:
        raise errors.Misconfigured(
            "a noised Reveal needs norm=..., the length to which owners scale longer rows",
            hint="Without it no epsilon can be stated. For standardised features try the square root of their number.",
        )
