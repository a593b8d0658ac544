"""Scheme `secagg` on the ledger: who holds what, who may open what, and what is summed.

The key centre records the parameters (SETUP), each member its public key (KEY), the key centre that it accepts it
(CERTIFICATE, about the member). What is certified in a round counts from the next one on, and what comes later than
the round that it names counts for nothing, so that no key changes under a round that runs. When a proposal of sums
is accepted, key centre and server each record one half of the opening (OPENING). A member that is not among the
contributors of the standing model asks for it (REENTRY); key centre and server then seal their halves to it too
(READMISSION, about the member). Contributors keep the opened model where such a member finds it (RELEASE). A key
centre or server that is asked to open a second set for a round refuses and records the digest of what it was asked
(REFUSAL).

With `tee.inner = "secagg"` both halves go to attested enclaves that the servers run; a server records what its enclave
opened (DELIVERY). Nobody is let in to an opening afterwards: the model is sealed to who is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa import encoding, errors
from hansa.crypto import fixedpoint
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import cohorts
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.state import State, record_of
from hansa.protocol.timing import unpack_meta
from hansa.records import SUBJECTS, AggregationTerms, RecordKind, Role, SecAgg, Terms

_KIND = "hansa/opening/1"
_LIMIT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Parties:
    """Ids of those who open: key centres in the order of the terms, servers ascending. Each first is in duty."""

    centres: tuple[int, ...]
    servers: tuple[int, ...]

    def colleagues(self, id: int) -> tuple[int, ...]:
        """Those who hold the same half as `id`, itself among them; none for a member."""
        return next((group for group in (self.centres, self.servers) if id in group), ())


def secagg_of(terms: Terms) -> SecAgg:
    """[secagg] of terms whose scheme it is."""
    assert terms.secagg is not None
    return terms.secagg


def parties(terms: Terms, state: State) -> Parties:
    """Who holds the halves: key centres that the terms name, servers with a seat; those that have joined."""
    named = [state.ids.get(bytes.fromhex(a.removeprefix("0x"))) for a in secagg_of(terms).key_centres]
    first = next(iter(named), None)
    centres = tuple(i for i in named if i is not None and state.members[i].role is Role.KEY_CENTRE)
    # Before the first has joined nobody is in duty: a later one's parameters are nobody's.
    centres = centres if first in centres[:1] else ()
    servers = tuple(sorted(i for i, m in state.members.items() if m.seated and m.role is Role.SERVER))
    return Parties(centres, servers)


def complete(terms: Terms, state: State) -> bool:
    """Whether all key centres and servers of the terms have joined, so that the halves can be dealt."""
    found = parties(terms, state)
    named = len(secagg_of(terms).key_centres), len(terms.govern.seats)
    return (len(found.centres), len(found.servers)) == named


def about(kind: RecordKind, id: int) -> int:
    """The number of a record of this kind about an id."""
    return kind + SUBJECTS * (id + 1)


def latest(state: State, kind: int, id: int, before: int | None = None) -> tuple[int, bytes] | None:
    """Round and digest of the newest record, by its round, of those before round `before` that came in time."""
    return max(_timely(state, kind, id, before), default=None, key=lambda r: r[0])


def _timely(state: State, kind: int, id: int, before: int | None) -> list[tuple[int, bytes]]:
    """Records before round `before` that came in the round that they name."""
    records = [r for r in state.recorded.get((kind, id), ()) if (kind, id, r[0]) not in state.belated]
    return [r for r in records if before is None or r[0] < before]


def setup(state: State, parties: Parties) -> bytes | None:
    """Digest of the parameters, which the first key centre records once."""
    return record_of(state, 0, RecordKind.SETUP, parties.centres[0]) if parties.centres else None


def certified(state: State, parties: Parties, id: int, round: int | None = None) -> bytes | None:
    """Digest of the public key that counts for a member in a round; in the running one, if none is given.

    It is the last that the member recorded itself, of those that a key centre certified: no key centre can put a key
    of its own making in a member's place, nor bring back one that the member gave up.
    """
    before = round or state.round or 1
    kind = about(RecordKind.CERTIFICATE, id)
    good = {digest for c in parties.centres for _, digest in _timely(state, kind, c, before)}
    own = [r for r in _timely(state, RecordKind.KEY, id, before) if r[1] in good]
    return max(own, default=(0, None), key=lambda r: r[0])[1]


def uncertified(state: State, parties: Parties) -> frozenset[int]:
    """Members whose newest public key no key centre has certified yet."""
    waiting = set()
    for id, member in state.members.items():
        key = latest(state, RecordKind.KEY, id)
        if not member.member or key is None:
            continue
        found = (latest(state, about(RecordKind.CERTIFICATE, id), c) for c in parties.centres)
        if all(f is None or f[1] != key[1] for f in found):
            waiting.add(id)
    return frozenset(waiting)


def halves(state: State, round: int, group: Iterable[int]) -> Mapping[int, bytes]:
    """Digests of the halves of a round's opening, by those of `group` who recorded one."""
    return _recorded(state, round, RecordKind.OPENING, group)


