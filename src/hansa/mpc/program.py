"""What computing parties do in lockstep: operations over named variables.

A `Program` is a pure value, the same at every party and owner for the same training script: `network` declares,
`lowering` makes the program of it, `session` performs it. A variable is *shared* (each party holds its own share),
*public* (every party knows it) or *plain at* one party. Nothing becomes less secret but by `Open`, and each `Open`
stands in the terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Variable:
    """An array by name; `dtype` is numpy's name of it: float32, int32 or bool."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


LOSS: Final = Variable("loss", (1,))
"""Mean loss of a batch, plain at the party that computes it; there only where predictions and labels are plain too."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A public variable that every party derives itself from the number of the step, by `schedule.feeds`."""

    variable: Variable


@dataclass(frozen=True, slots=True)
class Run:
    """Run an executable on shares. Its inputs and outputs are variables of the parties' runtimes, by name."""

    executable: str


EVERYONE: Final = -1
"""`to` of an `Open` that every party learns."""


@dataclass(frozen=True, slots=True)
class Open:
    """A shared variable becomes plain at one party: the others send it their shares, and nobody else learns it.

    To `EVERYONE` it becomes public; only the bit that ends a training early does.
    """

    variable: Variable
    to: int


@dataclass(frozen=True, slots=True)
class Compute:
    """A function of plain variables at one party, in the clear: `outline(...).plain[function]`, called with numpy.

    It takes the inputs' arrays by position, public ones among them, and gives the outputs' arrays in order.
    """

    function: str
    at: int
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A variable that is plain at one party becomes shared: it deals the shares, one to each party."""

    variable: Variable
    by: int


Operation = Feed | Run | Open | Compute | Share


@dataclass(frozen=True, slots=True)
class Program:
    """One training: `step` is performed for each batch in order; variables that it writes again keep their names.

    inputs: shared by owners before the start. start: performed once the inputs are there, and again after a restart:
    it joins owners' rows. epoch: performed after the last of the `steps` of each of at most `epochs` epochs; if it
    opens `stop`, a number, to everyone and that is not 0, training ends there. finish: performed after the last step:
    a party shares the parameters that it holds in the clear, so that all `outputs` are shared. state: shared (or, for
    parties of `plain_state`, plain) between steps: parameters and momentum; what a checkpoint holds; first values are
    `schedule.initial`'s, zero for what that does not name. outputs: the parameters that owners get. executables:
    serialised by SPU's frontend, by name. layers: to which declared layers a `Run` or a boundary belongs, by the
    executable's or variable's name, for reports.
    """

    epochs: int
    steps: int
    inputs: tuple[Variable, ...]
    state: tuple[Variable, ...]
    plain_state: Mapping[int, tuple[Variable, ...]]
    outputs: tuple[Variable, ...]
    start: tuple[Operation, ...]
    step: tuple[Operation, ...]
    epoch: tuple[Operation, ...]
    finish: tuple[Operation, ...]
    stop: Variable | None
    executables: Mapping[str, bytes]
    layers: Mapping[str, str]
