"""Terms: what all members agree on. Which combinations are refused and why, and what the contract enforces.

`Draft` is the terms as written in `federation.toml`; `complete` adds what only the app can tell (its digest
and the initial model). `terms_digest` is the name of the result on the chain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Final

from hansa import encoding, errors
from hansa.protocol import typed
from hansa.records import (
    AggregationTerms,
    Governance,
    GovernanceTerms,
    Layout,
    Mpc,
    Parameters,
    Release,
    SecAgg,
    SelectionTerms,
    Tee,
    Terms,
    Training,
)

SCHEMES: Final = ("plaintext", "secagg", "tee", "mpc")
MIN_SELECTION: Final = 4
MIN_COHORT: Final = 3
ORDER_RULES: Final = ("median", "trimmed-mean", "krum", "multi-krum")
"""Rules that compare members' values or distances, so that they need every value of each update."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Terms before the model is known; fields as in `records.Terms`."""

    name: str
    scheme: str
    governance: Governance
    privacy: str
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
class Conflict:
    """Values that cannot go together: the key at fault, why, and the nearest safe choice."""

    key: str
    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}. {self.advice}"


def complete(draft: Draft, *, app: bytes, layout: Layout, initial: bytes, initial_seed: int) -> Terms:
    """The terms: `draft` with the digest of `app.py`, the model's layout, digest and seed."""
    written = {f.name: getattr(draft, f.name) for f in fields(draft)}
    return Terms(**written, app=app, layout=layout, initial=initial, initial_seed=initial_seed)


def check_terms(terms: Draft | Terms) -> None:
    """Raises `Misconfigured` naming every conflict of the terms, its reason and the nearest safe choice."""
    found = conflicts(terms)
    if found:
        raise errors.Misconfigured(
            "; ".join(f"{c.key}: {c.reason}" for c in found), hint=" ".join(c.advice for c in found)
        )


def conflicts(terms: Draft | Terms) -> tuple[Conflict, ...]:
    """Everything in the terms that is unsafe, has no meaning or is not offered, in the order of the file."""
    return tuple(_conflicts(terms))


def _conflicts(terms: Draft | Terms) -> Iterator[Conflict]:
    yield from _offered(terms)
    yield from _scheme_pairs(terms)
    yield from _order_rules(terms)
    yield from _counts(terms)


def _offered(terms: Draft | Terms) -> Iterator[Conflict]:
    if terms.privacy != "off":
        yield Conflict(
            "[privacy] differential_privacy",
            f'"{terms.privacy}" is not offered by this version',
            'Write differential_privacy = "off": updates then carry no noise.',
        )


def _scheme_pairs(terms: Draft | Terms) -> Iterator[Conflict]:
    scheme, training, rule = terms.scheme, terms.training, terms.aggregation.rule
    if scheme in ("secagg", "tee", "mpc") and terms.selection.rule != "none":
        yield Conflict(
            "[selection] rule",
            f'"{terms.selection.rule}" ranks single updates, and {scheme} shows none to members',
            'Use rule = "none"; under tee an aggregation rule such as "krum" leaves hostile updates out.'
            if scheme == "tee" and not sums_only(terms)
            else 'Use rule = "none".',
        )
    if scheme == "tee":
        yield from _tee_pairs(terms)
    if scheme == "mpc":
        yield from _mpc_pairs(terms)
    if sums_only(terms):
        if rule in ORDER_RULES:
            yield Conflict(
                "[aggregation] rule",
                f'"{rule}" compares single updates, and secagg shows only their sum',
                'Use rule = "clipped-mean", which each member applies to itself.',
            )
        if terms.governance is not Governance.SERVER:
            yield Conflict(
                "[federation] governance",
                "under secagg a server that is no member adds up and holds one half of every opening",
                'Use governance = "server", and name the servers in [governance] seats.',
            )
        if terms.secagg is not None and terms.aggregation.weight_cap >= 2 ** (terms.secagg.bits - 8):
            yield Conflict(
                "[aggregation] weight_cap",
                f"{terms.aggregation.weight_cap} leaves fewer than 8 of {terms.secagg.bits} bits to a value",
                "Use weight_cap = 1, by which all members count the same.",
            )
        if training.min_members < MIN_COHORT:
            yield Conflict(
                "[training] min_members",
                f"a sum of {training.min_members} updates does not hide one of them",
                f"Use min_members = {MIN_COHORT} or more.",
            )
        if training.mode == "asynchronous":
            yield Conflict(
                "[training] mode",
                "secagg opens one fixed set a round, and late updates belong to none",
                'Use mode = "synchronous".',
            )
    if scheme in ("secagg", "tee") and training.gamma < 1:
        yield Conflict(
            "[training] gamma",
            f"sparse updates under {scheme} show which parameters a member's data touch",
            "Use gamma = 1.0.",
        )
    if scheme in ("secagg", "tee", "mpc") and terms.govern.invitation == "owner":
        yield Conflict(
            "[governance] invitation",
            f"under {scheme} an owner could invite a made-up cohort around one victim",
            'Use invitation = "vote".',
        )


