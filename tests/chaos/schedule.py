"""A schedule: a federation and the faults that strike it, all drawn from one seed.

A fault is armed when the chain first reaches its round and phase, and strikes some ticks later; so every
phase is struck as often as any other, however quickly it goes by. From the tick `quiet` on nothing fails.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hansa.records import Governance, Phase

ALL = -1
"""In place of a member's id: everybody."""

KINDS = (
    "crash",  # a node dies at one of its next effects, before or after it, and starts again after a while
    "wiped",  # the same, and the disk with its blobs is empty then; the journal is not
    "store-away",  # the store does not answer one node, or anybody
    "other-bytes",  # the store gives one node, or all, other bytes than asked for
    "chain-away",  # the chain does not answer one node
    "halt",  # the chain makes no block; what is sent waits
    "reorg",  # the newest blocks are undone; what they held is lost, or comes again, in order or not
    "fork",  # the same, deeper than views wait for: what nodes took for final is gone
    "stale-view",  # a node's RPC is some blocks behind
    "skew",  # a node's clock is wrong
    "miscompute",  # a node folds another aggregate than it should
)
PHASES = (Phase.COMMIT, Phase.BEACON, Phase.AVAILABLE, Phase.REVEAL, Phase.AGGREGATE, Phase.VERIFY)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `seconds`: how long it lasts. `amount`, by kind: effects, blocks, or seconds of skew.

    `variant`, by kind: crash after the effect (1) or before it (0); undone calls lost (0), sent again in
    order (1) or in any order (2).
    """

    kind: str
    round: int
    phase: Phase
    after: int
    seconds: int
    member: int
    amount: int = 0
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """How often, of 1000, a message, blob or transaction meets a fault.

    `flaky`, `garbled`: the store fails a call, or gives other bytes, this once. `slow`: a node's turn is
    skipped. `kill`: it dies at an effect, before or after it.
    """

    drop: int = 0
    delay: int = 0
    duplicate: int = 0
    reorder: int = 0
    lost_blob: int = 0
    flaky: int = 0
    garbled: int = 0
    unsent: int = 0
    unanswered: int = 0
    late: int = 0
    twice: int = 0
    slow: int = 0
    kill: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that a run depends on."""

    seed: int
    scheme: str
    members: int
    governance: Governance
    rule: str
    precommit: bool
    mode: str
    frugal: bool
    confirmations: int
    retain_rounds: int
    quiet: int
    rates: Rates
    faults: tuple[Fault, ...]


ROUNDS = 2


SERVERS, CENTRES = 2, 2
"""Under `secagg`: who holds the halves, beside the members."""


HOSTS = 4
"""Under `tee`: how many members run enclaves."""


def draw(seed: int, scheme: str = "plaintext") -> Schedule:
    """The schedule of a seed, for a federation under this scheme."""
    if scheme == "secagg":
        return _summing(seed)
    if scheme == "tee":
        return _enclosing(seed)
    rng = random.Random(f"hansa/chaos/{seed}")
    members = rng.choice((4, 5, 5, 5, 6))
    confirmations = rng.choice((0, 0, 1, 2, 3))
    liar = rng.randrange(members)
    faults = tuple(_fault(rng, members, confirmations, liar) for _ in range(rng.randint(0, 7)))
    return Schedule(
        seed=seed,
        scheme=scheme,
        members=members,
        governance=rng.choice((*[Governance.PEERS] * 4, *Governance)),
        rule=rng.choice(("median-rank", "median-rank", "borda", "none")),
        precommit=rng.random() < 0.7,
        mode="asynchronous" if rng.random() < 0.2 else "synchronous",
        frugal=rng.random() < 0.2,
        confirmations=confirmations,
        retain_rounds=rng.choice((0, 0, 1, 2)),
        quiet=rng.randint(40, 250),
        rates=_rates(rng),
        faults=faults,
    )


