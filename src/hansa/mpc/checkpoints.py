"""A party's own shares between steps, sealed at rest under its own key; the last two are kept.

Parties may stand one checkpoint apart when one dies: of the last two each has, one is common to all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.crypto import sealing
from hansa.mpc.frames import CHILD_LIMIT
from hansa.mpc.program import Variable
from hansa.mpc.setting import Setting
from hansa.mpc.shares import Share, encode_share, stored_share
from hansa.mpc.traffic import Cost

KEPT = 2
KEY_FILE = "checkpoint.key"
_DONE = "everybody-done"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a party holds after `step` steps, in its attempt of that number, and what all cost it until then, by name.

    last: there are no more steps, and the outputs are among the shares.
    """

    step: int
    shares: Mapping[str, Share]
    plain: Mapping[str, NDArray[Any]]
    last: bool = False
    attempt: int = 0
    costs: Mapping[str, Cost] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one party of one job and program, in a folder of their own.

    `key`: 32 bytes. `job`, `program`: digests. Raises `Misconfigured` when the folder cannot be used.
    """

    def __init__(
        self, folder: Path, key: bytes, *, job: bytes, program: bytes, rank: int, setting: Setting
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise errors.Misconfigured(f"{folder} cannot be used: {e.strerror}") from e
        self._folder, self._key, self._job, self._setting = folder, key, job, setting
        self._context = [job, program, rank, setting.protocol, setting.field]

    def held(self) -> list[int]:
        """Steps after which there is a checkpoint, ascending. Each is opened: raises `Misconfigured` for a bad one."""
        steps = sorted(int(p.stem) for p in self._folder.glob("*.sealed") if p.stem.isdigit())
        for step in steps:
            self._opened(step)
        return steps

    def load(self, step: int, variables: Mapping[str, Variable]) -> Checkpoint:
        """The checkpoint after `step` steps; `variables` are those that may stand in it, by name."""
        found = self._opened(step)
        shares = {
            name: stored_share(data, variables[name], self._setting, "this party")
            for name, data in found["shares"].items()
        }
        plain = {
            name: np.frombuffer(data, variables[name].dtype).reshape(variables[name].shape)
            for name, data in found["plain"].items()
        }
        costs = {name: Cost(*numbers) for name, numbers in found["costs"].items()}
        return Checkpoint(step, shares, plain, found["last"], found["attempt"], costs)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write one, all or nothing, and forget the oldest. Raises `Unavailable` when the disk does not take it."""
        content = encoding.encode(
            {
                "last": checkpoint.last,
                "attempt": checkpoint.attempt,
                "costs": {name: astuple(cost) for name, cost in checkpoint.costs.items()},
                "shares": {name: encode_share(s) for name, s in checkpoint.shares.items()},
                "plain": {name: a.tobytes() for name, a in checkpoint.plain.items()},
            }
        )
        sealed = sealing.seal(
            content, self._key, self._job, self._bound(checkpoint.step), entropy=secrets.token_bytes
        )
        _write(self._path(checkpoint.step), sealed)
        steps = sorted(int(p.stem) for p in self._folder.glob("*.sealed") if p.stem.isdigit())
        # One from before the point of resumption, of a path that was left, goes too.
        for step in [s for s in steps if s > checkpoint.step] + [s for s in steps if s <= checkpoint.step][
            :-KEPT
        ]:
            self._path(step).unlink()

    @property
    def everybody_done(self) -> bool:
        """Whether all parties are known to hold their last checkpoint: none of them needs this one again."""
        return (self._folder / _DONE).exists()

    def note_everybody_done(self) -> None:
        """Remember that."""
        _write(self._folder / _DONE, b"")

    def _opened(self, step: int) -> Any:
        path = self._path(step)
        try:
            data = path.read_bytes()
            content = sealing.open_sealed(data, self._key, self._bound(step), limit=CHILD_LIMIT)
            return encoding.decode(content, limit=CHILD_LIMIT)
        except (OSError, errors.Untrusted) as e:
            raise errors.Misconfigured(
                f"the checkpoint {path} is damaged, or of another job, party or key: {e}",
                hint="Delete it to go on from the one before, or from the start.",
            ) from e

    def _bound(self, step: int) -> bytes:
        return encoding.encode(["hansa/mpc/checkpoint/1", *self._context, step])

    def _path(self, step: int) -> Path:
        return self._folder / f"{step:09d}.sealed"


def own_key(home: Path) -> bytes:
    """The key (32 bytes) that a party seals its checkpoints with: drawn once, in its home, for its user only.

    Raises `Misconfigured` when it cannot be read or has another size.
    """
    path = home / KEY_FILE
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _write(path, secrets.token_bytes(sealing.KEY_BYTES))
        key = path.read_bytes()
    except OSError as e:
        raise errors.Misconfigured(f"{path} cannot be made or read: {e.strerror}") from e
    if len(key) != sealing.KEY_BYTES:
        raise errors.Misconfigured(f"{path} is no key", hint="Restore it, or delete it with all checkpoints.")
    return key


def _write(path: Path, data: bytes) -> None:
    """Write a file for its user only, so that a crash leaves all of it or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise errors.Unavailable(f"cannot write {path}: {e.strerror}", hint="Free some space.") from e
