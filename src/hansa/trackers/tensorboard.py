"""TensorBoard: event files in the run's folder, or another. Look at them by `tensorboard --logdir FOLDER`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from tensorboard.summary import Writer

from hansa import errors
from hansa.ports import Tracked
from hansa.trackers.scalars import rounds

FOLDER = "tensorboard"


@final
class TensorBoard:
    """A `Tracker`: it begins anew each time, since a file that a killed process left may be torn."""

    def __init__(self, folder: Path) -> None:
        self.told = 0
        try:
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = Writer(str(folder))
        except OSError as e:
            raise errors.Misconfigured(
                f"TensorBoard cannot write into {folder}: {e.strerror}",
                hint="Name another folder: --track tensorboard:DIR",
            ) from e

    def tell(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """See `Tracker.tell`."""
        for step, figures in rounds(lines):
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step=step)
            self.told = step
        self._writer.flush()

    def close(self, *, finished: bool) -> None:  # noqa: ARG002 - TensorBoard knows no end of a run
        """See `Tracker.close`."""
        self._writer.close()


def create(run: Tracked, target: str) -> TensorBoard:
    """Event files in `target`, a folder for this run alone; by default in its own. Raises `Misconfigured`."""
    return TensorBoard(Path(target) if target else run.folder / FOLDER)
