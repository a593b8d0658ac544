"""The stateful test has teeth: each bug planted in the contract or in the specification is found.

Each hunt fixes the few terms without which the bug cannot show, and stops at the first disagreement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from eth.vm.forks.spurious_dragon import computation
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Federation

from hansa.ledger.compile import SOURCE, compiled
from hansa.protocol import election, fold, selection
from hansa.records import Governance

SETTINGS = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
OPTIMISED = "# pragma optimize codesize"
SIMPLE: dict[str, Any] = {
    "governance": Governance.PEERS,
    "evaluate": False,
    "min_updates": 2,
    "min_quorum": 1,
}
JUDGED: dict[str, Any] = {"governance": Governance.PEERS, "evaluate": True, "min_updates": 4, "buffer": 0}


@dataclass(frozen=True)
class Bug:
    """A piece of the contract's source, its wrong replacement, terms under which it matters, a seed that finds it soon."""

    right: str
    wrong: str
    terms: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


CONTRACT_BUGS: dict[str, Bug] = {
    "a message is in time at the deadline": Bug(
        "block.timestamp < self.deadline, DEADLINE_PASSED",
        "block.timestamp <= self.deadline, DEADLINE_PASSED",
        seed=4,
    ),
    "a phase cannot be advanced at its deadline": Bug(
        "block.timestamp >= self.deadline, TOO_EARLY)\n    if",
        "block.timestamp > self.deadline, TOO_EARLY)\n    if",
    ),
    "two thirds are a quorum": Bug(
        "unsafe_add(unsafe_mul(2, count) // 3, 1)", "unsafe_add(unsafe_mul(2, count), 2) // 3", seed=4
    ),
    "faults of one round add up": Bug("if self._has(SLASHED, id):", "if id == NOBODY:", seed=1),
    "half of the ballots is a median": Bug(
        "above: bool = unsafe_mul(sum >> 8, 2) > sure",
        "above: bool = unsafe_mul(sum >> 8, 2) >= sure",
        {**JUDGED, "borda": False},
        seed=1,
    ),
    "doubted ballots count": Bug("sure: uint256 = each ^ doubts", "sure: uint256 = each", JUDGED),
    "the tie cut is inclusive": Bug("equal and place < cut", "equal and place <= cut", JUDGED, seed=1),
    "beacon layers of different members cancel": Bug(
        "keccak256(abi_encode(v.preimage, v.id))", "keccak256(abi_encode(v.preimage, round))"
    ),
    "a round without a layer uses an older one": Bug("if self._count(REVEALED) == 0:", "if self.acc == 0:"),
    "the committee serves an epoch too long": Bug(
        "self.round - self.committee_round >= self.terms.epoch",
        "self.round - self.committee_round > self.terms.epoch",
        {**SIMPLE, "governance": Governance.HYBRID, "epoch": 1},
        seed=1,
    ),
    "a Join can be replayed": Bug(
        "self.nonces[who] += 1\n    self.invited", "self.nonces[who] += 0\n    self.invited"
    ),
    "who withheld its layer may lead": Bug(
        "~self.outside[REVEALED][w] | self.outside[COMMITTED][w]",
        "max_value(uint256)",
        {**SIMPLE, "governance": Governance.COMMITTEE},
        seed=4,
    ),
    "an approval needs no matching precommitment": Bug(
        "bound != self.precommitments[v.id]", "bound == empty(bytes32)", {**SIMPLE, "precommit": True}
    ),
    "COMMIT is extended for ever": Bug("self.extended += 1", "self.extended += 0", {"extensions": 1}),
    "the last to go away breaks the quorum": Bug(
        "standing == BACK or self._active() > self.terms.min_quorum",
        "standing == BACK or self._active() >= self.terms.min_quorum",
        seed=1,
    ),
    "a motion can be replayed": Bug("self.motions += 1", "self.motions += 0", seed=1),
    "a replaced key still speaks for its id": Bug(
        "self.address_of[id] = who\n        self._invite",
        "self.id_of[who] = id + 1\n        self._invite",
        seed=1,
    ),
    "a replaced key stays welcome": Bug("self.excluded[who] = True", "self.excluded[who] = False", seed=1),
    "a seat without a key leads": Bug(
        "pool[w] &= ~self.outside[ACTIVE][w]",
        "pool[w] &= max_value(uint256)",
        {**SIMPLE, "governance": Governance.SERVER},
        seed=5,
    ),
    "weights follow the reputation of today": Bug(
        "self.lanes[SNAPSHOT][i >> 4]\n                resources",
        "self.lanes[REPUTATION][i >> 4]\n                resources",
        {**SIMPLE, "penalty": 1000, "weight_cap": 65_535},
    ),
}

RULE_BUGS: dict[str, tuple[object, str, Callable[[Any], object]]] = {
    "the leader earns more": (fold, "GAIN_LED", lambda _: 200),
    "weights lack the one": (election, "weight", lambda f: lambda s, i: max(1, f(s, i) - 1)),
    "the permutation starts at the other end": (election, "permute", lambda f: lambda b, i: f(b, i)[::-1]),
    "one update too few is kept": (selection, "keep_count", lambda f: lambda p, v, e: max(1, f(p, v, e) - 1)),
}


def hunt(name: str, first: int = 0, **attributes: object) -> None:
    """Run the stateful test, without shrinking, until it fails; schedules of one seed resemble each other."""
    for start in (first, *range(8)):
        run_state_machine_as_test(seed(start)(type(name, (Federation,), attributes)), settings=SETTINGS)


@pytest.mark.parametrize("name", CONTRACT_BUGS)
def test_contract_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = CONTRACT_BUGS[name]
    source = SOURCE.read_text()
    assert source.count(bug.right) == source.count(OPTIMISED) == 1
    # Twice as fast to compile without optimiser; but then it is larger than chains allow.
    monkeypatch.setattr(computation, "EIP170_CODE_SIZE_LIMIT", 2**16)
    wrong = source.replace(bug.right, bug.wrong).replace(OPTIMISED, "# pragma optimize none")
    code = bytes.fromhex(compiled(wrong)[1][2:])
    with pytest.raises(AssertionError, match=r"specification|Outcome|not \["):
        hunt("Mutant", bug.seed, code=code, terms=bug.terms)


@pytest.mark.parametrize("name", RULE_BUGS)
def test_rule_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute, change = RULE_BUGS[name]
    monkeypatch.setattr(module, attribute, change(getattr(module, attribute)))
    with pytest.raises(AssertionError, match=r"specification|Outcome|not \["):
        hunt("Mistaken", terms=JUDGED)
