"""What a round costs, from the terms alone: gas by call, bytes a member moves, the longest time.

Gas is fitted to measurements of the contract with all events on, messages in batches, storage warm
(`tests/contract/test_gas.py`): a fixed part a round and a part a member.
"""

from __future__ import annotations

from hansa.protocol.model import parameters
from hansa.protocol.terms import parameters as contract_parameters
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

RECORD = 57_000
"""Gas of a record, in a transaction of its own."""

BY_VERIFIERS = frozenset({"availabilities", "precommits", "votes"})

BYTES_A_VALUE = {"masked": 6, "direct": 14}
CIPHERTEXTS = 40 * 1024
"""Bytes under secagg: of a value by mode, and of a mask's key with its proof."""

SEALING = 1024
"""Bytes that header and tags add to a small blob; a long one has 16 more for each 256 KiB."""


def gas_of_a_round(terms: Terms, members: int) -> dict[str, int]:
    """Estimated gas by call of a round in which all `members` take part."""
    off = set()
    if terms.selection.rule == "none":
        off |= {"ballots", "openings", "select"}
    if not contract_parameters(terms).precommit:
        off |= {"precommits"}
    verifiers = min(members, _verifiers(terms, members))
    senders = {call: verifiers if call in BY_VERIFIERS else members for call in GAS}
    found = {call: fixed + each * senders[call] for call, (fixed, each) in GAS.items() if call not in off}
    if terms.mpc is not None:
        # Each party records a certificate, whose shares are good, and its delivery.
        found["records"] = RECORD * 3 * len(terms.govern.seats)
    if terms.tee is not None:
        # Each host records an attestation, and every member vouches for it, once in so many rounds.
        found["records"] = RECORD * verifiers * (1 + members) // terms.tee.epoch
    return found


def _verifiers(terms: Terms, members: int) -> int:
    match terms.governance:
        case Governance.PEERS:
            return members
        case Governance.HYBRID:
            return terms.govern.committee
        case _:
            return len(terms.govern.seats) or 1


def update_bytes(terms: Terms) -> int:
    """Bytes of one sealed update at most: it is compressed before it is sealed, unless it is masked or encrypted."""
    values = parameters(terms.layout)
    if terms.secagg is not None:
        return SEALING + CIPHERTEXTS + values * BYTES_A_VALUE[terms.secagg.mode]
    sparse = terms.training.gamma < 1
    size = 8 * round(values * terms.training.gamma) if sparse else 4 * values
    return SEALING + size + size // (256 * 1024) * 16


def share_bytes(terms: Terms) -> int:
    """Bytes of all parties' shares of one number under mpc: under ABY3 each party holds two of three components."""
    assert terms.mpc is not None
    ring = 16 if terms.mpc.field == "FM128" else 8
    return ring * len(terms.govern.seats) * (2 if terms.mpc.protocol == "ABY3" else 1)


def model_bytes(terms: Terms) -> int:
    """Bytes of the sealed model at most, without a server optimiser's state."""
    size = 4 * parameters(terms.layout)
    return SEALING + size + size // (256 * 1024) * 16


def down_bytes(terms: Terms, members: int) -> tuple[int, int]:
    """Bytes that a member loads in a round at most: one that verifies, and one that does not."""
    model = model_bytes(terms)
    everything = (members - 1) * update_bytes(terms) + model
    seated = terms.governance is Governance.COMMITTEE and terms.selection.rule == "none"
    return everything, model if seated else everything


def longest_round(terms: Terms) -> int:
    """Seconds that a round lasts at most, when every phase, extension and attempt runs to its deadline."""
    commit, *others, training, verify, open = contract_parameters(terms).durations
    phases = commit * (1 + terms.govern.extensions) + sum(others)
    return phases + open + (training + verify) * terms.govern.attempts
