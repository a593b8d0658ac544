"""`hansa new` writes a federation that can be read, under a name that it may have, where nothing is."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from hansa import config, errors
from hansa.app import components, load_app
from hansa.cli import main as cli
from hansa.cli.new import EXTRAS, FILES, FLOWER_FILES, TEMPLATE, Template, create
from hansa.project import read_project

TEMPLATES = resources.files("hansa").joinpath("templates")
SHARED = TEMPLATES.joinpath("shared")
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_the_folder_holds_a_federation_of_its_name(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hansa", "new", "deep/my-lab"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    folder = tmp_path / "deep" / "my-lab"
    assert {p.name for p in folder.iterdir()} == set(FILES)
    assert config.load_federation(folder).draft.name == "my-lab"
    components(load_app(folder))
    out = capsys.readouterr().out
    assert "hansa check deep/my-lab" in out
    assert all(f"deep/my-lab/{name}" in out for name in FILES)
    assert all(TEMPLATE not in (folder / name).read_text() for name in FILES)


def test_the_templates_are_all_files_that_are_written() -> None:
    """A template's own files, and those that all share, without one of both kinds."""
    folders = {folder.name for folder in TEMPLATES.iterdir()} - {"__pycache__"}
    assert folders == {*Template, "shared"}
    shared = {file.name for file in SHARED.iterdir() if file.is_file()}
    for template in (Template.PYTORCH, Template.SKLEARN):
        own = {file.name for file in TEMPLATES.joinpath(template).iterdir() if file.is_file()}
        assert own | shared == set(FILES)
        assert not own & shared


def test_the_template_of_flower_is_the_example(tmp_path: Path) -> None:
    """Under another name, and with a test and a page of its own."""
    create(tmp_path / "lab", Template.FLOWER)
    example, made = Path(__file__).parents[2] / "examples" / "flower-quickstart", tmp_path / "lab"
    assert {str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()} == set(FLOWER_FILES)
    for file in set(FLOWER_FILES) - {"test_app.py", "README.md"}:
        assert (made / file).read_text() == (example / file).read_text().replace(
            '"flower-quickstart"', '"lab"'
        ), file
    assert read_project(made).name == "lab"
    assert re.findall(r"hansa\[[\w,]+\]", (made / "README.md").read_text()) == [EXTRAS[Template.FLOWER]]


@pytest.mark.parametrize("template", [Template.PYTORCH, Template.SKLEARN])
def test_a_template_is_an_app_and_says_what_it_needs(tmp_path: Path, template: Template) -> None:
    create(tmp_path / "lab", template)
    app = load_app(tmp_path / "lab")
    components(app)
    assert app.framework == {"pytorch": "torch"}.get(template, template)
    text = (tmp_path / "lab" / "README.md").read_text()
    assert re.findall(r"hansa\[\w+\]", text) == [EXTRAS[template]]
    assert EXTRAS[template][6:-1] in PROJECT["optional-dependencies"]


def test_what_stands_in_the_terms_is_every_key_there_is() -> None:
    """A line commented out is a key with its default; none is missing and none is made up."""
    text = SHARED.joinpath("federation.toml").read_text()
    written = tomllib.loads(re.sub(r"^# (?=\w+ = |\[\w+\] )", "", text, flags=re.MULTILINE))
    plain = tomllib.loads(text)
    for section, field in config._File.model_fields.items():
        model = next(t for t in (field.annotation, *get_args(field.annotation)) if hasattr(t, "model_fields"))
        table = model.model_fields
        # There is one file that can be an app, and nobody needs to think of a model of stale updates yet.
        left_out = {"federation": {"app"}, "training": {"mode", "buffer", "max_staleness"}}
        assert set(written[section]) == set(table) - left_out.get(section, set()), section
        for key in set(written[section]) - set(plain.get(section, ())) - {"target", "accept"}:
            default = table[key].default
            assert written[section][key] == (list(default) if default == () else default), key


@pytest.mark.parametrize("name", ["My-Lab", "-lab", "lab_1", "l" * 64, "my lab", "ärzte", "lab.", "a\nb"])
def test_a_name_that_no_federation_may_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.Misconfigured, match="cannot be the name of a federation") as caught:
        create(tmp_path / name)
    assert "lower-case letters" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["l" * 63, "7", "lab-7"])
def test_names_as_in_the_terms(tmp_path: Path, name: str) -> None:
    create(tmp_path / name)
    assert config.load_federation(tmp_path / name).draft.name == name


def test_an_empty_folder_is_used_and_another_is_not(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    monkeypatch.chdir(folder)
    create(Path())
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(errors.Misconfigured, match="is not empty"):
        create(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("thesis")
    for folder in (tmp_path / "lab", tmp_path / "lab" / "inner"):
        with pytest.raises(errors.Misconfigured, match="Not a directory"):
            create(folder)
    assert (tmp_path / "lab").read_text() == "thesis"


def test_the_readme_names_only_commands_that_exist() -> None:
    text = SHARED.joinpath("README.md").read_text()
    named = set(re.findall(r"hansa (\w+)", text))
    assert {"check", "run", "explain"} <= named <= set(get_command(cli.app).commands)
