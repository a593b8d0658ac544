"""One party's share of a variable: its bytes, what is checked before use, and the components in it.

Under ABY3 a value is the sum of three components; party r holds components r and r+1 (mod 3), so that each lies
with two parties. Under the others party r holds component r alone.

A share is encoded as canonical CBOR: what SPU keeps as protobuf is taken apart where it leaves SPU, and foreign
bytes never reach SPU's parser. A random salt keeps a digest on the ledger from telling a share of few bits.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.mpc.program import Variable
from hansa.mpc.setting import Setting, dealt_kind, is_public, value_bytes

DTYPES = ("float32", "int32", "bool")
SALT_BYTES = 16
_HEAD_BYTES = 1024
"""Room for all of an encoded share but its content."""

_FIELDS = ["version", "job", "protocol", "field", "rank", "name", "dtype", "shape", "kind", "salt", "content"]
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Share:
    """What party `rank` holds of a variable of a job.

    content: ring elements, little-endian, in C order; under ABY3 both components of an element side by side.
    kind: SPU's name of the sharing. salt: random in a share that was dealt, empty in one that came from computing.
    """

    job: bytes
    setting: Setting
    rank: int
    variable: Variable
    kind: str
    content: bytes
    salt: bytes = b""

    def __repr__(self) -> str:
        return f"Share({self.variable}, rank={self.rank}, kind={self.kind})"


def encode_share(share: Share) -> bytes:
    """Canonical bytes of a share; their digest is what an owner commits to."""
    v, s = share.variable, share.setting
    values = (_VERSION, share.job, s.protocol, s.field, share.rank, v.name, v.dtype, v.shape, share.kind)
    return encoding.encode(dict(zip(_FIELDS, (*values, share.salt, share.content), strict=True)))


def read_share(
    data: bytes, variable: Variable, *, job: bytes, setting: Setting, rank: int, whose: str, digest: bytes
) -> Share:
    """The share that `whose` (as in "owner 3") dealt to party `rank`, checked to be what the ledger names.

    `digest` is what the ledger names. Raises `Untrusted` when a byte differs, or it is a share of another job,
    variable, type, shape, party, protocol or ring.
    """
    if encoding.digest(data) != digest:
        raise _bad(data, whose, variable, "its bytes are not those that the ledger names")
    share = _read(data, variable, whose)
    wanted = {
        "another job": share.job == job,
        "another protocol or ring": share.setting == setting,
        "another party": share.rank == rank,
        f"another variable, {share.variable.name[:40]!r}": share.variable.name == variable.name,
        f"type {share.variable.dtype}": share.variable.dtype == variable.dtype,
        f"shape {share.variable.shape}": share.variable.shape == variable.shape,
        f"kind {share.kind}": share.kind == dealt_kind(setting, variable.dtype),
    }
    for other, right in wanted.items():
        if not right:
            raise _bad(data, whose, variable, f"it is one of {other}")
    return share


def stored_share(data: bytes, variable: Variable, setting: Setting, whose: str) -> Share:
    """A share whose bytes are authentic already (a party's own, or one sealed by it); only its form is checked."""
    share = _read(data, variable, whose)
    if share.setting != setting:
        raise _bad(data, whose, variable, "it is one of another protocol or ring")
    return share


def _read(data: bytes, variable: Variable, whose: str) -> Share:
    # Three times an element of 16 bytes is more than any kind needs.
    limit = _HEAD_BYTES + 48 * math.prod(variable.shape)
    try:
        found = encoding.decode(data, limit=limit)
        share = _shaped(found)
        size = value_bytes(share.setting, share.kind) * math.prod(share.variable.shape)
    except (errors.Untrusted, TypeError, ValueError) as e:
        raise _bad(data, whose, variable, str(e)) from e
    if len(share.content) != size:
        raise _bad(data, whose, variable, f"it holds {len(share.content)} bytes where {size} belong")
    return share


def _shaped(found: Any) -> Share:
    if not isinstance(found, dict) or sorted(found) != sorted(_FIELDS) or found["version"] != _VERSION:
        raise ValueError("it is no share of this version")
    texts = [found[key] for key in ("protocol", "field", "name", "dtype", "kind")]
    blobs = [found[key] for key in ("job", "salt", "content")]
    shape = found["shape"]
    fits = all(isinstance(t, str) for t in texts) and all(isinstance(b, bytes) for b in blobs)
    if not fits or type(found["rank"]) is not int or not isinstance(shape, list):
        raise ValueError("a field of it has the wrong type")
    if found["dtype"] not in DTYPES or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise ValueError("its type or shape is none")
    where = Setting(found["protocol"], found["field"])
    variable = Variable(found["name"], tuple(shape), found["dtype"])
    return Share(found["job"], where, found["rank"], variable, found["kind"], found["content"], found["salt"])


def _bad(data: bytes, whose: str, variable: Variable, why: str) -> errors.Untrusted:
    return errors.Untrusted(
        f"the share of {variable.name} from {whose} is not usable: {why}",
        hint=f"{whose.capitalize()} must share it anew, or a new job must go on without.",
        digest=encoding.digest(data),
    )


def renamed(share: Share, name: str) -> Share:
    """The same share of a variable that is called otherwise."""
    return replace(share, variable=replace(share.variable, name=name))


def first_rows(share: Share, count: int) -> Share:
    """A share of the first rows of an array that has as many or more. Raises `Untrusted` where there are fewer."""
    shape = share.variable.shape
    if count == shape[0]:
        return share
    if count > shape[0]:
        raise errors.Untrusted(f"{share.variable.name} has {shape[0]} rows where {count} are needed")
    variable = replace(share.variable, shape=(count, *shape[1:]))
    return replace(share, variable=variable, content=_values(share)[:count].tobytes(), salt=b"")


def _values(share: Share) -> NDArray[np.uint8]:
    """Content as bytes, shaped as the variable, then bytes of a value."""
    width = value_bytes(share.setting, share.kind)
    return np.frombuffer(share.content, np.uint8).reshape(*share.variable.shape, width)


def components_of(where: Setting, rank: int) -> tuple[int, ...]:
    """Which components of each value a party holds, in the order in which they lie in its share."""
    return tuple((rank + i) % where.parties for i in range(where.copies))


def components(share: Share) -> dict[int, bytes]:
    """Content by component; of a public variable it is the value under each component."""
    held = components_of(share.setting, share.rank)
    if is_public(share.kind):
        return dict.fromkeys(held, share.content)
    width = value_bytes(share.setting, share.kind) // len(held)
    values = np.frombuffer(share.content, np.uint8).reshape(-1, len(held), width)
    return {component: values[:, i].tobytes() for i, component in enumerate(held)}


def from_components(pattern: Share, rank: int, found: Mapping[int, bytes]) -> Share:
    """The share of party `rank`, of the variable and kind of `pattern`, out of components."""
    if is_public(pattern.kind):
        return replace(pattern, rank=rank)
    held = components_of(pattern.setting, rank)
    width = value_bytes(pattern.setting, pattern.kind) // len(held)
    parts = [np.frombuffer(found[component], np.uint8).reshape(-1, width) for component in held]
    return replace(pattern, rank=rank, content=np.stack(parts, 1).tobytes())


def component_digests(shares: Mapping[str, Share]) -> dict[int, bytes]:
    """Digest by component over one party's shares of several variables, by name.

    Parties that hold the same component of the same outputs get the same digest. One digest covers all variables,
    so that the few bits of a small one cannot be guessed from it.
    """
    ordered = [shares[name] for name in sorted(shares)]
    parts = [(share, components(share)) for share in ordered]
    return {
        component: encoding.digest(
            encoding.encode([[s.variable, s.kind, found[component]] for s, found in parts])
        )
        for component in components_of(ordered[0].setting, ordered[0].rank)
    }


def disagreements(digests: Mapping[int, Mapping[int, bytes]]) -> list[tuple[int, int]]:
    """Pairs of parties that hold different bytes under one component; `digests` are by party and component.

    A party that stands in every pair is the one that deviated; of a single pair either may be.
    """
    return [
        (a, b)
        for a, b in combinations(sorted(digests), 2)
        if any(digests[a][c] != digests[b][c] for c in digests[a].keys() & digests[b].keys())
    ]


def new_salt() -> bytes:
    """Random bytes of a share that is dealt."""
    return secrets.token_bytes(SALT_BYTES)
