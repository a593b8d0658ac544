"""Lines of `metrics.jsonl`: one a member and one a round, none twice, none lost, torn ones taken away."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hansa import errors, runfolder
from hansa.node.meter import Meter
from hansa.protocol import events as ev
from hansa.protocol.history import RoundStory
from hansa.protocol.timing import pack_meta
from hansa.records import Fault, Outcome, Phase
from hansa.rounds import Rounds

NAMES = ["m0", "m1", "s0"]


class Chain:
    """Every block has one transaction; block n's uses n gas."""

    def request(self, method: str, params: tuple[Any, ...] = ()) -> Any:
        if method == "eth_getBlockByNumber":
            return {"transactions": [{"hash": params[0]}]}
        return {"gasUsed": params[0]}


def story(number: int, outcome: Outcome = Outcome.FINAL) -> RoundStory:
    final = outcome is Outcome.FINAL
    return RoundStory(
        number,
        committed=frozenset({0, 1}),
        selected=frozenset({0} if final else ()),
        leaders=(2,) if final else (),
        slashed=((1, Fault.WITHHELD_BLOB),),
        outcome=outcome,
        version=number,
    )


def played(rounds: Rounds, number: int, outcome: Outcome = Outcome.FINAL) -> None:
    """Ten blocks for each round; a federation begins with block 5."""
    if number == 1:
        rounds.observe(ev.Entered(1, Phase.COMMIT, 0), None, 5)
    for id, millis in ((0, 30), (1, 40)):
        rounds.observe(
            ev.Committed(number, id, 0, b"", pack_meta(0, millis, 7 + id)), story(number), 10 * number
        )
    rounds.observe(ev.Ended(number, outcome, number, b""), story(number, outcome), 10 * number + 5)


def written(rounds: Rounds, **metrics: float) -> list[dict[str, Any]]:
    return [
        line
        for each in rounds.due()
        for line in rounds.write(each, Chain(), 60, NAMES, 2, metrics)  # type: ignore[arg-type]
    ]


def test_a_round_has_a_line_for_each_member_and_its_own(tmp_path: Path) -> None:
    meter, clock = Meter(), iter([10.0, 12.5])
    rounds = Rounds(tmp_path, meter, clock=lambda: next(clock))
    meter.up = 900
    played(rounds, 1)
    lines = written(rounds, loss=0.5, accuracy=math.nan)
    assert (
        lines
        == rounds.lines
        == [json.loads(s) for s in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    )
    first, second, own = lines
    assert (first["member"], first["rows"], first["training_ms"]) == ("m0", 7, 30)
    assert (first["selected"], second["selected"], second["slashed"]) == (True, False, ["withheld_blob"])
    assert own == {
        "kind": "round",
        "round": 1,
        "outcome": "final",
        "version": 1,
        "time": 60,
        "leader": "s0",
        "selected": ["m0"],
        "left_out": ["m1"],
        "gas": sum(range(6, 16)),
        "bytes": 900,
        "seconds": 2.5,
        "loss": 0.5,
        "accuracy": None,
    }


def test_a_metric_cannot_take_the_name_of_a_field(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, Meter())
    played(rounds, 1)
    assert written(rounds, round=7.0, loss=1.0)[-1]["round"] == 1


def test_a_round_that_failed_has_a_line_and_no_metric(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, Meter())
    played(rounds, 1, Outcome.VOID)
    played(rounds, 2)
    lines = [line for line in written(rounds, loss=1.0) if line["kind"] == "round"]
    assert [(line["round"], line["outcome"], line["leader"]) for line in lines] == [
        (1, "void", None),
        (2, "final", "s0"),
    ]
    assert [line["round"] for line in rounds.final] == [2]
    assert runfolder.read_metrics(tmp_path) == rounds.final


@pytest.mark.parametrize(
    "torn",
    [
        '{"kind": "member", "round": 2}\n',
        '{"kind": "round", "rou',
        '{"kind": "member", "round": 2}\n7\n',
        "\x00\xff",
    ],
)
def test_what_a_kill_left_of_a_round_is_taken_away_and_written_again(tmp_path: Path, torn: str) -> None:
    first = Rounds(tmp_path, Meter())
    played(first, 1)
    whole = written(first, loss=1.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    second = Rounds(tmp_path, Meter())
    assert second.lines == whole
    played(second, 1)  # the fold of the whole chain tells of old rounds again
    played(second, 2)
    again = written(second, loss=0.5)
    assert {line["round"] for line in again} == {2}
    assert again[-1]["gas"] == sum(range(16, 26))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == whole + again


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "gone", Meter())
    played(rounds, 1)
    with pytest.raises(errors.Unavailable, match="cannot write"):
        written(rounds)
