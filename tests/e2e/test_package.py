"""What `pip install` brings: a wheel made from the sdist, alone in an empty virtual environment, is all of Hansa.

The app is one of scikit-learn: PyTorch alone is ten times as large as all the rest, and nothing but its own trainer
imports it. That `hansa[torch]` brings it is read from the wheel.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE")
PRIVATE = ("__pycache__", "*.egg-info", "*.pyc")


def ran(*words: str | Path, cwd: Path) -> str:
    """What a command printed; it sees none of this repository."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HANSA_", "VIRTUAL_ENV"))
    }
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, which was built from a copy of the sources."""
    place = tmp_path_factory.mktemp("built")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / "hansa" / name, ignore=shutil.ignore_patterns(*PRIVATE))
        else:
            shutil.copyfile(ROOT / name, place / "hansa" / name)
    ran(sys.executable, "-m", "build", "--outdir", place / "dist", place / "hansa", cwd=place)
    (made,) = (place / "dist").glob("*.whl")
    assert len(list((place / "dist").glob("*.tar.gz"))) == 1
    return made


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    source = ROOT / "src"
    wanted = {
        str(file.relative_to(source))
        for file in (source / "hansa").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as opened:
        packed = {name for name in opened.namelist() if name.startswith("hansa/")}
    assert packed == wanted


def test_the_wheel_says_what_its_extras_bring(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (n for n in opened.namelist() if n.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(opened.read(name).decode())
    needed = [line for line in about.get_all("Requires-Dist", []) if line.startswith("torch")]
    assert [line.partition(";")[2].strip() for line in needed] == ['extra == "torch"']
    assert about["License-Expression"] == "Apache-2.0"


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment into which nothing but the wheel was installed."""
    place = tmp_path_factory.mktemp("empty")
    ran(sys.executable, "-m", "venv", place / "venv", cwd=place)
    programs = place / "venv" / "bin"
    words = ("install", "--quiet", "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt")
    ran(programs / "pip", *words, f"{wheel}[sklearn]", cwd=place)
    return programs


def test_a_federation_from_nothing_to_an_audit(empty: Path, tmp_path: Path) -> None:
    hansa = empty / "hansa"
    assert ran(hansa, "--version", cwd=tmp_path).startswith("hansa ")
    checks = json.loads(ran(hansa, "doctor", "--json", cwd=tmp_path))["checks"]
    installed = {c["name"] for c in checks if c["of"] == "extras" and c["measured"]["installed"]}
    assert installed == {"trains", "sklearn"}
    ran(hansa, "new", "lab", "--template", "sklearn", cwd=tmp_path)
    done = json.loads(ran(hansa, "run", "lab", "--rounds", "2", "--json", cwd=tmp_path))
    assert done["accuracy"]["joint"] > 0.8
    assert "Every check holds." in ran(hansa, "audit", done["run"], cwd=tmp_path)
    ran(hansa, "export", done["run"], "model.safetensors", cwd=tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (
        tmp_path / done["run"] / "model.safetensors"
    ).read_bytes()
    for template in ("pytorch", "sklearn", "flower"):
        ran(hansa, "new", template, "--template", template, cwd=tmp_path)


def test_what_is_missing_is_said_with_how_to_install_it(empty: Path, tmp_path: Path) -> None:
    ran(empty / "hansa", "new", "lab", cwd=tmp_path)
    done = subprocess.run(
        [empty / "hansa", "run", "lab"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'hansa[torch]'" in done.stderr
    assert "Traceback" not in done.stderr
