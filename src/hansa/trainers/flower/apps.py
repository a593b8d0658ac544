"""Loads the ClientApp and the ServerApp of a project, and refuses what is not of Flower's message API."""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from hansa import errors
from hansa.project import Project, app_digest, read_project
from hansa.trainers.flower.running import failed, seed_all, seed_of

Part = TypeVar("Part")
API = "Hansa runs apps of Flower's message API (flwr 1.41)"


@dataclass(frozen=True, slots=True)
class Apps:
    """The two parts of an app, and where they come from."""

    folder: Path
    project: Project
    server: ServerApp
    client: ClientApp


def load_apps(folder: Path, *, digest: bytes = b"") -> Apps:
    """Import the app of a folder. With `digest`, refuses any other. Raises `Misconfigured`."""
    folder = folder.resolve()
    project, actual = read_project(folder), app_digest(folder)
    if digest and actual != digest:
        raise errors.Misconfigured(
            f"the Flower app in {folder} has digest {actual.hex()[:16]}, the terms pin {digest.hex()[:16]}",
            hint="Get the files that the members agreed on; a changed app needs a new federation.",
        )
    _forget(folder, project)
    seed_all(seed_of("import"))
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    server = _load(folder, "serverapp", project.serverapp, ServerApp)
    client = _load(folder, "clientapp", project.clientapp, ClientApp)
    _check(folder, server, client)
    return Apps(folder, project, server, client)


def _forget(folder: Path, project: Project) -> None:
    """Another app may have modules of the same names."""
    roots = {reference.split(":")[0].split(".")[0] for reference in (project.serverapp, project.clientapp)}
    roots |= {path.stem for path in folder.glob("*.py")}
    for name in [name for name in sys.modules if name.split(".")[0] in roots]:
        file = getattr(sys.modules[name], "__file__", None)
        if name != "__main__" and (file is None or not Path(file).is_relative_to(sys.prefix)):
            del sys.modules[name]
    importlib.invalidate_caches()


def _load(folder: Path, part: str, reference: str, kind: type[Part]) -> Part:
    module, _, attribute = reference.partition(":")
    try:
        with redirect_stdout(sys.stderr):
            found: Any = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as e:
        missing = str(e.name)
        if module == missing or module.startswith(missing + "."):
            raise errors.Misconfigured(
                f"the {part} {reference!r} of {folder} is not there: no module {missing!r}",
                hint="Correct [tool.flwr.app.components] of pyproject.toml.",
            ) from e
        if missing.split(".")[0] == "flwr":
            raise errors.Misconfigured(
                f"the app in {folder} imports {missing}, which flwr 1.41 does not have",
                hint=f"{API}; Flower's own guide says how older apps are brought up to it.",
            ) from e
        raise errors.Misconfigured(
            f"the app in {folder} needs {missing}, which is not installed",
            hint=f"Install what its pyproject.toml lists, such as by: pip install {folder}",
        ) from e
    except Exception as e:
        raise failed(f"import of {module}", folder, e) from e
    if not isinstance(found, kind):
        what = "is not there" if found is None else f"is {type(found).__name__}"
        raise errors.Misconfigured(
            f"the {part} {reference!r} of {folder} {what}, and a {kind.__name__} is due",
            hint="Correct [tool.flwr.app.components] of pyproject.toml, or the module that it names.",
        )
    return found


def _check(folder: Path, server: ServerApp, client: ClientApp) -> None:
    """Both are of the message API. Flower keeps what was registered in these private attributes, and nowhere else."""
    if client._call is not None:
        raise errors.Misconfigured(
            f"the ClientApp of {folder} is built on client_fn and NumPyClient, Flower's older API",
            hint=f"{API}: write @app.train() and @app.evaluate() functions that take a Message and a Context.",
        )
    if server._main is None:
        raise errors.Misconfigured(
            f"the ServerApp of {folder} is built on server_fn, Flower's older API, or has no @app.main()",
            hint=f"{API}: write @app.main() with a strategy of flwr.serverapp.strategy, and call its start().",
        )
    if not any(name.startswith("train.") for name in client._registered_funcs):
        raise errors.Misconfigured(
            f"the ClientApp of {folder} has no @app.train()", hint="Register the function that trains."
        )
