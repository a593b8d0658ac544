"""The state of a federation, as the contract holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hansa.protocol.events import BallotOpened, Committed
from hansa.records import ZERO_DIGEST, Parameters, Phase, Role

INITIAL_REPUTATION = 100
MAX_RESOURCES = 65_535


@dataclass(frozen=True, slots=True)
class Member:
    """An id of the federation; `member` and `active` decide whether it is on the next roster.

    `seated`: it holds a seat of the server or the committee.
    """

    id: int
    address: bytes
    key: bytes
    onion: bytes
    onion_round: int
    resources: int
    role: Role
    member: bool
    active: bool = True
    reputation: int = INITIAL_REPUTATION
    absent: int = 0
    seated: bool = False


Seats = tuple[tuple[int, bytes, bytes], ...]
"""Members by id: id, address (20 bytes), X25519 key (32 bytes)."""


@dataclass(frozen=True, slots=True)
class RoundState:
    """What belongs to one round. Sets hold member ids.

    Only `set_root`, a hash chain over all commitments, and `result` and `evidence`, the last that were
    proposed, stay until others take their place: on the chain, clearing a word costs more than it is worth.
    `readers`: public sealing keys, as they stood when the round opened, of all who may read updates. `seed` is
    the beacon as it stood then: known before the first update is made. `memo`: what was worked out of what stood when
    the round opened; all states of the round share it.
    """

    seed: bytes = ZERO_DIGEST
    roster: frozenset[int] = frozenset()
    readers: Mapping[int, bytes] = field(default_factory=dict)
    verifiers: frozenset[int] = frozenset()
    snapshot: Mapping[int, int] = field(default_factory=dict)
    extensions: int = 0
    commits: Mapping[int, Committed] = field(default_factory=dict)
    set_root: bytes = ZERO_DIGEST
    revealed: frozenset[int] = frozenset()
    acc: int = 0
    places: tuple[int, ...] = ()
    held: Mapping[int, int] = field(default_factory=dict)
    available: frozenset[int] = frozenset()
    ballots: Mapping[int, bytes] = field(default_factory=dict)
    opened: Mapping[int, BallotOpened] = field(default_factory=dict)
    stops: int = 0
    selected: frozenset[int] = frozenset()
    precommits: Mapping[int, bytes] = field(default_factory=dict)
    attempt: int = 0
    tried: frozenset[int] = frozenset()
    leader: int | None = None
    result: bytes = ZERO_DIGEST
    evidence: bytes = ZERO_DIGEST
    votes: Mapping[int, bool] = field(default_factory=dict)
    open_votes: Mapping[int, bytes] = field(default_factory=dict)
    slashed: frozenset[int] = frozenset()
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class State:
    """A federation. `domain` is its EIP-712 domain separator and its name in every seal.

    `seats` are the addresses that get a seat when they join.
    `models` are the digests of all versions. `model_evidence`, `model_author` and `model_readers` tell where
    the current one lies and who can open it: the evidence that its leader proposed with it, that leader's id
    (None for the initial model), and the readers of its round; `model_round` and `model_set` are that round and
    those whose updates went into it.
    `contributed`: id -> in how many final rounds it took part, and the last of them. `burned`: rounds that ended so.
    `suspicion`: id -> how often a cohort with it failed, see `protocol.secagg`.
    `recorded`: (kind, id) -> round and digest of each record, in order of arrival. `belated`: kind, id and round of
    those about keys that came after the round they are about. `rosters`: each version of the roster, with the first
    round that opened with it.
    """

    parameters: Parameters
    seats: frozenset[bytes]
    owner: bytes
    domain: bytes
    model: bytes
    version: int = 0
    members: Mapping[int, Member] = field(default_factory=dict)
    ids: Mapping[bytes, int] = field(default_factory=dict)
    invited: frozenset[bytes] = frozenset()
    excluded: frozenset[bytes] = frozenset()
    nonces: Mapping[bytes, int] = field(default_factory=dict)
    motions: int = 0
    round: int = 0
    phase: Phase = Phase.IDLE
    deadline: int = 0
    voids: int = 0
    beacon: bytes = ZERO_DIGEST
    models: tuple[bytes, ...] = ()
    model_evidence: bytes = ZERO_DIGEST
    model_author: int | None = None
    model_readers: Mapping[int, bytes] = field(default_factory=dict)
    model_round: int = 0
    model_set: frozenset[int] = frozenset()
    contributed: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    burned: tuple[int, ...] = ()
    suspicion: Mapping[int, int] = field(default_factory=dict)
    committee: frozenset[int] = frozenset()
    committee_round: int = 0
    recorded: Mapping[tuple[int, int], tuple[tuple[int, bytes], ...]] = field(default_factory=dict)
    belated: frozenset[tuple[int, int, int]] = frozenset()
    rosters: tuple[tuple[int, Seats], ...] = ()
    accused: frozenset[tuple[int, int, int, int]] = frozenset()
    current: RoundState = field(default_factory=RoundState)


def seats_of(state: State, ids: Iterable[int]) -> Seats:
    """Id, address and sealing key of each of these, by id."""
    return tuple((i, state.members[i].address, state.members[i].key) for i in sorted(ids))


def record_of(state: State, round: int, kind: int, id: int) -> bytes | None:
    """The digest that an id recorded under this kind for a round, or None."""
    return dict(state.recorded.get((kind, id), ())).get(round)


def active_members(state: State) -> list[int]:
    """Ids that stand on the next roster and count in motions, ascending."""
    return [m.id for m in state.members.values() if m.member and m.active]


def quorum(n: int) -> int:
    """floor(2n/3) + 1: what a decision among n needs so that any two share an honest party."""
    return 2 * n // 3 + 1


def replaced_id(reason: bytes) -> int:
    """The id to which a motion `REPLACE` gives another address."""
    return int.from_bytes(reason, "big")


def to_bitmap(ids: frozenset[int] | set[int]) -> int:
    """Bit i is set for each id i."""
    bitmap = 0
    for i in ids:
        bitmap |= 1 << i
    return bitmap


def from_bitmap(bitmap: int) -> frozenset[int]:
    """Ids whose bit is set."""
    ids = []
    while bitmap:
        low = bitmap & -bitmap
        ids.append(low.bit_length() - 1)
        bitmap ^= low
    return frozenset(ids)
