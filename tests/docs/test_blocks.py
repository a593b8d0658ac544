"""Every block of code on every page: commands exist and take what they are given, files parse, outputs follow commands.

What is cheap is run here; what takes a federation is run by the tests of `RUN`; what this machine cannot run stands in
`ELSEWHERE` with the reason.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from click import UsageError
from typer.main import get_command

from hansa import config, memberfile
from hansa.cli import main as main_module
from hansa.cli.main import app as cli

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "src" / "hansa" / "templates").glob("*/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:\A|\n\n)((?:    .*(?:\n|\Z)(?:\n(?=    ))?)+)")
INLINE = re.compile(r"(?<!`)`(hansa [^`]+)`(?!`)")

RUN = {
    "docs/tutorial.md": "tests/e2e/test_tutorial.py::test_the_tutorial_works_as_written",
    "src/hansa/templates/shared/README.md": "tests/e2e/test_new.py::test_a_new_federation_is_checked_and_run_as_it_is",
    "src/hansa/templates/flower/README.md": (
        "tests/e2e/test_new.py::test_a_new_flower_app_is_run_and_audited_and_its_own_test_passes"
    ),
    "examples/digits/README.md": "tests/e2e/test_run.py::test_audit_passes_with_and_without_anchors",
    "examples/fashion-mnist/README.md": "tests/e2e/test_fashion_mnist.py::test_it_trains_and_is_audited",
    "examples/cluster/README.md": "tests/e2e/test_cluster.py::test_five_processes_train_digits",
}
"""Pages whose commands train: the test that runs them."""

CONTAINERS = {"deploy/README.md": "tests/unit/test_deploy.py::test_the_script_makes_a_network_once"}
"""Pages whose shell needs containers, which are not to be had here, and a test of what can be tested of them."""

CHEAP = {"attest", "check", "explain", "protocols", "mpc"}
"""Commands of hansa that need nothing but this repository, and are run here."""

OF_A_RUN = ["mpc", "report"]
"""Takes a run, where `hansa mpc plan` takes a script; tests/mpc/test_mpc_run.py runs it."""

ELSEWHERE = {
    "apt-get": "installs on Debian only; .ci/run does it",
    "export": "sets what the lines below it take",
    ".": "activates the virtual environment that make setup made",
    "find": "inside an image of an enclave",
    "gramine-manifest": "needs Gramine",
    "gramine-sgx-sign": "needs Gramine",
    "gramine-sgx-sigstruct-view": "needs Gramine",
    "socat": "needs a TDX guest",
}
"""Programs that no test runs as the page shows them, and why."""

FORMULAS = {"docs/protocol.md"}
"""Pages with indented blocks that are no code."""


@dataclass(frozen=True)
class Block:
    page: str
    kind: str
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks(page: Path) -> Iterator[Block]:
    text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
    for kind, body in FENCED.findall(text):
        yield Block(name, kind, body)
    for found in INDENTED.finditer(FENCED.sub("", text)):
        body = "\n".join(line.strip() for line in found[1].splitlines())
        yield Block(name, _kind(name, body), body)


def _kind(page: str, body: str) -> str:
    first = body.lstrip().splitlines()[0]
    if re.match(r"\[\w+(\.\w+)?\]$|\w+ = [\"\[\d]", first):
        return "toml"
    return "formula" if page in FORMULAS else "sh"


BLOCKS = [block for page in PAGES for block in blocks(page)]
LINES = [(block.page, line) for block in BLOCKS if block.kind == "sh" for line in block.lines]


def of_hansa() -> list[tuple[str, list[str]]]:
    """Command lines of hansa in blocks, by page."""
    found = [(page, words) for page, line in LINES if (words := _words(line)) and words[0] == "hansa"]
    return [(page, words[1:]) for page, words in found]


def _words(line: str) -> list[str]:
    """The words of a line; what is done with its output is left out."""
    words = shlex.split(line, comments=True)
    end = next(
        (k for k, word in enumerate(words) if word in ("|", "||", ">", "&&", "&", ";", "2>")), len(words)
    )
    return words[:end]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {block.kind for block in BLOCKS} == {"sh", "text", "toml", "python", "mermaid", "formula"}
    assert len(LINES) > 100


def test_no_reason_outlives_what_it_excuses() -> None:
    assert {words[0] for _, line in LINES if (words := _words(line))} >= set(ELSEWHERE)
    assert {page for page, _ in LINES} >= set(RUN) | set(CONTAINERS)


@pytest.mark.parametrize(("page", "line"), [each for each in LINES if _words(each[1])])
def test_a_line_of_shell_is_run_or_known_not_to_be(page: str, line: str) -> None:
    """Tutorial and template are run as they stand, so all may be in there."""
    words = _words(line)
    match words:
        case ["hansa", *_]:
            pass  # below
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["pip", "install", *rest]:
            extras = [
                extra
                for word in rest
                for found in re.findall(r"\[(.+)\]", word)
                for extra in found.split(",")
            ]
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert set(extras) <= set(project["optional-dependencies"])
        case ["python", place, *_] if (ROOT / place).exists():
            pass
        case [".venv/bin/python", "-c", code]:
            subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120, capture_output=True
            )
        case _:
            assert page in {*RUN, *CONTAINERS} or words[0] in ELSEWHERE, (
                f"say why {words[0]!r} of {page} is not run"
            )


@pytest.mark.parametrize(
    ("page", "words"),
    # Where a shell's variables stand, the page's own test runs them.
    [each for each in of_hansa() if each[0] not in RUN or not any("$" in word for word in each[1])],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_command_of_hansa_takes_what_a_page_gives_it(
    page: str, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HANSA_RPC", "URL")
    monkeypatch.setenv("HANSA_STORE", "URL")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "member.toml").write_text(
        'federation = "eip155:1:0x0000000000000000000000000000000000000000"\n'
        'key = "member.key"\napp = "."\ndata = "rows.npz"\n'
    )
    command: Any = get_command(cli)
    path = "hansa"
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest, f"{path} takes a command"
        if rest[0].startswith("-"):
            assert rest[0] in {name for option in command.params for name in option.opts}
            return
        path, command, rest = f"{path} {rest[0]}", command.commands[rest[0]], rest[1:]
    try:
        command.make_context(path, list(rest), resilient_parsing=False)
    except UsageError as e:
        pytest.fail(f"{page}: {' '.join(words)}: {e.message}")


@pytest.mark.parametrize(
    "words",
    sorted(
        {
            tuple(words)
            for page, words in of_hansa()
            if words[0] in CHEAP and words[:2] != OF_A_RUN and page not in RUN
        }
    ),
    ids=" ".join,
)
def test_what_needs_nothing_but_this_repository_is_run(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["hansa", *words])
    code: object = 0
    try:
        main_module.main()
    except SystemExit as e:
        code = e.code
    # The default policy refuses the genuine samples, as docs/attestation.md says: they are old.
    refused = words[:2] == ("attest", "verify") and "--policy" not in words
    assert bool(code) is refused, capsys.readouterr().err


def spans() -> list[tuple[str, str]]:
    """Commands in running text, on every page, once each."""
    found = {
        (str(page.relative_to(ROOT)), " ".join(span.split()))
        for page in PAGES
        for span in INLINE.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    }
    return sorted(found)


@pytest.mark.parametrize(("page", "span"), spans())
def test_a_command_in_running_text_exists_with_its_options(page: str, span: str) -> None:
    """Text often leaves out what a command needs, so that only names are compared."""
    command: Any = get_command(cli)
    words = re.sub(r"[\[\]]", " ", span).replace("...", " ").split()[1:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        names = words.pop(0)
        if not re.fullmatch(r"[a-z-]+", names):  # FEDERATION, NAME: any command
            return
        assert names in command.commands, f"{page}: {span}"
        command = command.commands[names]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    given = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    assert given - {"--traceback", "--help"} <= known, f"{page}: {span}"


def _keys(model: Any, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for part in (field.annotation, *get_args(field.annotation)):
            if hasattr(part, "model_fields"):
                yield from _keys(part, f"{prefix}{name}.")


def _written(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _written(value, f"{prefix}{name}.")


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "toml"], ids=lambda b: b.page)
def test_what_stands_in_a_file_is_a_key_of_it(block: Block) -> None:
    known = {*_keys(config._File), *_keys(memberfile.MemberFile)}
    tables = {key.split(".")[-1] for key in known}
    free = ("params", "malicious", "slow", "options", "under", "optimizer_params", "partition", "accept")
    for key in _written(tomllib.loads(block.text)):
        first, *rest = key.split(".")
        if any(part in free for part in (first, *rest)):
            continue
        # A line by itself is one of a table that the text names.
        assert key in known or (not rest and first in tables), f"{block.page}: {key}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "```" in p.read_text(encoding="utf-8")], ids=lambda p: p.name
)
def test_what_a_page_shows_as_printed_follows_a_command(page: Path) -> None:
    before = ""
    for block in blocks(page):
        if block.kind == "text":
            assert before in ("sh", "text"), block.text[:80]
        before = block.kind
        if block.kind == "python":
            compile(block.text, str(page), "exec")


@pytest.mark.parametrize(("page", "test"), (RUN | CONTAINERS).items())
def test_the_tests_that_run_pages_exist(page: str, test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), page
    assert (ROOT / page).is_file()
