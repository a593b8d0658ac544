from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from tests.tiny import terms

from hansa.audit.anchors import Anchors
from hansa.protocol.history import RoundStory
from hansa.protocol.state import State
from hansa.records import Accept, Fault, Outcome, Parameters, Phase, SecAgg, Tee
from hansa.summary import (
    FAULTS,
    Accuracy,
    MemberRow,
    Summary,
    number,
    outcome_of,
    privacy_sentence,
    reasons,
    to_json,
)

ALL = frozenset(range(4))
ROUND = RoundStory(1, ALL, ALL, frozenset({0, 1}), outcome=Outcome.FINAL)


@pytest.mark.parametrize(
    ("round", "expected"),
    [
        (ROUND, {"ranked below the best 2": 1}),
        (replace(ROUND, selected=ALL), {}),
        (replace(ROUND, committed=ALL - {3}, available=ALL - {3}), {"sent no update": 1}),
        (replace(ROUND, available=ALL - {3}), {"its update could not be had": 1}),
        (
            replace(ROUND, available=ALL - {3}, slashed=((3, Fault.WITHHELD_BLOB),)),
            {"withheld its update": 1},
        ),
        (replace(ROUND, slashed=((2, Fault.WITHHELD_BALLOT),)), {"ranked below the best 2": 1}),
        (replace(ROUND, slashed=((3, Fault.WITHHELD_BALLOT),)), {"withheld its ballot": 1}),
        (replace(ROUND, slashed=((3, Fault.SILENT_VERIFIER),)), {"ranked below the best 2": 1}),
        (replace(ROUND, outcome=Outcome.VOID), {}),
        (replace(ROUND, outcome=None), {}),
    ],
)
def test_reasons_of_one_round(round: RoundStory, expected: dict[str, int]) -> None:
    assert dict(reasons([round], 3)) == expected


def test_reasons_add_up_over_rounds() -> None:
    absent = replace(ROUND, round=2, committed=ALL - {3})
    found = reasons([ROUND, absent, replace(ROUND, round=3)], 3)
    assert found.most_common() == [("ranked below the best 2", 2), ("sent no update", 1)]


def test_every_fault_has_words() -> None:
    assert FAULTS.keys() == set(Fault)


@pytest.mark.parametrize(
    ("phase", "version", "voids", "stops", "words"),
    [
        (Phase.STOPPED, 20, 0, 0, "all 20 rounds are final"),
        (Phase.STOPPED, 7, 0, 1, "stopped after 7 of 20 rounds, as most evaluators wished"),
        (Phase.STOPPED, 7, 0, 0, "stopped after 7 of 20 rounds, by a motion of its members"),
        (Phase.PAUSED, 3, 2, 0, "PAUSED after 3 of 20 rounds: 2 rounds in a row failed"),
        (Phase.PAUSED, 3, 1, 0, "PAUSED after 3 of 20 rounds: by a motion of its members"),
        (Phase.VERIFY, 3, 0, 0, "at work: 3 of 20 rounds are final"),
    ],
)
def test_outcome(phase: Phase, version: int, voids: int, stops: int, words: str) -> None:
    state = State(Parameters(bytes(32), max_voids=2), frozenset(), bytes(20), bytes(32), bytes(32))
    state = replace(state, current=replace(state.current, stops=stops))
    assert outcome_of(replace(state, phase=phase, version=version, voids=voids)) == words


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_none(value: float) -> None:
    assert number(value) is None
    assert number(0.12345678) == 0.123457


def test_privacy_without_noise_is_said_in_so_many_words() -> None:
    sentence = privacy_sentence(terms([]))
    assert sentence.startswith("plaintext: every member can read")
    assert "carries no noise" in sentence


def test_under_tee_the_sentence_says_who_sees_updates_and_what_protects_them() -> None:
    made = replace(terms([]), scheme="tee", tee=Tee(accept=Accept(root="simulation")))
    assert "tee, simulated: NO HARDWARE PROTECTION: whoever hosts" in privacy_sentence(made)
    assert "every member" not in privacy_sentence(made)
    real = replace(made, tee=Tee(accept=Accept(root="intel", enclaves=("ab" * 32,))))
    assert "attested enclaves see single updates, and nobody else" in privacy_sentence(real)
    assert "NO HARDWARE" not in privacy_sentence(real)


def test_under_secagg_the_sentence_says_who_could_open_updates() -> None:
    sentence = privacy_sentence(replace(terms([]), scheme="secagg", secagg=SecAgg()))
    assert "nobody sees a single update, but a key centre and a server together could" in sentence


def test_json_of_a_summary() -> None:
    member = MemberRow("m0", 10, 1, (("ranked below the best 2", 1),), (("did not vote", 2),), 90)
    anchors = Anchors(1, b"\1" * 20, b"\2" * 32, 7, b"\3" * 32)
    summary = Summary(
        run="runs/x-1",
        name="x",
        scheme="plaintext",
        seed=0,
        metric="accuracy",
        finished=True,
        outcome="all 1 rounds are final",
        planned=1,
        rounds=1,
        failed_rounds=0,
        model_digest=b"\4" * 32,
        accuracy=Accuracy(0.9, 0.5, None, 0.95),
        members=(member,),
        gas_by_call=(("deploy", 5), ("votes", 7)),
        privacy="",
        protection=None,
        anchors=anchors,
        seconds=1.5,
    )
    plain = json.loads(json.dumps(to_json(summary), allow_nan=False))
    assert plain["model_digest"] == "04" * 32
    assert plain["accuracy"] == {"joint": 0.9, "alone_mean": 0.5, "fedavg_unprotected": None, "pooled": 0.95}
    assert plain["left_out"] == {"m0": 1}
    assert plain["gas"] == 12
    assert plain["gas_by_call"] == {"deploy": 5, "votes": 7}
    assert plain["members"][0]["why"] == {"ranked below the best 2": 1}
    assert plain["members"][0]["slashed"] == {"did not vote": 2}
    assert plain["anchors"]["hash"] == "03" * 32
