"""The contract's artefact, as shipped: ABI, creation code, and fast encoding of calls and logs.

`python -m hansa.ledger.compile` makes the artefact from `Federation.vy`; a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from hansa import errors

FOLDER = "contract"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the contract: its selector and the types that it takes and gives."""

    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventType:
    """An event of the contract: its fields as (name, type, indexed), in order."""

    name: str
    fields: tuple[tuple[str, str, bool], ...]


def _read(name: str) -> str:
    return resources.files("hansa.ledger").joinpath(FOLDER, name).read_text()


@lru_cache(maxsize=1)
def abi() -> tuple[dict[str, Any], ...]:
    """The contract's ABI."""
    return tuple(json.loads(_read("Federation.abi.json")))


def _type(field: Mapping[str, Any]) -> str:
    kind = str(field["type"])
    if kind.startswith("tuple"):
        return "(" + ",".join(_type(c) for c in field["components"]) + ")" + kind[len("tuple") :]
    return kind


def _types(fields: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(_type(f) for f in fields)


@lru_cache(maxsize=1)
def functions() -> dict[str, Function]:
    """Functions by name."""
    found = {}
    for entry in abi():
        if entry["type"] == "function":
            inputs = _types(entry["inputs"])
            selector = keccak(f"{entry['name']}({','.join(inputs)})".encode())[:4]
            found[entry["name"]] = Function(entry["name"], selector, inputs, _types(entry["outputs"]))
    return found


@lru_cache(maxsize=1)
def _by_selector() -> dict[bytes, Function]:
    return {f.selector: f for f in functions().values()}


@lru_cache(maxsize=1)
def _by_topic() -> dict[bytes, EventType]:
    found = {}
    for entry in abi():
        if entry["type"] == "event":
            topic = keccak(f"{entry['name']}({','.join(_types(entry['inputs']))})".encode())
            fields = tuple((f["name"], _type(f), bool(f["indexed"])) for f in entry["inputs"])
            found[topic] = EventType(entry["name"], fields)
    return found


@lru_cache(maxsize=1)
def bytecode() -> bytes:
    """Creation bytecode, without the constructor's arguments."""
    return bytes.fromhex(_read("Federation.bin").strip().removeprefix("0x"))


def creation_code(parameters: Sequence[Any], seats: Sequence[bytes], model: bytes) -> bytes:
    """What to deploy: creation bytecode and the constructor's arguments."""
    constructor = next(e for e in abi() if e["type"] == "constructor")
    arguments = abi_encode(_types(constructor["inputs"]), (tuple(parameters), list(seats), model))
    return bytecode() + arguments


def encode_call(name: str, arguments: Sequence[Any]) -> bytes:
    """Input data of a call."""
    function = functions()[name]
    return function.selector + abi_encode(function.inputs, arguments)


def decode_call(data: bytes) -> tuple[str, tuple[Any, ...]]:
    """Function name and arguments of a transaction's input.

    Raises `Untrusted` unless the data are the one encoding of a call of the contract.
    """
    function = _by_selector().get(data[:4])
    if function is None:
        raise errors.Untrusted(f"the contract has no function {data[:4].hex()}")
    try:
        return function.name, abi_decode(function.inputs, data[4:])
    except (DecodingError, OverflowError, UnicodeDecodeError) as e:
        raise errors.Untrusted(f"malformed call of {function.name}: {e}") from e


def decode_result(name: str, data: bytes) -> tuple[Any, ...]:
    """What a call gave. Raises `Untrusted`."""
    try:
        return abi_decode(functions()[name].outputs, data)
    except (DecodingError, OverflowError) as e:
        raise errors.Untrusted(f"the chain gave a malformed result of {name}") from e


def decode_log(topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]]:
    """Name and fields of an event. Raises `Untrusted`."""
    event = _by_topic().get(topics[0]) if topics else None
    if event is None:
        raise errors.Untrusted("log of an event that the contract does not have")
    indexed = [(n, t) for n, t, i in event.fields if i]
    plain = [(n, t) for n, t, i in event.fields if not i]
    try:
        values = dict(zip((n for n, _ in plain), abi_decode([t for _, t in plain], data), strict=True))
        for (name, kind), topic in zip(indexed, topics[1:], strict=True):
            values[name] = abi_decode([kind], topic)[0]
    except (DecodingError, OverflowError, ValueError) as e:
        raise errors.Untrusted(f"malformed log of {event.name}") from e
    return event.name, values
