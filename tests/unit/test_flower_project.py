"""A Flower project as it lies on the disk: what it stands for, what is pinned of it, what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flowers import PROJECT, write_app

from hansa import errors
from hansa.config import load_federation
from hansa.project import app_digest, files, is_project, merged, read_project, settings
from hansa.records import Governance

CHOSEN = ["federation.scheme=plaintext"]


def test_what_a_project_says(tmp_path: Path) -> None:
    nested = PROJECT.replace("lr = 0.5", "lr = 0.5\nmodel.depth = 2")
    project = read_project(write_app(tmp_path, project=nested))
    assert (project.name, project.members) == ("tiny-app", 5)
    assert (project.serverapp, project.clientapp) == ("tinyapp.server_app:app", "tinyapp.client_app:app")
    assert dict(project.config) == {"num-server-rounds": 3, "lr": 0.5, "model.depth": 2}


def test_an_app_of_hansas_own_is_no_project(tmp_path: Path) -> None:
    folder = write_app(tmp_path)
    assert is_project(folder)
    (folder / "app.py").write_text("")
    assert not is_project(folder)
    assert not is_project(tmp_path / "nowhere")


@pytest.mark.parametrize("part", ["serverapp", "clientapp"])
@pytest.mark.parametrize("said", ["", "{part} = 3", '{part} = "no colon"'])
def test_a_component_that_is_not_named(tmp_path: Path, part: str, said: str) -> None:
    lines = [said.format(part=part) if line.startswith(part) else line for line in PROJECT.splitlines()]
    folder = write_app(tmp_path, project="\n".join(lines))
    with pytest.raises(errors.Misconfigured, match=part) as e:
        read_project(folder)
    assert "package.module:app" in e.value.hint


def test_a_run_config_of_other_values_is_refused(tmp_path: Path) -> None:
    folder = write_app(tmp_path, project=PROJECT.replace("lr = 0.5", "lr = [1, 2]"))
    with pytest.raises(errors.Misconfigured, match="lr is no number"):
        read_project(folder)


def test_every_python_file_is_pinned_and_nothing_else(tmp_path: Path) -> None:
    folder = write_app(tmp_path)
    before = app_digest(folder)
    (folder / "final_model.pt").write_bytes(b"...")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "more.py").write_text("")
    (folder / "tinyapp" / "__pycache__").mkdir()
    (folder / "tinyapp" / "__pycache__" / "old.py").write_text("")
    assert app_digest(folder) == before
    names = ["pyproject.toml", "tinyapp/__init__.py", "tinyapp/client_app.py", "tinyapp/server_app.py"]
    assert [path.as_posix() for path in files(folder)] == names
    (folder / "tinyapp" / "task.py").write_text("")
    assert app_digest(folder) != before


def test_what_is_written_stands_above_what_follows() -> None:
    below, above = {"a": {"x": 1, "y": [1]}, "b": 2}, {"a": {"y": [2]}, "c": 3}
    assert merged(below, above) == {"a": {"x": 1, "y": [2]}, "b": 2, "c": 3}


def test_terms_follow_from_the_project(tmp_path: Path) -> None:
    file = load_federation(write_app(tmp_path), CHOSEN)
    draft = file.draft
    assert (draft.name, draft.scheme, draft.selection.rule, draft.privacy) == (
        "tiny-app",
        "plaintext",
        "none",
        "off",
    )
    assert (draft.training.rounds, file.simulation.members, draft.training.min_members) == (3, 5, 2)
    assert dict(draft.training.params) == {"num-server-rounds": 3, "lr": 0.5}
    assert draft.aggregation.weight_cap * 5 < 2**30


def test_rounds_that_are_asked_for_reach_the_app(tmp_path: Path) -> None:
    file = load_federation(write_app(tmp_path), [*CHOSEN, "training.rounds=7", "simulation.members=3"])
    assert (file.draft.training.rounds, file.simulation.members) == (7, 3)
    assert dict(file.draft.training.params)["num-server-rounds"] == 7
    assert file.said >= {"training.rounds", "simulation.members"}


def test_a_file_of_terms_beside_it_counts(tmp_path: Path) -> None:
    folder = write_app(tmp_path)
    (folder / "federation.toml").write_text(
        '[federation]\nname = "ours"\nscheme = "secagg"\n[training]\nmin_members = 5\nparams = { lr = 0.1 }\n'
    )
    file = load_federation(folder)
    assert (file.draft.name, file.draft.scheme, file.draft.training.min_members) == ("ours", "secagg", 5)
    assert (file.draft.governance, file.draft.govern.seats) == (Governance.SERVER, ("s0",))
    assert dict(file.draft.training.params) == {"num-server-rounds": 3, "lr": 0.1}
    assert load_federation(folder, CHOSEN).draft.govern.seats == ()


def test_nobody_gets_a_scheme_by_default(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="no scheme is chosen") as e:
        load_federation(write_app(tmp_path))
    assert "--scheme plaintext" in e.value.hint


@pytest.mark.parametrize("scheme", ["plaintext", "secagg", "tee"])
@pytest.mark.parametrize("members", [4, 100])
def test_the_defaults_are_terms_that_can_stand(tmp_path: Path, scheme: str, members: int) -> None:
    chosen = [f"federation.scheme={scheme}", f"simulation.members={members}"]
    assert load_federation(write_app(tmp_path), chosen).draft.scheme == scheme


def test_members_of_a_project_that_names_none(tmp_path: Path) -> None:
    bare = read_project(write_app(tmp_path, project=PROJECT.split("[tool.flwr.federations]")[0]))
    assert bare.members is None
    assert settings(bare, None, None)["simulation"] == {"members": 10}
