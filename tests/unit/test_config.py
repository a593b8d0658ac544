"""`federation.toml`: what is read; each mistake is answered with its key and the nearest right value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hansa import errors
from hansa.config import load_federation
from hansa.partition import Partition
from hansa.records import Governance, Mpc

GOOD = """
[federation]
name = "digits"
app = "app.py"
scheme = "plaintext"
governance = "hybrid"

[training]
rounds = 20
min_members = 5
deadline = "10m"
params = { lr = 0.2, epochs = 3, warm = true }
target = { metric = "accuracy", value = 0.95 }

[selection]
keep = 6

[governance]
committee = 5
seats = ["a", "b"]

[privacy]
differential_privacy = "off"

[simulation]
members = 8
partition = { kind = "dirichlet", alpha = 0.3 }
malicious = { m3 = "sign-flip:5" }
"""


def folder(tmp_path: Path, text: str = GOOD) -> Path:
    (tmp_path / "federation.toml").write_text(text)
    return tmp_path


def test_a_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    file = load_federation(folder(tmp_path))
    draft, simulation = file.draft, file.simulation
    assert (draft.name, draft.scheme, draft.governance, draft.privacy) == (
        "digits",
        "plaintext",
        Governance.HYBRID,
        "off",
    )
    assert draft.training.deadline == 600
    assert draft.training.params == (("epochs", 3), ("lr", 0.2), ("warm", True))
    assert draft.training.target == ("accuracy", 0.95)
    assert (draft.selection.rule, draft.selection.keep) == ("median-rank", 6)
    assert (draft.govern.committee, draft.govern.seats) == (5, ("a", "b"))
    assert simulation.partition == Partition("dirichlet", 0.3, 10)
    assert simulation.malicious == (("m3", "sign-flip:5"),)
    assert (file.scale, file.initial_seed, simulation.seed) == (16, 0, 0)


@pytest.mark.parametrize(("text", "seconds"), [('"30s"', 30), ("45", 45), ('"2h"', 7200), ('"1d"', 86400)])
def test_durations(tmp_path: Path, text: str, seconds: int) -> None:
    file = load_federation(folder(tmp_path), [f"training.deadline={text}"])
    assert file.draft.training.deadline == seconds


def test_with_an_inner_scheme_its_table_comes_after_that_of_the_scheme() -> None:
    digits = Path(__file__).parents[2] / "examples" / "digits"
    draft = load_federation(digits, ["federation.scheme=tee", "tee.inner=secagg"]).draft
    assert draft.governance is Governance.SERVER
    assert (draft.aggregation.rule, draft.aggregation.weight_cap) == ("clipped-mean", 1)
    assert draft.tee is not None
    assert (draft.tee.inner, draft.tee.accept.root) == ("secagg", "simulation")
    assert draft.secagg is not None
    assert draft.secagg.key_centres == ("k0",)
    alone = load_federation(digits, ["federation.scheme=tee"]).draft
    assert (alone.governance, alone.secagg) == (Governance.COMMITTEE, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[federation]\nscheme = ["secagg"]\n[under.secagg]\n', "[federation] scheme"),
        ('[federation]\nscheme = "secagg"\n[under.plain]\n', "[under]: holds tables named by schemes"),
        (
            '[federation]\nscheme = "secagg"\n[under.secagg]\ntraining = 3\n',
            "training: is a value, not a table",
        ),
        ('training = 3\n[federation]\nscheme = "secagg"\n[under.secagg.training]\nrounds = 2\n', "training"),
    ],
)
def test_tables_of_schemes_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "federation.toml").write_text(text)
    with pytest.raises(errors.Misconfigured, match=re.escape(message)):
        load_federation(tmp_path)


def test_overrides_reach_any_depth_and_take_bare_text(tmp_path: Path) -> None:
    changes = [
        "training.rounds=3",
        "training.params.lr=0.5",
        "selection.rule=borda",
        "simulation.malicious.m7=noise:2",
        "aggregation.optimizer=adam",
        "aggregation.optimizer_params={lr = 1}",
    ]
    file = load_federation(folder(tmp_path), changes)
    assert file.draft.training.rounds == 3
    assert dict(file.draft.training.params)["lr"] == 0.5
    assert file.draft.selection.rule == "borda"
    assert dict(file.simulation.malicious)["m7"] == "noise:2"
    assert file.draft.aggregation.optimizer_params == (("lr", 1.0),)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.ronds=3", '[training] ronds: unknown key; did you mean "rounds"?'),
        ("trainin.rounds=3", '[trainin]: unknown section; did you mean "training"?'),
        ("simulation.partition.alfa=2", '[simulation] partition.alfa: unknown key; did you mean "alpha"?'),
        ("training.target.valu=2", '[training] target.valu: unknown key; did you mean "value"?'),
        ("release.zzz=2", "[release] zzz: unknown key: to, min_share"),
        ("training.rounds='20'", "[training] rounds: should be a valid integer, not '20'"),
        ("training.rounds=0", "[training] rounds: should be greater than or equal to 1, not 0"),
        ("training.error_feedback=1", "[training] error_feedback: should be a valid boolean, not 1"),
        ("training.deadline=10 minutes", '[training] deadline: must be seconds or a duration such as "30s"'),
        (
            "training.params={ a = [1] }",
            "[training] params.a: must be a finite number, a text, true or false",
        ),
        ("training.params.a=inf", "[training] params.a: must be a finite number"),
        ("selection.rule=medain-rank", 'none; did you mean "median-rank"?'),
        ("aggregation.rule=mean", 'did you mean "median"?'),
        ("federation.governance=comittee", 'did you mean "committee"?'),
        ("federation.scheme=plain", 'did you mean "plaintext"?'),
        ("federation.governance=server", None),
        ("federation.scheme=mpc", "under mpc the computing parties lead, and they are no members"),
        ("privacy.differential_privacy=member", "[privacy] differential_privacy"),
        ("simulation.members=4", "[simulation] members: 4 is below [training] min_members = 5"),
        ("selection.keep=9", "[selection] keep: 9 of 8 members cannot be kept"),
        ("simulation.slow.m8=10", "slow.m8: no such member; they are called m0 to m7"),
        ("simulation.slow.m3=0", "slow.m3: "),
        ("simulation.malicious.m8=noise", "malicious.m8: no such member; they are called m0 to m7"),
        ("simulation.malicious.m3=nois", "malicious.m3: unknown attack 'nois'; did you mean 'noise'?"),
        ("training", "--set training: not of the form SECTION.KEY=VALUE"),
        ("rounds=3", "--set rounds=3: not of the form"),
        ("training.rounds.x=3", "--set training.rounds.x=3: rounds is a value, not a table"),
        ("training.gamma=nan", "[training] gamma"),
        ("tee.inner=mpc", "[tee] inner"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, override: str, message: str | None) -> None:
    if message is None:
        override_seats = [override, "governance.seats=[]"]
        with pytest.raises(errors.Misconfigured) as raised:
            load_federation(folder(tmp_path), override_seats)
        message = "[governance] seats"
    else:
        with pytest.raises(errors.Misconfigured) as raised:
            load_federation(folder(tmp_path), [override])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('scheme = "plaintext"', "[federation] scheme is missing; it has no default"),
        (
            'differential_privacy = "off"',
            "[privacy] differential_privacy is missing; it must be written even if off",
        ),
        ('[privacy]\ndifferential_privacy = "off"', "[privacy] is missing; it must be written even if off"),
        ('name = "digits"', "[federation] name is missing"),
    ],
)
def test_what_has_no_default_must_be_written(tmp_path: Path, line: str, message: str) -> None:
    assert line in GOOD
    with pytest.raises(errors.Misconfigured) as raised:
        load_federation(folder(tmp_path, GOOD.replace(line, "", 1)))
    assert message in str(raised.value)


def test_several_mistakes_come_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured) as raised:
        load_federation(folder(tmp_path), ["training.ronds=3", "release.to=all"])
    assert '"rounds"' in str(raised.value)
    assert "[release] to" in str(raised.value)


def test_a_broken_or_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match=r"cannot read .*toml"):
        load_federation(tmp_path)
    with pytest.raises(errors.Misconfigured, match="is not TOML"):
        load_federation(folder(tmp_path, "[federation"))


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_scheme_mpc_takes_a_training_script_and_no_flower_app() -> None:
    flower = EXAMPLES / "flower-quickstart"
    with pytest.raises(errors.Misconfigured, match="one declared network on shares"):
        load_federation(flower, ["federation.scheme=mpc"])
    other = EXAMPLES / "hospitals-mpc"
    assert load_federation(other, ["federation.app=all_secret.py"]).script == "all_secret.py"
    assert load_federation(other).draft.mpc == Mpc(deadline=7200, rows=1000)
    with pytest.raises(errors.Misconfigured, match="the app is called app.py"):
        load_federation(EXAMPLES / "digits", ["federation.app=other.py"])
