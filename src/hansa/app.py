"""What users write: a model, their data, how to train and how to evaluate. Imports no torch.

A folder holds `app.py` with a variable `app`:

    app = hansa.App(model=make_model)

    @app.data
    def data(site): ...

    @app.train
    def train(model, dataset, ctx): ...

    @app.evaluate
    def evaluate(model, dataset, ctx): ...          # {"loss": ..., any further metrics}

or a subclass of `App` that overrides the four methods. `app.py` stands alone: its digest is in the
terms, and files beside it would not be covered by it.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from hansa import errors
from hansa.encoding import digest as digest_of
from hansa.partition import Partition
from hansa.records import Model

Values = dict[str, NDArray[np.float32]]
"""Floating parameters and buffers of a model, by name."""

Scalar = float | int | str | bool
FILE: Final = "app.py"
OWN_DATA: Final = Partition("natural", min_rows=1)
PARTS: Final = ("model", "data", "train", "evaluate")
FRAMEWORKS: Final = ("torch", "sklearn", "jax")


@dataclass(frozen=True, slots=True)
class Site:
    """Where data come from. `path`: the member's data (deployed) or the app's folder (simulated).

    `index` is the member's number, `name` its name, `seed` the federation's seed.
    """

    path: Path
    name: str
    index: int
    seed: int


@final
class Params(Mapping[str, Scalar]):
    """Read-only `[training] params`; `ctx.params.lr` is `ctx.params["lr"]`."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Scalar]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getitem__(self, key: str) -> Scalar:
        return self._values[key]  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._values:
            known = ", ".join(sorted(self._values)) or "none"
            raise AttributeError(f"[training] params has no {name!r}; it has: {known}")
        return self._values[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("params are part of the terms and cannot be changed")

    def __repr__(self) -> str:
        return f"Params({self._values})"


class Loader(Protocol):
    """Makes seeded batches, under torch a `DataLoader`: the same ones for the same member and round."""

    def __call__(self, dataset: Any, batch_size: int = 32, shuffle: bool = True) -> Any:
        """Batches of `dataset`, the last one maybe smaller."""


@dataclass(frozen=True, slots=True)
class Context:
    """What `train` and `evaluate` are told; `device` is "cpu" or "cuda"."""

    params: Params
    round: int
    seed: int
    device: str
    loader: Loader


class App:
    """The four parts of an application, registered by decorators or overridden in a subclass.

    `framework` is what its models are made of: "torch", "sklearn" or "jax".
    """

    framework = "torch"

    def __init__(self, model: Callable[[], Any] | None = None, *, framework: str = "") -> None:
        if framework and framework not in FRAMEWORKS:
            raise errors.Misconfigured(
                f"there is no framework {framework[:40]!r}", hint=f"There are: {', '.join(FRAMEWORKS)}."
            )
        self.framework = framework or type(self).framework
        self._parts: dict[str, Callable[..., Any]] = {} if model is None else {"model": model}

    def model(self) -> Any:
        """A new model; overridden in a subclass."""
        return self._parts["model"]()

    def data(self, function: Any) -> Any:
        """Register `data(site) -> dataset`; overridden in a subclass."""
        return self._register("data", function)

    def train(self, function: Any) -> Any:
        """Register `train(model, dataset, ctx)`, which trains `model` in place."""
        return self._register("train", function)

    def evaluate(self, function: Any) -> Any:
        """Register `evaluate(model, dataset, ctx) -> {"loss": ..., ...}`."""
        return self._register("evaluate", function)

    def _register(self, part: str, function: Any) -> Any:
        if part in self._parts:
            raise errors.Misconfigured(f"{FILE} registers @app.{part} twice", hint=f"Keep one @app.{part}.")
        if not callable(function):
            raise errors.Misconfigured(f"@app.{part} needs a function, not {type(function).__name__}")
        self._parts[part] = function
        return function


@dataclass(frozen=True, slots=True)
class Components:
    """The four functions of an app, however it was written."""

    model: Callable[[], Any]
    data: Callable[[Site], Any]
    train: Callable[[Any, Any, Context], Any]
    evaluate: Callable[[Any, Any, Context], Any]


def components(app: App) -> Components:
    """The functions of `app`. Raises `Misconfigured` when one is missing."""
    found: dict[str, Callable[..., Any]] = {}
    for part in PARTS:
        if getattr(type(app), part) is not getattr(App, part):
            found[part] = getattr(app, part)
        elif part in app._parts:
            found[part] = app._parts[part]
    missing = [part for part in PARTS if part not in found]
    if missing:
        ways = {"model": "App(model=make_model)"} | {p: f"@app.{p}" for p in PARTS[1:]}
        raise errors.Misconfigured(
            f"the app has no {' and no '.join(missing)}",
            hint="Add " + ", ".join(ways[part] for part in missing) + f" to {FILE}.",
        )
    return Components(**found)


def read_source(folder: Path, file: str = FILE) -> bytes:
    """The bytes of a folder's `app.py`, or of another `file` of it. Raises `Misconfigured` when there is none."""
    try:
        return (folder / file).read_bytes()
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot read {folder / file}: {e.strerror}",
            hint=f"An app is a folder with federation.toml and {FILE}.",
        ) from e


