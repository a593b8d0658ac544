"""Performs a program with computing parties in threads of this process: no sealing, no supervision, no network."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import spu
from spu import libspu

from hansa.mpc import lowering, outline
from hansa.mpc.network import PARTIES
from hansa.mpc.program import EVERYONE, Compute, Feed, Open, Operation, Run, Share
from hansa.mpc.schedule import feeds, initial
from hansa.mpc.training import Training

SECRET, PUBLIC = spu.Visibility.VIS_SECRET, spu.Visibility.VIS_PUBLIC


class Parties:
    """All computing parties of one training; `opened` keeps what `seen` names, each time that it was plain."""

    def __init__(
        self, training: Training, counts: Sequence[int], inputs: Mapping[str, Any], seen: Sequence[str] = ()
    ) -> None:
        declared = training.declared
        self.training, self.counts = training, counts
        self.drawn = outline.outline(training, counts)
        self.program = lowering.lower(training, counts)
        self.functions = lowering.functions(self.drawn)
        self.world = PARTIES[declared.protocol]
        kind = spu.parse_protocol_kind(declared.protocol.removesuffix("_FOR_TESTS"))
        self.config = spu.RuntimeConfig(kind, spu.parse_field_type(declared.field))
        self.io = spu.Io(self.world, self.config)
        self.seen = seen
        self.opened: dict[str, list[Any]] = {name: [] for name in seen}
        self.executables = {}
        for name, data in self.program.executables.items():
            self.executables[name] = spu.Executable()
            self.executables[name].ParseFromString(data)
        self.runtimes = self._link()
        self.plain: dict[str, Any] = {}
        first = initial(training.layout, declared.seed)
        for variable in self.program.inputs:
            self.put(variable.name, np.asarray(inputs[variable.name], dtype=variable.dtype))
        for variable in self.program.state:
            self.put(variable.name, first.get(variable.name, np.zeros(variable.shape, variable.dtype)))
        for variables in self.program.plain_state.values():
            for variable in variables:
                self.plain[variable.name] = first.get(variable.name, np.zeros(variable.shape, variable.dtype))
        self.perform(self.program.start)
        self.step = 0

    def _link(self) -> list[Any]:
        desc = libspu.link.Desc()
        for rank in range(self.world):
            desc.add_party(f"p{rank}", f"thread_{id(self)}_{rank}")
        found: list[Any] = [None] * self.world

        def make(rank: int) -> None:
            found[rank] = spu.Runtime(libspu.link.create_mem(desc, rank), libspu.RuntimeConfig(self.config))

        self._together(make)
        return found

    def _together(self, function: Any) -> None:
        failed: list[BaseException] = []

        def guarded(rank: int) -> None:
            try:
                function(rank)
            except BaseException as e:
                failed.append(e)

        threads = [threading.Thread(target=guarded, args=(rank,)) for rank in range(self.world)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        if failed:
            raise failed[0]

    def put(self, name: str, value: Any, visibility: Any = SECRET) -> None:
        for runtime, share in zip(
            self.runtimes, self.io.make_shares(np.ascontiguousarray(value), visibility), strict=True
        ):
            runtime.set_var(name, share)

    def get(self, name: str) -> Any:
        return self.io.reconstruct([runtime.get_var(name) for runtime in self.runtimes])

    def perform(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            match operation:
                case Feed(variable=v):
                    total = outline.total_rows(self.training, self.counts)
                    value = feeds(self.training.declared, total, self.step)[v.name]
                    self.plain[v.name] = value
                    self.put(v.name, value, PUBLIC)
                case Run(executable=name):
                    self._together(lambda rank, name=name: self.runtimes[rank].run(self.executables[name]))
                case Open(variable=v, to=to):
                    value = self.get(v.name)
                    assert value.shape == v.shape, (v, value.shape)
                    assert to in (EVERYONE, *range(self.world))
                    self.plain[v.name] = value
                    if v.name in self.seen:
                        self.opened[v.name].append(value)
                case Compute(function=name, inputs=inputs, outputs=outputs):
                    values = self.functions[name](*(self.plain[v.name] for v in inputs))
                    for v, value in zip(outputs, values, strict=True):
                        assert value.shape == v.shape
                        assert str(value.dtype) == v.dtype, (v, value.dtype)
                        self.plain[v.name] = value
                        if v.name in self.seen:
                            self.opened[v.name].append(value)
                case Share(variable=v):
                    self.put(v.name, self.plain[v.name])

    def train(self, steps: int | None = None) -> dict[str, Any]:
        """All epochs, or `steps`; the outputs."""
        program = self.program
        for self.step in range(program.epochs * program.steps if steps is None else steps):
            self.perform(program.step)
            if (self.step + 1) % program.steps == 0:
                self.perform(program.epoch)
                if program.stop is not None and self.plain[program.stop.name][0]:
                    break
        self.perform(program.finish)
        return {v.name: self.get(v.name) for v in program.outputs}
