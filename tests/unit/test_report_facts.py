from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.reported import gathered, small
from tests.tiny import terms, tiny

from hansa import encoding
from hansa.protocol import events as ev
from hansa.records import Accept, Boundary, Mpc, Phase, SecAgg, Tee
from hansa.report.chronicle import SET_UP, Chronicle
from hansa.report.facts import Check
from hansa.report.flow import UNKNOWN, Volume, flows_of
from hansa.report.folder import row_of
from hansa.report.making import make
from hansa.report.stopwatch import Stopwatch
from hansa.runfolder import read_lines


def test_rounds_are_those_of_the_chain() -> None:
    facts = small()
    assert [r.number for r in facts.rounds] == [1, 2, 3]
    for r in facts.rounds:
        assert r.outcome == "final"
        assert r.committed == (0, 1, 2, 3, 4)
        assert set(r.selected) < set(r.committed)
        assert r.leaders
        assert r.approvals >= 4
    assert [r.value for r in facts.rounds] == [1.0, 0.5, 1 / 3]
    assert (facts.state, facts.final, facts.planned, facts.failed) == ("stopped", 3, 3, 0)


def test_phases_follow_each_other_without_a_gap() -> None:
    facts = small()
    for r in facts.rounds:
        assert [s.phase for s in r.spans][:3] == ["COMMIT", "BEACON", "AVAILABLE"]
        assert all(a.end == b.begin for a, b in zip(r.spans, r.spans[1:], strict=False))
    took = {c.phase: c.chain_seconds for c in facts.costs}
    assert sum(took.values()) == sum(r.spans[-1].end - r.spans[0].begin for r in facts.rounds)


def test_a_phase_that_goes_on_has_no_end() -> None:
    made = tiny()
    made.until(Phase.REVEAL, round=2)
    facts = make(gathered(made, running=False))
    assert (facts.state, facts.finished, facts.phase, facts.round) == ("killed", False, "REVEAL", 2)
    assert facts.rounds[1].outcome == "running"
    assert facts.rounds[1].spans[-1].end is None
    assert facts.waiting.startswith("opening of ")
    assert make(gathered(made, running=True)).state == "running"
    assert make(gathered(made, running=None)).state == "at work"


def test_nobody_judges_itself_in_the_matrix() -> None:
    for r in small().rounds:
        assert r.matrix is not None
        assert [row.evaluator for row in r.matrix] == [0, 1, 2, 3, 4]
        assert all(row.evaluator not in row.targets and len(row.targets) == 4 for row in r.matrix)


def test_members_have_what_the_summary_says_and_why_the_chain_left_them_out() -> None:
    facts = small()
    parties = facts.parties
    assert [p.worse for p in parties] == [False, False, False, True, True]
    assert [p.joint for p in parties] == pytest.approx([0.4, 0.45, 0.5, 0.55, 0.6])
    assert parties[4].hostile == "noise:0.5"
    out = {p.id: sum(p.id not in r.selected for r in facts.rounds) for p in parties}
    assert {p.id: p.left_out for p in parties} == out
    assert sum(p.led for p in parties) == 3
    assert all(why == "ranked below the best 4" for p in parties for why, _ in p.why)


def test_curves_that_do_not_fit_their_rounds_are_left_out() -> None:
    made = tiny()
    made.run()
    told = {"baselines": {"rounds": [1, 2], "pooled": [0.1], "alone_mean": [0.1, "x"]}}
    found = make(gathered(made, summary=told)).baselines
    assert (found.rounds, found.pooled, found.alone_mean, found.fedavg_unprotected) == (
        (1, 2),
        (),
        (0.1, None),
        (),
    )


def test_a_transaction_belongs_to_the_phase_in_which_its_block_began() -> None:
    chronicle = Chronicle()
    for block, phase in ((5, Phase.COMMIT), (8, Phase.BEACON), (8, Phase.AVAILABLE)):
        chronicle(ev.Entered(1, phase, 0), block)
    assert [chronicle.phase_at(b) for b in (4, 5, 6, 8, 9)] == [
        SET_UP,
        SET_UP,
        "COMMIT",
        "COMMIT",
        "AVAILABLE",
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"junk",
        encoding.encode([1]),
        encoding.encode({"targets": [1], "values": [], "doubts": []}),
        encoding.encode({"targets": ["<b>"], "values": [1.0], "doubts": [False]}),
        encoding.encode({"targets": [1], "values": ["x"], "doubts": [False]}),
    ],
)
def test_a_row_that_is_none_is_left_out(data: bytes) -> None:
    assert row_of(0, data) is None


