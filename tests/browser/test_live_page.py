"""The live page in a real browser: it follows, keeps what was chosen, and says when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.browser.watched import Watched, watched
from tests.reported import small

from hansa import errors
from hansa.report.facts import Facts
from hansa.report.serve import served

pytestmark = pytest.mark.slow


def after(rounds: int) -> Facts:
    """The small run as it stood when so many rounds were over."""
    one = small()
    return replace(
        one, rounds=one.rounds[:rounds], final=rounds, finished=rounds == 3, outcome=f"{rounds} are final"
    )


@contextmanager
def live(chromium: Any) -> Iterator[tuple[Watched, list[Any]]]:
    told: list[Any] = [after(1)]

    def latest() -> Facts:
        if isinstance(told[0], Exception):
            raise told[0]
        return told[0]

    with served(latest, 0) as address, watched(chromium, address) as it:
        yield it, told
        assert {urlsplit(asked).netloc for asked in it.asked} == {urlsplit(address).netloc}


def test_it_follows_to_the_newest_round(chromium: Any) -> None:
    with live(chromium) as (it, told):
        it.show("rounds")
        assert it.page.inner_text("output") == "1 of 3"
        it.page.focus("#panel-rounds .cells >> nth=1")
        told[0] = after(2)
        it.page.locator("output", has_text="2 of 3").wait_for()
        focused = "document.activeElement.closest('figure').querySelector('h2').textContent"
        assert it.page.evaluate(focused) == "Who took part"
        it.shot("live")


def test_it_stays_at_a_round_that_somebody_chose(chromium: Any) -> None:
    with live(chromium) as (it, told):
        told[0] = after(2)
        it.show("rounds")
        it.page.locator("output", has_text="2 of 3").wait_for()
        it.page.focus("#round")
        it.page.keyboard.press("ArrowLeft")
        told[0] = after(3)
        it.page.locator(".lead", has_text="3 are final").wait_for()
        assert it.page.inner_text("output") == "1 of 3"
        assert it.page.is_visible("#panel-rounds")


def test_it_says_when_there_is_nothing_new_to_be_had(chromium: Any) -> None:
    with live(chromium) as (it, told):
        told[0] = errors.Unavailable("the chain is away")
        it.page.locator("#live", has_text="the chain is away").wait_for()
        it.wrong = [text for text in it.wrong if "503" not in text]
        told[0] = after(2)
        it.page.locator(".lead", has_text="2 are final").wait_for()
        assert "not up to date" not in it.page.inner_text("#live")
        it.wrong = [text for text in it.wrong if "503" not in text]
