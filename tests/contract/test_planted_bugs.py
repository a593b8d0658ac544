"""The stateful test has teeth: each bug planted in the contract or in the specification is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Federation

from hansa.ledger.compile import SOURCE, compiled
from hansa.protocol import election, rules, selection

SETTINGS = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

CONTRACT_BUGS: dict[str, tuple[str, str]] = {
    "a message is in time at the deadline": (
        "self._need(block.timestamp < self.deadline, DEADLINE_PASSED)",
        "self._need(block.timestamp <= self.deadline, DEADLINE_PASSED)",
    ),
    "a phase cannot be advanced at its deadline": (
        "self._need(block.timestamp >= self.deadline, TOO_EARLY)",
        "self._need(block.timestamp > self.deadline, TOO_EARLY)",
    ),
    "two thirds are a quorum": (
        "unsafe_add(unsafe_mul(2, count) // 3, 1)",
        "(unsafe_mul(2, count) + 2) // 3",
    ),
    "a third of the verifiers rejects": (
        "if unsafe_mul(3, rejections) > verifiers:",
        "if unsafe_mul(3, rejections) >= verifiers:",
    ),
    "faults of one round add up": ("if self._has(SLASHED, id):", "if id == NOBODY:"),
    "half of the ballots is a median": (
        "above: bool = unsafe_mul(sum >> 8, 2) > sure",
        "above: bool = unsafe_mul(sum >> 8, 2) >= sure",
    ),
    "doubted ballots count": ("sure: uint256 = each ^ doubts", "sure: uint256 = each"),
    "the tie cut is inclusive": ("equal and place < cut", "equal and place <= cut"),
    "beacon layers of different members cancel": (
        "acc ^= convert(keccak256(abi_encode(v.preimage, v.id)), uint256)",
        "acc ^= convert(keccak256(abi_encode(v.preimage, round)), uint256)",
    ),
    "the beacon forgets the last round": ("if self._count(REVEALED) == 0:", "if self.acc == 0:"),
    "the committee serves an epoch too long": (
        "self.round - self.committee_round >= self.terms.epoch",
        "self.round - self.committee_round > self.terms.epoch",
    ),
    "a Join can be replayed": (
        "self.nonces[who] += 1\n    self.invited",
        "self.nonces[who] += 0\n    self.invited",
    ),
    "stale planes are counted": (
        "if sent >> p == 0:\n            break\n        for w: uint256 in range(self._words(), bound=WORDS):\n            planes",
        "if sent >> p == 0 and p > 2:\n            break\n        for w: uint256 in range(self._words(), bound=WORDS):\n            planes",
    ),
    "who withheld its layer may lead": (
        "self.sets[REVEALED][w] | ~self.sets[COMMITTED][w]",
        "~empty(uint256)",
    ),
    "an approval needs no matching precommitment": (
        "bound != self.precommitments[v.id]",
        "bound == empty(bytes32)",
    ),
    "selection gets no time of grace": (
        "block.timestamp >= self.deadline + grace or",
        "block.timestamp >= self.deadline or",
    ),
    "COMMIT is extended for ever": ("self.extended += 1", "self.extended += 0"),
    "half of the ballots stops the training": (
        "2 * self._count(STOPPING) > self._count(OPENED)",
        "2 * self._count(STOPPING) >= self._count(OPENED)",
    ),
    "the last to go away breaks the quorum": (
        "standing == BACK or self._active() > self.terms.min_quorum",
        "standing == BACK or self._active() >= self.terms.min_quorum",
    ),
    "a motion's nonce stays": ("self.motions += 1", "self.motions += 0"),
    "the excluded may be invited by the owner": (
        "self._need(not self.excluded[who], NOT_INVITED)\n    self.invited",
        "self._need(True, NOT_INVITED)\n    self.invited",
    ),
    "weights follow reputation of today": (
        "reputation = self.lanes[SNAPSHOT][i >> 4]",
        "reputation = self.lanes[REPUTATION][i >> 4]",
    ),
}

RULE_BUGS: dict[str, tuple[object, str, Callable[[object], object]]] = {
    "the leader earns more": (rules, "GAIN_LED", lambda _: 200),
    "weights lack the one": (election, "weight", lambda f: lambda s, i: max(1, f(s, i) - 1)),
    "the permutation starts at the other end": (election, "permute", lambda f: lambda b, i: f(b, i)[::-1]),
    "K is rounded down": (
        selection,
        "keep_count",
        lambda f: lambda p, v, e: min(e, p.keep or v * p.keep_permille // 1000),
    ),
}


def hunt(name: str, **attributes: object) -> None:
    """Run the stateful test, without shrinking, until it fails."""
    run_state_machine_as_test(seed(1)(type(name, (Federation,), attributes)), settings=SETTINGS)


@pytest.mark.parametrize("bug", CONTRACT_BUGS)
def test_contract_bug_is_found(bug: str) -> None:
    right, wrong = CONTRACT_BUGS[bug]
    source = SOURCE.read_text()
    assert source.count(right) == 1
    code = bytes.fromhex(compiled(source.replace(right, wrong))[1][2:])
    with pytest.raises(AssertionError, match="specification|not|reason"):
        hunt("Mutant", code=code)


@pytest.mark.parametrize("bug", RULE_BUGS)
def test_rule_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, change = RULE_BUGS[bug]
    monkeypatch.setattr(module, name, change(getattr(module, name)))
    with pytest.raises(AssertionError, match="specification|not|reason"):
        hunt("Mistaken")
