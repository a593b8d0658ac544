"""The nouns of a federation: immutable values without behaviour, input or output.

Times are whole seconds of the chain's clock. Digests of blobs are SHA-256; digests that the contract
computes are Keccak-256. Both are 32 bytes. A `version` counts final rounds: version 0 is the initial
model, version v is the model after the v-th final round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_MEMBERS = 1024
"""Ids that one contract can hold; bitmaps are four words of 256 bits."""

ZERO_DIGEST = bytes(32)


class Phase(IntEnum):
    """Where a federation stands; the numbers are those of the contract."""

    IDLE = 0
    COMMIT = 1
    BEACON = 2
    AVAILABLE = 3
    REVEAL = 4
    AGGREGATE = 5
    VERIFY = 6
    OPEN = 7
    PAUSED = 8
    STOPPED = 9


class Outcome(IntEnum):
    """How a round ended."""

    FINAL = 1
    VOID = 2
    BURNED = 3


class Governance(IntEnum):
    """Who may lead and who verifies."""

    SERVER = 0
    COMMITTEE = 1
    HYBRID = 2
    PEERS = 3


class Role(IntEnum):
    """What an id is for. Only members commit, vote on motions and stand on the roster."""

    MEMBER = 0
    SERVER = 1
    KEY_CENTRE = 2
    PARTY = 3


class Motion(IntEnum):
    """What members can decide by floor(2n/3)+1 signatures."""

    INVITE = 0
    EXCLUDE = 1
    PAUSE = 2
    RESUME = 3
    STOP = 4
    REPLACE = 5


class Standing(IntEnum):
    """A member's own word about itself, and what a vote made of it."""

    LEFT = 0
    AWAY = 1
    BACK = 2
    EXCLUDED = 3


class Fault(IntEnum):
    """Why reputation was slashed."""

    WITHHELD_BEACON = 1
    WITHHELD_BLOB = 2
    WITHHELD_BALLOT = 3
    ABSENT_LEADER = 4
    REJECTED_PROPOSAL = 5
    SILENT_VERIFIER = 6
    EQUIVOCATION = 7


class Slot(IntEnum):
    """Messages of which a member may sign only one for a slot; two different ones are evidence."""

    COMMIT = 0
    PROPOSAL = 1
    VOTE = 2


class RecordKind(IntEnum):
    """What a generic ledger record carries. `SUBJECTS` and above: the kind of a record about an id."""

    ATTESTATION = 1
    OPENING = 2
    RELEASE = 3
    INPUT = 4
    CONSENT = 5
    SETUP = 6
    KEY = 7
    CERTIFICATE = 8
    COHORTS = 9
    REENTRY = 10
    READMISSION = 11
    REFUSAL = 12
    ANSWER = 13
    VOUCHER = 14
    DELIVERY = 15
    OUTPUT = 16


SUBJECTS = 256
"""A record of this kind about the id i has the number kind + SUBJECTS * (i + 1)."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The part of the terms that the contract itself enforces; the constructor's argument.

    `keep` is the number K of updates to select; 0 means `keep_permille` of those eligible, rounded up.
    `durations` are seconds for the phases COMMIT to OPEN.
    """

    digest: bytes
    governance: Governance = Governance.COMMITTEE
    evaluate: bool = True
    opens: bool = False
    precommit: bool = True
    by_vote: bool = False
    borda: bool = False
    targets: int = 16
    keep: int = 0
    keep_permille: int = 750
    min_updates: int = 4
    min_quorum: int = 4
    buffer: int = 0
    max_staleness: int = 0
    rounds: int = 20
    epoch: int = 5
    committee: int = 7
    attempts: int = 3
    extensions: int = 2
    max_voids: int = 3
    max_absent: int = 5
    weight_cap: int = 65_535
    penalty: int = 250
    durations: tuple[int, int, int, int, int, int, int] = (600,) * 7


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and shapes of the floating parameters and buffers of a model, sorted by name.

    `scale`: an integer x in the model's vector stands for x * 2**-scale.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    scale: int


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model as every party sees it: a layout and one int32 vector of all values."""

    layout: Layout
    values: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """One member's contribution to one round, in the clear.

    `values` is int32 in the model's scale: dense of the model's length when `indices` is None, else
    the values at the ascending uint32 `indices`. `base` is the digest of the model that the member
    trained from, `version` its number. `examples` counts training rows, `millis` training time,
    `timestamp` the chain's time when training ended.
    """

    federation: bytes
    round: int
    member: int
    version: int
    base: bytes
    examples: int
    millis: int
    timestamp: int
    length: int
    values: NDArray[np.int32]
    indices: NDArray[np.uint32] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds on what is read from outside; sizes in bytes."""

    blob: int = 512 * 1024 * 1024
    record: int = 1024 * 1024
    parameters: int = 100_000_000


