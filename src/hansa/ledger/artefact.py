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

from eth_hash.auto import keccak

from hansa import errors
from hansa.abi import decode as abi_decode
from hansa.abi import decode_as_contract
from hansa.abi import encode as abi_encode

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
    """An event of the contract: its fields as (name, type), in order; the indexed ones lie in topics."""

    name: str
    indexed: tuple[tuple[str, str], ...]
    plain: tuple[str, ...]
    plain_types: tuple[str, ...]


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
            plain = [f for f in entry["inputs"] if not f["indexed"]]
            indexed = tuple((f["name"], _type(f)) for f in entry["inputs"] if f["indexed"])
            names = tuple(f["name"] for f in plain)
            found[topic] = EventType(entry["name"], indexed, names, _types(plain))
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

    The contract takes calls whose lists lie elsewhere than usual, end early or have bytes behind them, and
    the audit must understand what it took. Raises `Untrusted`.
    """
    function = _by_selector().get(data[:4])
    if function is None:
        raise errors.Untrusted(f"the contract has no function {data[:4].hex()}")
    try:
        return function.name, decode_as_contract(function.inputs, data)
    except errors.Untrusted as e:
        raise errors.Untrusted(f"malformed call of {function.name}: {e}") from e


def decode_result(name: str, data: bytes) -> tuple[Any, ...]:
    """What a call gave. Raises `Untrusted`."""
    try:
        return abi_decode(functions()[name].outputs, data)
    except errors.Untrusted as e:
        raise errors.Untrusted(f"the chain gave a malformed result of {name}: {e}") from e


def decode_log(topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]]:
    """Name and fields of an event. Raises `Untrusted`."""
    event = _by_topic().get(topics[0]) if topics else None
    if event is None:
        raise errors.Untrusted("log of an event that the contract does not have")
    if len(topics) != len(event.indexed) + 1:
        raise errors.Untrusted(f"log of {event.name} has {len(topics)} topics")
    try:
        values = dict(zip(event.plain, abi_decode(event.plain_types, data), strict=True))
        for (name, kind), topic in zip(event.indexed, topics[1:], strict=True):
            values[name] = abi_decode((kind,), topic)[0]
    except errors.Untrusted as e:
        raise errors.Untrusted(f"malformed log of {event.name}: {e}") from e
    return event.name, values
