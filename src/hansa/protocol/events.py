"""What happened: one dataclass for each event of the contract, with the same names and fields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Invited:
    """An address may join."""

    who: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """An address became an id, or an id changed its keys."""

    who: bytes
    id: int
    key: bytes
    onion: bytes
    resources: int
    role: int


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """A member left, is away, is back or was excluded."""

    id: int
    standing: int


@dataclass(frozen=True, slots=True)
class Carried:
    """A motion found its majority."""

    nonce: int
    kind: int
    who: bytes
    reason: bytes


@dataclass(frozen=True, slots=True)
class Entered:
    """A phase began; `deadline` is 0 where there is none."""

    round: int
    phase: int
    deadline: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A member fixed its update."""

    round: int
    id: int
    base: int
    digest: bytes
    meta: int


@dataclass(frozen=True, slots=True)
class Revealed:
    """A member opened a layer of its onion."""

    round: int
    id: int
    preimage: bytes


@dataclass(frozen=True, slots=True)
class BeaconSet:
    """The round's randomness is fixed."""

    round: int
    beacon: bytes


@dataclass(frozen=True, slots=True)
class CommitteeDrawn:
    """A hybrid federation drew a new committee."""

    round: int
    committee: int


@dataclass(frozen=True, slots=True)
class Held:
    """A verifier said which blobs it keeps."""

    round: int
    id: int
    held: int


@dataclass(frozen=True, slots=True)
class Balloted:
    """An evaluator fixed its ranking."""

    round: int
    id: int
    commitment: bytes


@dataclass(frozen=True, slots=True)
class Frozen:
    """V, the set of available updates, is fixed for the round."""

    round: int
    available: int


@dataclass(frozen=True, slots=True)
class BallotOpened:
    """An evaluator's ranking is known."""

    round: int
    id: int
    ranking: int
    stop: bool
    values: bytes


@dataclass(frozen=True, slots=True)
class Selected:
    """The updates that go into the aggregate."""

    round: int
    selected: int


@dataclass(frozen=True, slots=True)
class Elected:
    """Who leads this attempt."""

    round: int
    attempt: int
    id: int


@dataclass(frozen=True, slots=True)
class Precommitted:
    """A verifier fixed its own result."""

    round: int
    id: int
    commitment: bytes


@dataclass(frozen=True, slots=True)
class Proposed:
    """The leader's result."""

    round: int
    attempt: int
    id: int
    result: bytes
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Voted:
    """A verifier's judgement."""

    round: int
    attempt: int
    id: int
    approve: bool
    salt: bytes


@dataclass(frozen=True, slots=True)
class OpenVoted:
    """A contributor's digest of the opened sum."""

    round: int
    id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A round is over; `version` and `model` are those that stand after it."""

    round: int
    outcome: int
    version: int
    model: bytes


@dataclass(frozen=True, slots=True)
class Slashed:
    """A member lost reputation."""

    round: int
    id: int
    why: int


@dataclass(frozen=True, slots=True)
class Accused:
    """A member signed two different messages for one slot of `round`."""

    round: int
    id: int
    slot: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A generic record."""

    round: int
    kind: int
    id: int
    digest: bytes


Event = (
    Invited | Joined | StandingChanged | Carried | Entered | Committed | Revealed | BeaconSet
    | CommitteeDrawn | Held | Balloted | Frozen | BallotOpened | Selected | Elected | Precommitted
    | Proposed | Voted | OpenVoted | Ended | Slashed | Accused | Recorded
)  # fmt: skip

EVENTS: dict[str, type[Event]] = {c.__name__: c for c in Event.__args__}
"""Event name -> class."""
