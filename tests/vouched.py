"""States of federations under `tee`, with the records that make candidates, without a single node."""

from __future__ import annotations

from typing import Any

from tests import enclaved, tiny

from hansa import encoding
from hansa.crypto import sealing
from hansa.protocol import attested, rules
from hansa.protocol import events as ev
from hansa.protocol.fold import evolve
from hansa.protocol.state import State
from hansa.protocol.terms import parameters
from hansa.records import Phase, RecordKind, Role, Terms

GOOD = b"g" * 32
OTHER = b"o" * 32


def founded(members: int = 4, hosts: int = 3, **tee: Any) -> tuple[Terms, State]:
    """A federation before its first round, with so many members."""
    parties = [tiny.party(0, f"m{i}") for i in range(members)]
    terms = enclaved.terms(parties, hosts=hosts, tee=tee)
    seats = [p.address for p in parties[:hosts]]
    domain = encoding.domain_separator(1, bytes(20), bytes(32))
    state = rules.found(parameters(terms), seats, parties[0].address, domain, terms.initial)
    for id in range(members):
        state = joined(state, id)
    return terms, state


def joined(state: State, id: int, name: str = "") -> State:
    p = tiny.party(0, name or f"m{id}")
    key = sealing.public_key(p.sealing_key)
    return evolve(state, ev.Joined(p.address, id, key, p.onion.head, 10, int(Role.MEMBER)))


def opened(state: State, round: int | None = None) -> State:
    """The next round has opened, or one far ahead."""
    target = round or state.round + 1
    while state.round < target:
        state = evolve(state, ev.Entered(state.round + 1, int(Phase.COMMIT), 0))
    return state


def says(
    state: State,
    id: int,
    host: int,
    digest: bytes,
    kind: RecordKind = RecordKind.VOUCHER,
    round: int | None = None,
) -> State:
    round = state.round if round is None else round
    return evolve(state, ev.Recorded(round, attested.counted(state, kind, host, round), id, digest))


def attests(state: State, host: int, vouchers: int, digest: bytes = GOOD) -> State:
    """A host's attestation, and so many vouchers for it."""
    state = says(state, host, host, digest, RecordKind.ATTESTATION)
    for id in range(vouchers):
        state = says(state, id, host, digest)
    return state
