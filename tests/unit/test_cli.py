from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.tiny import LENGTH, terms

from hansa import errors
from hansa.cli import main as cli
from hansa.cli.console import clock, command, percent, short, show_error
from hansa.cli.costs import GAS, gas_of_a_round, longest_round, update_bytes
from hansa.cli.main import exit_code
from hansa.cli.report import first_line, show_summary
from hansa.cli.run import holding
from hansa.config import load_federation
from hansa.protocol.attested import NO_PROTECTION
from hansa.published.presets import preset
from hansa.records import GovernanceTerms, SelectionTerms, Training
from hansa.summary import Accuracy, Anchors, MemberRow, Summary, preset_said

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Exit code and what `hansa` with these arguments writes to both streams."""
    monkeypatch.setattr(sys, "argv", ["hansa", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    written = capsys.readouterr()
    return int(stopped.value.code or 0), written.out, written.err


def test_help_names_every_command_and_exit_code(monkeypatch, capsys) -> None:
    code, out, _ = run(monkeypatch, capsys, "--help")
    assert code == 0
    for word in ("run", "status", "audit", "export", "check", "explain"):
        assert f"\n  {word} " in out
    for n in (0, 1, 2, 3, 4, 130):
        assert f"\n  {n:>3}  " in out
    assert "--traceback" in out


def test_version(monkeypatch, capsys) -> None:
    code, out, _ = run(monkeypatch, capsys, "--version")
    assert (code, out.split()[0]) == (0, "hansa")
    assert out.split()[1][0].isdigit()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bake"], "No such command"),
        (["run"], "Missing argument"),
        (["run", "app", "--rounds", "many"], "Invalid value for '--rounds'"),
        (["run", "nowhere"], "cannot read nowhere/federation.toml: No such file"),
        (["status", "nowhere"], "'nowhere' is neither a run folder nor a federation"),
        (["status", "."], "holds no run: run.cbor is missing"),
        (["audit", "nowhere"], "nowhere"),
        (["export", "nowhere", "m.safetensors"], "'nowhere' is neither a run folder"),
        (["export", "nowhere", "no/m.safetensors"], "there is no folder no"),
        (["run", str(DIGITS), "--set", "training.round=3"], 'did you mean "rounds"?'),
        (["run", str(DIGITS), "--set", "rounds=3"], "not of the form SECTION.KEY=VALUE"),
        (["run", str(DIGITS), "--set", "training.rounds=three"], "[training] rounds"),
        (["run", str(DIGITS), "--members", "6"], "malicious.m6: no such member; they are called m0 to m5"),
        (
            ["run", str(DIGITS), "--members", "4"],
            "[simulation] members: 4 is below [training] min_members = 5",
        ),
        (["run", str(DIGITS), "--resume"], "there is no run of digits in runs to go on with"),
        (["run", str(DIGITS), "--out", "file"], "cannot use file: File exists"),
        (["check", str(DIGITS), "--set", "federation.scheme=mpc"], "computing parties lead"),
        (["explain", str(DIGITS), "--set", "privacy.differential_privacy=yes"], "[privacy]"),
    ],
)
def test_wrong_input_is_met_with_one_paragraph(monkeypatch, capsys, tmp_path, words, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["file"], "nothing is left behind"


def test_members_without_the_malicious_ones_says_how_to_name_them(monkeypatch, capsys) -> None:
    _, _, err = run(monkeypatch, capsys, "run", str(DIGITS), "--members", "6")
    assert "--set 'simulation.malicious={}'" in err


def test_traceback_is_shown_when_asked_for(monkeypatch, capsys) -> None:
    _, _, err = run(monkeypatch, capsys, "status", "nowhere", "--traceback")
    assert err.startswith("Traceback (most recent call last)")
    assert "hansa: 'nowhere' is neither" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Misconfigured(), 2),
        (errors.Unavailable(), 3),
        (errors.Untrusted(), 1),
        (errors.WrongRound(), 1),
    ],
)
def test_whose_fault_it_is_stands_in_the_exit_code(error: errors.HansaError, code: int) -> None:
    assert exit_code(error) == code


def test_a_fault_of_our_own_asks_for_a_report(monkeypatch, capsys) -> None:
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("x / 0")

    monkeypatch.setattr("hansa.cli.runs.read_run", broken)
    code, _, err = run(monkeypatch, capsys, "status", ".")
    assert code == 1
    assert err.splitlines()[0] == "hansa: ZeroDivisionError: x / 0"
    assert "please report it" in err


def test_an_error_of_brackets_is_shown_as_it_is(capsys) -> None:
    show_error("[bold]x[/nothing]: odd", "do [red]y")
    assert capsys.readouterr().err == "hansa: [bold]x[/nothing]: odd\n       do [red]y\n"


def test_two_processes_cannot_hold_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holding(folder, resume=False):
        (folder / "run.cbor").write_bytes(b"")
        with (
            pytest.raises(errors.Misconfigured, match="another process is at work"),
            holding(folder, resume=True),
        ):
            pass
    with holding(folder, resume=True):
        pass
    assert (folder / "run.cbor").exists()


def test_holding_leaves_no_empty_folder_and_takes_no_strange_one(tmp_path: Path) -> None:
    with holding(tmp_path / "a" / "b", resume=False):
        pass
    assert not (tmp_path / "a" / "b").exists()
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(errors.Misconfigured, match="not empty"), holding(tmp_path, resume=False):
        pass
    with holding(tmp_path, resume=True):
        pass


def test_first_line_names_scheme_and_hostile_members() -> None:
    file = load_federation(DIGITS)
    assert first_line(file).plain == (
        "digits · PLAINTEXT · simulated · seed 0 · 8 members, 2 malicious: m3 sign-flip:5, m6 noise:0.5"
    )
    assert first_line(load_federation(DIGITS, ["simulation.malicious={}"])).plain.endswith("none malicious")


def test_first_line_says_what_preset_it_is_and_that_it_is_unsafe() -> None:
    hardened = first_line(load_federation(DIGITS, (), preset("B"))).plain
    assert hardened.startswith("digits-b · PLAINTEXT · system B, hardened · simulated")
    published = first_line(load_federation(DIGITS, (), preset("B-published"))).plain
    assert published.startswith(
        "digits-b-as-published-unsafe · PLAINTEXT · system B, as published: UNSAFE · "
    )


def test_the_end_of_a_run_says_its_preset_and_why_it_is_unsafe() -> None:
    assert "preset" not in shown(SUMMARY)
    said = preset_said(preset("E-published"))
    text = " ".join(shown(replace(SUMMARY, preset=said)).split())
    assert "preset system E, as published: UNSAFE: one hostile member moves the mean" in text
    assert preset_said(preset("E")) == "system E, hardened"


def shown(summary: Summary, *, verbose: bool = False) -> str:
    out = Console(file=io.StringIO(), width=80, highlight=False, markup=False, emoji=False)
    show_summary(out, summary, verbose=verbose, anchors=None)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


SUMMARY = Summary(
    run="runs/x-1",
    name="x",
    scheme="plaintext",
    seed=0,
    metric="accuracy",
    finished=True,
    outcome="all 20 rounds are final",
    planned=20,
    rounds=20,
    failed_rounds=1,
    model_digest=b"\4" * 32,
    accuracy=Accuracy(0.951, 0.5, None, 0.97),
    members=(
        MemberRow("m0", 10, 0, (), (), 200, alone=0.91, joint=0.9, worse=True),
        MemberRow("m1", 12, 20, (("ranked below the best 6", 20),), (), 90, hostile="noise:0.5"),
        MemberRow("m2", 9, 1, (("sent no update", 1),), (("did not vote", 3),), 80, alone=0.7, joint=0.9),
    ),
    gas_by_call=(("deploy", 5_000_000), ("votes", 630_000)),
    privacy="plaintext: all is seen.",
    protection=None,
    anchors=Anchors(1, b"\1" * 20, b"\2" * 32, 7, b"\3" * 32),
    seconds=31.4,
)


def test_the_end_of_a_run() -> None:
    text = shown(SUMMARY)
    assert text.splitlines()[1] == "All 20 rounds are final; 1 rounds failed. 31 s."
    assert "this federation" in text
    rows = {line.split()[0]: " ".join(line.split()) for line in text.splitlines() if line[:1] == "m"}
    assert "95.1 %" in text
    assert "none" in next(
        line for line in text.splitlines() if "plain FedAvg, unprotected, 1 hostile" in line
    )
    assert rows["m0"] == "m0 10 0 of 20 200 91.0 % -> 90.0 % WORSE"
    assert rows["m1"] == "m1 ranked below the best 6 in 20 rounds (malicious: noise:0.5)"
    assert rows["m2"] == "m2 sent no update once; did not vote (3)"
    assert "m1 12 20 of 20 90" in " ".join(text.split())
    assert "next hansa audit runs/x-1" in " ".join(text.split())
    assert "gas 5,630,000 in all, 10,000 a member and round" in " ".join(text.split())
    assert "gas by call" not in text


def test_what_protects_enclaves_is_said_where_there_are_some() -> None:
    assert "enclaves" not in shown(SUMMARY)
    enclosed = replace(SUMMARY, scheme="tee", protection=NO_PROTECTION)
    assert f"enclaves {NO_PROTECTION}" in " ".join(shown(enclosed).split())


def test_gas_by_call_is_shown_when_asked_for() -> None:
    text = " ".join(shown(SUMMARY, verbose=True).split())
    assert "deploy 5,000,000 89 %" in text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.9514, "95.1 %"),
        ("loss", 0.25, "0.2500"),
        ("test_loss", 3.0, "3.0000"),
        ("f1", None, "none"),
    ],
)
def test_metrics_for_people(metric: str, value: float | None, text: str) -> None:
    assert percent(metric, value) == text


def test_small_words() -> None:
    assert [clock(s) for s in (0, 59.9, 61, 3723)] == ["0:00", "0:59", "1:01", "1:02:03"]
    assert short(bytes(32)) == "00000000…0000"
    assert command("hansa", "audit", Path("my runs/1")) == "hansa audit 'my runs/1'"


def test_costs_follow_the_terms() -> None:
    plain = terms([])
    assert gas_of_a_round(plain, 10).keys() == GAS.keys()
    unranked = terms([], selection=SelectionTerms(rule="none"), govern=GovernanceTerms(precommit=False))
    assert GAS.keys() - gas_of_a_round(unranked, 10).keys() == {"ballots", "openings", "select", "precommits"}
    assert gas_of_a_round(plain, 20)["votes"] - gas_of_a_round(plain, 10)["votes"] == 10 * GAS["votes"][1]
    assert update_bytes(terms([], training=Training(gamma=0.25))) - update_bytes(plain) == LENGTH * (2 - 4)
    assert longest_round(terms([], training=Training(deadline=10))) == 10 * (3 + 4 + 2 * 3)


def test_help_needs_no_torch_and_no_chain() -> None:
    code = "import sys, hansa.cli.main as m; print([n for n in ('torch', 'eth', 'web3') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