def readmissions(state: State, member: int, group: Iterable[int]) -> Mapping[int, bytes]:
    """Digests of what seals a half of the standing model's round to a member that asked, by those who did so."""
    return _recorded(state, state.model_round, about(RecordKind.READMISSION, member), group)


def readers(state: State) -> Mapping[int, bytes]:
    """To whom enclaves and members seal what was opened: the readers of the running round that are no servers."""
    return {id: key for id, key in state.current.readers.items() if state.members[id].member}


def deliveries(terms: Terms, state: State, round: int) -> Mapping[int, bytes]:
    """Digests of what enclaves opened in a round, by their hosts."""
    return _recorded(state, round, RecordKind.DELIVERY, parties(terms, state).servers)


def _recorded(state: State, round: int, kind: int, group: Iterable[int]) -> Mapping[int, bytes]:
    found = {id: record_of(state, round, kind, id) for id in group}
    return {id: digest for id, digest in found.items() if digest is not None}


def lasting(state: State) -> frozenset[bytes]:
    """Digests on the chain of what outlasts its round: set-up and keys for ever, and of the standing model all by
    which its contributors, and those who ask for it, get it."""
    for_ever = RecordKind.SETUP, RecordKind.KEY
    standing = RecordKind.OPENING, RecordKind.READMISSION, RecordKind.RELEASE, RecordKind.DELIVERY
    return frozenset(
        digest
        for (kind, _), records in state.recorded.items()
        for round, digest in records
        if kind in for_ever or (kind % SUBJECTS in standing and round == state.model_round)
    ) | {state.model, state.model_evidence}


def outside(terms: Terms, state: State, id: int) -> bool:
    """Whether the standing model was opened without this member, and nobody seals it to whoever is new."""
    return terms.tee is None and state.version > 0 and id not in state.model_set


def may_reenter(terms: Terms, state: State, id: int) -> bool:
    """Whether a member outside the standing model may still ask for it.

    That is so `max_reentries` times, and only if something of the member went into a later model than the one that
    it asked for last: who re-enters and then sends nothing loses the right.
    """
    asked = state.recorded.get((RecordKind.REENTRY, id), ())
    if not state.members[id].member or not outside(terms, state, id):
        return False
    if len(asked) >= secagg_of(terms).max_reentries:
        return False
    last = max((round for round, _ in asked), default=0)
    return not asked or state.contributed.get(id, (0, 0))[1] > last


def reentering(state: State, terms: Terms) -> frozenset[int]:
    """Members that asked for the standing model, and had the right to."""
    return frozenset(id for id in state.members if outside(terms, state, id) and _asked(terms, state, id))


def _asked(terms: Terms, state: State, id: int) -> bool:
    asked = [round for round, _ in state.recorded.get((RecordKind.REENTRY, id), ())]
    if state.model_round not in asked or not state.members[id].member:
        return False
    place = asked.index(state.model_round)
    earned = place == 0 or state.contributed.get(id, (0, 0))[1] > max(asked[:place])
    return earned and place < secagg_of(terms).max_reentries


def entitled(terms: Terms, state: State, id: int) -> bool:
    """Whether a member gets the final model: it took part in at least `release.min_share` of the final rounds."""
    rounds = state.contributed.get(id, (0, 0))[0]
    return rounds > 0 and rounds >= terms.release.min_share * state.version


def opens(terms: Terms, state: State, id: int) -> bool:
    """Whether the halves that open the standing model were sealed to this member.

    Its contributors can open it, those who were let in since, and the last model those who had earned it by then.
    What an enclave opened all readers of its round can.
    """
    if terms.tee is not None:
        return id in state.model_readers and state.members[id].member
    if id in state.model_set:
        return True
    found, rounds = parties(terms, state), state.contributed.get(id, (0, 0))[0]
    if all(readmissions(state, id, group) for group in (found.centres, found.servers)):
        return True
    earned = rounds > 0 and rounds >= terms.release.min_share * (state.version - 1)
    return state.version == state.parameters.rounds and earned


