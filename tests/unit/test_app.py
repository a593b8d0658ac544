"""What users write: the app file, its parts, and what is said when one is missing or wrong."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hansa
from hansa import errors
from hansa.app import (
    App,
    Params,
    Site,
    app_digest,
    components,
    load_app,
    member_name,
    modelled_millis,
    training_seed,
)

DECORATED = """
import hansa
app = hansa.App(model=lambda: "model")

@app.data
def data(site):
    return [site.name]

@app.train
def train(model, dataset, ctx):
    return {"seen": len(dataset)}

@app.evaluate
def evaluate(model, dataset, ctx):
    return {"loss": 1.0}
"""
SUBCLASSED = """
import hansa

class Mine(hansa.App):
    def model(self):
        return "model"
    def data(self, site):
        return [site.name]
    def train(self, model, dataset, ctx):
        return {"seen": len(dataset)}
    def evaluate(self, model, dataset, ctx):
        return {"loss": 1.0}

app = Mine()
"""


def folder(tmp_path: Path, source: str) -> Path:
    (tmp_path / "app.py").write_text(source)
    return tmp_path


@pytest.mark.parametrize("source", [DECORATED, SUBCLASSED])
def test_both_ways_of_writing_give_the_same_parts(tmp_path: Path, source: str) -> None:
    parts = components(load_app(folder(tmp_path, source)))
    site = Site(tmp_path, "m0", 0, 1)
    assert parts.model() == "model"
    assert parts.data(site) == ["m0"]
    assert parts.train(None, [1, 2], None) == {"seen": 2}
    assert parts.evaluate(None, [], None) == {"loss": 1.0}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "no variable `app`"),
        ("import hansa\napp = hansa.App()", "no model and no data and no train and no evaluate"),
        (DECORATED.replace("@app.evaluate", ""), "no evaluate"),
        (DECORATED + "\n@app.train\ndef again(model, dataset, ctx): ...", "@app.train twice"),
        ("import no_such_package_here", "needs no_such_package_here, which is not installed"),
        ("def broken(:", "does not run"),
        ("first = 1\nraise RuntimeError('on line two')", "line 2.*on line two"),
        ("import hansa\nhansa.App(model=None).data(3)", "@app.data needs a function, not int"),
    ],
)
def test_a_wrong_app_is_refused_and_the_fault_named(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(errors.Misconfigured, match=re.compile(message, re.DOTALL)):
        load_app(folder(tmp_path, source))


def test_a_missing_app_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match=r"cannot read .*app\.py"):
        load_app(tmp_path)


def test_only_the_pinned_app_is_loaded(tmp_path: Path) -> None:
    source = folder(tmp_path, DECORATED)
    digest = app_digest(source)
    assert digest == hashlib.sha256(DECORATED.encode()).digest()
    assert isinstance(load_app(source, digest=digest), App)
    (source / "app.py").write_text(DECORATED + "\n")
    with pytest.raises(errors.Misconfigured, match="the terms pin " + digest.hex()[:16]):
        load_app(source, digest=digest)


def test_loading_leaves_nothing_in_the_folder(tmp_path: Path) -> None:
    load_app(folder(tmp_path, DECORATED))
    assert [p.name for p in tmp_path.iterdir()] == ["app.py"]


def test_params_are_read_only_and_name_what_is_there() -> None:
    params = Params({"lr": 0.1, "epochs": 3})
    assert (params.lr, params["epochs"], dict(params)) == (0.1, 3, {"lr": 0.1, "epochs": 3})
    with pytest.raises(AttributeError, match="no 'rate'; it has: epochs, lr"):
        _ = params.rate
    with pytest.raises(AttributeError, match="cannot be changed"):
        params.lr = 1.0
    with pytest.raises(TypeError):
        params["lr"] = 1.0


def test_training_seeds_differ_by_seed_member_and_round() -> None:
    seeds = {training_seed(s, m, r) for s in range(3) for m in range(12) for r in range(12)}
    assert len(seeds) == 3 * 12 * 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert training_seed(0, 3, 7) == training_seed(0, 3, 7)


def test_modelled_time_is_proportional_to_rows_and_epochs() -> None:
    assert [modelled_millis(100, 3), modelled_millis(200, 3), modelled_millis(0, 3)] == [300, 600, 1]


def test_the_app_module_needs_no_torch() -> None:
    probe = "import sys, hansa; hansa.App; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert hansa.App is App
    assert member_name(3) == "m3"
