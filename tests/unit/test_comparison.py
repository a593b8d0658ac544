"""What a sweep consists of, what it says, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from hansa import errors, wiring
from hansa.cli import main as cli
from hansa.comparison import cell as cells_module
from hansa.comparison import plot, results, sweep
from hansa.comparison.cell import Task, answer
from hansa.comparison.plan import Cell, Sweep, cells, federation
from hansa.comparison.plan import sweep as plan_of
from hansa.comparison.statistics import interval, paired, quantile

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def plan(systems: tuple[str, ...] = ("B", "C"), seeds: int = 2) -> Sweep:
    return plan_of(DIGITS, systems, ("sign-flip:5", "backdoor"), seeds, ("training.rounds=2",))


def record(cell: Cell, accuracy: float, **more: object) -> dict[str, object]:
    plain = {
        "system": cell.system, "attack": cell.attack, "seed": cell.seed, "status": "done", "accuracy": accuracy,
        "loss": 1.0, "attack_success": None, "rounds": 2, "failed_rounds": 0, "finished": True, "hostile_sent": 4,
        "hostile_accepted": 1, "honest_sent": 12, "honest_left_out": 3, "cpu_seconds": 2.0, "stored_bytes": 10,
        "gas": 7,
    }  # fmt: skip
    return plain | more


def test_cells_go_seed_by_seed_with_references_and_no_attack() -> None:
    made = cells(plan())
    assert len(made) == len(set(made)) == 2 * (3 * 3 + 2)
    assert [c.seed for c in made] == sorted(c.seed for c in made)
    assert {c.attack for c in made} == {"none", "sign-flip:5", "backdoor"}
    assert {c.attack for c in made if c.system in ("pooled", "alone")} == {"none"}
    assert len({c.file for c in made}) == len(made)
    assert all(":" not in c.file and "/" not in c.file for c in made)


def test_hostile_are_those_of_the_file_or_the_last_quarter(tmp_path: Path) -> None:
    assert plan().hostile == ("m3", "m6")
    for name in ("federation.toml", "app.py"):
        shutil.copyfile(DIGITS / name, tmp_path / name)
    file = tmp_path / "federation.toml"
    file.write_text("".join(line for line in file.open() if not line.startswith("malicious")))
    assert plan_of(tmp_path, ("B",), (), 1, ()).hostile == ("m6", "m7")


def test_a_system_that_cannot_run_is_left_out_with_the_reason() -> None:
    made = plan_of(DIGITS, ("B", "D", "C", "B"), (), 1, ("training.gamma=0.5",))
    assert made.systems == ("C",)
    assert [name for name, _ in made.skipped] == ["B", "D"]
    assert "has training.gamma = 1.0" in dict(made.skipped)["B"]
    with pytest.raises(errors.Misconfigured, match="none of these systems can run"):
        plan_of(DIGITS, ("D",), (), 1, ())


def test_apps_that_the_references_cannot_train_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="is a Flower app"):
        plan_of(DIGITS.parent / "flower-quickstart", ("C",), (), 1, ())
    (tmp_path / "federation.toml").write_text(
        '[federation]\nname = "x"\nscheme = "mpc"\ngovernance = "server"\n[training]\nrounds = 1\n[selection]\n'
        'rule = "none"\n[governance]\ninvitation = "vote"\nseats = ["p0", "p1", "p2"]\n[privacy]\n'
        'differential_privacy = "off"\n'
    )
    with pytest.raises(errors.Misconfigured, match="only system D can train"):
        plan_of(tmp_path, ("D",), (), 1, ())


def test_settings_of_a_scheme_count_under_that_scheme_only() -> None:
    settings = ["secagg.modulus=2048"]
    made = federation(DIGITS, "E", settings)
    assert made.draft.secagg is not None
    assert made.draft.secagg.modulus == 2048
    assert federation(DIGITS, "A", settings).draft.secagg is None
    assert federation(DIGITS, "fedavg", settings).preset is None


def test_the_number_of_rounds_is_everybodys_but_of_systems_that_have_their_own(tmp_path: Path) -> None:
    written = (DIGITS / "federation.toml").read_text()
    (tmp_path / "federation.toml").write_text(
        written + '[under.mpc.governance]\nseats = ["p0", "p1", "p2"]\n'
    )
    rounds = [
        federation(tmp_path, name, ["training.rounds=3"]).draft.training.rounds for name in ("B", "fedavg")
    ]
    assert rounds == [3, 3]
    assert federation(tmp_path, "D", ["training.rounds=3"]).draft.training.rounds == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--presets", "B,G"], "there is no preset 'G'"),
        (["--presets", "c"], "did you mean C?"),
        (["--attacks", "sing-flip"], "did you mean 'sign-flip'?"),
        (["--attacks", "alie:no"], "must be a positive number"),
        (["--presets", ","], "names nothing"),
        (["--set", "training.round=3"], 'did you mean "rounds"?'),
    ],
)
def test_names_that_are_none_are_refused_before_anything_runs(
    words: list[str], message: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["hansa", "compare", str(DIGITS), "--out", str(tmp_path / "out"), *words]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_sweep_is_refused_and_more_seeds_are_not(tmp_path: Path) -> None:
    sweep.open_folder(tmp_path, plan())
    sweep.open_folder(tmp_path, plan(("A", "B"), seeds=5))
    other = plan_of(DIGITS, ("B",), (), 1, ("training.rounds=3",))
    with pytest.raises(errors.Misconfigured, match="another sweep: settings differ"):
        sweep.open_folder(tmp_path, other)


def test_what_failed_waits_again_and_a_torn_file_is_named(tmp_path: Path) -> None:
    one = plan(("B",), seeds=1)
    sweep.open_folder(tmp_path, one)
    first, second, *rest = cells(one)
    write = (tmp_path / "cells").joinpath
    write(first.file).write_text('{"status": "done"}')
    write(second.file).write_text('{"status": "failed", "error": "gone"}')
    assert sweep.waiting(tmp_path, one) == [second, *rest]
    write(first.file).write_text('{"status"')
    with pytest.raises(errors.Misconfigured, match="cannot read"):
        sweep.waiting(tmp_path, one)


@pytest.mark.parametrize("error", [errors.Unavailable("the store is gone"), ValueError("a bug")])
def test_a_cell_that_raises_is_a_record_with_its_error(error: Exception, tmp_path: Path, monkeypatch) -> None:
    def fail(_: object) -> None:
        (tmp_path / "work").mkdir()
        raise error

    monkeypatch.setattr(cells_module, "measure", fail)
    cell = Cell("B", "none", 0)
    made = answer(Task(cell, DIGITS, (), (), tmp_path / "work"))
    assert (made["status"], made["system"], made["seed"]) == ("failed", "B", 0)
    assert str(error) in made["error"]
    assert not (tmp_path / "work").exists()


def test_intervals_are_those_of_student() -> None:
    for freedom in (1, 2, 9, 30, 31, 60, 500):
        assert quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4)
    values = [0.9, 0.92, 0.97, 0.91]
    made = interval(values)
    assert made is not None
    low, high = stats.t.interval(0.95, 3, loc=made.mean, scale=stats.sem(values))
    assert (made.low, made.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert interval([]) is None
    assert interval([0.5]).half is None  # type: ignore[union-attr]


def test_a_paired_change_takes_the_seeds_apart() -> None:
    calm, attacked = {0: 0.9, 1: 0.5, 2: 0.7}, {0: 0.8, 1: 0.4, 3: 0.1}
    change = paired(attacked, calm)
    assert change is not None
    assert (change.mean, change.n) == (pytest.approx(-0.1), 2)
    assert change.half == pytest.approx(0, abs=1e-12)


def made_rows() -> tuple[Sweep, dict[Cell, dict[str, object]], list[results.Row]]:
    p = plan(("B",))
    records = {
        c: record(
            c,
            0.9 + c.seed / 100 if c.attack == "none" else 0.8,
            attack_success=0.5 if c.attack == "backdoor" else None,
        )
        for c in cells(p)
    }
    broken = Cell("B", "sign-flip:5", 1)
    records[broken] = cells_module.failure(broken, "no, really")
    return p, records, results.rows(p, records)


def test_rows_sum_up_and_count_what_failed() -> None:
    _, _, rows = made_rows()
    row = next(r for r in rows if (r.system, r.attack) == ("B", "sign-flip:5"))
    assert (row.seeds, row.failed, row.accepted, row.left_out) == (1, 1, 0.25, 0.25)
    assert row.change is not None
    assert row.change.mean == pytest.approx(-0.1)
    backdoor = next(r for r in rows if (r.system, r.attack) == ("B", "backdoor"))
    assert backdoor.change is not None
    assert backdoor.change.mean == pytest.approx(-0.105)
    assert backdoor.attack_success is not None
    assert backdoor.attack_success.mean == 0.5
    assert next(r for r in rows if r.attack == "none").change is None


def test_an_interrupted_sweep_writes_what_there_is(tmp_path: Path, monkeypatch, capsys) -> None:
    def interrupt(folder: Path, p: Sweep, _: int):
        first = cells(p)[0]
        (folder / "cells" / first.file).write_text(json.dumps(record(first, 0.75)))
        yield first, record(first, 0.75)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run", interrupt)
    words = ["--presets", "B", "--attacks", "lie", "--seeds", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["hansa", "compare", str(DIGITS), *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 130
    said = capsys.readouterr()
    assert "nothing is lost" in said.err
    assert said.out == ""
    assert "| none | 75.0 |" in (tmp_path / "out" / "systems.md").read_text()


def test_tables_say_it_all() -> None:
    p, records, rows = made_rows()
    lines = list(csv.DictReader(io.StringIO(results.cells_csv(records.values()))))
    assert len(lines) == len(records)
    assert [line["error"] for line in lines if line["status"] == "failed"] == ["no, really"]
    flat = list(csv.DictReader(io.StringIO(results.rows_csv(rows))))
    assert flat[0]["accuracy"] == "0.905"
    assert float(flat[0]["accuracy_low"]) < 0.905 < float(flat[0]["accuracy_high"])
    text = results.markdown(p, rows)
    assert "| sign-flip:5 | 80.0 (1 failed) | 80.0 ± 0.0 |" in text
    assert "| sign-flip:5 | 25 / 25 |" in text
    assert "| backdoor success | 50.0 ± 0.0 | 50.0 ± 0.0 |" in text
    assert "| CPU seconds a run | 2.0 |" in text
    assert results.to_json(p, rows)["rows"][0]["system"] == "B"


def test_the_plot_is_a_picture_of_its_own_with_a_dot_for_each_row() -> None:
    p, _, rows = made_rows()
    drawn = plot.accuracy(p, rows)
    tree = ElementTree.fromstring(drawn)
    titles = [e.text for e in tree.iter("{http://www.w3.org/2000/svg}title")]
    assert "B, backdoor: 80.0 % ± 0.0, 2 seeds" in titles
    assert len(titles) == 1 + 2 * 3
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in drawn


def test_what_lies_in_the_store_is_counted_with_its_messages(tmp_path):
    store, kept = wiring.stores_on_one_disk(tmp_path / "store", tmp_path / "kept")
    store.put(bytes(1000))
    kept.put(bytes(5000))
    store.put_at("outbox/f/1/commit/0", bytes(30))
    store.put_at("welcome/f/1/0", bytes(4))
    assert cells_module._stored(tmp_path / "store", store) == 1034
