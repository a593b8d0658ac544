"""Signed messages on their way to the chain: members put them into the store, any relay brings them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hansa import encoding, errors
from hansa.ports import Ledger, Store
from hansa.protocol.plan import expected
from hansa.protocol.state import State
from hansa.protocol.wire import ITEM_LIMIT, batch_of, decode_item

BATCH = 100
"""Messages of one transaction: 100 stay far below 2**24 gas."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What came of an attempt: whether anything was sent, and digests of messages not worth another try."""

    sent: bool = False
    spoiled: frozenset[bytes] = frozenset()
    findings: tuple[str, ...] = field(default=())


def folder(state: State, slot: str) -> str:
    """Where messages of one slot of the running round lie."""
    return f"outbox/{state.domain.hex()}/{state.round}/{slot.replace(':', '-')}"


def put(store: Store, state: State, slot: str, id: int, data: bytes) -> None:
    """Leave a message for the relays."""
    store.put_at(f"{folder(state, slot)}/{id}", data)


def get(store: Store, state: State, slot: str, id: int) -> bytes:
    """A message. Raises `Unavailable`, `Untrusted`."""
    return store.get_at(f"{folder(state, slot)}/{id}", limit=ITEM_LIMIT)


def senders(store: Store, state: State, slot: str) -> frozenset[int]:
    """Ids under which messages lie in a slot; who wrote them is for the contract to check."""
    names = (key.rsplit("/", 1)[-1] for key in store.list(folder(state, slot)))
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
    dry_run: bool,
) -> Relayed:
    """Bring messages of one kind to the chain, in batches: the own ones in `mine`, others from the outbox.

    With `dry_run` the chain is asked beforehand, and what it would refuse is not paid for. Whatever it
    did not take is spoiled: named so that it is not tried for ever.
    """
    items: dict[int, object] = {}
    digests: dict[int, bytes] = {}
    findings: list[str] = []
    for id in ids:
        try:
            data = mine[id] if id in mine else get(store, state, slot, id)
            digests[id] = encoding.digest(data)
            item = decode_item(kind, data)
            if kind != "proposal" and item.id != id:
                raise errors.Untrusted(f"names member {item.id}")
            items[id] = item
        except errors.Unavailable:
            continue
        except errors.Untrusted as e:
            digests.setdefault(id, e.digest)
            findings.append(f"{kind} of member {id} in the outbox of round {state.round} is malformed: {e}")
    sent = False
    order = sorted(items)
    for k in range(0, len(order), BATCH):
        chunk = order[k : k + BATCH]
        if dry_run:
            chunk = _worth_sending(ledger, state, kind, chunk, items)
        if chunk:
            call = batch_of(kind, state.round, state.current.attempt, tuple(items[i] for i in chunk))
            try:
                ledger.submit(call)
                sent = True
            except errors.DeadlinePassed:
                # The phase may be extended: no message is to blame.
                return Relayed(sent, frozenset(), tuple(findings))
            except errors.Refused as e:
                findings.append(f"{kind} batch refused in round {state.round}: {e}")
    after = ledger.view().state
    if (after.round, after.phase) != (state.round, state.phase):
        return Relayed(sent, frozenset(), tuple(findings))
    left = expected(after, kind) & digests.keys()
    if after.current.attempt != state.current.attempt:
        left = frozenset()
    return Relayed(sent, frozenset(digests[i] for i in left), tuple(findings))


def _worth_sending(
    ledger: Ledger, state: State, kind: str, chunk: Sequence[int], items: dict[int, object]
) -> list[int]:
    call = batch_of(kind, state.round, state.current.attempt, tuple(items[i] for i in chunk))
    try:
        codes = ledger.dry_run(call)
    except errors.Refused:
        return []
    return [i for i, code in zip(chunk, codes, strict=False) if code == 0] if codes else list(chunk)
