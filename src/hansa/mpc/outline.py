"""The program of a declared network, without SPU: operations in order, and the functions behind them.

`lowering` compiles the functions that run on shares; the plan, the terms and the audit need the operations only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from hansa import errors
from hansa.mpc import bottleneck, layers
from hansa.mpc.layout import Arrangement, Segment
from hansa.mpc.program import EVERYONE, LOSS, Compute, Feed, Open, Operation, Program, Run, Share, Variable
from hansa.mpc.schedule import ROWS, SLOT, row_feed, slot_feed, steps_an_epoch
from hansa.mpc.training import Training

ERROR: Final = Variable("error", (1,))
STOP: Final = Variable("stop", (1,), "bool")


@dataclass(frozen=True, slots=True)
class Graph:
    """A function of arrays by position, `function(xp, *inputs) -> outputs`, and what its arrays are called."""

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    function: Callable[..., Sequence[Any]]

    def named(self, xp: Any, *arrays: Any) -> Mapping[str, Any]:
        """Outputs by name."""
        return dict(zip((v.name for v in self.outputs), self.function(xp, *arrays), strict=True))


@dataclass(frozen=True, slots=True)
class Outline:
    """A program whose `executables` are still empty. shared: what runs on shares. plain: what a party computes."""

    program: Program
    shared: Mapping[str, Graph]
    plain: Mapping[str, Graph]


def features_of(training: Training, counts: Sequence[int]) -> dict[int, Variable]:
    """Variables in which owners share features, by owner. counts: rows of each owner."""
    declared, shape = training.declared, training.layout.inputs
    if declared.columns:
        rows = counts[0]
        return {i: Variable(f"x.{i}", (rows, n)) for i, n in enumerate(declared.columns) if n}
    return {i: Variable(f"x.{i}", (rows, *shape)) for i, rows in enumerate(counts)}


def labels_of(training: Training, counts: Sequence[int]) -> dict[int, Variable]:
    """Variables in which owners share labels, by owner."""
    declared, shape = training.declared, training.layout.outputs
    if declared.columns:
        return {declared.labels_by: Variable(f"y.{declared.labels_by}", (counts[0], *shape))}
    return {i: Variable(f"y.{i}", (rows, *shape)) for i, rows in enumerate(counts)}


def noise_of(training: Training, counts: Sequence[int]) -> dict[Variable, dict[int, Variable]]:
    """Variables in which owners share noise, by joined variable and owner: a slot for each step of the training."""
    if training.layout.arrangement is not Arrangement.BOTTLENECK:
        return {}
    slots = training.declared.epochs * steps_an_epoch(training.declared, total_rows(training, counts))
    return {
        replace(v, shape=(slots, *v.shape)): {
            i: Variable(f"{v.name}.{i}", (slots, *v.shape)) for i in range(len(counts))
        }
        for v in bottleneck.noises(training.declared, training.layout)
    }


def total_rows(training: Training, counts: Sequence[int]) -> int:
    """Rows of the whole training. Raises `Misconfigured` where counts do not fit together or are too few."""
    declared = training.declared
    if declared.columns:
        if len(counts) != len(declared.columns) or len(set(counts)) != 1:
            raise errors.Misconfigured(
                f"owners of columns hold {list(counts)} rows; {len(declared.columns)} owners must hold the same",
                hint="Align rows by id beforehand, so that all owners have the same ids in the same order.",
            )
        total = counts[0]
    else:
        total = sum(counts)
    if total < declared.batch:
        raise errors.Misconfigured(
            f"owners hold {total} rows together, a batch is {declared.batch}", hint="Take a smaller batch."
        )
    return total


def outline(training: Training, counts: Sequence[int]) -> Outline:
    """The program for owners with `counts` rows. Raises `Misconfigured` where these do not fit the script."""
    writer = _Writer(training, tuple(counts))
    writer.join()
    if training.layout.arrangement is Arrangement.BOTTLENECK:
        writer.bottleneck()
    else:
        writer.forward()
        writer.backward()
    if training.declared.stop is not None:
        writer.stop(training.declared.stop.below)
    return writer.outline()


class _Writer:
    """Collects operations and functions while the network is walked through."""

    def __init__(self, training: Training, counts: tuple[int, ...]) -> None:
        self.training, self.declared, self.layout = training, training.declared, training.layout
        self.counts, self.total = counts, total_rows(training, counts)
        self.batch = self.declared.batch
        self.start: list[Operation] = []
        self.step: list[Operation] = [Feed(row_feed(self.declared))]
        self.epoch: list[Operation] = []
        self.finish: list[Operation] = []
        self.shared: dict[str, Graph] = {}
        self.plain: dict[str, Graph] = {}
        self.layers: dict[str, str] = {}
        self.x = Variable("x", (self.total, *self.layout.inputs))
        self.y = Variable("y", (self.total, *self.layout.outputs))

    # What every arrangement has.

    def run(self, name: str, segment: Segment | None, graph: Graph, at: list[Operation]) -> None:
        """Perform `graph` where `segment` is: on shares, or in the clear at its party."""
        if segment is not None:
            self.layers[name] = ", ".join(placed.name for placed in segment.layers)
        if segment is None or segment.place is None:
            self.shared[name] = graph
            at.append(Run(name))
        else:
            assert isinstance(segment.place, int)
            self.plain[name] = graph
            at.append(Compute(name, segment.place, graph.inputs, graph.outputs))

    def join(self) -> None:
        """Owners' rows become one array, and their noise one sum."""
        xs, ys = features_of(self.training, self.counts), labels_of(self.training, self.counts)
        noise = noise_of(self.training, self.counts)
        parts = [tuple(xs.values()), tuple(ys.values()), *(tuple(v.values()) for v in noise.values())]
        outputs = (self.x, self.y, *noise)
        axis = 1 if self.declared.columns else 0

        def function(xp: Any, *arrays: Any) -> list[Any]:
            found, at = [], 0
            for number, part in enumerate(parts):
                group = arrays[at : at + len(part)]
                at += len(part)
                found.append(
                    xp.concatenate(group, axis=(axis, 0)[number]) if number < 2 else sum(group[1:], group[0])
                )
            return found

        self.inputs = tuple(v for part in parts for v in part)
        self.run("join", None, Graph(self.inputs, outputs, function), self.start)
        first, last = self.layout.segments[0], self.layout.segments[-1]
        if isinstance(first.place, int):
            self.open(self.x, first, self.start)
        if self.declared.labels is not None:
            self.open(self.y, last, self.start)

    def open(self, variable: Variable, segment: Segment, at: list[Operation]) -> None:
        """Open to the party of a plain segment."""
        assert isinstance(segment.place, int)
        self.layers[variable.name] = segment.layers[0].name
        at.append(Open(variable, segment.place))

    def share(self, variable: Variable, segment: Segment, at: list[Operation]) -> None:
        """Share what is plain at the party of a segment."""
        assert isinstance(segment.place, int)
        self.layers[variable.name] = segment.layers[-1].name
        at.append(Share(variable, segment.place))

    def parameters(self, segment: Segment) -> tuple[Variable, ...]:
        """Weights of a segment, and its velocity with momentum."""
        own = [Variable(name, shape) for name, shape in segment.parameters.items()]
        if self.declared.optimizer.momentum and own:
            size = sum(math.prod(v.shape) for v in own)
            own.append(Variable(f"{segment.layers[0].name}.velocity", (size,)))
        return tuple(own)

    def updated(
        self, segment: Segment, values: Mapping[str, Any], gradients: Mapping[str, Any], xp: Any
    ) -> list[Any]:
        """New values of `parameters`, in their order."""
        if not segment.parameters:
            return []
        velocity = values.get(f"{segment.layers[0].name}.velocity")
        after, velocity = layers.update(
            segment.parameters, values, velocity, gradients, self.declared.optimizer, self.batch, xp
        )
        return [*after.values(), *([] if velocity is None else [velocity])]

    def counted(self, d: Any, error: Sequence[Any]) -> list[Any]:
        """The sum of squared differences so far in the epoch, where the end depends on it."""
        return [error[0] + (d * d).sum().reshape(1)] if error else []

    @property
    def error(self) -> tuple[Variable, ...]:
        return (ERROR,) if self.declared.stop is not None else ()

    # Segments one after another: all ciphertext, or plain ones as published.

    def enters(self, number: int) -> tuple[Variable, ...]:
        """What segment `number` gets: rows of the features, or what the one before gives."""
        if number == 0:
            return (self.x, row_feed(self.declared))
        return (Variable(f"{self.layout.segments[number].layers[0].name}.enters", self.rows(number)),)

    def rows(self, number: int) -> tuple[int, ...]:
        """Shape of a batch that enters segment `number`."""
        return (self.batch, *self.layout.segments[number].inputs)

    def saved(self, segment: Segment) -> tuple[Variable, ...]:
        return tuple(v for placed in segment.layers for v in layers.saved_variables(placed, self.batch))

    def cross(self, variable: Variable, there: Segment, back: Segment) -> None:
        """Carry a value from segment `back` to segment `there`."""
        if there.place is not None:
            self.open(variable, there, self.step)
        else:
            self.share(variable, back, self.step)

    def forward(self) -> None:
        """The way forward through all segments but the last."""
        for number, segment in enumerate(self.layout.segments[:-1]):
            own, inputs = self.parameters(segment), self.enters(number)
            (leaves,) = self.enters(number + 1)

            def function(
                xp: Any, *arrays: Any, segment: Segment = segment, count: int = len(own)
            ) -> list[Any]:
                values = dict(zip((v.name for v in self.parameters(segment)), arrays[:count], strict=True))
                y, saved = layers.forward(segment.layers, values, _entering(arrays[count:]), xp)
                return [y, *saved.values()]

            graph = Graph((*own, *inputs), (leaves, *self.saved(segment)), function)
            self.run(f"forward{number}", segment, graph, self.step)
            self.cross(leaves, self.layout.segments[number + 1], segment)

    def backward(self) -> None:
        """The last segment forward and back, with the loss, and the others back."""
        last = len(self.layout.segments) - 1
        for number in range(last, -1, -1):
            segment = self.layout.segments[number]
            own = self.parameters(segment)
            back = Variable(f"{segment.layers[0].name}.returns", self.rows(number))
            onward = number > 0
            outputs = (*((back,) if onward else ()), *own)
            if number == last:
                rows = () if number == 0 else (row_feed(self.declared),)
                inputs = (*own, *self.enters(number), self.y, *rows, *self.error)
                seen = () if segment.place is None else (LOSS,)
                function = self._last(segment, len(own), onward=onward)
                graph = Graph(inputs, (*outputs, *self.error, *seen), function)
                self.run(f"train{number}", segment, graph, self.step)
            else:
                enters = Variable(
                    f"{self.layout.segments[number + 1].layers[0].name}.returns", self.rows(number + 1)
                )
                saved = self.saved(segment)
                graph = Graph((*own, *saved, enters), outputs, self._back(segment, onward=onward))
                if outputs:
                    self.run(f"backward{number}", segment, graph, self.step)
            if onward:
                self.cross(back, self.layout.segments[number - 1], segment)

    def _last(self, segment: Segment, count: int, *, onward: bool) -> Callable[..., Sequence[Any]]:
        names = [v.name for v in self.parameters(segment)]

        def function(xp: Any, *arrays: Any) -> list[Any]:
            values = dict(zip(names, arrays[:count], strict=True))
            rest = list(arrays[count:])
            error = [rest.pop()] if self.error else []
            entering, y, rows = (rest[:1], rest[1], rest[2]) if onward else (rest[:2], rest[2], rest[1])
            z, saved = layers.forward(segment.layers, values, _entering(entering), xp)
            d = layers.prediction(z, self.declared.loss, xp) - y[rows]
            back, gradients = layers.backward(segment, values, saved, d, xp, onward=onward)
            new = self.updated(segment, values, gradients, xp)
            found = [*([back] if onward else []), *new, *self.counted(d, error)]
            if segment.place is not None:
                found.append(np.array([layers.mean_loss(z, y[rows], self.declared.loss)], np.float32))
            return found

        return function

    def _back(self, segment: Segment, *, onward: bool) -> Callable[..., Sequence[Any]]:
        names = [v.name for v in (*self.parameters(segment), *self.saved(segment))]

        def function(xp: Any, *arrays: Any) -> list[Any]:
            values = dict(zip(names, arrays[:-1], strict=True))
            back, gradients = layers.backward(segment, values, values, arrays[-1], xp, onward=onward)
            return [*([back] if onward else []), *self.updated(segment, values, gradients, xp)]

        return function

    # A noised bottleneck.

    def bottleneck(self) -> None:
        """The secret layer and the clip on shares, the top in the clear, the way back on shares with noise."""
        declared, layout = self.declared, self.layout
        below, top = layout.segments
        self.step.append(Feed(slot_feed()))
        noise = list(noise_of(self.training, self.counts))
        own, theirs = self.parameters(below), self.parameters(top)
        batch_rows = self.saved(below)[0]
        shown = Variable(bottleneck.SHOWN, (self.batch, *below.outputs))
        mask = Variable(f"{bottleneck.SHOWN}.mask", shown.shape, "bool")
        reveal = bottleneck.reveal_of(layout)

        def show(xp: Any, *arrays: Any) -> list[Any]:
            weight, bias, x, rows, slot, drawn = arrays
            picked = x[rows]
            h, inside = bottleneck.clip(
                picked @ weight + bias, reveal, after_relu=len(below.layers) == 2, xp=xp
            )
            return [h + drawn[slot][0], inside, picked]

        weights = own[:2]
        graph = Graph(
            (*weights, self.x, row_feed(declared), slot_feed(), noise[0]), (shown, mask, batch_rows), show
        )
        self.run("forward0", below, graph, self.step)
        self.open(shown, top, self.step)

        def answer(xp: Any, *arrays: Any) -> Sequence[Any]:
            assert xp is np
            values = dict(zip((v.name for v in theirs), arrays[1:], strict=True))
            return bottleneck.compute_top(declared, layout, arrays[0], values)

        answers = bottleneck.top_outputs(declared, layout)
        self.run("answer1", top, Graph((shown, *theirs), answers, answer), self.step)
        for variable in answers:
            self.share(variable, top, self.step)

        gradients = bottleneck.top_gradients(layout)
        names = [v.name for v in (*own, *answers, *noise[1:])]

        def back(xp: Any, *arrays: Any) -> list[Any]:
            values = dict(zip(names, arrays, strict=False))
            y, rows, slot, inside, picked = arrays[len(names) :]
            slots = {v.name: values[v.name][slot][0] for v in noise[1:]}
            theirs, ours = bottleneck.backward(layout, values, y[rows], slots, inside, picked, xp)
            return [*theirs.values(), *self.updated(below, values, ours, xp)]

        ordered = tuple(reversed(gradients))
        inputs = (
            *own,
            *answers,
            *noise[1:],
            self.y,
            row_feed(declared),
            slot_feed(),
            mask,
            batch_rows,
            *self.error,
        )
        self.run("backward0", below, Graph(inputs, (*ordered, *own), back), self.step)
        for variable in gradients:
            self.open(variable, top, self.step)

        def step(xp: Any, *arrays: Any) -> list[Any]:
            values = dict(zip((v.name for v in theirs), arrays[: len(theirs)], strict=True))
            found: dict[str, Any] = {}
            for placed, both in zip(bottleneck.weighted(top), arrays[len(theirs) :], strict=True):
                found |= {f"{placed.name}.weight": both[:-1], f"{placed.name}.bias": both[-1]}
            return self.updated(top, values, found, xp)

        self.run("update1", top, Graph((*theirs, *gradients), theirs, step), self.step)

    # The end.

    def stop(self, below: float) -> None:
        """One bit an epoch: whether the mean squared difference is under `below`."""
        limit = np.float32(below * self.batch * steps_an_epoch(self.declared, self.total))

        def function(xp: Any, error: Any) -> list[Any]:
            return [error < limit, xp.zeros_like(error)]

        self.run("stop", None, Graph((ERROR,), (STOP, ERROR), function), self.epoch)
        self.layers[STOP.name] = "stop"
        self.epoch.append(Open(STOP, EVERYONE))

    def outline(self) -> Outline:
        """All of it as a value."""
        state: list[Variable] = []
        plain: dict[int, tuple[Variable, ...]] = {}
        outputs: list[Variable] = []
        for segment in self.layout.segments:
            own = self.parameters(segment)
            weights = [Variable(name, shape) for name, shape in segment.parameters.items()]
            outputs += weights
            if isinstance(segment.place, int):
                plain[segment.place] = (*plain.get(segment.place, ()), *own)
                for variable in weights:
                    self.share(variable, segment, self.finish)
            else:
                state += own
        program = Program(
            epochs=self.declared.epochs,
            steps=steps_an_epoch(self.declared, self.total),
            inputs=self.inputs,
            state=(*state, *self.error),
            plain_state=plain,
            outputs=tuple(outputs),
            start=tuple(self.start),
            step=tuple(self.step),
            epoch=tuple(self.epoch),
            finish=tuple(self.finish),
            stop=STOP if self.epoch else None,
            executables={},
            layers=self.layers,
        )
        return Outline(program, self.shared, self.plain)


def _entering(arrays: Sequence[Any]) -> Any:
    """What enters a segment: picked rows of all features, or a value from the segment before."""
    return arrays[0][arrays[1]] if len(arrays) == 2 else arrays[0]


PUBLIC: Final = (ROWS, SLOT)
"""Names of variables that every party knows."""