def _mpc_pairs(terms: Draft | Terms) -> Iterator[Conflict]:
    training, aggregation = terms.training, terms.aggregation
    if terms.governance is not Governance.SERVER:
        yield Conflict(
            "[federation] governance",
            "under mpc the computing parties lead, and they are no members",
            'Use governance = "server", and name the computing parties in [governance] seats.',
        )
    if training.rounds != 1:
        yield Conflict(
            "[training] rounds",
            f"under mpc the parties train once, from shares to the model, and not in {training.rounds} rounds",
            "Use rounds = 1; the training script says how many epochs.",
        )
    if training.mode == "asynchronous":
        yield Conflict(
            "[training] mode",
            "under mpc the parties train on one fixed set of shares",
            'Use mode = "synchronous".',
        )
    if training.gamma < 1:
        yield Conflict(
            "[training] gamma", "under mpc there are no updates that could be sparse", "Use gamma = 1.0."
        )
    if aggregation.rule != "weighted-mean" or aggregation.optimizer != "none":
        yield Conflict(
            "[aggregation] rule",
            "under mpc no updates are aggregated: training itself is joint",
            'Use rule = "weighted-mean" and optimizer = "none"; the training script names its optimizer.',
        )


def _tee_pairs(terms: Draft | Terms) -> Iterator[Conflict]:
    if terms.governance is not Governance.COMMITTEE and not sums_only(terms):
        yield Conflict(
            "[federation] governance",
            "under tee those who may lead are fixed: members seal to the enclave of each",
            'Use governance = "committee".',
        )
    if terms.training.mode == "asynchronous" and not sums_only(terms):
        yield Conflict(
            "[training] mode",
            "an enclave takes one fixed set a round, and an update that missed it may never be sealed again",
            'Use mode = "synchronous".',
        )
    if terms.tee is None:
        return
    accept = terms.tee.accept
    if accept.root == "intel" and not (accept.enclaves or accept.products or accept.domains):
        yield Conflict(
            "[tee.accept] enclaves",
            "members seal to programs that they know, and none is pinned",
            "Pin what `hansa enclave --show` names: enclaves (MRENCLAVE), products or domains (TDX); or try it "
            'without protection, with root = "simulation".',
        )
    if terms.tee.max_norm and sums_only(terms):
        yield Conflict(
            "[tee] max_norm",
            "an enclave that sees only sums can measure no update",
            'Use max_norm = 0, and rule = "clipped-mean", which each member applies to itself.',
        )
    seats = len(terms.govern.seats) or terms.govern.committee
    if seats > terms.tee.max_candidates:
        yield Conflict(
            "[governance] committee",
            f"each of {seats} seats runs an enclave, and members seal to {terms.tee.max_candidates} at most",
            f"Use committee = {terms.tee.max_candidates}, or raise [tee] max_candidates.",
        )


def _order_rules(terms: Draft | Terms) -> Iterator[Conflict]:
    training, rule = terms.training, terms.aggregation.rule
    if rule in ORDER_RULES and training.gamma < 1:
        yield Conflict(
            "[training] gamma",
            f'with sparse updates the zeros win under rule "{rule}"',
            'Use gamma = 1.0, or rule = "weighted-mean".',
        )
    if rule in ORDER_RULES and training.mode == "asynchronous":
        yield Conflict(
            "[training] mode",
            f'rule "{rule}" compares updates, and those from different models cannot be compared',
            'Use mode = "synchronous", or rule = "weighted-mean".',
        )
    if training.mode == "synchronous" and (training.buffer or training.max_staleness):
        yield Conflict(
            "[training] mode",
            "buffer and max_staleness have a meaning only in asynchronous training",
            'Use mode = "asynchronous", or leave both at 0.',
        )


