"""A small run under `tee`, its audit through the command, and copies of it that somebody has tampered with."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hansa import attestation, encoding, runfolder, simulation
from hansa.attestation import NO_PROTECTION
from hansa.audit import audit, exit_code
from hansa.audit.chain import read_chain
from hansa.audit.decisions import Round
from hansa.audit.report import Book
from hansa.cli.main import app
from hansa.config import load_federation
from hansa.crypto.sealing import read_header
from hansa.protocol import attested
from hansa.summary import finish

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
SETTINGS = [
    "federation.scheme=tee",
    "training.rounds=2",
    "training.params={ lr = 0.3, epochs = 1 }",
    "training.min_members=4",
    "selection.keep=4",
    "simulation.members=5",
    "simulation.malicious={}",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tee") / "run"
    made = simulation.start(load_federation(EXAMPLE, SETTINGS), folder)
    made.play()
    finish(made, seconds=0.0)
    made.close()
    return folder


@pytest.fixture(scope="module")
def last(run: Path) -> Round:
    return read_chain(run, runfolder.read_record(run), Book()).rounds[-1]


def place(folder: Path, part: str, digest: bytes) -> Path:
    return folder / part / "blobs" / digest.hex()[:2] / digest.hex()


def named(folder: Path, round: Round) -> dict[str, bytes]:
    """One blob of each kind."""

    def read(digest: bytes) -> bytes:
        return place(folder, "store", digest).read_bytes()

    current = round.state.current
    delivery = attested.read_delivery(read(current.evidence))
    record = attestation.read_record(attested.read_attestation(read(delivery.attestation)).record)
    upload = min(current.commits.items())[1].digest
    return {
        "quote": record.quote,
        "collateral": record.collateral,
        "attestation": delivery.attestation,
        "delivery": current.evidence,
        "sealed model": delivery.result.sealed,
        "model's grant": read_header(read(delivery.result.sealed)).grant,
        "upload": upload,
        "upload's grant": read_header(read(upload)).grant,
    }


def test_every_check_holds_and_the_model_is_exported(run: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["audit", str(run)])
    words = " ".join(told.output.split())
    assert told.exit_code == 0, told.output
    assert "Every check holds." in words
    assert NO_PROTECTION in words
    assert "Enclaves alone see single updates" in words
    told = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "m.safetensors")])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "m.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_byte_in_any_blob_is_found(run: Path, last: Round, tmp_path: Path, seed: int) -> None:
    """In the store and in the nodes' own copies: what a blob was for is then not there any more."""
    copy, draw = Path(shutil.copytree(run, tmp_path / "copy")), random.Random(seed)
    blobs = named(copy, last)
    paths = [place(copy, part, digest) for digest in blobs.values() for part in ("store", "kept")]
    for path in paths:
        data = bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(data))
    report = audit(copy)
    hashed = {f.subject: f.evidence for f in report.findings if f.check == "blobs hashed"}
    assert hashed == {str(p.relative_to(copy)): encoding.digest(p.read_bytes()) for p in paths}
    failed = {check.name for check in report.checks if check.verdict == "failed"}
    assert {"quotes verified again", "uploads checked", "deliveries"} <= failed
    assert exit_code(report) == 1


def test_a_blob_that_is_gone_is_named(run: Path, last: Round, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for name in ("quote", "sealed model"):
        for part in ("store", "kept"):
            place(copy, part, named(run, last)[name]).unlink()
    report = audit(copy)
    gaps = {check.name for check in report.checks if check.verdict == "unavailable"}
    assert gaps >= {"quotes verified again", "vouchers", "candidates", "sealed models", "models opened"}
    assert report.findings == ()
    assert exit_code(report) == 3