def app_digest(folder: Path, file: str = FILE) -> bytes:
    """SHA-256 of a folder's `app.py`, or of another `file` of it, 32 bytes: what the terms pin."""
    return digest_of(read_source(folder, file))


def file_of(folder: Path, digest: bytes) -> str:
    """The name of the Python file of a folder that has this digest; `app.py` where none has."""
    found = (path.name for path in sorted(folder.glob("*.py")) if digest_of(path.read_bytes()) == digest)
    return next(found, FILE)


def load_app(folder: Path, *, digest: bytes = b"") -> App:
    """Run the folder's `app.py` under a private module name and return its complete `app`.

    With `digest`, refuses any other file. The bytes that are checked are the bytes that run. Raises
    `Misconfigured` when the file is missing, differs, does not run, or lacks a part.
    """
    source = read_source(folder)
    actual = digest_of(source)
    if digest and actual != digest:
        raise errors.Misconfigured(
            f"{folder / FILE} has digest {actual.hex()[:16]}, the terms pin {digest.hex()[:16]}",
            hint="Get the file that the members agreed on; a changed app needs a new federation.",
        )
    name = f"_hansa_app_{actual.hex()[:16]}"
    module = ModuleType(name)
    module.__file__ = str(folder / FILE)
    sys.modules[name] = module
    try:
        exec(compile(source, module.__file__, "exec"), module.__dict__)  # noqa: S102 - the user's own app
    except errors.Misconfigured:
        raise
    except ModuleNotFoundError as e:
        raise errors.Misconfigured(
            f"{folder / FILE} needs {e.name}, which is not installed",
            hint=f"pip install 'hansa[{e.name}]'"
            if e.name in FRAMEWORKS
            else f"Install {e.name} and try again.",
        ) from e
    except Exception as e:
        raise errors.Misconfigured(f"{folder / FILE} does not run:\n{users_traceback(e)}") from e
    app = module.__dict__.get("app")
    if not isinstance(app, App):
        raise errors.Misconfigured(
            f"{folder / FILE} defines no variable `app` that is a hansa.App",
            hint="Write: app = hansa.App(model=make_model)",
        )
    components(app)
    return app


def users_traceback(error: BaseException, file: str = FILE) -> str:
    """The traceback from the first frame inside a file of that name on, without Hansa's own frames."""
    frames = traceback.TracebackException.from_exception(error)
    own = [i for i, frame in enumerate(frames.stack) if Path(frame.filename).name == file]
    if own:
        frames.stack = traceback.StackSummary.from_list(frames.stack[own[0] :])
    frames.__cause__ = frames.__context__ = None
    return "".join(frames.format()).rstrip()


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """What a trainer is made from.

    Simulated: `sites` are all members and `partition` says how the first one's data set is shared among
    them, or that each has its own ("natural"). Deployed: `sites` is the one member and `holdout` is 0.
    `holdout` and `validation` are fractions of the rows; `workers` is a number of processes, 0 for none.
    With `digest`, another app is refused. `script`: name of the training script, where rows are trained on as shares
    and there is no app. `params` are those of the terms, for an app that asks for them before it trains.
    """

    folder: Path
    sites: tuple[Site, ...]
    partition: Partition = OWN_DATA
    holdout: float = 0.2
    validation: float = 0.2
    seed: int = 0
    workers: int = 0
    device: str = "cpu"
    digest: bytes = b""
    script: str = ""
    params: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TrainTask:
    """Train from `base` on the dataset named `dataset` ("m3/train")."""

    dataset: str
    base: Values
    seed: int
    round: int
    params: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class TrainResult:
    """Values after training, rows trained on, and what `train` returned."""

    values: Values
    examples: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class EvaluateTask:
    """Evaluate several models on the dataset named `dataset` ("m3/validation", "test")."""

    dataset: str
    models: tuple[Values, ...]
    params: tuple[tuple[str, Scalar], ...] = ()
    round: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What an app with a server part asks of the terms.

    `strategy`: what it calls its own. `rounds`: None where it does not say. `scale`: bits after the point that leave
    its values room. `mean`: the weighted mean is all that it needs; `single`: it needs every single update. `rule`:
    the `[aggregation]` keys under which members do what it does. `refused`: why it cannot run at all, if so.
    """

    strategy: str
    rounds: int | None
    scale: int
    mean: bool
    single: bool
    rule: tuple[tuple[str, Scalar], ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Agreed:
    """A final round as an app's server part hears of it: whose updates count, by id, and the model."""

    round: int
    selected: frozenset[int]
    model: Callable[[], Model]


def member_name(index: int) -> str:
    """Name of a simulated member: m0, m1, ..."""
    return f"m{index}"


def training_seed(seed: int, member: int, round: int) -> int:
    """Seed of one member's training in one round: 63 bits of SHA-256, independent of the others."""
    text = f"hansa/training/{seed}/{member}/{round}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def modelled_millis(examples: int, epochs: int) -> int:
    """Training time that a simulation reports: one millisecond a row and epoch, at least one."""
    return max(1, examples * max(1, epochs))