def test_doubts_and_what_is_no_number_are_none() -> None:
    data = {"targets": [1, 2, 3], "values": [0.123456, 5.0, -math.inf], "doubts": [False, True, False]}
    row = row_of(0, encoding.encode(data))
    assert row is not None
    assert row.values == (0.123, None, None)


AGREED = terms([])
SUMS = replace(AGREED, scheme="secagg", secagg=SecAgg())
SIMULATED = replace(AGREED, scheme="tee", tee=Tee(accept=Accept(root="simulation")))
REAL = replace(AGREED, scheme="tee", tee=Tee(accept=Accept(root="intel", enclaves=("ab" * 32,))))
SHARED = replace(AGREED, scheme="mpc", mpc=Mpc())
OPENED = replace(SHARED, mpc=Mpc(reveals=(Boundary("hidden", -1, "step", noise=0.5),)))
ROWS, MATRIX, UPDATE = "row counts, training times", "evaluators' values", "one member's update"


@pytest.mark.parametrize(
    ("agreed", "red"),
    [
        (AGREED, {ROWS, MATRIX, UPDATE}),
        (SUMS, {ROWS}),
        (SIMULATED, {ROWS, UPDATE}),
        (REAL, {ROWS}),
        (replace(SUMS, scheme="tee", tee=REAL.tee), {ROWS}),
        (SHARED, {ROWS}),
        (OPENED, {ROWS, "opened: hidden"}),
    ],
    ids=["plaintext", "secagg", "tee simulated", "tee", "tee over secagg", "mpc", "mpc that opens"],
)
def test_red_is_what_others_can_read_of_one_member(agreed, red: set[str]) -> None:
    found = flows_of(agreed, Volume(3, 90), UNKNOWN, UNKNOWN)
    assert {f.what for f in found if f.crosses} == red
    for f in found:
        assert f.crosses == ("plain" in (f.operators, f.others)), f.what
    assert (3, 90) in {(f.count, f.bytes) for f in found}


def test_only_a_simulated_enclave_lets_its_host_read_sums() -> None:
    for tee, seen in ((SIMULATED.tee, "joint"), (REAL.tee, "sealed")):
        agreed = replace(SUMS, scheme="tee", tee=tee)
        found = {f.what: f.others for f in flows_of(agreed, UNKNOWN, UNKNOWN, UNKNOWN)}
        assert found["sum of updates"] == seen


def test_no_hardware_protection_is_said_where_updates_are() -> None:
    found = {f.what: f.who for f in flows_of(SIMULATED, UNKNOWN, UNKNOWN, UNKNOWN)}
    assert "NO HARDWARE PROTECTION" in found[UPDATE]
    assert "attested enclaves only" in {f.who for f in flows_of(REAL, UNKNOWN, UNKNOWN, UNKNOWN)}


def test_facts_carry_what_an_audit_said() -> None:
    made = tiny()
    made.run()
    checks = (Check("votes", "verified", 9, ""), Check("elections", "attested", 1, "x"))
    facts = make(gathered(made, checks=checks))
    link = next(x for x in facts.evidence if x.title == "Leaders and votes")
    assert (link.verdict, {c.name for c in link.checks}) == ("attested", {"votes", "elections"})
    assert all(x.verdict == "unchecked" for x in facts.evidence if x is not link)


def test_the_stopwatch_writes_a_line_a_round_and_passes_events_on(tmp_path: Path) -> None:
    now, heard = [0.0], []
    watch = Stopwatch(tmp_path, lambda event, _: heard.append(event), clock=lambda: now[0])
    steps = [
        (1, Phase.COMMIT, 1),
        (1, Phase.COMMIT, 2),
        (1, Phase.BEACON, 4),
        (2, Phase.COMMIT, 8),
        (2, Phase.STOPPED, 1),
    ]
    for round, phase, seconds in steps:
        watch(ev.Entered(round, phase, 0), None)
        now[0] += seconds
    assert len(heard) == len(steps)
    rows = read_lines(tmp_path / "seconds.jsonl")
    assert rows == [
        {"round": 1, "seconds": {"COMMIT": 3.0, "BEACON": 4.0}},
        {"round": 2, "seconds": {"COMMIT": 8.0}},
    ]


def test_a_loss_is_better_when_lower() -> None:
    assert (small().metric, small().better) == ("loss", "lower")
