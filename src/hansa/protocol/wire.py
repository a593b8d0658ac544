"""Signed messages as they lie in the store's outbox, before anyone has brought them to the chain.

An item is the canonical CBOR list of its fields; integers above 64 bits travel as 32 or 128 bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hansa import encoding, errors
from hansa.protocol import messages as msg

ITEM_LIMIT = 1024

KINDS: dict[str, type] = {
    "commit": msg.Commit,
    "reveal": msg.Reveal,
    "availability": msg.Availability,
    "ballot": msg.Ballot,
    "opening": msg.Opening,
    "precommit": msg.Precommit,
    "proposal": msg.Propose,
    "vote": msg.Vote,
    "opened": msg.OpeningVote,
}
"""Outbox kind -> the message that it carries."""

_DECODED = KINDS | {"record": msg.Record}
"""A record does not lie in the outbox, but in a place of its own: see `node.answers`."""

BATCHES: dict[str, type] = {
    "commit": msg.Commits,
    "reveal": msg.Reveals,
    "availability": msg.Availabilities,
    "ballot": msg.Ballots,
    "opening": msg.Openings,
    "precommit": msg.Precommits,
    "opened": msg.OpeningVotes,
}
"""Outbox kind -> the batch of its items; votes carry an attempt too, a proposal travels alone."""

_SIZES = {"digest": 32, "preimage": 32, "commitment": 32, "values": 32, "salt": 32, "result": 32,
          "evidence": 32, "signature": 64}  # fmt: skip
_WIDE = {"meta": 32, "ranking": 32, "held": 128}


def encode_item(item: Any) -> bytes:
    """Bytes of a message."""
    fields = []
    for f in dataclasses.fields(item):
        value = getattr(item, f.name)
        fields.append(value.to_bytes(_WIDE[f.name], "big") if f.name in _WIDE else value)
    return encoding.encode(fields)


def decode_item(kind: str, data: bytes) -> Any:
    """A message of the given kind, sizes and types checked; signatures are the rules' to check.

    Raises `Untrusted`.
    """
    fields = encoding.decode(data, limit=ITEM_LIMIT)
    names = [f.name for f in dataclasses.fields(_DECODED[kind])]
    if not isinstance(fields, list) or len(fields) != len(names):
        raise errors.Untrusted(f"outbox message is not a {kind}", digest=encoding.digest(data))
    values: list[Any] = []
    for name, value in zip(names, fields, strict=True):
        if name in _WIDE:
            good = isinstance(value, bytes) and len(value) == _WIDE[name]
        elif name in _SIZES:
            good = isinstance(value, bytes) and len(value) == _SIZES[name]
        elif name in ("approve", "stop"):
            good = isinstance(value, bool)
        else:
            good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
        if not good:
            raise errors.Untrusted(f"field {name} of a {kind} is malformed", digest=encoding.digest(data))
        values.append(int.from_bytes(value, "big") if name in _WIDE else value)
    return _DECODED[kind](*values)


def batch_of(kind: str, round: int, attempt: int, items: tuple[Any, ...]) -> msg.Call:
    """The call that brings these messages to the chain."""
    if kind == "proposal":
        proposal: msg.Propose = items[0]
        return proposal
    if kind == "vote":
        return msg.Votes(round, attempt, items)
    batch: msg.Call = BATCHES[kind](round, items)
    return batch
