"""Whom a federation waits for, beyond the messages of a round: for status and for a node's log.

What is below is for `secagg`; that of `tee` is in `unattested`, that of `mpc` in `uncomputed`; with `tee.inner` both
count. Scheme `plaintext` waits for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hansa.protocol import attested, secagg, unattested, uncomputed
from hansa.protocol.history import names_of
from hansa.protocol.opening_plan import PATIENCE
from hansa.protocol.plan import elapsed
from hansa.protocol.secagg import Parties
from hansa.protocol.state import State
from hansa.records import Phase, RecordKind, Role, Terms

KEY_HALF, SERVER_HALF, OPENED = "key half", "server half", "opened sums"
ANY_OF = frozenset({KEY_HALF, SERVER_HALF, OPENED, "certificates"})
"""Kinds that one of those named brings, whoever is first."""

READY = "ready: waiting for the owner to start the first round"


def missing(terms: Terms, state: State) -> tuple[str, ...]:
    """Addresses of key centres, servers and hosts that the terms name, and that have not joined."""
    if terms.mpc is not None:
        return uncomputed.missing(terms, state)
    if terms.secagg is None:
        return () if terms.tee is None else unattested.missing(terms, state)
    named = (*secagg.secagg_of(terms).key_centres, *terms.govern.seats)
    return tuple(a for a in named if bytes.fromhex(a.removeprefix("0x")) not in state.ids)


def awaited(terms: Terms, state: State) -> dict[str, frozenset[int]]:
    """Kind of record -> ids that owe it; of kinds in `ANY_OF` one of them does."""
    if terms.mpc is not None:
        return uncomputed.awaited(state)
    enclaves = {} if terms.tee is None else unattested.awaited(terms, state)
    if terms.secagg is None or state.phase is Phase.STOPPED:
        return enclaves
    found = secagg.parties(terms, state)
    if secagg.setup(state, found) is None:
        owes = {"parameters": frozenset(found.centres[:1])} if secagg.complete(terms, state) else {}
        return enclaves | owes
    owed = enclaves | {
        "public key": frozenset(
            i for i in _members(state) if secagg.latest(state, RecordKind.KEY, i) is None
        ),
        "certificates": frozenset(found.centres if secagg.uncertified(state, found) else ()),
    }
    if state.phase is Phase.OPEN:
        halves = {kind: frozenset(group) for kind, group in _halves(state, found)}
        owed |= halves
        if terms.tee and not halves and not secagg.deliveries(terms, state, state.round):
            owed[OPENED] = frozenset(attested.candidates(terms, state))
    return {kind: ids for kind, ids in owed.items() if ids}


def remarks(terms: Terms, state: State, id: int) -> Iterator[str]:
    """What is to be said of a member: of its key, its way back, and suspicion; of its enclave."""
    if terms.mpc is not None:
        yield from uncomputed.remarks(state, id)
    if terms.tee is not None:
        yield from unattested.remarks(terms, state, id)
    if terms.secagg is None:
        return
    found = secagg.parties(terms, state)
    if secagg.setup(state, found) is not None and state.members[id].member:
        if secagg.latest(state, RecordKind.KEY, id) is None:
            yield "has recorded no public key"
        elif id in secagg.uncertified(state, found):
            yield "its public key is not certified yet"
        elif secagg.certified(state, found, id) is None:
            yield "its certificate counts from the next round on"
    if id in secagg.reentering(state, terms) and _closed(terms, state, found, id):
        yield f"asks for the model of round {state.model_round}"
    if state.suspicion.get(id):
        yield f"was in {state.suspicion[id]} sums that were voted down"


def sentence(terms: Terms, state: State, id: int, now: int) -> str:
    """What the node of this id waits for, if it is another party's turn; else empty."""
    if terms.mpc is not None:
        return uncomputed.sentence(terms, state, id)
    keys = "" if terms.secagg is None else _of_sums(terms, state, id, now)
    enclaves = "" if terms.tee is None else unattested.sentence(terms, state, id)
    # Who is ready in one respect may still wait in the other.
    return next((text for text in (keys, enclaves) if text and not text.startswith(READY)), enclaves or keys)


def _of_sums(terms: Terms, state: State, id: int, now: int) -> str:
    found, names = secagg.parties(terms, state), names_of(state)
    if secagg.setup(state, found) is None:
        absent = missing(terms, state)
        if absent:
            return f"waiting for key centres and servers of the terms to join: {', '.join(absent)}"
        if found.centres[0] == id:
            return (
                "all key centres and servers have joined: making the parameters now. The two safe primes take"
                " a while to find; they are gone when the halves are dealt, and no one can have them then"
            )
        return f"waiting for {names[found.centres[0]]} to make the parameters"
    if state.phase is Phase.IDLE and id not in secagg.uncertified(state, found):
        return READY
    if state.members[id].role is Role.MEMBER:
        own = "; ".join(_own(terms, state, found, id))
        if own:
            return own
    if state.phase is Phase.OPEN and elapsed(state, now) >= PATIENCE:
        owed = [f"the {kind} of {_any(names, group)}" for kind, group in _halves(state, found)]
        if owed:
            return f"round {state.round} cannot be opened yet: waiting for {' and '.join(owed)}"
    return ""


def _own(terms: Terms, state: State, found: Parties, id: int) -> Iterator[str]:
    names = names_of(state)
    if id in secagg.uncertified(state, found):
        yield f"waiting for {_any(names, found.centres)} to certify the own public key"
    elif state.phase is Phase.COMMIT and secagg.certified(state, found, id) is None:
        yield "the own public key counts from the next round on"
    if state.phase is not Phase.COMMIT or not _closed(terms, state, found, id):
        return
    if id in secagg.reentering(state, terms):
        groups = [g for g in (found.centres, found.servers) if not secagg.readmissions(state, id, g)]
        whom = " and ".join(_any(names, group) for group in groups)
        yield f"the model of round {state.model_round} was opened without this member; waiting for {whom} to let it in"
    elif not secagg.may_reenter(terms, state, id):
        yield (
            f"the model of round {state.model_round} was opened without this member, and the terms let it ask for"
            " no more models: it cannot train any more"
        )


def _closed(terms: Terms, state: State, found: Parties, id: int) -> bool:
    """Whether the standing model was opened without a member that was not let in since."""
    groups = found.centres, found.servers
    return secagg.outside(terms, state, id) and not all(secagg.readmissions(state, id, g) for g in groups)


def _halves(state: State, found: Parties) -> Iterator[tuple[str, tuple[int, ...]]]:
    for kind, group in ((KEY_HALF, found.centres), (SERVER_HALF, found.servers)):
        if not secagg.halves(state, state.round, group):
            yield kind, group


def _members(state: State) -> Iterator[int]:
    return (i for i, m in state.members.items() if m.member and m.active)


def _any(names: dict[int, str], ids: Iterable[int]) -> str:
    return " or ".join(names[i] for i in ids)
