"""What mkdocs is told beyond mkdocs.yml: the rest of its nav, pages from elsewhere, reference, links.

Pages are written to be read in the repository too, so their links are paths in it. A link to a file that is a page
here leads there; one to any other file becomes its path as text, since the site carries no sources.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)

ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy.md",
} | {
    str(page.relative_to(ROOT)): f"examples/{page.parent.name}.md"
    for page in sorted(ROOT.glob("examples/*/README.md"))
}
"""Pages outside docs/, and what they are called on the site."""

MODULES = {
    "Apps": ("hansa.app",),
    "Errors": ("hansa.errors",),
    "Records": ("hansa.records",),
    "Ports": ("hansa.ports",),
    "Files that people write": ("hansa.config", "hansa.memberfile", "hansa.policyfile"),
    "The protocol": ("hansa.protocol.rules", "hansa.protocol.plan", "hansa.protocol.selection",
                     "hansa.protocol.election", "hansa.protocol.aggregation"),
    "Cryptography": ("hansa.crypto.sealing", "hansa.crypto.fixedpoint", "hansa.crypto.kahe",
                     "hansa.crypto.double_trapdoor"),
}  # fmt: skip
"""Headings of the reference, and the modules under them."""


def anchor(heading: str, separator: str = "-") -> str:
    """The name that GitHub gives to a heading: links into pages hold in both places."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", separator)


def on_config(config: Any) -> Any:
    """Complete the nav: every example, every decision, and under "More" each page that it does not name."""
    nav = {name: below for entry in config.nav for name, below in entry.items()}
    nav["Examples"] = [page for page in ELSEWHERE.values() if page.startswith("examples/")]
    decisions = sorted(str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/adr/[0-9]*.md"))
    nav["Decisions"] = ["adr/README.md", *decisions]
    pages = sorted(str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/*.md"))
    if more := [page for page in pages if page not in set(_named(nav))]:
        nav["More"] = more
    config.nav = [{name: below} for name, below in nav.items()]
    return config


def _named(below: Any) -> Iterator[str]:
    """The pages in a part of the nav."""
    if isinstance(below, str):
        yield below
    else:
        for part in below.values() if isinstance(below, dict) else below:
            yield from _named(part)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in docs/."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    shim = (ROOT / "docs" / "site" / "iframe-worker.js").read_text(encoding="utf-8")
    files.append(File.generated(config, "assets/iframe-worker.js", content=shim))
    for page, text in (("reference/commands.md", commands()), ("reference/python.md", python())):
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001
    """Links of the repository become links of the site; code stays as it is."""
    here = page.file.src_uri
    source = {page: source for source, page in ELSEWHERE.items()}.get(here, f"docs/{here}")
    parts = FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else LINK.sub(lambda m: _link(m[1], m[2], source, here), part)
        for part in parts
    )


def _link(text: str, target: str, source: str, here: str) -> str:
    path, hash, name = target.partition("#")
    if "://" in target or not path:
        return f"[{text}]({target})"
    found = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = ELSEWHERE.get(found)
    if page is None and found.startswith("docs/") and found.endswith(".md"):
        page = found.removeprefix("docs/")
    if page is None:
        return text if text.strip("`") == found else f"{text} (`{found}`)"
    return f"[{text}]({os.path.relpath(page, posixpath.dirname(here) or '.')}{hash}{name})"


def commands() -> str:
    """What every command's --help says."""
    from typer.main import get_command

    from hansa.cli.main import app

    parts = ["# Commands\n\nMade from the commands' own `--help`.\n"]
    for path, command in _walk(get_command(app), "hansa"):
        with command.make_context(path, [], resilient_parsing=True) as context:
            parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _walk(below, f"{path} {name}")


def python() -> str:
    """The public docstrings of `MODULES`."""
    parts = [
        "# Python\n\nMade from docstrings. What users write is in `hansa.app`; the rest is for those who work on it.\n"
    ]
    for heading, modules in MODULES.items():
        parts.append(f"## {heading}\n")
        parts += [f"::: {module}\n    options:\n      heading_level: 3\n" for module in modules]
    return "\n".join(parts)
