"""What can be said to a federation: one dataclass for each call of the contract, and its items.

Signatures are 64 bytes (EIP-2098). The signer of an item is recovered, never stated.
"""

from __future__ import annotations

from dataclasses import dataclass

from hansa.records import Motion, Role, Slot, Standing


@dataclass(frozen=True, slots=True)
class Invite:
    """The owner lets an address join."""

    who: bytes


@dataclass(frozen=True, slots=True)
class Join:
    """An invited address becomes a member (or an id with a role), or a member changes its keys."""

    who: bytes
    key: bytes
    onion: bytes
    resources: int
    role: Role
    signature: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """A member leaves, is away, or is back."""

    id: int
    standing: Standing
    signature: bytes


@dataclass(frozen=True, slots=True)
class Move:
    """A motion with the signatures of those who carry it, in ascending order of id."""

    kind: Motion
    who: bytes
    reason: bytes
    signatures: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Start:
    """The owner opens round 1."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Digest of a sealed update and what its author says of it.

    `meta` packs timestamp << 128 | training milliseconds << 64 | examples.
    """

    id: int
    base: int
    digest: bytes
    meta: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Commits:
    """A batch of commitments for one round."""

    round: int
    items: tuple[Commit, ...]


@dataclass(frozen=True, slots=True)
class Reveal:
    """One layer of a member's hash onion; the preimage is its own proof."""

    id: int
    preimage: bytes


@dataclass(frozen=True, slots=True)
class Reveals:
    """A batch of beacon layers."""

    round: int
    items: tuple[Reveal, ...]


@dataclass(frozen=True, slots=True)
class Availability:
    """Bitmap, by member id, of the blobs that a verifier fetched, checked and keeps."""

    id: int
    held: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Availabilities:
    """A batch of availability bitmaps."""

    round: int
    items: tuple[Availability, ...]


@dataclass(frozen=True, slots=True)
class Ballot:
    """Salted commitment to an evaluator's ranking."""

    id: int
    commitment: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Ballots:
    """A batch of ballot commitments."""

    round: int
    items: tuple[Ballot, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """An opened ballot: 16-bit lanes of points and doubts, a wish to stop, a digest of the values."""

    id: int
    place: int
    ranking: int
    stop: bool
    values: bytes
    salt: bytes


@dataclass(frozen=True, slots=True)
class Openings:
    """A batch of opened ballots."""

    round: int
    items: tuple[Opening, ...]


@dataclass(frozen=True, slots=True)
class Select:
    """The caller's threshold and tie cut; the rules check that exactly K pass."""

    round: int
    threshold: int
    cut: int


@dataclass(frozen=True, slots=True)
class Precommit:
    """Salted digest of a verifier's own result, fixed before the proposal."""

    id: int
    commitment: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Precommits:
    """A batch of precommitments."""

    round: int
    items: tuple[Precommit, ...]


@dataclass(frozen=True, slots=True)
class Propose:
    """The leader's result: digest of the new model and of the evidence for it."""

    round: int
    attempt: int
    result: bytes
    evidence: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Vote:
    """A verifier's judgement of the proposal; `salt` opens its precommitment."""

    id: int
    approve: bool
    salt: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Votes:
    """A batch of votes on one attempt."""

    round: int
    attempt: int
    items: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class OpeningVote:
    """Digest that a contributor got when it opened the sum; 32 zero bytes reject it."""

    id: int
    digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OpeningVotes:
    """A batch of votes on the opened sum."""

    round: int
    items: tuple[OpeningVote, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One entry for a (round, kind, signer)."""

    round: int
    kind: int
    id: int
    digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """One of two contradicting messages, in the layout (attempt or base, x, y)."""

    attempt: int
    x: bytes
    y: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Accuse:
    """Two different messages that one id signed for one slot."""

    slot: Slot
    id: int
    round: int
    a: Claim
    b: Claim


@dataclass(frozen=True, slots=True)
class Advance:
    """Anybody's call after a deadline, or when nobody is awaited any more."""

    round: int


Batch = Commits | Reveals | Availabilities | Ballots | Openings | Precommits | Votes | OpeningVotes
Call = Invite | Join | Status | Move | Start | Batch | Select | Propose | Record | Accuse | Advance
