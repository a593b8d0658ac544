"""The Solidity ABI, for the types that the contract uses: 32-byte words, and lists of them.

Words are `uint256`, `bytes32`, `address` and `bool`; `T[n]` and `(T,U)` group them. `T[]`, a list of any of
these, stands only by itself among the arguments. Addresses are given as 20 bytes and read as 0x strings, the
way eth-abi reads them. https://docs.soliditylang.org/en/latest/abi-spec.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

from hansa import errors

WORD = 32
MAX_LIST = 1024
"""No list of the contract takes more items."""

_FALSE, _TRUE = bytes(WORD), (1).to_bytes(WORD, "big")


@dataclass(frozen=True, slots=True)
class _Coder:
    """How a type is written and read; `size` is in bytes, that of one item where the type is a `listed` one.

    `read` trusts its caller that the bytes are there.
    """

    size: int
    write: Callable[[Any], bytes]
    read: Callable[[bytes, int], Any]
    listed: bool = False


def encode(types: tuple[str, ...], values: Sequence[Any]) -> bytes:
    """ABI encoding of arguments. Raises `TypeError` and `ValueError` for values that are not of their types."""
    coders, end, row = _arguments(types)
    if row is not None:
        return row.write(values)
    heads: list[bytes] = []
    tails: list[bytes] = []
    for coder, value in zip(coders, values, strict=True):
        if coder.listed:
            tails.append(coder.write(value))
            heads.append(_write_uint(end))
            end += len(tails[-1])
        else:
            heads.append(coder.write(value))
    return b"".join(heads + tails)


def decode(types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
    """Read arguments; lists and groups become tuples.

    Raises `Untrusted` unless the data are the one encoding that `encode` makes.
    """
    coders, end, _ = _arguments(types)
    if len(data) < end:
        raise errors.Untrusted(f"{len(data)} bytes of ABI data, at least {end} expected")
    values: list[Any] = []
    at = 0
    for coder in coders:
        if coder.listed:
            if _read_uint(data, at) != end:
                raise errors.Untrusted("an offset in ABI data does not point where it should")
            values.append(coder.read(data, end))
            end += WORD + coder.size * len(values[-1])
            at += WORD
        else:
            values.append(coder.read(data, at))
            at += coder.size
    if len(data) != end:
        raise errors.Untrusted(f"{len(data)} bytes of ABI data, {end} expected")
    return tuple(values)


def decode_as_contract(types: tuple[str, ...], calldata: bytes) -> tuple[Any, ...]:
    """Read the arguments of a call, selector included, the way compiled Vyper does.

    Behind the calldata the EVM reads zeros, and Vyper follows a list's offset wherever it points: whoever
    checks a call that the contract took must see in it what the contract saw. Raises `Untrusted` for what the
    contract cannot read either.
    """
    coders, end, _ = _arguments(types)
    if len(calldata) < 4 + end:
        raise errors.Untrusted(f"{len(calldata)} bytes of calldata, at least {4 + end} expected")
    values: list[Any] = []
    at = 4
    for coder in coders:
        if coder.listed:
            start = (4 + _read_uint(calldata, at)) % 2**256
            count = _read_uint(_zero_extended(calldata, start, WORD), 0)
            if count > MAX_LIST:
                raise errors.Untrusted(f"a list of {count} items is longer than any that the contract takes")
            values.append(coder.read(_zero_extended(calldata, start, WORD + coder.size * count), 0))
            at += WORD
        else:
            values.append(coder.read(calldata, at))
            at += coder.size
    return tuple(values)


def _zero_extended(data: bytes, at: int, size: int) -> bytes:
    return data[at : at + size].ljust(size, b"\0")


@lru_cache(maxsize=256)
def _arguments(types: tuple[str, ...]) -> tuple[tuple[_Coder, ...], int, _Coder | None]:
    """The arguments' coders, the bytes of their heads, and where no list is among them one coder for all."""
    coders = tuple(map(_coder, types))
    row = None if any(c.listed for c in coders) else _group(coders)
    return coders, sum(WORD if c.listed else c.size for c in coders), row


