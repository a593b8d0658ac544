"""Shares: what is dealt comes back, and what was altered, or is another's, is refused before use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hansa import encoding, errors
from hansa.mpc import shares as sharing
from hansa.mpc.dealing import BOUND, from_spu, make_shares, public_share, reconstruct, to_spu
from hansa.mpc.network import FIELDS, PARTIES
from hansa.mpc.program import Variable
from hansa.mpc.setting import Setting, setting
from hansa.mpc.shares import Share, encode_share, read_share

JOB = b"j" * 32
ARRAYS = [
    np.array([[1.5, -2, 3], [4, 5, 6]], np.float32),
    np.array([7, -8], np.int32),
    np.array([True, False]),
    np.float32(2).reshape(()),
    np.zeros((0, 3), np.float32),
]
X = Variable("x", (2, 3))


def dealt(array: np.ndarray = ARRAYS[0], where: Setting = Setting()) -> list[Share]:  # noqa: B008, frozen
    return make_shares(array, Variable("x", array.shape, array.dtype.name), job=JOB, setting=where)


def read(
    data: bytes, variable: Variable = X, rank: int = 1, job: bytes = JOB, digest: bytes | None = None
) -> Share:
    digest = encoding.digest(data) if digest is None else digest
    return read_share(data, variable, job=job, setting=Setting(), rank=rank, whose="owner 3", digest=digest)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("protocol", PARTIES)
def test_what_is_dealt_comes_back(protocol: str, field: str) -> None:
    where = Setting(protocol, field)
    for array in ARRAYS:
        shares = dealt(array, where)
        for share in shares:
            data = encode_share(share)
            found = read_share(
                data,
                share.variable,
                job=JOB,
                setting=where,
                rank=share.rank,
                whose="owner 3",
                digest=encoding.digest(data),
            )
            assert found == share
            again = from_spu(to_spu(share), "x", job=JOB, setting=where, rank=share.rank)
            assert replace(again, salt=share.salt) == share
        back = reconstruct(shares[::-1])
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)
        public = [
            public_share(array, shares[0].variable, job=JOB, setting=where, rank=r)
            for r in range(where.parties)
        ]
        np.testing.assert_array_equal(reconstruct(public), array)


def test_two_deals_of_one_array_share_nothing() -> None:
    first, second = dealt(), dealt()
    assert all(a.content != b.content and a.salt != b.salt for a, b in zip(first, second, strict=True))


def test_every_flipped_byte_is_refused() -> None:
    data = encode_share(dealt()[1])
    right = encoding.digest(data)
    assert read(data, digest=right)
    for at in range(len(data)):
        bad = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(
            errors.Untrusted, match="owner 3 is not usable: its bytes are not those"
        ) as caught:
            read(bad, digest=right)
        assert caught.value.digest == encoding.digest(bad)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"job": b"k" * 32}, "another job"),
        ({"rank": 2}, "another party"),
        ({"variable": Variable("y", (2, 3))}, "another variable, 'y'"),
        ({"variable": Variable("x", (3, 2))}, r"shape \(3, 2\)"),
        ({"variable": Variable("x", (2, 3), "int32")}, "type int32"),
        ({"variable": Variable("x", (2, 2))}, "96 bytes where 64 belong"),
        ({"kind": "Pub2k<FM64>", "content": bytes(48)}, "kind Pub2k"),
        ({"kind": "aby3.BShr<FM64>"}, "kind aby3.BShr"),
        ({"kind": "aby3.AShr<FM128>"}, "is none of ABY3 over FM64"),
        ({"kind": "own"}, "is none of"),
        ({"content": bytes(95)}, "95 bytes where 96 belong"),
        (
            {"setting": Setting("ABY3", "FM128"), "kind": "aby3.AShr<FM128>", "content": bytes(192)},
            "another protocol",
        ),
        (
            {"setting": Setting("CHEETAH"), "kind": "cheetah.AShr<FM64>", "content": bytes(48)},
            "another protocol",
        ),
        ({"setting": Setting("secure"), "kind": "x"}, "is none of"),
        ({"variable": Variable("x", (-2, -3))}, "type or shape is none"),
        ({"variable": Variable("x", (2, 3), "object")}, "type or shape is none"),
        ({"content": "text"}, "wrong type"),
    ],
)
def test_a_share_of_something_else_is_refused(change: dict[str, object], why: str) -> None:
    bad = encode_share(replace(dealt()[1], **change))
    with pytest.raises(errors.Untrusted, match=f"owner 3 is not usable.*{why}") as caught:
        read(bad)
    assert "Owner 3" in caught.value.hint


@pytest.mark.parametrize(
    "data", [b"", b"\xff", encoding.encode([1]), encoding.encode({"version": 2}), bytes(5000)]
)
def test_what_is_no_share_is_refused(data: bytes) -> None:
    with pytest.raises(errors.Untrusted, match="owner 3"):
        read(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, BOUND * 1.01, -(2.0**28)])
def test_what_fixed_point_would_garble_is_refused(value: float) -> None:
    bad = np.zeros((2, 3), np.float32)
    bad[1, 1] = value
    with pytest.raises(errors.Misconfigured, match="x holds"):
        dealt(bad)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3)), np.zeros((2, 3), np.int64), np.zeros((3, 2), np.float32)]
)
def test_another_type_or_shape_than_declared_is_refused(array: np.ndarray) -> None:
    with pytest.raises(errors.Misconfigured, match="expected float32"):
        make_shares(array, X, job=JOB, setting=Setting())


@pytest.mark.parametrize("protocol", PARTIES)
def test_components_lie_with_those_who_hold_them(protocol: str) -> None:
    where = Setting(protocol)
    shares = dealt(where=where)
    held = [sharing.components(s) for s in shares]
    everything = {c: data for found in held for c, data in found.items()}
    assert sorted(everything) == list(range(where.parties))
    assert all(everything[c] == data for found in held for c, data in found.items())
    assert all(sharing.from_components(shares[0], s.rank, everything) == s for s in shares)
    assert sum(len(found) for found in held) == where.parties * where.copies


def test_who_altered_its_share_stands_in_every_pair() -> None:
    shares = dealt()
    liar = replace(shares[1], content=bytes(len(shares[1].content)))
    digests = {s.rank: sharing.component_digests({"x": s}) for s in (shares[0], liar, shares[2])}
    assert sharing.disagreements(digests) == [(0, 1), (1, 2)]
    with pytest.raises(errors.Untrusted, match="parties 0, 1 and 1, 2 hold different bytes of x"):
        reconstruct([shares[0], liar, shares[2]])


def test_shares_that_do_not_belong_together_are_not_put_together() -> None:
    one, other = dealt(), dealt()
    for wrong in ([*one[:2]], [*one[:2], other[2]], [*one[:2], one[1]]):
        with pytest.raises(errors.Untrusted, match="do not belong together"):
            reconstruct(wrong)


def test_settings_that_are_not_offered_are_refused() -> None:
    for protocol, field in (("SECURENN", "FM64"), ("SEMI2K", "FM64"), ("ABY3", "FM32")):
        with pytest.raises(errors.Misconfigured, match="there is no protocol"):
            setting(protocol, field)
