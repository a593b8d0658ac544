"""The chain of evidence: its links in order, and what an audit said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hansa.report.facts import Audited, Check, Link

UNCHECKED = "unchecked"
VERDICTS = "failed", "unavailable", "attested", "verified"
"""The worst first."""


@dataclass(frozen=True, slots=True)
class _Link:
    """A title, what it claims, and the checks of an audit that look at it."""

    title: str
    claim: str
    checks: tuple[str, ...]


_TERMS = _Link(
    "Terms",
    "One contract, founded with exactly the terms that everybody agreed to.",
    ("run record", "contract", "app", "consents"),
)
_CHAIN = _Link(
    "Ledger",
    "Every block follows from the one before, and every transaction was decided by the rules.",
    ("blocks replayed", "chain file", "contract's state", "contract's storage", "transactions decided",
     "transactions repeated", "refusals", "calls without effect", "penalties"),
)  # fmt: skip
_MEMBERS = _Link(
    "Members",
    "Who takes part joined by its own signature; every message is signed by who it is from.",
    ("joins", "signatures", "keys", "records by role", "public keys", "certificates", "parameters"),
)
_COMMITMENTS = _Link(
    "Commitments",
    "Updates were fixed before anybody saw another one, and chance before anybody knew it.",
    ("commitments", "beacon layers", "beacons", "committees"),
)
_START = _Link("Initial model", "Everybody began from the model that the terms name.", ("initial model",))
_UPDATES = _Link(
    "Updates",
    "What members committed to is what lies in the store, and a quorum could have it.",
    ("availability bitmaps", "available sets", "updates opened", "uploads checked", "blobs present",
     "blobs hashed"),
)  # fmt: skip
_ENCLAVES = _Link(
    "Enclaves",
    "Updates were sealed to programs that members pinned and a quorum attested; each made one set a round.",
    ("quotes verified again", "vouchers", "candidates", "deliveries", "one set a round", "models opened"),
)
_JUDGEMENT = _Link(
    "Judgement",
    "Ballots were fixed before any was open, and their count selects these updates and no others.",
    ("ballots", "ballot openings", "matrix rows", "selections"),
)
_AGGREGATE = _Link(
    "Aggregate",
    "The selected updates give the model on the chain, bit for bit.",
    ("aggregates recomputed", "sums recomputed", "evidence records", "selections"),
)
_OPENING = _Link(
    "Opening",
    "One sum a round was opened, by both halves, and its contributors agree on what came out.",
    ("openings", "halves of openings", "sums opened", "one opening a round", "re-entries",
     "votes on openings"),
)  # fmt: skip
_SHARES = _Link(
    "Shares",
    "Owners shared what they committed to, and parties that hold one component name one digest for it.",
    ("certificates of parties", "offers checked", "shares opened", "words on shares", "deliveries",
     "settlements made again", "models put together"),
)  # fmt: skip
_VOTES = _Link(
    "Leaders and votes",
    "The beacon chose the leaders, and a quorum of verifiers approved each result.",
    ("elections", "precommitments", "proposals", "votes", "round endings"),
)
_MODEL = _Link("Model", "What members received is that model.", ("sealed models", "exported model"))
_CLAIMS = _Link(
    "This report",
    "Leaders, selections and gas on this page are those of the chain. Accuracies and seconds are the run's own word.",
    ("metrics", "summary"),
)
_REST = "Other checks", "What else the audit looked at."
_ORIGIN = "Origin", "This is the federation that you know of from elsewhere."


def _links(scheme: str, inner: bool) -> tuple[_Link, ...]:
    begin = (_TERMS, _CHAIN, _MEMBERS, _START, _COMMITMENTS, _UPDATES)
    sums = scheme == "secagg" or inner
    enclaves = (_ENCLAVES,) if scheme == "tee" else ()
    judged = (_JUDGEMENT,) if scheme == "plaintext" else ()
    made = (_SHARES,) if scheme == "mpc" else (_AGGREGATE,)
    opened = (_OPENING,) if sums else ()
    return (*begin, *enclaves, *judged, *made, *opened, _VOTES, _MODEL, _CLAIMS)


def links_of(
    scheme: str, checks: Sequence[Check], audited: Audited | None, *, inner: bool = False
) -> tuple[Link, ...]:
    """The links of a scheme's chain, each with its checks; grey without an audit."""
    left: Mapping[str, Check] = {check.name: check for check in checks}
    made = []
    for link in _links(scheme, inner):
        own = tuple(left[name] for name in link.checks if name in left)
        left = {name: check for name, check in left.items() if check not in own}
        made.append(Link(link.title, link.claim, _worst(own), own))
    if left:
        made.append(Link(*_REST, _worst(tuple(left.values())), tuple(left.values())))
    return (*made, Link(*_ORIGIN, "verified" if audited is not None and audited.anchored else UNCHECKED))


def _worst(checks: tuple[Check, ...]) -> str:
    found = {check.verdict for check in checks}
    return next((verdict for verdict in VERDICTS if verdict in found), UNCHECKED)