def _summing(seed: int) -> Schedule:
    """Faults strike servers and key centres too, and the phase in which sums are opened."""
    rng = random.Random(f"hansa/chaos/secagg/{seed}")
    members = rng.choice((4, 5))
    confirmations = rng.choice((0, 0, 1, 2, 3))
    everyone, liar = members + SERVERS + CENTRES, rng.randrange(members)
    phases = (*PHASES, Phase.OPEN, Phase.OPEN)
    faults = tuple(_fault(rng, everyone, confirmations, liar, phases) for _ in range(rng.randint(0, 7)))
    return Schedule(
        seed=seed,
        scheme="secagg",
        members=members,
        governance=Governance.SERVER,
        rule="none",
        precommit=rng.random() < 0.7,
        mode="synchronous",
        frugal=rng.random() < 0.2,
        confirmations=confirmations,
        retain_rounds=rng.choice((0, 0, 1, 2)),
        quiet=rng.randint(40, 250),
        rates=_rates(rng),
        faults=faults,
    )


def _enclosing(seed: int) -> Schedule:
    """Whoever dies loses its enclave, with the keys."""
    rng = random.Random(f"hansa/chaos/tee/{seed}")
    members = rng.choice((4, 5, 6))
    confirmations = rng.choice((0, 0, 1, 2, 3))
    phases = (Phase.COMMIT, Phase.BEACON, Phase.AVAILABLE, Phase.AGGREGATE, Phase.AGGREGATE, Phase.VERIFY)
    liar = rng.randrange(HOSTS)
    faults = tuple(_fault(rng, members, confirmations, liar, phases) for _ in range(rng.randint(0, 7)))
    return Schedule(
        seed=seed,
        scheme="tee",
        members=members,
        governance=Governance.COMMITTEE,
        rule="none",
        precommit=False,
        mode="synchronous",
        frugal=rng.random() < 0.2,
        confirmations=confirmations,
        retain_rounds=rng.choice((0, 0, 1, 2)),
        quiet=rng.randint(40, 250),
        rates=_rates(rng),
        faults=faults,
    )


def _fault(
    rng: random.Random, members: int, confirmations: int, liar: int, phases: tuple[Phase, ...] = PHASES
) -> Fault:
    kind = rng.choice(("crash", "crash", "reorg", *KINDS))
    if kind == "reorg" and not confirmations:
        kind = "crash"
    everybody = kind == "halt" or (kind in ("store-away", "other-bytes") and rng.random() < 0.3)
    member = ALL if everybody or kind in ("reorg", "fork") else rng.randrange(members)
    amount, variant = 0, 0
    match kind:
        case "crash" | "wiped":
            amount, variant = rng.randint(0, 8), rng.randint(0, 1)
        case "reorg":
            amount, variant = rng.randint(1, confirmations), rng.randint(0, 2)
        case "fork":
            amount, variant = confirmations + rng.randint(1, 6), rng.randint(0, 2)
        case "stale-view":
            amount = rng.randint(1, 8)
        case "skew":
            amount = rng.choice((-200, -60, -10, 10, 30, 60, 200))
        case "miscompute":
            member = liar  # One at most: a quorum of liars is nobody's promise.
    return Fault(
        kind=kind,
        round=rng.randint(1, ROUNDS),
        phase=rng.choice(phases),
        after=rng.randint(0, 4),
        seconds=rng.choice((3, 10, 40, 90, 150, 260)),
        member=member,
        amount=amount,
        variant=variant,
    )


def _rates(rng: random.Random) -> Rates:
    def rate(most: int) -> int:
        return rng.randint(1, most) if rng.random() < 0.3 else 0

    return Rates(
        drop=rate(300),
        delay=rate(300),
        duplicate=rate(300),
        reorder=rate(300),
        lost_blob=rate(60),
        flaky=rate(150),
        garbled=rate(150),
        unsent=rate(200),
        unanswered=rate(200),
        late=rate(200),
        twice=rate(200),
        slow=rate(500),
        kill=rate(60),
    )
