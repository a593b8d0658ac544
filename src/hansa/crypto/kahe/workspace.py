"""Scratch memory that is taken up again: on many machines a page's first touch costs more than its work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.crypto.kahe.kernel import Elements, Kernel
from hansa.crypto.kahe.parameters import GROUP


@dataclass(frozen=True, slots=True, eq=False)
class Workspace:
    """Room for one group: its elements, its coins, and its public polynomials."""

    elements: Elements
    coins: NDArray[np.uint64]
    publics: NDArray[np.uint8]


class Workspaces:
    """As many workspaces as were ever lent at once."""

    def __init__(self, kernel: Kernel, width: int) -> None:
        self._kernel, self._width = kernel, width
        self._idle: list[Workspace] = []

    @contextmanager
    def lend(self) -> Iterator[Workspace]:
        """A workspace for this thread."""
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = self._new()
        yield workspace
        self._idle.append(workspace)

    def _new(self) -> Workspace:
        return Workspace(
            np.empty(GROUP, self._kernel.DTYPE),
            np.empty(GROUP, np.uint64),
            np.empty(GROUP * self._width, np.uint8),
        )
