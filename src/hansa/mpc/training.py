"""A training script: what it declares, its owners' rows, and how a script is read and pinned by its digest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, final

from hansa import errors
from hansa.app import Site, users_traceback
from hansa.encoding import digest as digest_of
from hansa.mpc.bounds import check_range
from hansa.mpc.layout import resolve
from hansa.mpc.network import Declaration, Loss, Network, Reveal, Sgd, Stop

Rows = tuple[Any, Any, Any]
"""Ids of the rows, features, labels, as many each; an owner that has no features or no labels gives None."""


@final
class Training:
    """A training that owners agree on; raises `Misconfigured` for whatever it leaves open or leaks undeclared.

    `declared` is what the script says as one value, `layout` where each layer computes, `folder` where the script lies.

    labels: `Reveal(to=...)` shows every label to that party; None keeps them shared. accept_leakage: must be true where
    anything is opened that is not clipped and noised. bound: features outside [-bound, bound] are refused. norm:
    owners scale rows to at most this length (with a noised reveal). delta: of the (epsilon, delta) that noise gives.
    columns: features of owner 0, 1, ... where all hold the same rows, aligned by id, and different columns; then
    `labels_by` is the owner of the labels.
    """

    def __init__(
        self,
        network: Network,
        *,
        loss: Loss,
        optimizer: Sgd,
        epochs: int,
        batch: int,
        seed: int,
        protocol: str = "ABY3",
        field: str = "FM64",
        accept_leakage: bool = False,
        labels: Reveal | None = None,
        stop: Stop | None = None,
        bound: float = 16.0,
        norm: float | None = None,
        delta: float = 1e-5,
        columns: Sequence[int] = (),
        labels_by: int = 0,
    ) -> None:
        self.declared = Declaration(
            layers=network.layers,
            inputs=network.inputs,
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch=batch,
            seed=seed,
            protocol=protocol,
            field=field,
            accept_leakage=accept_leakage,
            labels=labels,
            stop=stop,
            bound=bound,
            norm=norm,
            delta=delta,
            columns=tuple(columns),
            labels_by=labels_by,
        )
        self.layout = resolve(self.declared)
        check_range(self.declared, self.layout)
        self.folder = Path()
        self._rows: Callable[[Site], Rows] | None = None

    def rows(self, function: Callable[[Site], Rows]) -> Callable[[Site], Rows]:
        """Register `rows(site) -> (ids, features, labels)` of one owner."""
        if self._rows is not None:
            raise errors.Misconfigured("the script registers @training.rows twice", hint="Keep one.")
        self._rows = function
        return function

    def read_rows(self, site: Site) -> Rows:
        """What the script's `rows` gives for `site`, unchecked. Raises `Misconfigured` when there is none."""
        if self._rows is None:
            raise errors.Misconfigured(
                "the script has no @training.rows",
                hint="Write a function of site that returns ids, features and labels.",
            )
        return self._rows(site)


def script_digest(path: Path) -> bytes:
    """SHA-256 of a training script, 32 bytes: what the terms pin. Raises `Misconfigured` when there is none."""
    return digest_of(_read(path))


def load_training(path: Path, *, digest: bytes = b"") -> Training:
    """Run the script at `path` under a private module name and return its `training`.

    With `digest`, refuses any other file. The bytes that are checked are the bytes that run. Raises `Misconfigured`
    when the file is missing, differs, does not run, or declares what is refused.
    """
    source = _read(path)
    actual = digest_of(source)
    if digest and actual != digest:
        raise errors.Misconfigured(
            f"{path} has digest {actual.hex()[:16]}, the terms pin {digest.hex()[:16]}",
            hint="Get the script that the owners agreed on; a changed script needs a new federation.",
        )
    module = ModuleType(f"_hansa_training_{actual.hex()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, module.__file__, "exec"), module.__dict__)  # noqa: S102 - the user's own script
    except errors.Misconfigured:
        raise
    except Exception as e:
        raise errors.Misconfigured(f"{path} does not run:\n{users_traceback(e, path.name)}") from e
    training = module.__dict__.get("training")
    if not isinstance(training, Training):
        raise errors.Misconfigured(
            f"{path} defines no variable `training` that is a hansa.mpc.Training",
            hint="Write: training = Training(Network([...], inputs=(...,)), loss=..., ...)",
        )
    training.folder = path.parent
    return training


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise errors.Misconfigured(f"cannot read {path}: {e.strerror}", hint="Name a training script.") from e
