"""Reading Flower's arrays without numpy's parsing of their headers: the same arrays, and the same refusals."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from flwr.app import Array
from flwr.common.constant import SType

from hansa.trainers.flower.records import read

ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=np.float64).reshape(3, 4)),
    np.arange(5, dtype=">i4"),
    np.array(2.5, np.float16),
    np.zeros((0, 3), np.int64),
    np.array([True, False]),
]


@pytest.mark.parametrize("given", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_an_array_is_read_as_flower_reads_it(given):
    array = Array(given)
    for _ in range(2):
        found = read(array)
        assert found.dtype == array.numpy().dtype
        assert found.shape == given.shape
        np.testing.assert_array_equal(found, given)


def test_what_was_read_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        read(Array(ARRAYS[0]))[0, 0] = 1


def made(version: tuple[int, int]) -> bytes:
    out = BytesIO()
    np.lib.format.write_array(out, ARRAYS[0], version=version)
    return out.getvalue()


def test_other_versions_of_the_format_are_read_too():
    for version in ((2, 0), (3, 0)):
        data = made(version)
        found = read(Array("float32", (3, 4), SType.NUMPY, data))
        np.testing.assert_array_equal(found, ARRAYS[0])


def test_what_follows_the_values_is_ignored_as_numpy_does():
    array = Array("float32", (3, 4), SType.NUMPY, made((1, 0)) + bytes(8))
    np.testing.assert_array_equal(array.numpy(), ARRAYS[0])
    np.testing.assert_array_equal(read(array), ARRAYS[0])


def pickled() -> bytes:
    out = BytesIO()
    np.lib.format.write_array(out, np.array([{}], dtype=object))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "stype"),
    [
        (made((1, 0))[:-4], SType.NUMPY),
        (made((1, 0))[:40], SType.NUMPY),
        (made((1, 0))[:9], SType.NUMPY),
        (made((1, 0)).replace(b"'descr'", b"'dascr'"), SType.NUMPY),
        (b"", SType.NUMPY),
        (pickled(), SType.NUMPY),
        (made((1, 0)), "another"),
    ],
    ids=["short", "half a header", "no length", "no type", "empty", "objects", "another form"],
)
def test_what_flower_does_not_read_is_refused(data, stype):
    array = Array("float32", (3, 4), stype, data)
    with pytest.raises((ValueError, TypeError, EOFError)):
        array.numpy()
    with pytest.raises((ValueError, TypeError, EOFError)):
        read(array)
