"""The trainer of a party that has no data and runs no app: a key centre, or a parameter server of `secagg`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from hansa import errors


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise errors.Misconfigured(
        "this party neither trains nor evaluates", hint="This is a fault of Hansa: please report it."
    )


_REFUSED: Callable[..., NoReturn] = _refuse


class Absent:
    """A `Trainer` that refuses everything."""

    initial = examples = train = train_many = evaluate = evaluate_many = staticmethod(_REFUSED)

    def close(self) -> None:
        """Nothing to stop."""
