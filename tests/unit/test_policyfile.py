"""Policy files: what is read, and that mistakes are refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.quoted import SIMULATION, VECTORS

from hansa import errors
from hansa.attestation import Policy, Product, TdxMeasurement, intel_root
from hansa.policyfile import load_policy

A, B = "ab" * 32, "cd" * 48
FULL = f"""
[accept]
root = "simulation"
statuses = ["UpToDate", "OutOfDate"]
advisories = ["INTEL-SA-1"]
max_age_days = 3
min_evaluation = 17
platforms = ["{"00" * 16}", "{"11" * 6}"]
[[enclave]]
mrenclave = "{A}"
[[product]]
mrsigner = "{A}"
product = 7
min_svn = 3
[[domain]]
mrtd = "{B}"
rtmr = ["{B}", "{B}", "{B}", "{B}"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    a, b = bytes.fromhex(A), bytes.fromhex(B)
    assert load_policy(written(tmp_path, FULL)) == Policy(
        SIMULATION,
        (a,),
        (Product(a, 7, 3),),
        (TdxMeasurement(b, (b, b, b, b)),),
        ("UpToDate", "OutOfDate"),
        ("INTEL-SA-1",),
        3 * 24 * 3600,
        17,
        (bytes(16), b"\x11" * 6),
    )


def test_an_empty_file_is_the_default_that_accepts_no_program(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, "")) == Policy(intel_root())


def test_the_file_beside_the_genuine_quotes_is_one() -> None:
    assert load_policy(VECTORS / "policy.toml").mode == "hardware"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"simulation"', '"amd"', "[accept] root"),
        ('"OutOfDate"', '"Revoked"', '"Revoked" is not one of'),
        ('"OutOfDate"', '"OutofDate"', 'did you mean "OutOfDate"?'),
        ("max_age_days", "max_age", '[accept] max_age: unknown key; did you mean "max_age_days"?'),
        ("= 3\nmin_e", "= 0\nmin_e", "[accept] max_age_days"),
        (f'mrenclave = "{A}"', 'mrenclave = "abcd"', "must have 32 bytes"),
        (f'mrenclave = "{A}"', 'mrenclave = "what"', "must be hexadecimal"),
        (f'mrenclave = "{A}"', "mrenclave = 5", "must be hexadecimal"),
        (f'"{B}"]', f'"{B}", "{B}"]', "rtmr"),
        ('"111111111111"', '"1111"', "must have 6 or 16 bytes"),
        ("product = 7", "product = 70000", "product"),
        ("min_svn = 3", "", "min_svn is missing"),
        ("[[domain]]", "[[domaine]]", 'did you mean "domain"?'),
        ("[accept]", "[accept", "is not TOML"),
    ],
)
def test_mistakes_are_refused_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FULL
    with pytest.raises(errors.Misconfigured, match=re.escape(said)):
        load_policy(written(tmp_path, FULL.replace(old, new)))
    with pytest.raises(errors.Misconfigured, match="cannot read"):
        load_policy(tmp_path / "missing.toml")
