"""What a round costs, from the terms alone: gas by call, bytes a member moves, the longest time.

Gas is fitted to measurements of the contract with all events on, messages in batches, storage warm
(`tests/contract/test_gas.py`): a fixed part a round and a part a member.
"""

from __future__ import annotations

from hansa.protocol.model import parameters
from hansa.records import Governance, Terms

GAS: dict[str, tuple[int, int]] = {
    "commits": (72_000, 12_400),
    "reveals": (95_000, 11_500),
    "availabilities": (79_000, 13_700),
    "ballots": (95_000, 16_300),
    "openings": (48_000, 13_200),
    "select": (107_000, 4_900),
    "precommits": (47_000, 16_200),
    "propose": (66_000, 0),
    "votes": (182_000, 11_500),
}
"""Call -> gas a round, gas a round and sender."""

BY_VERIFIERS = frozenset({"availabilities", "precommits", "votes"})

SEALING = 1024
"""Bytes that header and tags add to a small blob; a long one has 16 more for each 256 KiB."""


def gas_of_a_round(terms: Terms, members: int) -> dict[str, int]:
    """Estimated gas by call of a round in which all `members` take part."""
    off = set()
    if terms.selection.rule == "none":
        off |= {"ballots", "openings", "select"}
    if not terms.govern.precommit:
        off |= {"precommits"}
    verifiers = min(members, _verifiers(terms, members))
    senders = {call: verifiers if call in BY_VERIFIERS else members for call in GAS}
    return {call: fixed + each * senders[call] for call, (fixed, each) in GAS.items() if call not in off}


def _verifiers(terms: Terms, members: int) -> int:
    match terms.governance:
        case Governance.PEERS:
            return members
        case Governance.HYBRID:
            return terms.govern.committee
        case _:
            return len(terms.govern.seats) or 1


def update_bytes(terms: Terms) -> int:
    """Bytes of one sealed update at most: it is compressed before it is sealed."""
    values = parameters(terms.layout)
    sparse = terms.training.gamma < 1
    size = 8 * round(values * terms.training.gamma) if sparse else 4 * values
    return SEALING + size + size // (256 * 1024) * 16


def model_bytes(terms: Terms) -> int:
    """Bytes of the sealed model at most, without a server optimiser's state."""
    size = 4 * parameters(terms.layout)
    return SEALING + size + size // (256 * 1024) * 16


def longest_round(terms: Terms) -> int:
    """Seconds that a round lasts at most, when every phase, extension and attempt runs to its deadline."""
    commits = 1 + terms.govern.extensions
    return terms.training.deadline * (commits + 4 + 2 * terms.govern.attempts)
