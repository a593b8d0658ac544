"""The published systems: what the listing names exists, and each preset is a sound layer of terms."""

from __future__ import annotations

import json
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hansa import encoding, errors
from hansa.cli.main import app
from hansa.config import load_federation
from hansa.protocol import events
from hansa.published.listing import SYSTEMS
from hansa.published.presets import PRESETS, Preset, preset
from hansa.published.systems import Step
from hansa.records import Phase, RecordKind

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
RUNNABLE = [name for name in PRESETS if not name.startswith("D")]
BARE = '[federation]\nname = "bare"\nscheme = "plaintext"\n[privacy]\ndifferential_privacy = "off"\n'

STEPS = [pytest.param(step, id=f"{s.letter}{step.number}") for s in SYSTEMS for step in s.steps]


@pytest.mark.parametrize("step", STEPS)
def test_every_phase_event_record_and_function_of_the_listing_exists(step: Step) -> None:
    for phase in step.phases:
        assert Phase[phase]
    for evidence in step.evidence:
        name, _, kind = evidence.partition(" ")
        assert isinstance(getattr(events, name), type), evidence
        assert not kind or RecordKind[kind]
        assert (name == "Recorded") is bool(kind), evidence
    for place in step.code:
        module, _, path = place.partition(":")
        assert callable(reduce(getattr, path.split("."), import_module(module))), place
    assert step.code


def test_every_system_has_a_preset_in_both_forms_and_says_what_is_brought_back() -> None:
    assert [s.letter for s in SYSTEMS] == ["A", "B", "C", "D", "E"]
    assert list(PRESETS) == [f"{s.letter}{end}" for s in SYSTEMS for end in ("", "-published")]
    for system in SYSTEMS:
        hardened, published = PRESETS[system.letter], PRESETS[f"{system.letter}-published"]
        assert not hardened.unsafe
        assert published.unsafe
        assert any(f.imitated for f in system.faults)
        assert hardened.fixed != published.fixed or system.letter == "D", "what D opens stands in its script"


PINNED = {
    "A": "7b7d34510ccf",
    "A-published": "283785930c83",
    "B": "784b5ac81d43",
    "B-published": "ace18d7f93ef",
    "C": "995856f62ec5",
    "C-published": "c29b39914a7e",
    "E": "bf5d2426e5c5",
    "E-published": "132e8ba78aab",
}
"""First digits of the digest of a bare app's terms under each preset: no preset changes by accident."""


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_preset_makes_valid_terms_of_an_app_that_says_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "federation.toml").write_text(BARE)
    draft = load_federation(tmp_path, (), preset(name)).draft
    assert encoding.digest(encoding.encode(draft)).hex()[:12] == PINNED[name]


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_preset_stands_over_the_digits_and_marks_their_name(name: str) -> None:
    chosen = preset(name)
    file = load_federation(DIGITS, ["training.rounds=3"], chosen)
    assert file.preset is chosen
    assert file.draft.training.rounds == 3
    assert file.draft.training.params == (("epochs", 8), ("lr", 0.3))
    assert file.draft.name.startswith(f"digits-{name[0].lower()}")
    assert file.draft.name.endswith("-as-published-unsafe") is name.endswith("-published")


def test_what_the_file_says_stands_where_the_system_allows_it() -> None:
    assert load_federation(DIGITS, (), preset("B")).draft.governance.name == "COMMITTEE"
    peers = load_federation(DIGITS, ["federation.governance=peers"], preset("B"))
    assert peers.draft.governance.name == "PEERS"
    assert load_federation(DIGITS, ["training.gamma=0.1"], preset("C")).draft.training.gamma == 0.1
    assert load_federation(DIGITS, (), preset("C")).draft.training.gamma == 0.25
    assert load_federation(DIGITS, (), preset("E")).draft.aggregation.clip_norm == 1.5


def test_preset_d_wants_an_app_with_terms_for_its_scheme(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="this app has no terms for scheme mpc"):
        load_federation(DIGITS, (), preset("D"))
    (tmp_path / "federation.toml").write_text(BARE + '[under.mpc.governance]\nseats = ["p0", "p1", "p2"]\n')
    draft = load_federation(tmp_path, (), preset("D")).draft
    assert (draft.name, draft.scheme, draft.training.rounds) == ("bare-d", "mpc", 1)
    assert load_federation(tmp_path, (), preset("D-published")).draft.name == "bare-d-as-published-unsafe"


SCRIPTS = DIGITS.parent / "hospitals-mpc"


