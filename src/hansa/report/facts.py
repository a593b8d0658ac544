"""What a report shows, as plain numbers and words: one frozen value, of which JSON is made without further thought.

Parties are numbers, and `names` says what they are called. Times are seconds of the chain's clock since the start.
Nothing is drawn here, and nothing is read.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1
"""Of the form of these facts; a page that meets another one says so."""


@dataclass(frozen=True, slots=True)
class Span:
    """A phase of a round; `end` is None while it goes on."""

    phase: str
    begin: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """What one evaluator found: how much better each target's update alone makes the model, on its own rows.

    None where it could not evaluate the update.
    """

    evaluator: int
    targets: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """One round. `outcome`: final, void, burned or running; `value`: the held-out metric of its model.

    `slashed`: pairs of a party and what it did. `matrix`: None where it is not at hand.
    """

    number: int
    outcome: str
    version: int
    leaders: tuple[int, ...]
    committed: tuple[int, ...]
    available: tuple[int, ...]
    selected: tuple[int, ...]
    approvals: int
    rejections: int
    slashed: tuple[tuple[int, str], ...]
    spans: tuple[Span, ...]
    value: float | None = None
    matrix: tuple[Row, ...] | None = None


@dataclass(frozen=True, slots=True)
class Party:
    """One id of the federation. `rows`: training rows, as it says. `why`: why it was left out, and how often.

    `alone`, `joint`: the metric on its own validation rows; `worse`: the joint model serves it worse than its own.
    """

    id: int
    name: str
    role: str
    standing: str
    reputation: int
    rows: int | None
    left_out: int
    led: int
    why: tuple[tuple[str, int], ...]
    slashed: tuple[tuple[str, int], ...]
    hostile: str = ""
    alone: float | None = None
    joint: float | None = None
    worse: bool = False


@dataclass(frozen=True, slots=True)
class Baselines:
    """What the federation is compared with, on the same rows: values after some rounds."""

    rounds: tuple[int, ...] = ()
    alone_mean: tuple[float | None, ...] = ()
    fedavg_unprotected: tuple[float | None, ...] = ()
    pooled: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a phase took in all rounds. None where it was not measured.

    `chain_bytes`: of calls; `store_bytes`: of blobs; `chain_seconds` by the chain's clock, `seconds` by this machine's.
    """

    phase: str
    gas: int | None
    chain_bytes: int | None
    store_bytes: int | None
    chain_seconds: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Flow:
    """A kind of data and how it is seen: on its owner's machine, by the store's and the chain's operators, by others.

    Each of the three is "plain", "sealed", "masked", "shares", "joint", "digest" or "none". `crosses`: it is of one
    member, and others can read it. `count`, `bytes`: how many went through the store and how large they were; None if
    not known.
    """

    what: str
    own: str
    operators: str
    others: str
    who: str
    crosses: bool
    count: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A line of an audit; `verdict`: verified, attested, unavailable or failed."""

    name: str
    verdict: str
    count: int
    note: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the chain of evidence; its verdict is the worst of its checks, "unchecked" where there are none."""

    title: str
    claim: str
    verdict: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """When and by what program an audit was made; None of it before there was one. `findings`: what was wrong."""

    at: int
    program: str
    anchored: bool
    unproven: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Word:
    """A label and what stands beside it: how the scheme protects this federation, and by whom."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where it lives, for whoever wants to hold it against something else."""

    chain_id: int
    contract: str
    terms: str
    block: int
    block_hash: str
    model: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All of a report. `kind`: "run" or "federation"; `state` and `outcome`: how it stands, as a word and a sentence.

    `better`: whether a "higher" or a "lower" metric is better. `running`: None where nobody can know. `absent`: what
    is not shown, and why. `made`: when the facts were gathered, in UNIX seconds; `seconds`: how long the run took.
    """

    subject: str
    kind: str
    name: str
    scheme: str
    simulated: bool
    protection: str | None
    governance: str
    selection: str
    aggregation: str
    seed: int | None
    state: str
    outcome: str
    finished: bool
    running: bool | None
    round: int
    phase: str
    waiting: str
    planned: int
    final: int
    failed: int
    metric: str
    better: str
    privacy: str
    noise: str
    parties: tuple[Party, ...]
    rounds: tuple[Round, ...]
    baselines: Baselines
    costs: tuple[Cost, ...]
    gas_by_call: tuple[tuple[str, int], ...]
    flows: tuple[Flow, ...]
    scheme_words: tuple[Word, ...]
    evidence: tuple[Link, ...]
    audited: Audited | None
    anchor: Anchor
    absent: tuple[str, ...]
    seconds: float | None
    made: int
    program: str
    version: int = VERSION
