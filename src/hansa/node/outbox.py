"""Signed messages on their way to the chain: members put them into the store, any relay brings them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from hansa import encoding, errors
from hansa.ports import Ledger, Store
from hansa.protocol.messages import Call
from hansa.protocol.state import State
from hansa.protocol.wire import ITEM_LIMIT, batch_of, decode_item

BATCH = 100
"""Messages of one transaction: 100 stay far below 2**24 gas."""


BLAMELESS = (
    errors.AlreadySent,
    errors.WrongRound,
    errors.WrongPhase,
    errors.WrongAttempt,
    errors.DeadlinePassed,
)
"""Why a good message may be refused: it is on the chain, or too late."""

GOOD = frozenset({0, *(why.code for why in BLAMELESS)})


@dataclass(frozen=True, slots=True)
class Relayed:
    """What came of an attempt. `sent`: whether a call was accepted.

    `tried`: ids whose message may be on its way, though no view shows it yet. `spoiled`: place in the
    outbox and digest of messages not worth another try.
    """

    sent: bool = False
    tried: frozenset[int] = frozenset()
    spoiled: frozenset[tuple[int, bytes]] = frozenset()
    findings: tuple[str, ...] = field(default=())


def folder(state: State, slot: str) -> str:
    """Where messages of one slot of the running round lie."""
    return f"outbox/{state.domain.hex()}/{state.round}/{slot.replace(':', '-')}"


def key(state: State, slot: str, id: int) -> str:
    """Where the message of one sender lies."""
    return f"{folder(state, slot)}/{id}"


def put(store: Store, state: State, slot: str, id: int, data: bytes) -> None:
    """Leave a message for the relays."""
    store.put_at(key(state, slot, id), data)


def get(store: Store, state: State, slot: str, id: int) -> bytes:
    """A message. Raises `Unavailable`, `Untrusted`."""
    return store.get_at(key(state, slot, id), limit=ITEM_LIMIT)


def senders(store: Store, state: State, slot: str) -> frozenset[int]:
    """Ids under which messages lie in a slot; who wrote them is for the contract to check."""
    names = (name.rsplit("/", 1)[-1] for name in store.list(folder(state, slot)))
    return frozenset(int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 5)


def relay(
    ledger: Ledger,
    store: Store,
    state: State,
    kind: str,
    slot: str,
    ids: Sequence[int],
    mine: Mapping[int, bytes],
    *,
    again: Set[int],
    dry_run: bool,
) -> Relayed:
    """Bring messages of one kind to the chain, in batches: the own ones in `mine`, others from the outbox.

    With `dry_run` the chain is asked beforehand, and what it would refuse is not paid for. Those in `again`
    were tried before and are still awaited: the chain is asked about each, and what it refuses for a fault of
    the message is spoiled, so that nothing is tried for ever.
    """
    items: dict[int, object] = {}
    digests: dict[int, bytes] = {}
    spoiled: set[tuple[int, bytes]] = set()
    findings: list[str] = []
    for id in ids:
        try:
            data = mine[id] if id in mine else get(store, state, slot, id)
            item = decode_item(kind, data)
            if kind != "proposal" and item.id != id:
                raise errors.Untrusted(f"names member {item.id}", digest=encoding.digest(data))
            items[id], digests[id] = item, encoding.digest(data)
        except errors.Unavailable:
            continue
        except errors.Untrusted as e:
            spoiled.add((id, e.digest))
            findings.append(f"{kind} of member {id} in the outbox of round {state.round} is malformed: {e}")
    chunks = [[id] for id in sorted(items.keys() & again)]
    fresh = sorted(items.keys() - again)
    chunks += [fresh[k : k + BATCH] for k in range(0, len(fresh), BATCH)]
    sent = False
    for chunk in chunks:
        call = batch_of(kind, state.round, state.current.attempt, tuple(items[i] for i in chunk))
        if dry_run or chunk[0] in again:
            codes = _codes(ledger, call, len(chunk))
            bad = [i for i, code in zip(chunk, codes, strict=True) if code not in GOOD]
            spoiled.update((i, digests[i]) for i in bad)
            good = [i for i, code in zip(chunk, codes, strict=True) if code == 0]
            if not good:
                continue
            call = batch_of(kind, state.round, state.current.attempt, tuple(items[i] for i in good))
        try:
            ledger.submit(call)
            sent = True
        except BLAMELESS:
            continue
        except errors.Refused as e:
            findings.append(f"{kind} batch refused in round {state.round}: {e}")
    tried = frozenset(i for i in items if (i, digests[i]) not in spoiled)
    return Relayed(sent, tried, frozenset(spoiled), tuple(findings))


def _codes(ledger: Ledger, call: Call, items: int) -> list[int]:
    """What each item would get now. A batch of which none is good gives the fault of its first."""
    try:
        return ledger.dry_run(call) or [0]
    except errors.Refused as e:
        return [e.code if items == 1 else errors.AlreadySent.code] * items
