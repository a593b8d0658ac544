"""The user's code, run so that it repeats: seeded, quiet on stdout, its errors told as the app's."""

from __future__ import annotations

import hashlib
import random
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TypeVar

import numpy as np

from hansa import errors

Result = TypeVar("Result")


def seed_of(*what: int | str) -> int:
    """A seed of 63 bits that follows from numbers and words."""
    text = "hansa/flower/" + "/".join(map(str, what))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed what an app may draw from. torch is seeded if the app has imported it, and keeps to one thread."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: TID251 - for the user's code, which may draw from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
        torch.set_num_threads(1)


def called(what: str, folder: Path, seed: int, call: Callable[[], Result]) -> Result:
    """One call of the app's code: what it prints goes to stderr, what it raises becomes `AppFailed`."""
    seed_all(seed)
    try:
        with redirect_stdout(sys.stderr):
            return call()
    except errors.HansaError:
        raise
    except Exception as e:
        raise failed(what, folder, e) from e


def failed(what: str, folder: Path, error: BaseException) -> errors.AppFailed:
    """The app's error, with the traceback from its first own frame on."""
    frames = traceback.TracebackException.from_exception(error)
    own = [i for i, f in enumerate(frames.stack) if Path(f.filename).is_relative_to(folder)]
    if own:
        frames.stack = traceback.StackSummary.from_list(frames.stack[own[0] :])
    frames.__cause__ = frames.__context__ = None
    text = "".join(frames.format()).rstrip()
    return errors.AppFailed(
        f"the app failed in {what}:\n{text}", hint="The fault lies in the app, not in Hansa."
    )
