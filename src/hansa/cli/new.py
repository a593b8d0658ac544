"""`hansa new`: a federation to begin with, from the files of `hansa/templates`, under one framework or another."""

from __future__ import annotations

import json
from enum import StrEnum
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from hansa import errors
from hansa.cli.console import command, console, grid, print_json
from hansa.cli.keys import Json

TEMPLATE = "my-federation"
"""What the template's own federation is called; replaced by the name that the user chose."""

EXTRA = "hansa[torch]"
"""What the template of another framework says in place of this."""


class Template(StrEnum):
    """Folders of `hansa/templates` that differ in framework."""

    PYTORCH = "pytorch"
    FLOWER = "flower"
    SKLEARN = "sklearn"


EXTRAS = {Template.PYTORCH: EXTRA, Template.SKLEARN: "hansa[sklearn]", Template.FLOWER: "hansa[torch,flower]"}
FILES = {
    "federation.toml": "the terms: what you must decide stands there, the rest as comments",
    "app.py": "model, data, training: works as it is, says where your own data go",
    "test_app.py": "run pytest after every change",
    "member.toml": "yours alone: keys, data, chain and store; for when the federation is founded",
    "README.md": "what to do next",
}
FLOWER_FILES = {
    "pyproject.toml": "components, run config, simulated members: as Flower reads it",
    "quickstart/__init__.py": "the app's package",
    "quickstart/task.py": "model, data, training: works as it is",
    "quickstart/client_app.py": "what each member runs",
    "quickstart/server_app.py": "the strategy",
    "test_app.py": "run pytest after every change",
    "README.md": "what to do next",
}


def new(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="New folder; its name is the federation's.")
    ],
    template: Annotated[
        Template, typer.Option("--template", help="The framework of its app.")
    ] = Template.PYTORCH,
    as_json: Json = False,
) -> None:
    """Write a federation that works, to begin with: terms, app, its test. Needs no network."""
    files = create(folder, template)
    if as_json:
        print_json({"folder": str(folder), "template": template, "files": list(files)})
        return
    table = grid()
    for name, what in files.items():
        table.add_row(str(folder / name), what)
    table.add_row("", "")
    # Its own files know of no scheme.
    scheme = ("--set", "federation.scheme=plaintext") if template is Template.FLOWER else ()
    table.add_row("next", command("hansa", "check", folder, *scheme))
    table.add_row("", command("hansa", "run", folder, *scheme, "--rounds", "2"))
    console().print(table)


def create(folder: Path, template: Template = Template.PYTORCH) -> dict[str, str]:
    """Write the template's files into `folder`, which is made if missing, and say what each is; it must be empty.

    Raises `Misconfigured` when it is not, cannot be written, or its name is none for a federation.
    """
    name = folder.absolute().name
    _check_name(name)
    files = FLOWER_FILES if template is Template.FLOWER else FILES
    try:
        if folder.exists() and any(folder.iterdir()):
            raise errors.Misconfigured(f"{folder} is not empty", hint="Name a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True)
            text = _source(template, file).read_text(encoding="utf-8")
            with (folder / file).open("x", encoding="utf-8") as out:
                out.write(text.replace(TEMPLATE, name).replace(EXTRA, EXTRAS[template]))
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot write {e.filename or folder}: {e.strerror}", hint="Name a folder that you may write to."
        ) from e
    return files


def _source(template: Template, file: str) -> Traversable:
    """The file of this template, or else the one that all share."""
    templates = resources.files("hansa").joinpath("templates")
    own = templates.joinpath(template, *file.split("/"))
    return own if own.is_file() else templates.joinpath("shared", file)


def _check_name(name: str) -> None:
    """The rules are those of `federation.toml`: the template is read with this name."""
    from hansa.config import load_federation

    with resources.as_file(resources.files("hansa").joinpath("templates", "shared")) as template:
        try:
            load_federation(template, [f"federation.name={json.dumps(name)}"])
        except errors.Misconfigured as e:
            raise errors.Misconfigured(
                f"{name!r} cannot be the name of a federation",
                hint="Use 1 to 63 lower-case letters, digits and hyphens, the first one no hyphen.",
            ) from e
