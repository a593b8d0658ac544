"""Workers: answers as they come, and a process that dies costs its own task only."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing

import pytest

from hansa import errors
from hansa.workers import Workers


def prepare(_: None) -> Callable[[int], int]:
    return square


def square(number: int) -> int:
    if number < 0:
        os._exit(7)
    if number == 13:
        raise errors.AppFailed("thirteen")
    return number * number


def workers(count: int = 2) -> Workers[None, int]:
    return Workers(count, prepare, None, lambda number: f"squaring {number}")


def test_each_gives_every_task_an_answer_or_its_error() -> None:
    with closing(workers()) as pool:
        found = dict(pool.each([1, -1, 13, 4, -2, 5]))
        again = dict(pool.each([6]))
    assert [found[k] for k in (0, 3, 5)] == [1, 16, 25]
    assert "squaring -1" in str(found[1])
    assert "exit code 7" in str(found[4])
    assert isinstance(found[2], errors.AppFailed)
    assert again == {0: 36}


def test_who_stops_early_ends_all_processes() -> None:
    pool = workers()
    answers = pool.each([1, 2, 3])
    next(answers)
    answers.close()
    assert not pool._processes


def test_map_keeps_the_order_and_raises_the_first_error() -> None:
    with closing(workers(3)) as pool:
        assert pool.map([3, 1, 2]) == [9, 1, 4]
        with pytest.raises(errors.Unavailable, match="exit code 7"):
            pool.map([1, -1])
        assert not pool._processes
        assert pool.map([5]) == [25]