def _counts(terms: Draft | Terms) -> Iterator[Conflict]:
    training, selection, aggregation = terms.training, terms.selection, terms.aggregation
    if selection.rule != "none" and training.min_members < MIN_SELECTION:
        yield Conflict(
            "[training] min_members",
            f"selection needs at least {MIN_SELECTION} members, not {training.min_members}",
            f'Use min_members = {MIN_SELECTION}, or [selection] rule = "none".',
        )
    if training.buffer and training.buffer < training.min_members:
        yield Conflict(
            "[training] buffer",
            f"a round of {training.buffer} updates never has min_members = {training.min_members}",
            f"Use buffer = {training.min_members} or more.",
        )
    least = _least_aggregated(terms)
    needed = 2 * aggregation.malicious + 3
    if aggregation.rule in ("krum", "multi-krum") and least < needed:
        yield Conflict(
            "[aggregation] malicious",
            f'rule "{aggregation.rule}" with {aggregation.malicious} malicious members needs {needed} '
            f"updates, and a round may have {least}",
            f"Raise [training] min_members, or use malicious = {max(0, (least - 3) // 2)} or fewer.",
        )
    if aggregation.rule == "clipped-mean" and aggregation.clip_norm == 0:
        yield Conflict(
            "[aggregation] clip_norm",
            'rule "clipped-mean" needs the norm to clip at',
            'Use clip_norm = 1.0, or rule = "weighted-mean".',
        )


def _least_aggregated(terms: Draft | Terms) -> int:
    members = terms.training.min_members
    if terms.selection.rule == "none":
        return members
    kept = terms.selection.keep or math.ceil(members * keep_permille(terms.selection) / 1000)
    return min(members, kept)


def keep_permille(selection: SelectionTerms) -> int:
    """Thousandths of the eligible updates to keep. Rounded down: the contract rounds the product up."""
    return 1000 - math.ceil(round(1000 * selection.assume_malicious, 6))


def sums_only(terms: Draft | Terms) -> bool:
    """Whether updates are masked, so that nothing but sums of them is ever opened."""
    return terms.scheme == "secagg" or (terms.tee is not None and terms.tee.inner == "secagg")


def parameters(terms: Terms) -> Parameters:
    """What the contract enforces of these terms."""
    training, selection, govern = terms.training, terms.selection, terms.govern
    return Parameters(
        digest=terms_digest(terms),
        governance=terms.governance,
        evaluate=selection.rule != "none",
        opens=sums_only(terms) or terms.scheme == "mpc",
        # What an enclave or the parties give can be checked, and not made again; sums of masked updates can.
        precommit=govern.precommit and (terms.scheme not in ("tee", "mpc") or sums_only(terms)),
        by_vote=govern.invitation == "vote",
        borda=selection.rule == "borda",
        targets=selection.targets,
        keep=selection.keep,
        keep_permille=keep_permille(selection),
        min_updates=training.min_members,
        min_quorum=training.min_members,
        buffer=training.buffer,
        max_staleness=training.max_staleness,
        rounds=training.rounds,
        epoch=govern.epoch,
        committee=govern.committee,
        attempts=govern.attempts,
        extensions=govern.extensions,
        max_voids=training.max_failed_rounds,
        max_absent=govern.max_absent,
        weight_cap=govern.weight_cap,
        penalty=govern.penalty,
        durations=_durations(terms),
    )


def _durations(terms: Terms) -> tuple[int, int, int, int, int, int, int]:
    """Seconds for the phases COMMIT to OPEN. Under mpc the parties train while the leader is to propose."""
    seconds = terms.training.deadline
    training = seconds if terms.mpc is None else max(seconds, terms.mpc.deadline)
    return (seconds, seconds, seconds, seconds, training, seconds, seconds)


def terms_digest(terms: Terms) -> bytes:
    """SHA-256 of the canonical encoding, 32 bytes."""
    return encoding.digest(encoding.encode(terms))


def decode_terms(data: bytes) -> Terms:
    """Read what `encoding.encode(terms)` wrote.

    Raises `Untrusted` for bytes that are not canonical, lack a field, have another, or one of another type.
    """
    return typed.decode(Terms, data)
