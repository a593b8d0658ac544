"""Records out of decoded CBOR, held against the annotations of their dataclasses: the inverse of `encoding.encode`.

A field may say more than its type: `Annotated[bytes, Size(32)]`, `Annotated[int, Below(2**16)]`.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, is_dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hansa import encoding, errors


@dataclass(frozen=True, slots=True)
class Size:
    """Exactly so many bytes."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Below:
    """An integer from 0 on, below `limit`."""

    limit: int


Bytes20 = Annotated[bytes, Size(20)]
Bytes32 = Annotated[bytes, Size(32)]
Bytes64 = Annotated[bytes, Size(64)]
Id = Annotated[int, Below(2**16)]
Count = Annotated[int, Below(2**63)]

Record = TypeVar("Record")


def decode(kind: type[Record], data: bytes, *, limit: int = 1024 * 1024) -> Record:
    """A record of `kind` from its canonical bytes. Raises `Untrusted`, with their digest."""
    try:
        found: Record = read(kind, encoding.decode(data, limit=limit), kind.__name__.lower())
    except errors.Untrusted as e:
        raise errors.Untrusted(str(e), hint=e.hint, digest=encoding.digest(data)) from e
    return found


def read(kind: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `kind`; `where` names it in errors.

    Raises `Untrusted` for what lacks a field, has another, or one of another type or size.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(read(arguments[0], value, where), arguments[1], where)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise errors.Untrusted(f"{where} is not a list")
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else list(arguments)
        if len(kinds) != len(value):
            raise errors.Untrusted(f"{where} has {len(value)} items instead of {len(kinds)}")
        return tuple(read(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if is_dataclass(kind):
        return _read_record(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        if type(value) is not int or value not in set(kind):
            raise errors.Untrusted(f"{where} is not one of {kind.__name__}")
        return kind(value)
    if type(value) is not kind:
        raise errors.Untrusted(f"{where} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def _bounded(value: Any, bound: Size | Below, where: str) -> Any:
    if isinstance(bound, Size):
        if len(value) != bound.bytes:
            raise errors.Untrusted(f"{where} has {len(value)} bytes instead of {bound.bytes}")
    elif not 0 <= value < bound.limit:
        raise errors.Untrusted(f"{where} is negative or too large")
    return value


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    for kind in kinds:
        if kind is type(None) and value is None:
            return None
        try:
            return read(kind, value, where)
        except errors.Untrusted:
            continue
    raise errors.Untrusted(f"{where} has a type that its field does not allow")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _read_record(kind: Any, value: Any, where: str) -> Any:
    hints = _hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise errors.Untrusted(f"{where} has other fields than {kind.__name__}")
    return kind(**{name: read(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})
