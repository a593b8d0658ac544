"""Motions on their way: members leave signatures in the store until a quorum of them carries a motion.

The name of the place says the whole motion, `motions/<federation>/<number>/<kind>-<who>-<reason>/<id>`, and a
signature is all that lies there. Nobody need trust who wrote it: a signature is checked against the member
under whose id it lies, and whatever else is there is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hansa import encoding, errors
from hansa.crypto.signatures import SIGNATURE_BYTES
from hansa.ports import Signer, Store
from hansa.protocol import messages as msg
from hansa.protocol.items import signed
from hansa.protocol.membership import feasible
from hansa.protocol.state import State, active_members, quorum
from hansa.records import ZERO_DIGEST, Motion

TEXT_LIMIT = 2000
"""Most bytes of a reason in words."""

_NAME = re.compile(r"(0|[1-9][0-9]?)-([0-9a-f]{40})-([0-9a-f]{64})/(0|[1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True)
class Proposed:
    """What a motion decides. `reason`: the SHA-256 of a text in the store, or zero; for REPLACE the id."""

    kind: Motion
    who: bytes
    reason: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """A motion that may still be carried, with the good signatures that it has, by id, ascending."""

    name: str
    what: Proposed
    signatures: Mapping[int, bytes]


def missing(state: State, motion: Open) -> int:
    """How many more members must sign."""
    return max(0, quorum(len(active_members(state))) - len(motion.signatures))


def carried(motion: Open) -> msg.Move:
    """The call that brings a motion to the chain."""
    return msg.Move(motion.what.kind, motion.what.who, motion.what.reason, tuple(motion.signatures.items()))


def sign(store: Store, state: State, what: Proposed, id: int, signer: Signer) -> None:
    """Leave one's signature. Raises `Refused` where the motion could not be carried now, `Unavailable`."""
    feasible(state, what.kind, what.who, what.reason)
    fields = (state.motions, what.kind, what.who, what.reason)
    signature = signer.sign(encoding.message_bytes(state.domain, "Motion", *fields))
    store.put_at(f"{_folder(state)}/{_place(what)}/{id}", signature)


def open_motions(store: Store, state: State) -> list[Open]:
    """Motions that members have signed and that can be carried now. Raises `Unavailable`."""
    found: dict[Proposed, dict[int, bytes]] = {}
    start = _folder(state) + "/"
    for key in store.list(_folder(state)):
        matched = _NAME.fullmatch(key.removeprefix(start))
        if matched is None or int(matched[1]) not in list(Motion):
            continue
        what = Proposed(Motion(int(matched[1])), bytes.fromhex(matched[2]), bytes.fromhex(matched[3]))
        id = int(matched[4])
        if id in state.members and state.members[id].member and _possible(state, what):
            try:
                signature = store.get_at(key, limit=SIGNATURE_BYTES)
            except errors.Untrusted:
                continue
            if signed(state, id, signature, "Motion", state.motions, what.kind, what.who, what.reason):
                found.setdefault(what, {})[id] = signature
    return [Open(name_of(state, what), what, dict(sorted(s.items()))) for what, s in found.items()]


def name_of(state: State, what: Proposed) -> str:
    """Sixteen hex digits by which members call a motion; another number of it has another name."""
    return encoding.digest(f"{_folder(state)}/{_place(what)}".encode()).hex()[:16]


def explain(store: Store, text: str) -> bytes:
    """Leave the reason of a motion in the store; gives its digest. Raises `Misconfigured`, `Unavailable`."""
    data = text.strip().encode()
    if len(data) > TEXT_LIMIT:
        raise errors.Misconfigured(
            f"the reason is longer than {TEXT_LIMIT} bytes",
            hint="Shorten it, or name a document by its digest.",
        )
    return store.put(data) if data else ZERO_DIGEST


def reason_of(store: Store, digest: bytes) -> str:
    """The reason in words, on one line and without control characters; empty where none was given."""
    if digest == ZERO_DIGEST:
        return ""
    try:
        text = store.get(digest, limit=TEXT_LIMIT).decode()
    except (errors.Unavailable, errors.Untrusted, UnicodeDecodeError):
        return f"(a text with SHA-256 {digest.hex()} that the store does not have)"
    return "".join(c if c.isprintable() else " " for c in text)


def _possible(state: State, what: Proposed) -> bool:
    try:
        feasible(state, what.kind, what.who, what.reason)
    except errors.Refused:
        return False
    return True


def _folder(state: State) -> str:
    return f"motions/{state.domain.hex()}/{state.motions}"


def _place(what: Proposed) -> str:
    return f"{int(what.kind)}-{what.who.hex()}-{what.reason.hex()}"
