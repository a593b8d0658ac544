from dataclasses import dataclass
from typing import Annotated

import pytest

from hansa import encoding, errors
from hansa.protocol import typed
from hansa.protocol.typed import Below, Bytes32


@dataclass(frozen=True)
class Record:
    digest: Bytes32
    number: Annotated[int, Below(10)]
    names: tuple[tuple[str, bool], ...] = ()


GOOD = {"digest": b"d" * 32, "number": 9, "names": [["a", True]]}


def test_a_record_comes_back() -> None:
    record = Record(b"d" * 32, 9, (("a", True),))
    assert typed.decode(Record, encoding.encode(record)) == record


@pytest.mark.parametrize(
    "wrong",
    [
        {"digest": b"d" * 31},
        {"digest": "d" * 32},
        {"number": 10},
        {"number": -1},
        {"number": True},
        {"number": 1.0},
        {"names": [["a", 1]]},
        {"names": [["a"]]},
        {"names": {}},
        {"more": 1},
    ],
)
def test_anything_else_is_refused(wrong: dict) -> None:
    with pytest.raises(errors.Untrusted):
        typed.decode(Record, encoding.encode(GOOD | wrong))


def test_a_missing_field_is_refused_with_the_digest() -> None:
    data = encoding.encode({"digest": b"d" * 32, "number": 1})
    with pytest.raises(errors.Untrusted, match="other fields") as e:
        typed.decode(Record, data)
    assert e.value.digest == encoding.digest(data)
