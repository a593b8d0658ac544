"""The site of `make docs`: built without a warning, whole, and without a request to any host."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""Elements for which a browser asks by itself."""


class Page(HTMLParser):
    """What a page loads, links to and can be linked to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        if found := values.get(LOADED.get(tag, "")):
            self.loaded.append(found)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.names |= {values[name] for name in ("id", "name") if name in values}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a page that is missing or not in the nav, and a link that leads nowhere, are failures."""
    place = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return place


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


def test_every_page_of_the_repository_is_on_it(site: Path) -> None:
    docs = ROOT / "docs"
    for page in docs.rglob("*.md"):
        name = page.relative_to(docs).with_suffix(".html")
        assert (site / name).is_file() or (site / name.parent / "index.html").is_file(), name
    for example in ROOT.glob("examples/*/README.md"):
        assert (site / "examples" / f"{example.parent.name}.html").is_file()


def test_no_page_asks_another_host(site: Path, pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        strange = [found for found in page.loaded if re.match(r"(https?:)?//", found)]
        assert not strange, (file, strange)
        config = json.loads(re.search(r'id="?__config"?[^>]*>(.*?)</script>', file.read_text(), re.DOTALL)[1])
        assert "http" not in json.dumps({key: config[key] for key in ("base", "search")})
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet


def test_links_lead_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    lost = []
    for file, page in pages.items():
        for link in page.links + page.loaded:
            if re.match(r"(https?|mailto|data|javascript):|//", link) or file.name == "404.html":
                continue
            path, _, name = unquote(link).partition("#")
            target = (file.parent / path).resolve() if path else file
            known = target in pages and (not name or name in pages[target].names)
            if not (known if target.suffix == ".html" else target.exists()):
                lost.append((str(file.relative_to(site)), link))
    assert not lost


def test_the_reference_has_every_command_and_what_users_write(site: Path) -> None:
    from typer.main import get_command

    from hansa.cli.main import app

    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for name in get_command(app).commands:
        assert f'id="hansa-{name}"' in commands, name
    assert "--install-completion" in commands
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("hansa.app.App", "hansa.app.Context", "hansa.ports.Trainer", "hansa.errors.Misconfigured"):
        assert f'id="{name}"' in python, name


def test_the_search_works_from_a_disk(site: Path) -> None:
    assert "IFrameWorker" in (site / "assets" / "iframe-worker.js").read_text()
    assert "hash onion" in (site / "search" / "search_index.js").read_text(encoding="utf-8").lower()
