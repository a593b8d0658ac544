"""Checkpoints: the last two, sealed; a damaged one or another's is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hansa import errors
from hansa.mpc.checkpoints import Checkpoint, Checkpoints, own_key
from hansa.mpc.dealing import make_shares
from hansa.mpc.program import Variable
from hansa.mpc.setting import Setting
from hansa.mpc.traffic import Cost

JOB, PROGRAM, KEY = b"j" * 32, b"p" * 32, b"k" * 32
W, B = Variable("w", (2, 3)), Variable("b", (2,))
VARIABLES = {"w": W, "b": B}


def opened(
    folder: Path, key: bytes = KEY, job: bytes = JOB, program: bytes = PROGRAM, rank: int = 1
) -> Checkpoints:
    return Checkpoints(folder, key, job=job, program=program, rank=rank, setting=Setting())


def checkpoint(step: int) -> Checkpoint:
    share = make_shares(np.full((2, 3), step, np.float32), W, job=JOB, setting=Setting())[1]
    plain = {"b": np.array([step, 0.5], np.float32)}
    return Checkpoint(step, {"w": share}, plain, attempt=3, costs={"run": Cost(1, 0.5, 2, 3, 4)})


def test_the_last_two_are_kept_and_come_back(tmp_path: Path) -> None:
    made = [checkpoint(step) for step in (2, 4, 6)]
    for each in made:
        opened(tmp_path).save(each)
    kept = opened(tmp_path)
    assert kept.held() == [4, 6]
    found = kept.load(6, VARIABLES)
    assert found.shares == made[2].shares
    assert (found.last, found.attempt, found.costs) == (False, 3, made[2].costs)
    np.testing.assert_array_equal(found.plain["b"], made[2].plain["b"])


def test_one_from_a_path_that_was_left_goes(tmp_path: Path) -> None:
    kept = opened(tmp_path)
    for step in (2, 4, 3):
        kept.save(checkpoint(step))
    assert kept.held() == [2, 3]


def test_shares_do_not_lie_in_the_clear_nor_open_to_others(tmp_path: Path) -> None:
    made = checkpoint(2)
    opened(tmp_path).save(made)
    (file,) = tmp_path.iterdir()
    assert made.shares["w"].content[:16] not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", [0, 40, 70, 100, -1])
def test_a_damaged_one_is_refused(tmp_path: Path, at: int) -> None:
    opened(tmp_path).save(checkpoint(2))
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(errors.Misconfigured, match=r"000000002.sealed is damaged") as caught:
        opened(tmp_path).held()
    assert "Delete it" in caught.value.hint


@pytest.mark.parametrize(
    "other", [{"key": b"x" * 32}, {"job": b"x" * 32}, {"program": b"x" * 32}, {"rank": 0}], ids=str
)
def test_another_partys_or_jobs_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    opened(tmp_path, **other).save(checkpoint(2))
    with pytest.raises(errors.Misconfigured, match="of another job, party or key"):
        opened(tmp_path).held()


def test_one_under_the_name_of_another_step_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).save(checkpoint(2))
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "000000009.sealed")
    with pytest.raises(errors.Misconfigured, match="damaged"):
        opened(tmp_path).held()


def test_the_key_is_drawn_once_for_its_user_only(tmp_path: Path) -> None:
    key = own_key(tmp_path / "home")
    assert own_key(tmp_path / "home") == key != own_key(tmp_path / "other")
    file = tmp_path / "home" / "checkpoint.key"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b"short")
    with pytest.raises(errors.Misconfigured, match="no key"):
        own_key(tmp_path / "home")
