"""A Flower project as it lies on the disk: its pyproject.toml, the files that count, and the terms it stands for.

Nothing here imports Flower or runs the app. The format is that of `flwr` 1.41:
https://flower.ai/docs/framework/ref-flower-configuration.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hansa import app, encoding, errors
from hansa.app import Scalar
from hansa.tomlfile import read_toml

FILE: Final = "pyproject.toml"
ROUNDS: Final = "num-server-rounds"
"""The key of the run config that Flower's own apps take their rounds from."""

MEMBERS: Final = 10
"""Simulated members where neither command nor project says a number: as in Flower's own local simulation."""

MAX_FILES: Final = 10_000
_SKIPPED: Final = frozenset({"__pycache__", "build", "dist", "node_modules", "runs", "venv"})
_REFERENCE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_WEIGHTS: Final = 2**30 - 1
"""What the weights of a round may add up to."""


@dataclass(frozen=True, slots=True)
class Project:
    """What a pyproject.toml says. Components are "module:attribute"; `config` is flat, as `run_config` is."""

    name: str
    serverapp: str
    clientapp: str
    config: tuple[tuple[str, Scalar], ...]
    members: int | None


def is_project(folder: Path) -> bool:
    """Whether a folder holds a Flower project, and no app of Hansa's own."""
    path = folder / FILE
    if (folder / app.FILE).exists() or not path.is_file():
        return False
    return "flwr" in _table(read_toml(path, ""), "tool")


def read_project(folder: Path) -> Project:
    """The project of a folder. Raises `Misconfigured` when its pyproject.toml lacks what Flower asks for."""
    path = folder / FILE
    written = read_toml(path, f"A Flower app is a folder with {FILE}.")
    flwr = _table(_table(written, "tool"), "flwr")
    components = _table(_table(flwr, "app"), "components")
    found: dict[str, str] = {}
    for part in ("serverapp", "clientapp"):
        reference = components.get(part)
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            said = "names no" if reference is None else f"has {reference!r} as"
            raise errors.Misconfigured(
                f"{path}: [tool.flwr.app.components] {said} {part}",
                hint=f'Write {part} = "package.module:app": a Flower app has a ServerApp and a ClientApp.',
            )
        found[part] = reference
    name = _table(written, "project").get("name")
    return Project(
        name=_name(name if isinstance(name, str) else folder.resolve().name),
        config=tuple(_flat(_table(_table(flwr, "app"), "config"), path)),
        members=_members(_table(flwr, "federations")),
        **found,
    )


def files(folder: Path) -> list[Path]:
    """What the terms pin, relative and sorted: pyproject.toml and every Python file. Raises `Misconfigured`."""
    found = [Path(FILE)]
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if not any(part in _SKIPPED or part.startswith(".") for part in inside.parts) and path.is_file():
            found.append(inside)
        if len(found) > MAX_FILES:
            raise errors.Misconfigured(
                f"{folder} holds more than {MAX_FILES} Python files", hint="Name the folder of the app alone."
            )
    return found


def app_digest(folder: Path, file: str = app.FILE) -> bytes:
    """What the terms pin of an app: its `file`, or all files of a Flower project. Raises `Misconfigured`."""
    if not is_project(folder):
        return app.app_digest(folder, file)
    try:
        pinned = [[path.as_posix(), encoding.digest((folder / path).read_bytes())] for path in files(folder)]
    except OSError as e:
        raise errors.Misconfigured(f"cannot read {folder}: {e.strerror}") from e
    return encoding.digest(encoding.encode(["hansa/flower-app/1", pinned]))


def source_files(folder: Path, file: str = app.FILE) -> list[Path]:
    """Files of an app that a run keeps a copy of, relative to its folder."""
    return files(folder) if is_project(folder) else [Path(file)]


def settings(project: Project, rounds: int | None, members: int | None) -> dict[str, Any]:
    """The `federation.toml` that a project stands for; the scheme is missing, since nobody gets one by default.

    `rounds` and `members` are what was asked for, if anything was.
    """
    count = members or project.members or MEMBERS
    config = dict(project.config)
    if rounds is not None and ROUNDS in config:
        config[ROUNDS] = rounds
    asked = config.get(ROUNDS)
    planned = rounds or (asked if isinstance(asked, int) and asked > 0 else 1)
    return {
        "federation": {"name": project.name},
        "training": {"rounds": planned, "min_members": min(2, count), "params": config},
        "selection": {"rule": "none"},
        "aggregation": {"weight_cap": _WEIGHTS // count},
        "governance": {"committee": min(7, count), "max_absent": 1000},
        "privacy": {"differential_privacy": "off"},
        "simulation": {"members": count},
        "under": {
            "secagg": {
                "federation": {"governance": "server"},
                "training": {"min_members": min(4, count)},
                "aggregation": {"weight_cap": 1},
                "governance": {"invitation": "vote", "seats": ["s0"]},
                "secagg": {"key_centres": ["k0"]},
            },
            "tee": {
                "governance": {"invitation": "vote", "committee": min(4, count)},
                "tee": {"accept": {"root": "simulation"}},
            },
        },
    }


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of two files in one; what stands in `above` counts. Lists are values."""
    made = dict(below)
    for key, value in above.items():
        old = made.get(key)
        made[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return made


def _table(written: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = written.get(key, {})
    return found if isinstance(found, dict) else {}


def _flat(config: Mapping[str, Any], path: Path, above: str = "") -> Iterator[tuple[str, Scalar]]:
    """Nested tables of the run config as dotted keys, which is how Flower hands them to an app."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, path, f"{above}{key}.")
        elif isinstance(value, int | float | str):
            yield above + key, value
        else:
            raise errors.Misconfigured(
                f"{path}: [tool.flwr.app.config] {above}{key} is no number, text, true or false",
                hint="Flower's run config holds nothing else.",
            )


def _members(federations: Mapping[str, Any]) -> int | None:
    """`options.num-supernodes` of the default federation, or of the only one that has it."""
    default = federations.get("default")
    tables = [federations.get(default)] if isinstance(default, str) else list(federations.values())
    for table in tables:
        options = table.get("options") if isinstance(table, dict) else None
        count = options.get("num-supernodes") if isinstance(options, dict) else None
        if isinstance(count, int) and count > 0:
            return count
    return None


def _name(text: str) -> str:
    """A project's name as a federation may be called."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63] or "flower-app"
