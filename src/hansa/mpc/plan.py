"""What a training script will do, from the script alone: layers, reveals, epsilon, the cost of a step. Needs no SPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hansa import errors
from hansa.mpc import bottleneck, costs, leakage, outline, privacy
from hansa.mpc.costs import Cost
from hansa.mpc.layers import saved_variables
from hansa.mpc.layout import Arrangement, Placed, Segment, Shape
from hansa.mpc.leakage import Boundary
from hansa.mpc.network import (
    OWNERS,
    PARTIES,
    Conv,
    Dense,
    Logistic,
    Place,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
)
from hansa.mpc.program import EVERYONE, Open, Run, Share
from hansa.mpc.training import Training


@dataclass(frozen=True, slots=True)
class Line:
    """One layer, or one thing that all layers need; `cost` of a step is None where the table knows none."""

    name: str
    shape: Shape
    place: str
    cost: Cost | None


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module. steps: of the whole training, for as many rows as were named."""

    arrangement: Arrangement
    protocol: str
    field: str
    lines: tuple[Line, ...]
    boundaries: tuple[Boundary, ...]
    epsilon: float | None
    delta: float
    epochs: int
    steps: int

    @property
    def cost(self) -> Cost | None:
        """Of a step in all."""
        found = [line.cost for line in self.lines]
        return sum((c for c in found if c), Cost()) if all(found) else None


def plan(training: Training, rows: int = 0) -> Plan:
    """The plan for `rows` rows in all, or one step an epoch where they are not known yet.

    Raises `Misconfigured` as `outline` does.
    """
    declared, layout = training.declared, training.layout
    counts = [rows or declared.batch] * max(1, len(declared.columns))
    drawn = outline.outline(training, counts).program
    try:
        epsilon = privacy.epsilon(training) if privacy.mechanisms(training) else None
    except errors.Misconfigured:
        epsilon = math.nan  # without dp-accounting it is not known, which is not the same as none
    return Plan(
        arrangement=layout.arrangement,
        protocol=declared.protocol,
        field=declared.field,
        lines=_lines(training, counts),
        boundaries=leakage.boundaries(training, counts),
        epsilon=epsilon,
        delta=declared.delta,
        epochs=drawn.epochs,
        steps=drawn.epochs * drawn.steps,
    )


def where(place: Place) -> str:
    """A place in words."""
    if place is None:
        return "ciphertext"
    return "plain, at each owner" if place == OWNERS else f"plain, at party {place}"


def to_whom(party: int) -> str:
    """A receiver in words."""
    return "every party" if party == EVERYONE else f"party {party}"


def _lines(training: Training, counts: Sequence[int]) -> tuple[Line, ...]:
    declared, layout = training.declared, training.layout
    known = (declared.protocol, declared.field) == ("ABY3", "FM64")
    neck = layout.arrangement is Arrangement.BOTTLENECK
    found = [Line(p.name, p.outputs, where(p.place), Cost()) for p in layout.bottom]
    for number, segment in enumerate(layout.segments):
        first = next((p for p in segment.layers if p.parameters), None)
        for placed in segment.layers:
            onward = number > 0 or placed is not first
            if neck and number == 0 and isinstance(placed.layer, ReLU):
                cost = Cost()  # a part of the clip
            elif segment.place is None:
                cost = _layer(placed, declared.batch, onward=onward)
            else:
                cost = _linear(placed, declared.batch) if neck else Cost()
            found.append(Line(placed.name, placed.outputs, where(placed.place), cost))
    found += [
        Line("loss", layout.outputs, where(layout.segments[-1].place), _loss(training)),
        Line("rows and weights", (), where(None), _around(training, counts)),
        Line("reveals and returns", (), "", _moves(training, counts)),
    ]
    return tuple(line if known else Line(line.name, line.shape, line.place, None) for line in found)


def _layer(placed: Placed, batch: int, *, onward: bool) -> Cost:
    """One layer on shares, forward and back."""
    elements = batch * math.prod(placed.outputs)
    match placed.layer:
        case Dense() | Conv():
            (saved,) = saved_variables(placed, batch)
            lines, inner = saved.shape
            columns = placed.outputs[-1]
            both = costs.product(lines, inner, columns) + costs.product(inner, lines, columns)
            return both + (costs.product(lines, columns, inner) if onward else Cost())
        case ReLU():
            return costs.compare(elements) + costs.select(elements) + costs.select(elements)
        case Sigmoid():
            return costs.sigmoid(elements) + costs.product(elements, 1, 1) + costs.product(elements, 1, 1)
        case _:
            return Cost()


def _linear(placed: Placed, batch: int) -> Cost:
    """One layer of a noised bottleneck's top: plain forward, linear back on shares."""
    if isinstance(placed.layer, ReLU):
        return costs.product(batch * math.prod(placed.outputs), 1, 1)
    inputs, outputs = placed.inputs[0], placed.outputs[0]
    return costs.product(inputs + 1, batch, outputs) + costs.product(batch, outputs, inputs)


def _loss(training: Training) -> Cost:
    declared, outputs = training.declared, training.layout.outputs[0]
    found = Cost()
    if training.layout.segments[-1].place is None:
        match declared.loss:
            case SoftmaxCrossEntropy():
                found = costs.softmax(declared.batch, outputs)
            case Logistic():
                found = costs.sigmoid(declared.batch * outputs)
    if declared.stop is not None:
        found += costs.product(declared.batch * outputs, 1, 1)
    return found


def _around(training: Training, counts: Sequence[int]) -> Cost:
    """Starting executables, picking rows and noise, clipping, and moving weights."""
    declared, layout = training.declared, training.layout
    drawn = outline.outline(training, counts)
    found = Cost()
    for operation in drawn.program.step:
        if isinstance(operation, Run):
            found += costs.start()
    for segment in layout.segments:
        if segment.place is None:
            found += _update(segment, training)
    row = 0 if layout.segments[0].place is not None else math.prod(layout.inputs)
    label = 0 if declared.labels is not None else layout.outputs[0]
    found += costs.pick(declared.batch * (row + label))
    if layout.arrangement is Arrangement.BOTTLENECK:
        below = layout.segments[0]
        edges = 2 * declared.batch * math.prod(below.outputs)
        found += costs.compare(edges) + costs.select(edges) + costs.select(edges // 2)
        found += costs.pick(sum(math.prod(v.shape) for v in bottleneck.noises(declared, layout)))
    return found


def _update(segment: Segment, training: Training) -> Cost:
    size = sum(math.prod(shape) for shape in segment.parameters.values())
    if not size:
        return Cost()
    times = 2 if training.declared.optimizer.momentum else 1
    return sum((costs.scale(size) for _ in range(times)), Cost())


def _moves(training: Training, counts: Sequence[int]) -> Cost:
    parties = PARTIES[training.declared.protocol]
    return sum(
        (
            costs.move(math.prod(operation.variable.shape), parties)
            for operation in outline.outline(training, counts).program.step
            if isinstance(operation, Open | Share)
        ),
        Cost(),
    )