@pytest.mark.parametrize(
    ("script", "form", "message"),
    [
        (
            "training.py",
            ["--as-published"],
            "system D, as published, and the training script accepts no leakage",
        ),
        ("as_published.py", [], "system D, hardened, and the training script accepts leakage"),
    ],
)
def test_a_training_script_leaks_in_the_published_form_and_only_there(
    script: str, form: list[str], message: str
) -> None:
    words = ["check", str(SCRIPTS), "--preset", "D", "--set", f"federation.app={script}"]
    with pytest.raises(errors.Misconfigured, match=message):
        CliRunner().invoke(app, [*words, *form], catch_exceptions=False)
    other = [] if form else ["--as-published"]
    said = json.loads(CliRunner().invoke(app, [*words, *other, "--json"], catch_exceptions=False).stdout)
    assert said["name"] == "hospitals-mpc-d" + ("" if form else "-as-published-unsafe")


def test_published_forms_differ_in_what_they_are_published_for() -> None:
    c = load_federation(DIGITS, (), preset("C", as_published=True)).draft
    assert (c.selection.rule, c.training.error_feedback, c.govern.precommit) == ("borda", False, False)
    b = load_federation(DIGITS, (), preset("B", as_published=True)).draft
    assert (b.selection.rule, b.training.time_check, b.govern.attempts) == ("none", "reject", 1)
    e = load_federation(DIGITS, (), preset("E", as_published=True)).draft
    assert e.secagg is not None
    assert (e.secagg.mode, e.aggregation.rule) == ("direct", "weighted-mean")


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        (
            "C",
            "federation.scheme=tee",
            "--set federation.scheme=tee: system C, hardened, has federation.scheme",
        ),
        ("C", "selection.rule=borda", "has selection.rule = median-rank"),
        ("C-published", "selection.rule=none", "system C, as published, has selection.rule = borda"),
        ("B", "federation.governance=server", "= peers or committee or hybrid"),
        ("A", "aggregation.rule=weighted-mean", "has aggregation.rule = trimmed-mean or median"),
        ("E", "secagg.mode=direct", "has secagg.mode = masked"),
        ("B", "training.gamma=0.5", "has training.gamma = 1.0"),
    ],
)
def test_settings_that_make_another_system_of_it_are_refused(name: str, setting: str, message: str) -> None:
    with pytest.raises(errors.Misconfigured, match=message):
        load_federation(DIGITS, [setting], preset(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("F", "there is no preset 'F'"),
        ("b", "did you mean B?"),
        ("C-publishd", "did you mean C-published?"),
        ("", "there is no preset ''"),
    ],
)
def test_presets_that_are_none_or_cannot_run_are_refused(name: str, message: str) -> None:
    with pytest.raises(errors.Misconfigured) as refused:
        preset(name)
    assert message in str(refused.value)
    assert "hansa protocols" in refused.value.hint


def test_the_published_form_is_named_either_way() -> None:
    assert preset("B", as_published=True) is preset("B-published") is preset("B-published", as_published=True)
    assert isinstance(preset("B"), Preset)


def test_the_listing_shows_steps_faults_and_terms() -> None:
    shown = CliRunner().invoke(app, ["protocols", "c", "D"]).stdout
    assert "C  Blockchain-based secure collaborative deep learning" in shown
    assert "hansa.protocol.selection:select" in shown
    assert "selection.rule = borda" in shown
    assert "UNSAFE: a third of the members together" in shown
    assert "hansa.mpc.session:train" in shown
    assert "SGX-based" not in shown


def test_the_listing_as_json() -> None:
    listed = json.loads(CliRunner().invoke(app, ["protocols", "--json"]).stdout)
    assert list(listed) == ["A", "B", "C", "D", "E"]
    assert listed["A"]["steps"][0]["code"][0] == "hansa.attestation.verifying:verify"
    assert listed["E"]["published"]["fixed"]["secagg.mode"] == ["direct"]


@pytest.mark.parametrize("command", ["check", "explain", "run"])
def test_the_form_of_no_preset_is_refused(command: str) -> None:
    with pytest.raises(errors.Misconfigured, match="none is named"):
        CliRunner().invoke(app, [command, str(DIGITS), "--as-published"], catch_exceptions=False)


def test_terms_under_a_preset_are_checked_before_anyone_joins() -> None:
    words = ["check", str(DIGITS), "--preset", "C", "--as-published", "--json"]
    said = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert said["name"] == "digits-c-as-published-unsafe"


def test_a_system_that_is_none_is_refused() -> None:
    with pytest.raises(errors.Misconfigured, match="there is no published system 'X'"):
        CliRunner().invoke(app, ["protocols", "X"], catch_exceptions=False)
