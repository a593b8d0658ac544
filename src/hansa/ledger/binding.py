"""Calls and events of the protocol <-> functions and logs of the contract.

Names and field orders are the same on both sides; only bitmaps (one integer here, four words there) and
signatures (64 bytes here, `r` and `vs` there) differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
_ENUMS: dict[tuple[type, str], type] = {
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
    return sum(w << (256 * k) for k, w in enumerate(four))


def _out(value: Any) -> tuple[Any, ...]:
    fields: list[Any] = []
    for f in dataclasses.fields(value):
        v = getattr(value, f.name)
        if f.name in _BITMAPS:
            fields.append(words(v))
        elif f.name == "signature":
            fields += [v[:32], v[32:]]
        elif f.name == "items" or isinstance(v, msg.Claim):
            fields.append([_out(item) for item in v] if f.name == "items" else _out(v))
        elif f.name == "signatures":
            fields.append([(id, s[:32], s[32:]) for id, s in v])
        elif f.name in _FLAGS:
            fields.append(int(v))
        else:
            fields.append(v)
    return tuple(fields)


def arguments(call: msg.Call) -> tuple[str, tuple[Any, ...]]:
    """Name of the contract's function and its arguments."""
    return FUNCTIONS[type(call)], _out(call)


def _in(kind: type, given: Sequence[Any]) -> Any:
    values = list(given)
    fields: list[Any] = []
    for f in dataclasses.fields(kind):
        v = values.pop(0)
        if f.name in _BITMAPS:
            v = bitmap(v)
        elif f.name == "signature":
            v = bytes(v) + bytes(values.pop(0))
        elif f.name == "items":
            v = tuple(_in(ITEMS[kind], item) for item in v)
        elif f.name == "signatures":
            v = tuple((id, bytes(r) + bytes(vs)) for id, r, vs in v)
        elif kind is msg.Accuse and f.name in ("a", "b"):
            v = _in(msg.Claim, v)
        elif isinstance(v, str):
            v = bytes.fromhex(v.removeprefix("0x"))
        elif f.name in _FLAGS and v in (0, 1):
            v = bool(v)
        elif (kind, f.name) in _ENUMS:
            enum = _ENUMS[kind, f.name]
            v = enum(v) if v in iter(enum) else v  # type: ignore[call-overload]
        fields.append(v)
    return kind(*fields)


def call_of(name: str, given: Sequence[Any]) -> msg.Call:
    """The call that a transaction's decoded input makes. Raises `Untrusted` for other functions."""
    if name not in CALLS:
        raise errors.Untrusted(f"transaction calls {name!r}, which changes no federation")
    call: msg.Call = _in(CALLS[name], given)
    return call


def event_of(name: str, fields: Mapping[str, Any]) -> Event:
    """The event that a decoded log tells. Raises `Untrusted` for events that are not the contract's."""
    kind = EVENTS.get(name)
    if kind is None:
        raise errors.Untrusted(f"log of unknown event {name!r}")
    values: list[Any] = []
    for f in dataclasses.fields(kind):
        v = fields[f.name]
        if f.name in _BITMAPS:
            v = bitmap(v)
        elif isinstance(v, str):
            v = bytes.fromhex(v.removeprefix("0x"))
        values.append(v)
    event: Event = kind(*values)
    return event


def parameter_fields(parameters: Parameters) -> tuple[Any, ...]:
    """Fields of the constructor's struct, in order."""
    return tuple(
        list(v) if isinstance(v, tuple) else (v if isinstance(v, bytes | bool) else int(v))
        for v in (getattr(parameters, f.name) for f in dataclasses.fields(parameters))
    )