def _coder(kind: str) -> _Coder:
    if kind in _WORDS:
        return _WORDS[kind]
    if kind.endswith("[]"):
        return _list(_static(kind[:-2]))
    if kind.endswith("]"):
        item, _, count = kind[:-1].rpartition("[")
        return _group((_static(item),) * int(count))
    if kind.startswith("(") and kind.endswith(")"):
        return _group(tuple(map(_static, _split(kind[1:-1]))))
    raise ValueError(f"the contract uses no type {kind!r}")


def _static(kind: str) -> _Coder:
    coder = _coder(kind)
    if coder.listed or not coder.size:
        raise ValueError(f"the contract has no {kind!r} within another type")
    return coder


def _split(kinds: str) -> Iterator[str]:
    """The types between commas that stand in no brackets."""
    depth = start = 0
    for place, letter in enumerate(kinds):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            yield kinds[start:place]
            start = place + 1
    yield kinds[start:]


def _group(parts: tuple[_Coder, ...]) -> _Coder:
    """A tuple, or an array of known length: its parts in a row."""
    *starts, size = accumulate((p.size for p in parts), initial=0)
    writers = tuple(p.write for p in parts)
    readers = tuple((p.read, start) for p, start in zip(parts, starts, strict=True))

    def write(values: Any) -> bytes:
        return b"".join([w(v) for w, v in zip(writers, _sequence(values), strict=True)])

    def read(data: bytes, at: int) -> tuple[Any, ...]:
        return tuple([r(data, at + start) for r, start in readers])

    return _Coder(size, write, read)


def _list(item: _Coder) -> _Coder:
    """An array that says how long it is."""
    size = item.size

    def write(values: Any) -> bytes:
        return b"".join([_write_uint(len(_sequence(values))), *map(item.write, values)])

    def read(data: bytes, at: int) -> tuple[Any, ...]:
        start = at + WORD
        if start > len(data) or _read_uint(data, at) > (len(data) - start) // size:
            raise errors.Untrusted("a list in ABI data says that it is longer than the data")
        return tuple([item.read(data, i) for i in range(start, start + size * _read_uint(data, at), size)])

    return _Coder(size, write, read, listed=True)


def _sequence(values: Any) -> Sequence[Any]:
    # Bytes are a sequence of integers too, but nobody means them as one.
    if not isinstance(values, tuple | list):
        raise TypeError(f"a list or tuple is expected, not {type(values).__name__}")
    return values


def _write_uint(value: Any) -> bytes:
    if isinstance(value, bool):
        raise TypeError("a bool is no uint256")
    try:
        return int.to_bytes(value, WORD, "big")
    except OverflowError as e:
        raise ValueError(f"{value} does not fit into a uint256") from e


def _read_uint(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + WORD], "big")


def _bytes(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"bytes are expected, not {type(value).__name__}")
    if len(value) != size:
        raise ValueError(f"{size} bytes are expected, not {len(value)}")
    return value


def _write_bytes(value: Any) -> bytes:
    return _bytes(value, WORD)


def _read_bytes(data: bytes, at: int) -> bytes:
    return data[at : at + WORD]


def _write_address(value: Any) -> bytes:
    return bytes(12) + _bytes(value, 20)


def _read_address(data: bytes, at: int) -> str:
    if any(data[at : at + 12]):
        raise errors.Untrusted("an address in ABI data is longer than 20 bytes")
    return "0x" + data[at + 12 : at + WORD].hex()


def _write_bool(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise TypeError(f"a bool is expected, not {type(value).__name__}")
    return _TRUE if value else _FALSE


def _read_bool(data: bytes, at: int) -> bool:
    word = data[at : at + WORD]
    if word not in (_FALSE, _TRUE):
        raise errors.Untrusted("a bool in ABI data is neither 0 nor 1")
    return word == _TRUE


_WORDS = {
    "uint256": _Coder(WORD, _write_uint, _read_uint),
    "bytes32": _Coder(WORD, _write_bytes, _read_bytes),
    "address": _Coder(WORD, _write_address, _read_address),
    "bool": _Coder(WORD, _write_bool, _read_bool),
}