@dataclass(frozen=True, slots=True)
class Training:
    """[training] of the terms."""

    rounds: int = 20
    min_members: int = 4
    deadline: int = 600
    max_failed_rounds: int = 3
    params: tuple[tuple[str, float | int | str | bool], ...] = ()
    mode: str = "synchronous"
    buffer: int = 0
    max_staleness: int = 0
    gamma: float = 1.0
    error_feedback: bool = True
    time_check: str = "flag"
    target: tuple[str, float] | None = None
    patience: int = 0
    validation: float = 0.2


@dataclass(frozen=True, slots=True)
class SelectionTerms:
    """[selection] of the terms; `keep` 0 means members minus assumed attackers."""

    rule: str = "median-rank"
    metric: str = "loss"
    keep: int = 0
    assume_malicious: float = 0.25
    targets: int = 16


@dataclass(frozen=True, slots=True)
class AggregationTerms:
    """[aggregation] of the terms: the rule, its options and the server optimiser."""

    rule: str = "weighted-mean"
    weight_cap: int = 100_000
    clip_norm: float = 0.0
    trim: float = 0.2
    malicious: int = 0
    optimizer: str = "none"
    optimizer_params: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class GovernanceTerms:
    """[governance] of the terms: seats, quorums, attempts, penalties."""

    invitation: str = "owner"
    seats: tuple[str, ...] = ()
    committee: int = 7
    epoch: int = 5
    attempts: int = 3
    extensions: int = 2
    max_absent: int = 5
    weight_cap: int = 65_535
    penalty: int = 250
    precommit: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """[release] of the terms: who gets the final model."""

    to: str = "contributors"
    min_share: float = 0.2


@dataclass(frozen=True, slots=True)
class SecAgg:
    """[secagg] of the terms; see `protocol.secagg`.

    `modulus` is the length of N in bits; `bits` those of a value times its weight, sign included. `tolerance`: by
    how much of itself the metric may get worse in a round before a member votes against it. `key_centres`:
    addresses, the first of which makes the parameters.
    """

    mode: str = "masked"
    modulus: int = 3072
    exponents: str = "short"
    bits: int = 24
    tolerance: float = 0.1
    max_reentries: int = 3
    key_centres: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accept:
    """[tee.accept] of the terms: which quotes are accepted; see `attestation.Policy`.

    `root`: "intel", or "simulation", which protects nothing. Measurements and platforms are in hexadecimal: of
    programs (MRENCLAVE), of trust domains (MRTD and four registers), of signers (MRSIGNER, product, lowest version).
    """

    root: str = "intel"
    enclaves: tuple[str, ...] = ()
    products: tuple[tuple[str, int, int], ...] = ()
    domains: tuple[tuple[str, ...], ...] = ()
    statuses: tuple[str, ...] = ("UpToDate", "SWHardeningNeeded")
    advisories: tuple[str, ...] = ()
    max_age_days: int = 7
    min_evaluation: int = 0
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tee:
    """[tee] of the terms.

    `max_candidates`: to how many enclaves members seal. `max_norm`: an update of a larger Euclidean norm counts as
    invalid; 0 for any. `epoch`: rounds after which an enclave is attested again. `inner`: "secagg" where enclaves
    open sums of masked updates, and never see one update; see `protocol.secagg`.
    """

    max_candidates: int = 4
    max_norm: float = 0.0
    epoch: int = 5
    accept: Accept = field(default_factory=Accept)
    inner: str = ""


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where something shared becomes plain: which variable, at which party by rank (-1: at all), and how often.

    `per`: "step", "epoch" or "training". `clip`: where values are cut, `noise`: deviation of what is added, in units of
    it; 0 for neither.
    """

    boundary: str
    to: int
    per: str
    clip: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Mpc:
    """[mpc] of the terms; see `protocol.mpc`. All but `deadline` and `rows` is what the training script declares.

    `network`: layer by layer, in words. `deadline`: seconds that training may take. `rows`: the most rows that
    all owners share together, where noise is drawn for them. `accept_leakage`: the script asked for boundaries that
    give data away.
    """

    protocol: str = "ABY3"
    field: str = "FM64"
    network: tuple[str, ...] = ()
    reveals: tuple[Boundary, ...] = ()
    accept_leakage: bool = False
    deadline: int = 86_400
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What all members agree on; its digest stands on the chain and in every signed message."""

    name: str
    app: bytes
    scheme: str
    governance: Governance
    privacy: str
    layout: Layout
    initial: bytes
    initial_seed: int
    training: Training = field(default_factory=Training)
    selection: SelectionTerms = field(default_factory=SelectionTerms)
    aggregation: AggregationTerms = field(default_factory=AggregationTerms)
    govern: GovernanceTerms = field(default_factory=GovernanceTerms)
    release: Release = field(default_factory=Release)
    retain_rounds: int = 0
    secagg: SecAgg | None = None
    tee: Tee | None = None
    mpc: Mpc | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check found wrong: where, what, and the bytes that prove it."""

    check: str
    subject: str
    message: str
    evidence: bytes = b""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote in canonical form, and what its processor's maker says of such processors: JSON, signed."""

    quote: bytes
    collateral: bytes
