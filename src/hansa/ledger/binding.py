"""Calls and events of the protocol <-> functions and logs of the contract.

Names and field orders are the same on both sides; only bitmaps (one integer here, four words there) and
signatures (64 bytes here, `r` and `vs` there) differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

from hansa import errors
from hansa.protocol import messages as msg
from hansa.protocol.events import EVENTS, Event
from hansa.records import Motion, Parameters, Role, Slot, Standing

WORD = 2**256 - 1

FUNCTIONS: dict[type, str] = {
    msg.Invite: "invite",
    msg.Join: "join",
    msg.Status: "status",
    msg.Move: "motion",
    msg.Start: "start",
    msg.Commits: "commits",
    msg.Reveals: "reveals",
    msg.Availabilities: "availabilities",
    msg.Ballots: "ballots",
    msg.Openings: "openings",
    msg.Select: "select",
    msg.Precommits: "precommits",
    msg.Propose: "propose",
    msg.Votes: "votes",
    msg.OpeningVotes: "opened",
    msg.Record: "record",
    msg.Accuse: "accuse",
    msg.Advance: "advance",
}
CALLS: dict[str, type] = {name: call for call, name in FUNCTIONS.items()}

ITEMS: dict[type, type] = {
    msg.Commits: msg.Commit,
    msg.Reveals: msg.Reveal,
    msg.Availabilities: msg.Availability,
    msg.Ballots: msg.Ballot,
    msg.Openings: msg.Opening,
    msg.Precommits: msg.Precommit,
    msg.Votes: msg.Vote,
    msg.OpeningVotes: msg.OpeningVote,
}
"""Batch type -> type of its items."""

_BITMAPS = frozenset({"held", "available", "selected", "committee"})
_FLAGS = frozenset({"stop", "approve"})
"""Booleans that the ABI carries as a word; another value than 0 and 1 stays what it is, for the rules."""
_ENUMS: dict[tuple[type, str], type[IntEnum]] = {
    (msg.Join, "role"): Role,
    (msg.Status, "standing"): Standing,
    (msg.Move, "kind"): Motion,
    (msg.Accuse, "slot"): Slot,
}


def words(bitmap: int) -> list[int]:
    """The four words of a bitmap over 1,024 ids."""
    return [(bitmap >> (256 * k)) & WORD for k in range(4)]


def bitmap(four: Sequence[int]) -> int:
    """One integer from the four words."""
    a, b, c, d = four
    return a | b << 256 | c << 512 | d << 768


def _halves(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:32], signature[32:]


_OUT: dict[str, Callable[[Any], Sequence[Any]]] = {
    "signature": _halves,
    "items": lambda items: ([_out(item) for item in items],),
    "signatures": lambda pairs: ([(id, *_halves(s)) for id, s in pairs],),
    "a": lambda claim: (_out(claim),),
    "b": lambda claim: (_out(claim),),
    **dict.fromkeys(_BITMAPS, lambda v: (words(v),)),
    **dict.fromkeys(_FLAGS, lambda v: (int(v),)),
}
"""What a field of this name becomes in the contract's arguments; any other field stays as it is."""


_OUT_PLANS = {
    kind: tuple((f.name, _OUT.get(f.name)) for f in dataclasses.fields(kind))
    for kind in (*FUNCTIONS, *ITEMS.values(), msg.Claim)
}


def _out(value: Any) -> tuple[Any, ...]:
    fields: list[Any] = []
    for name, convert in _OUT_PLANS[type(value)]:
        v = getattr(value, name)
        if convert is None:
            fields.append(v)
        else:
            fields += convert(v)
    return tuple(fields)


def arguments(call: msg.Call) -> tuple[str, tuple[Any, ...]]:
    """Name of the contract's function and its arguments."""
    return FUNCTIONS[type(call)], _out(call)


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _member(enum: type[IntEnum], value: int) -> int:
    return enum(value) if value in list(enum) else value


_IN: dict[str, Callable[[Any], Any]] = {
    "who": _address,
    "signatures": lambda triples: tuple((id, r + vs) for id, r, vs in triples),
    "a": lambda claim: _in(msg.Claim, claim),
    "b": lambda claim: _in(msg.Claim, claim),
    **dict.fromkeys(_BITMAPS, bitmap),
    **dict.fromkeys(_FLAGS, lambda v: bool(v) if v in (0, 1) else v),
}
"""What the contract's argument for a field of this name becomes."""


def _reader(kind: type, name: str) -> Callable[[Iterator[Any]], Any]:
    """How a field is taken from the arguments that are left."""
    if name == "signature":
        return lambda left: next(left) + next(left)
    if name == "items":
        return lambda left: tuple(_in(ITEMS[kind], item) for item in next(left))
    if (kind, name) in _ENUMS:
        return lambda left: _member(_ENUMS[kind, name], next(left))
    convert = _IN.get(name)
    return next if convert is None else lambda left: convert(next(left))


_IN_PLANS = {kind: tuple(_reader(kind, f.name) for f in dataclasses.fields(kind)) for kind in _OUT_PLANS}
_EVENT_PLANS = {
    name: (kind, tuple((f.name, _IN.get(f.name)) for f in dataclasses.fields(kind)))
    for name, kind in EVENTS.items()
}


def _in(kind: type, given: Sequence[Any]) -> Any:
    left = iter(given)
    return kind(*[read(left) for read in _IN_PLANS[kind]])


def call_of(name: str, given: Sequence[Any]) -> msg.Call:
    """The call that a transaction's decoded input makes. Raises `Untrusted` for other functions."""
    if name not in CALLS:
        raise errors.Untrusted(f"transaction calls {name!r}, which changes no federation")
    call: msg.Call = _in(CALLS[name], given)
    return call


def event_of(name: str, fields: Mapping[str, Any]) -> Event:
    """The event that a decoded log tells. Raises `Untrusted` for events that are not the contract's."""
    if name not in _EVENT_PLANS:
        raise errors.Untrusted(f"log of unknown event {name!r}")
    kind, plan = _EVENT_PLANS[name]
    return kind(*[fields[n] if convert is None else convert(fields[n]) for n, convert in plan])


def parameter_fields(parameters: Parameters) -> tuple[Any, ...]:
    """Fields of the constructor's struct, in order."""
    return tuple(
        list(v) if isinstance(v, tuple) else (v if isinstance(v, bytes | bool) else int(v))
        for v in (getattr(parameters, f.name) for f in dataclasses.fields(parameters))
    )
