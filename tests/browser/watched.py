"""A page of the browser whose requests, errors and dialogs are noted, and what can be measured on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.browser.conftest import SHOTS

TABS = "overview", "rounds", "members", "costs", "flow", "evidence"


@dataclass
class Watched:
    """`page` is playwright's; `asked` are the addresses that it asked for, `wrong` what it complained about."""

    page: Any
    asked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def show(self, tab: str) -> None:
        self.page.click(f"#tab-{tab}")

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)

    def text(self, tab: str) -> str:
        self.show(tab)
        return self.page.inner_text(f"#panel-{tab}")


@contextmanager
def watched(chromium: Any, address: str | Path, **options: Any) -> Iterator[Watched]:
    """Open an address, or a file; nothing may have gone wrong at the end."""
    context = chromium.new_context(**{"viewport": {"width": 1100, "height": 900}} | options)
    try:
        it = Watched(context.new_page())
        it.page.set_default_timeout(20_000)
        it.page.on("request", lambda request: it.asked.append(request.url))
        it.page.on("pageerror", lambda error: it.wrong.append(str(error)))
        it.page.on("console", lambda m: it.wrong.append(m.text) if m.type in ("error", "warning") else None)
        it.page.on("dialog", lambda dialog: (it.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        it.page.goto(address.as_uri() if isinstance(address, Path) else address)
        yield it
        assert it.wrong == []
    finally:
        context.close()


CONTRAST = Path(__file__).with_name("contrast.js").read_text()
"""Pairs of text and ground below what WCAG 2.2 AA asks for (1.4.3), and how many pairs were looked at."""

OVERLAPS = Path(__file__).with_name("overlaps.js").read_text()
"""Labels that lie over each other or outside of their drawing."""
