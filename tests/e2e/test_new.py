"""What `hansa new` writes works as it is: checked, run, audited, and its own test passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from tests import forked
from tests.e2e.commands import hansa

from hansa.app import Site, load_app
from hansa.cli.new import Template, create

pytestmark = pytest.mark.slow

PYTEST = ("-q", "-p", "no:cacheprovider")


def ran(*words: str, cwd: Path) -> str:
    done = hansa(*words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def own_test(folder: Path, code: int = 0) -> str:
    """What the app's own test says."""
    done = forked.run(PYTEST, folder, program="pytest:console_main")
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=[Template.PYTORCH, Template.SKLEARN])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a new federation `mine` was made, of each template."""
    place = tmp_path_factory.mktemp("new")
    ran("new", "mine", "--template", request.param, cwd=place)
    return place


def test_a_new_federation_is_checked_and_run_as_it_is(place: Path) -> None:
    assert "these terms can go together" in ran("check", "mine", cwd=place)
    run = json.loads(ran("run", "mine", "--rounds", "2", "--json", cwd=place))
    assert (run["run"], run["rounds"]) == ("runs/mine-1", 2)
    assert run["left_out"]["m1"] == 2, "the hostile member"
    assert run["accuracy"]["joint"] > 0.85
    ran("audit", run["run"], cwd=place)


def test_its_own_test_passes(place: Path) -> None:
    assert "3 passed" in own_test(place / "mine")


def test_a_new_flower_app_is_run_and_audited_and_its_own_test_passes(tmp_path: Path) -> None:
    ran("new", "mine", "--template", "flower", cwd=tmp_path)
    words = ("--scheme", "plaintext", "--rounds", "2", "--json")
    run = json.loads(ran("run", "mine", *words, cwd=tmp_path))
    assert (run["name"], run["rounds"]) == ("mine", 2)
    ran("audit", run["run"], cwd=tmp_path)
    assert "3 passed" in own_test(tmp_path / "mine")


TIME = "__import__('time').time() % 1"


@pytest.mark.parametrize(
    ("template", "old", "new"),
    [
        (Template.PYTORCH, "            optimizer.step()\n", ""),
        (Template.PYTORCH, "lr=ctx.params.lr", "lr=-ctx.params.lr"),
        (Template.PYTORCH, ".backward()\n", f".backward()\n            model[0].bias.grad += {TIME}\n"),
        (Template.SKLEARN, "model.partial_fit(features, labels)", "pass"),
        (Template.SKLEARN, "model.partial_fit(features, labels)", "model.partial_fit(features, 1 - labels)"),
        (Template.SKLEARN, "eta0=ctx.params.lr", f"eta0={TIME}"),
    ],
)
def test_its_own_test_finds_an_app_that_is_broken(
    tmp_path: Path, template: Template, old: str, new: str
) -> None:
    create(tmp_path / "mine", template)
    file = tmp_path / "mine" / "app.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert " failed" in own_test(tmp_path / "mine", code=1)


def test_a_members_own_file_is_read(place: Path, tmp_path: Path) -> None:
    rows, labels = load_breast_cancer(return_X_y=True)
    file = tmp_path / "mine.csv"
    np.savetxt(file, np.column_stack([rows, labels])[:7], delimiter=",")
    data = load_app(place / "mine")._parts["data"]
    own, shared = (data(Site(path, "m0", 0, 0)) for path in (file, tmp_path))
    assert len(own[1]) == 7
    for mine, common in zip(own, shared, strict=True):
        assert np.allclose(mine, common[:7])