def weight(terms: AggregationTerms, state: State, id: int) -> int:
    """By how much a contributor multiplies its update: its rows as committed, capped."""
    _, _, examples = unpack_meta(state.current.commits[id].meta)
    return min(examples, terms.weight_cap)


def value_limit(terms: Terms) -> int:
    """Largest magnitude of a value before its weight."""
    return int((2 ** (secagg_of(terms).bits - 1) - 1) // terms.aggregation.weight_cap)


def advance(
    terms: Terms,
    state: State,
    base: Checkpoint,
    sums: Sequence[NDArray[np.int64] | None],
    taken: frozenset[int],
) -> Checkpoint:
    """The model after the opened sums of the cohorts `taken`. Raises `Untrusted` where one of them is spoiled."""
    groups = cohorts.split(state)
    total = np.zeros(base.model.values.size, np.int64)
    for k in sorted(taken):
        part = sums[k]
        if part is None:
            raise errors.Untrusted(f"cohort {k} was accepted, and its sum is spoiled")
        total += part
    everybody = sum(weight(terms.aggregation, state, id) for k in taken for id in groups[k])
    delta = fixedpoint.saturate(fixedpoint.divide_half_away(total, everybody))
    return ckpt.advance_by(terms.aggregation, base, delta)


def mask_seed(state: State) -> bytes:
    """32 bytes that key the public part of a round's masks; nobody chooses them, all know them beforehand."""
    return encoding.digest(encoding.encode([_KIND, "mask", state.domain, state.round, state.current.seed]))


@dataclass(frozen=True, slots=True)
class Sums:
    """What one cohort adds up to: its members, digests of the masked sum and of the product of its ciphertexts."""

    members: tuple[int, ...]
    masked: bytes
    keys: bytes


@dataclass(frozen=True, slots=True)
class Opening:
    """What a round asks to be opened, once: the result that verifiers recompute and vote for."""

    federation: bytes
    round: int
    base: bytes
    set_root: bytes
    cohorts: tuple[Sums, ...]


def make_opening(state: State, cohort_sums: Iterable[Sums]) -> Opening:
    """The opening of the running round."""
    current = state.current
    return Opening(state.domain, state.round, state.model, current.set_root, tuple(cohort_sums))


def encode_opening(opening: Opening) -> bytes:
    """Canonical bytes."""
    sums = [[list(s.members), s.masked, s.keys] for s in opening.cohorts]
    return encoding.encode([_KIND, opening.federation, opening.round, opening.base, opening.set_root, sums])


def name_of(opening: Opening) -> bytes:
    """Digest of an opening: the result on the chain."""
    return encoding.digest(encode_opening(opening))


def decode_opening(data: bytes) -> Opening:
    """Read what `encode_opening` wrote. Raises `Untrusted`."""
    value = encoding.decode(data, limit=_LIMIT)
    try:
        kind, federation, round, base, set_root, sums = value
        opening = Opening(
            _digest(federation), round, _digest(base), _digest(set_root),
            tuple(Sums(tuple(m), _digest(y), _digest(c)) for m, y, c in sums),
        )  # fmt: skip
        sound = kind == _KIND and all(type(i) is int for s in opening.cohorts for i in (round, *s.members))
    except (TypeError, ValueError) as e:
        raise errors.Untrusted(f"not an opening: {e}", digest=encoding.digest(data)) from e
    if not sound or encode_opening(opening) != data:
        raise errors.Untrusted("not an opening", digest=encoding.digest(data))
    return opening


def check_opening(opening: Opening, state: State) -> None:
    """That an opening is about the running round, its frozen set and no other. Raises `Untrusted`."""
    facts = opening.federation, opening.round, opening.base, opening.set_root
    current = state.current
    if facts != (state.domain, state.round, state.model, current.set_root):
        raise errors.Untrusted("the opening is about another round, model or set of commitments")
    groups = tuple(tuple(sorted(group)) for group in cohorts.split(state))
    if tuple(s.members for s in opening.cohorts) != groups:
        raise errors.Untrusted("the opening names other contributors than the chain")
    if min(len(s.members) for s in opening.cohorts) < state.parameters.min_updates:
        raise errors.Untrusted("the opening is of fewer updates than the terms allow")


def _digest(value: Any) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise ValueError("a digest does not have 32 bytes")
    return value
