"""What a user knows of a run from elsewhere. Without it a folder proves only that it agrees with itself."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa import errors, runfolder
from hansa.audit.report import Book
from hansa.ledger.embedded import read_journal
from hansa.ledger.evm import Deployment

HASHES = {"contract": 20, "terms": 32, "hash": 32}
"""Hexadecimal keys and how many bytes they hold."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Where a federation lives, what it agreed on, and the number and hash of one of its final blocks."""

    chain_id: int
    contract: bytes
    terms: bytes
    block: int
    hash: bytes


def read_anchors(path: Path) -> Anchors:
    """Read anchors from TOML. Raises `Misconfigured`."""
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot read {path}: {e.strerror}",
            hint="Save anchors right after a run, and keep them elsewhere.",
        ) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise errors.Misconfigured(f"{path} is not TOML: {e}", hint="See https://toml.io.") from e
    table = written.get("anchors")
    names = {"chain_id", "block", *HASHES}
    if not isinstance(table, dict) or table.keys() != names:
        raise errors.Misconfigured(
            f"{path} has no table [anchors] with exactly these keys: {', '.join(sorted(names))}",
            hint="Save anchors again from a run that you trust.",
        )
    hashes = {name: _bytes(path, name, table[name], size) for name, size in HASHES.items()}
    return Anchors(_number(path, "chain_id", table), block=_number(path, "block", table), **hashes)


def _number(path: Path, name: str, table: dict[str, Any]) -> int:
    if type(table[name]) is not int or table[name] < 0:
        raise errors.Misconfigured(f"{path}: [anchors] {name} is not a whole number from 0 on")
    return int(table[name])


def _bytes(path: Path, name: str, value: Any, size: int) -> bytes:
    try:
        data = bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError):
        data = b""
    if len(data) != size:
        raise errors.Misconfigured(f"{path}: [anchors] {name} is not {size} bytes in hexadecimal")
    return data


def write_anchors(path: Path, anchors: Anchors) -> None:
    """Write anchors as TOML. Raises `Unavailable`."""
    lines = [
        "# Keep this file apart from the run folder: hansa audit RUN --trust FILE",
        "[anchors]",
        f"chain_id = {anchors.chain_id}",
        f"block = {anchors.block}",
        *(f'{name} = "0x{getattr(anchors, name).hex()}"' for name in HASHES),
    ]
    runfolder.write_atomically(path, ("\n".join(lines) + "\n").encode())


def anchors_of(folder: Path) -> Anchors:
    """Anchors of a run that has just ended under one's own eyes: its last block.

    Raises `Misconfigured`, `Untrusted`, `Unavailable` when the folder cannot be read.
    """
    d = runfolder.read_record(folder).deployment
    entries = list(read_journal(folder / "chain.sqlite")[1])
    if not entries:
        raise errors.Untrusted(f"the chain in {folder} has no block")
    return Anchors(d.chain_id, d.contract, d.parameters.digest, entries[-1].number, entries[-1].hash)


def compare(anchors: Anchors, deployment: Deployment, hashes: Mapping[int, bytes], book: Book) -> bool:
    """Hold a replayed chain against the anchors; `hashes` are those of its blocks, by number.

    Gives whether the last block is the anchored one.
    """
    d = deployment
    pairs = (
        ("chain id", anchors.chain_id, d.chain_id),
        ("contract", anchors.contract.hex(), d.contract.hex()),
        ("terms", anchors.terms.hex(), d.parameters.digest.hex()),
    )
    holds = True
    for name, trusted, seen in pairs:
        if trusted == seen:
            book.passed("anchors")
        else:
            holds = False
            book.found("anchors", name, f"the anchors say {trusted}, the federation {seen}")
    last = max(hashes, default=-1)
    if last < anchors.block:
        book.found(
            "anchors", "chain", f"ends with block {last}, the anchors name block {anchors.block}: it was cut"
        )
        return False
    found = hashes.get(anchors.block, b"")
    if found != anchors.hash:
        book.found(
            "anchors",
            f"block {anchors.block}",
            f"has hash {found.hex()}, the anchors say {anchors.hash.hex()}: another history",
            found,
        )
        return False
    book.passed("anchors")
    if last > anchors.block:
        book.note(f"blocks {anchors.block + 1} to {last} come after the anchor: they are not anchored")
    return holds and last == anchors.block
