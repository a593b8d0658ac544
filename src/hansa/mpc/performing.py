"""One party's part of a program's operations, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.mpc.dealing import checked
from hansa.mpc.program import EVERYONE, Compute, Feed, Open, Operation, Run, Share, Variable
from hansa.mpc.runtime import Runtime
from hansa.mpc.traffic import Cost

Array = NDArray[Any]

Function = Callable[..., Sequence[Array]]
"""Arrays of a `Compute`'s inputs by position -> those of its outputs, in order."""


class Performer:
    """Performs operations at party `rank`; holds what is plain here, and adds to `costs` by name."""

    def __init__(
        self,
        rank: int,
        runtime: Runtime,
        functions: Mapping[str, Function],
        plain: Mapping[str, Array],
        costs: dict[str, Cost],
    ) -> None:
        self.plain: dict[str, Array] = dict(plain)
        self._rank, self._runtime, self._functions, self._costs = rank, runtime, functions, costs
        self._sum = Cost()

    async def perform(self, operations: Sequence[Operation], feeds: Mapping[str, Array]) -> Cost:
        """Perform operations; `feeds` are the values of public variables. Raises as `Runtime` does."""
        self._sum = Cost()
        for operation in operations:
            match operation:
                case Feed(variable):
                    self.plain[variable.name] = _fits(feeds[variable.name], variable)
                    await self._runtime.feed(variable, self.plain[variable.name])
                case Run(name):
                    self._count(name, await self._runtime.run(name))
                case Open(variable, to):
                    await self._open(variable, to)
                case Compute() if operation.at == self._rank:
                    await self._compute(operation)
                case Share(variable, by):
                    array = _fits(self.plain[variable.name], variable) if by == self._rank else None
                    self._count(variable.name, await self._runtime.deal(variable, by, array))
        return self._sum

    async def _open(self, variable: Variable, to: int) -> None:
        receivers = range(self._runtime.parties) if to == EVERYONE else (to,)
        for receiver in receivers:
            array, cost = await self._runtime.open(variable, receiver)
            self._count(variable.name, cost)
            if array is not None:
                self.plain[variable.name] = array

    async def _compute(self, operation: Compute) -> None:
        function = self._functions[operation.function]
        arrays = [self.plain[v.name] for v in operation.inputs]
        # In a thread of its own, so that peers hear from this party meanwhile.
        found = await asyncio.to_thread(function, *arrays)
        if len(found) != len(operation.outputs):
            raise errors.Misconfigured(f"{operation.function} gave {len(found)} arrays")
        for variable, array in zip(operation.outputs, found, strict=True):
            self.plain[variable.name] = _fits(np.asarray(array), variable)

    def _count(self, name: str, cost: Cost) -> None:
        self._costs[name] = self._costs.get(name, Cost()) + cost
        self._sum += cost


def _fits(array: Array, variable: Variable) -> Array:
    """The array, if it has the variable's type and shape; how large its values are matters where it is shared."""
    return checked(array, variable, float("inf"))
