"""What the documentation claims: links lead somewhere, commands exist, examples run, tests are real."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from hansa import encoding, errors
from hansa.app import load_app
from hansa.cli.main import app as cli
from hansa.config import load_federation
from hansa.project import is_project
from hansa.records import Fault, Governance, Phase, Role

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
THREATS = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[str]:
    return (m[1] for m in LINK.finditer(without_code(page.read_text(encoding="utf-8"))))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Names that GitHub gives to a page's headings."""
    found = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found)


def target(page: Path, link: str) -> tuple[Path, str]:
    path, _, anchor = link.partition("#")
    return ((page.parent / path).resolve() if path else page), anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    local = [link for link in links(page) if not link.startswith("https://")]
    for link in local:
        path, anchor = target(page, link)
        assert path.exists(), link
        assert path.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(path), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            waiting += [target(page, link)[0] for link in links(page) if not link.startswith("https://")]
    assert set(PAGES) <= reached


def commands() -> list[list[str]]:
    """Command lines in the README's blocks of shell."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [
        words
        for block in blocks
        for line in block.splitlines()
        if (words := shlex.split(line, comments=True))
    ]


def test_the_readme_shows_commands() -> None:
    assert {words[0] for words in commands()} == {"hansa", "make", "export"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_and_options_of_the_readme_exist(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    exported = dict(word.split("=") for line in commands() if line[0] == "export" for word in line[1:])
    assert exported.keys() == {"HANSA_RPC", "HANSA_STORE"}
    if words[0] == "export":
        return
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE)
        return
    group = get_command(cli)
    command = group.commands[words[1]]
    # Parses as click would before it calls the command: unknown options and missing arguments fail.
    context = command.make_context(words[1], words[2:], resilient_parsing=False)
    new = {Path(line[2]) for line in commands() if line[:2] == ["hansa", "new"]}
    for app in (Path(value) for name, value in context.params.items() if name == "app" and value is not None):
        assert app in new or (ROOT / app / "federation.toml").is_file() or is_project(ROOT / app)


def elsewhere() -> list[list[str]]:
    """Command lines of the pages for users of OpenFL and Flower, in blocks and in text."""
    pages = [ROOT / "docs" / f"coming-from-{peer}.md" for peer in ("openfl", "flower")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(r"^    (hansa .+)$|`(hansa [^`]+)`", text, re.MULTILINE)
    return [shlex.split(block or inline, comments=True) for block, inline in found]


@pytest.mark.parametrize("words", elsewhere(), ids=" ".join)
def test_commands_of_the_pages_for_users_of_others_exist(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HANSA_RPC", "URL")
    monkeypatch.setenv("HANSA_STORE", "URL")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "member.toml").write_text('key = "member.key"\napp = "."\ndata = "rows.npz"\n')
    command = get_command(cli).commands[words[1]]
    if words[2:] and not hasattr(command, "commands"):
        command.make_context(words[1], words[2:], resilient_parsing=False)
    elif words[2:]:
        command.commands[words[2]].make_context(words[2], words[3:], resilient_parsing=False)


def test_the_readme_names_every_command_of_hansa() -> None:
    shown = {words[1] for words in commands() if words[0] == "hansa"}
    assert shown == set(get_command(cli).commands)


def example(name: str) -> str:
    return re.search(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)^```", README, re.M | re.S)[1]


def test_the_app_of_the_readme_is_one(tmp_path: Path) -> None:
    for name in ("federation.toml", "app.py"):
        (tmp_path / name).write_text(example(name), encoding="utf-8")
    file = load_federation(tmp_path)
    assert file.draft.name == tomllib.loads(example("federation.toml"))["federation"]["name"]
    assert load_app(tmp_path) is not None


def test_every_decision_is_listed_and_numbered() -> None:
    folder = ROOT / "docs" / "adr"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\d+)\]\(([^)]+)\) \| (.+) \|$", index, re.MULTILINE)
    assert [name for _, name, _ in listed] == pages
    for k, (number, name, title) in enumerate(listed, start=1):
        text = (folder / name).read_text(encoding="utf-8")
        assert (int(number), int(name[:4])) == (k, k)
        assert text.startswith(f"# {k}. {title}\n")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def defined_in(path: Path) -> set[str]:
    """Test functions of a file, those of stateful machines (`TestX = Machine.TestCase`) included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found.add(node.name)
        if isinstance(node, ast.Assign):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name) and t.id.startswith("Test")}
    return found


def attacks() -> list[list[str]]:
    """Rows of the threat model's tables of attacks: attack, what happens, who sees it, tests."""
    header = "| Attack | What happens | Who sees it | Test |\n|---|---|---|---|\n"
    tables = [part.split("\n\n", 1)[0] for part in THREATS.split(header)[1:]]
    return [line.strip("| ").split(" | ") for table in tables for line in table.splitlines()]


def test_there_is_a_row_for_every_kind_of_bad_input() -> None:
    assert len(attacks()) >= 40


@pytest.mark.parametrize("row", attacks(), ids=lambda row: row[0][:60])
def test_every_attack_names_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == 4
    named = TEST.findall(row[3])
    assert named
    for path, name in named:
        assert name in defined_in(ROOT / path), f"{path}::{name}"


def test_the_protocol_page_has_every_type_code_fault_and_phase() -> None:
    for text in encoding.TYPES.values():
        assert f"| `{text}` |" in PROTOCOL
    for code, refusal in errors.REFUSALS.items():
        assert f"| {code} | `{refusal.__name__}` | {refusal.__doc__.splitlines()[0]} |" in PROTOCOL
    for fault in Fault:
        assert f"| `{fault.name}` |" in PROTOCOL
    for phase in Phase:
        assert f"{phase.name}" in PROTOCOL
    for governance in Governance:
        assert f"| `{governance.name.lower()}` |" in PROTOCOL
    for role in Role:
        words = {Role.PARTY: "computing party"}.get(role, role.name.lower().replace("_", " "))
        assert words in PROTOCOL


def test_the_output_of_a_run_is_a_real_one() -> None:
    shown = re.search(r"<!-- output of `make run`.*?-->\n```text\n(.*?)^```", README, re.M | re.S)[1]
    assert "digits · PLAINTEXT · simulated" in shown
