"""What a published system is: its own steps, and where each is in Hansa; its faults, and what answers them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A numbered step of the source. `code`: "module:function" or "module:Class.method".

    `phases`: names of `records.Phase`; before and between rounds there is none. `evidence`: what stands of it on the
    ledger, as classes of `protocol.events`, or "Recorded KIND" with a kind of `records.RecordKind`.
    """

    number: str
    does: str
    phases: tuple[str, ...]
    evidence: tuple[str, ...]
    code: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the system as published, and what Hansa does instead.

    `imitated`: whether `--as-published` brings it back. What the protocol cannot or must not do is only said.
    """

    published: str
    fault: str
    answer: str
    imitated: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """A published system. `caveats`: what runs only in part."""

    letter: str
    title: str
    source: str
    steps: tuple[Step, ...]
    faults: tuple[Fault, ...]
    caveats: tuple[str, ...]
