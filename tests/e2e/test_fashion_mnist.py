"""The example on Fashion-MNIST: on a small folder made here, and on the real files where they are installed."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.commands import hansa, result

from hansa.app import Site, load_app

EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion-mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
ROWS = 600


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes, as the format's page has it: two zeros, type 8, dimensions, sizes, values."""
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The example with 600 pictures of its own, whose digests stand in place of those of the real ones.

    Kind k is a bright stripe in row 2k, on noise.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(ROWS) % 10
    images = generator.integers(0, 60, (ROWS, 28, 28))
    images[np.arange(ROWS), 2 * labels] += 150
    folder = tmp_path / "fashion-mnist"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    (folder / "data").mkdir()
    text = (folder / "app.py").read_text().replace(str(DEBIAN), str(tmp_path / "nowhere"))
    for name, array in zip(NAMES, (images, labels), strict=True):
        data = idx(array)
        (folder / "data" / f"{name}.gz").write_bytes(gzip.compress(data))
        (real,) = (line.split('"')[3] for line in text.splitlines() if line.strip().startswith(f'"{name}"'))
        text = text.replace(real, hashlib.sha256(data).hexdigest())
    (folder / "app.py").write_text(text)
    return folder


@pytest.mark.slow
def test_it_trains_and_is_audited(small: Path, tmp_path: Path) -> None:
    changed = ["simulation.members=4", "training.min_members=4", "selection.keep=3", "simulation.workers=0",
               'simulation.malicious={m3="sign-flip:5"}', "simulation.partition.min_rows=30"]  # fmt: skip
    words = [word for change in changed for word in ("--set", change)]
    done = result(hansa("run", small, "--rounds", "12", *words, "--json", "--out", "run", cwd=tmp_path))
    assert done["accuracy"]["joint"] > 0.7, "chance is a tenth"
    assert done["left_out"]["m3"] >= 8
    assert hansa("audit", "run", cwd=tmp_path).returncode == 0


def test_packed_and_unpacked_files_are_one(small: Path) -> None:
    site = Site(small, "m0", 0, 0)
    packed = load_app(small)._parts["data"](site)
    for name in NAMES:
        file = small / "data" / f"{name}.gz"
        (small / "data" / name).write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    for one, other in zip(packed, load_app(small)._parts["data"](site), strict=True):
        np.testing.assert_array_equal(one, other)
    assert packed[0].shape == (ROWS, 1, 28, 28)
    assert float(packed[0].max()) <= 1


def test_a_members_own_file_is_read(small: Path, tmp_path: Path) -> None:
    images, labels = np.full((3, 28, 28), 255, np.uint8), np.array([1, 2, 3])
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    features, found = load_app(small)._parts["data"](Site(tmp_path / "mine.npz", "m0", 0, 0))
    assert features.shape == (3, 1, 28, 28)
    assert found.tolist() == [1, 2, 3]
    assert float(features.min()) == 1


def test_missing_and_damaged_files_are_said_without_a_traceback(small: Path, tmp_path: Path) -> None:
    file = small / "data" / f"{NAMES[1]}.gz"
    file.write_bytes(gzip.compress(idx(np.zeros(ROWS))))
    done = hansa("run", small, "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "is not the file of Fashion-MNIST that this example was written for" in done.stderr
    shutil.rmtree(small / "data")
    done = hansa("run", small, "--out", "another", cwd=tmp_path)
    assert done.returncode == 2
    assert "apt-get install dataset-fashion-mnist" in done.stderr
    assert str(small / "data") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_files_are_those_that_the_example_knows(tmp_path: Path) -> None:
    changed = ("--set", "simulation.workers=0", "--set", "training.params.epochs=1")
    done = result(hansa("run", EXAMPLE, "--rounds", "2", *changed, "--json", "--out", "run", cwd=tmp_path))
    assert done["accuracy"]["joint"] > 0.4
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["rows"] for line in lines if line["kind"] == "member" and line["round"] == 1) == 3840
    assert hansa("audit", "run", cwd=tmp_path).returncode == 0
