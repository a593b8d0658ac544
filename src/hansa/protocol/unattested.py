"""Whom a federation under `tee` waits for, beyond the messages of a round: for status and for a node's log."""

from __future__ import annotations

from collections.abc import Iterator

from hansa.protocol import attested, phases
from hansa.protocol.history import names_of
from hansa.protocol.state import State, quorum
from hansa.records import Phase, Terms

ATTESTATION, VOUCHER = "attestation", "voucher"


def awaited(terms: Terms, state: State) -> dict[str, frozenset[int]]:
    """Kind of record -> ids that owe it, as long as no member could seal an update to an enclave."""
    if state.phase is Phase.STOPPED or _too_few(state) or (state.round and attested.candidates(terms, state)):
        return {}
    owed = {ATTESTATION: _unquoted(state), VOUCHER: _silent(state)}
    return {kind: ids for kind, ids in owed.items() if ids}


def remarks(terms: Terms, state: State, id: int) -> Iterator[str]:
    """What is to be said of a member: of its enclave, and of those of others that it has not vouched for."""
    if id in attested.hosts(state):
        yield _enclave(terms, state, id)
    owed = attested.unvouched(state, id)
    if owed and state.phase is not Phase.STOPPED:
        names = names_of(state)
        yield f"has not vouched for the enclave of {', '.join(names[host] for host in owed)}"


def sentence(terms: Terms, state: State, id: int) -> str:
    """What the node of this id waits for, if it is another party's turn; else empty."""
    if state.phase is Phase.IDLE:
        return _before(state, id)
    if state.phase is not Phase.COMMIT or attested.candidates(terms, state):
        return ""
    return (
        f"round {state.round}: no enclave counts as attested, so nobody can seal an update; {_owed(state)} "
        "What is attested in this round counts from the next one on"
    )


def why_not(terms: Terms, state: State) -> str:
    """Why the first round cannot begin: no enclave has a quorum of vouchers. Empty where one has."""
    if state.round or attested.vouched(state):
        return ""
    members = len(attested.voters(state))
    if not attested.hosts(state):
        return f"nobody with a seat has joined: {', '.join(missing(terms, state))}"
    if _too_few(state):
        return _too_few(state)
    return f"none is attested by {quorum(members)} of {members} members; {_owed(state)}"


def missing(terms: Terms, state: State) -> tuple[str, ...]:
    """Addresses of seats that the terms name, and that have not joined."""
    return tuple(a for a in terms.govern.seats if bytes.fromhex(a.removeprefix("0x")) not in state.ids)


def _before(state: State, id: int) -> str:
    """In the words of a node, before the first round."""
    if attested.vouched(state):
        ready = not attested.unvouched(state, id) and id not in _unquoted(state)
        return "ready: waiting for the owner to start the first round" if ready else ""
    if few := _too_few(state):
        return few
    if not attested.hosts(state):
        return "waiting for those with a seat to join: they run the enclaves"
    return f"no enclave is attested yet; {_owed(state)}"


def _owed(state: State) -> str:
    names = names_of(state)
    parts = [
        f"{what} of {', '.join(names[id] for id in sorted(ids))}"
        for what, ids in (("the attestation", _unquoted(state)), ("vouchers", _silent(state)))
        if ids
    ]
    return f"waiting for {' and '.join(parts)}." if parts else "members vouched for other quotes."


def _unquoted(state: State) -> frozenset[int]:
    """Hosts that have recorded no attestation in the running round."""
    return frozenset(i for i in attested.hosts(state) if attested.attested_in(state, i, state.round) is None)


def _silent(state: State) -> frozenset[int]:
    """Members that have not vouched for every attestation of the running round."""
    return frozenset(i for i in attested.voters(state) if attested.unvouched(state, i))


def _too_few(state: State) -> str:
    """Before the first round: that more have to join before enclaves are attested for them."""
    members, least = len(attested.voters(state)), phases.least(state)
    if state.round or members >= least:
        return ""
    return f"waiting for members to join: {members} have, {least} are needed, and then enclaves are attested"


def _enclave(terms: Terms, state: State, id: int) -> str:
    if state.round and id in attested.candidates(terms, state):
        return f"its enclave is attested ({attested.protection(terms)})"
    if attested.attested_in(state, id, state.round) is None:
        return "its enclave is not attested"
    if id in attested.vouched(state):
        later = ", and counts from the next round on" if state.round else ""
        return f"its enclave is attested{later} ({attested.protection(terms)})"
    given, members = len(attested.vouchers(state, id)), len(attested.voters(state))
    return f"its enclave has {given} of {quorum(members)} vouchers"
