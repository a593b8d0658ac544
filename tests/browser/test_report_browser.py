"""The page of a report, clicked through and measured in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.browser.watched import CONTRAST, OVERLAPS, TABS, Watched, watched
from tests.reported import large, small, strange

from hansa.report.facts import Facts
from hansa.report.page import page

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Any:
    """Opens these facts as a file."""

    def open_(*facts: Facts, **options: Any) -> Any:
        path = tmp_path / "report.html"
        path.write_text(page(facts))
        return watched(chromium, path, **options)

    return open_


@pytest.fixture
def it(opened: Any) -> Iterator[Watched]:
    with opened(small()) as found:
        yield found


def test_a_click_through_asks_nobody_for_anything(opened: Any) -> None:
    for name, facts in (("small", (small(),)), ("strange", (strange(),)), ("two", (small(), large(12, 5)))):
        with opened(*facts) as it:
            for tab in TABS:
                it.show(tab)
                assert it.page.is_visible(f"#panel-{tab}")
                assert it.page.locator("[role=tabpanel]:visible").count() == 1
                it.shot(f"{name}-{tab}")
            assert [address.split(":", 1)[0] for address in it.asked] == ["file"]


def test_the_page_tells_what_the_facts_say(it: Watched) -> None:
    assert "all 3 rounds are final" in it.page.inner_text("header").lower()
    overview = it.text("overview")
    assert "PLAINTEXT" in overview
    assert "Differential privacy is OFF" in overview
    assert overview.count("WORSE") == 2
    assert "Nobody has checked it yet" in it.text("evidence")
    assert it.page.locator(".chain > li.unchecked").count() == it.page.locator(".chain > li").count()
    assert "PLAINTEXT" in it.text("flow")
    assert "noise:0.5" in it.text("members")


def test_names_by_strangers_run_nothing(opened: Any) -> None:
    with opened(strange()) as it:
        for tab in TABS:
            assert "<script>alert(1)" in it.text(tab) or tab in ("costs", "rounds")
        assert it.page.locator("#report script, #report img").count() == 0


def test_the_keyboard_reaches_everything(it: Watched) -> None:
    page = it.page

    def at() -> str:
        return page.evaluate("document.activeElement.id || document.activeElement.getAttribute('class')")

    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(at())
    assert reached == ["skip", "theme", "tab-overview", "drawing" if reached[3] == "drawing" else reached[3]]
    page.focus("#tab-overview")
    for tab in [*TABS[1:], TABS[0]]:
        page.keyboard.press("ArrowRight")
        assert at() == f"tab-{tab}"
        assert page.is_visible(f"#panel-{tab}")
    page.keyboard.press("End")
    assert page.is_visible("#panel-evidence")
    page.keyboard.press("Home")
    assert page.is_visible("#panel-overview")


def test_arrows_go_from_mark_to_mark_and_say_what_it_is(it: Watched) -> None:
    it.page.focus("#panel-overview [data-mark][tabindex='0']")
    said = [it.page.inner_text("#tip")]
    for _ in range(2):
        it.page.keyboard.press("ArrowRight")
        said.append(it.page.inner_text("#tip"))
    assert len(set(said)) == 3
    assert all("after round" in text for text in said)
    it.page.keyboard.press("Escape")
    assert not it.page.locator("#tip.shown").count()


def test_the_slider_moves_the_round(it: Watched) -> None:
    it.show("rounds")
    label = "#panel-rounds [aria-label^='Evaluation matrix of round']"
    assert "round 3" in it.page.get_attribute(label, "aria-label")
    it.page.focus("#round")
    it.page.keyboard.press("ArrowLeft")
    assert it.page.inner_text("output") == "2 of 3"
    assert "round 2" in it.page.get_attribute(label, "aria-label")
    it.page.keyboard.press("Home")
    assert it.page.inner_text("output") == "1 of 3"


def test_the_cursor_reads_the_matrix(it: Watched) -> None:
    it.show("rounds")
    it.page.focus("#panel-rounds .cells >> nth=0")
    it.page.keyboard.press("ArrowRight")
    it.page.keyboard.press("ArrowDown")
    assert "m1 does not judge itself" in it.page.inner_text("#tip")
    it.page.keyboard.press("ArrowRight")
    assert "m1 on the update of m2" in it.page.inner_text("#tip")
    cells = it.page.locator("#panel-rounds .cells").nth(0).bounding_box()
    it.page.mouse.move(cells["x"] + 5, cells["y"] + 5)
    assert "m0 does not judge itself" in it.page.inner_text("#tip")


def test_a_click_on_who_took_part_shows_that_round(it: Watched) -> None:
    it.show("rounds")
    it.page.locator("#panel-rounds .cells").nth(1).click(position={"x": 5, "y": 5})
    assert it.page.inner_text("output") == "1 of 3"


def test_the_theme_is_chosen_and_kept(opened: Any) -> None:
    with opened(small(), color_scheme="dark") as it:

        def ground() -> str:
            return it.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")

        dark = ground()
        it.page.click("#theme")
        light = ground()
        assert light == "rgb(255, 255, 255)" != dark
        it.page.reload()
        assert ground() == light
        it.page.click("#theme")
        assert ground() == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(opened: Any, scheme: str) -> None:
    looked = 0
    tee = replace(small(), scheme="tee", protection="simulated: NO HARDWARE PROTECTION")
    verdicts = ("verified", "attested", "unavailable", "failed") * 4
    links = tuple(replace(x, verdict=v) for x, v in zip(tee.evidence, verdicts, strict=False))
    checked = replace(tee, evidence=links)
    for facts in ((small(),), (checked,), (small(), large(12, 5))):
        with opened(*facts, color_scheme=scheme) as it:
            for tab in TABS:
                it.show(tab)
                found = it.page.evaluate(CONTRAST)
                assert found["poor"] == [], (scheme, tab)
                looked += found["pairs"]
            it.shot(f"{scheme}-{facts[0].scheme}-{len(facts)}")
    assert looked > 60


@pytest.mark.parametrize("width", [375, 1100])
def test_nothing_runs_over_the_edge_or_into_something_else(opened: Any, width: int) -> None:
    for name, facts in (
        ("small", (small(),)),
        ("large", (large(100, 50),)),
        ("two", (small(), large(12, 5))),
    ):
        with opened(*facts, viewport={"width": width, "height": 800}) as it:
            for tab in TABS:
                it.show(tab)
                it.shot(f"{width}-{name}-{tab}")
                assert it.page.evaluate("document.documentElement.scrollWidth") <= width, (name, tab)
                assert it.page.evaluate(OVERLAPS) == [], (name, tab)


def test_all_parts_are_printed(it: Watched) -> None:
    it.page.emulate_media(media="print")
    for tab in TABS:
        assert it.page.is_visible(f"#panel-{tab}")
    assert not it.page.is_visible("[role=tablist]")
    assert it.page.pdf()[:5] == b"%PDF-"


def test_runs_beside_each_other(opened: Any) -> None:
    one, other = replace(small(), subject="runs/a"), replace(large(6, 4), subject="runs/b", scheme="secagg")
    with opened(one, replace(other, metric="loss")) as it:
        overview = it.text("overview")
        assert "comparison of runs" in it.page.inner_text("header")
        assert "SECAGG" in overview
        assert it.page.locator("#panel-overview path.trace").count() == 2
        assert "m5" not in it.text("members")
        it.page.select_option("#which", label="b")
        assert "m5" in it.text("members")


def test_facts_of_another_version_are_met_with_a_sentence(opened: Any) -> None:
    with opened(replace(small(), version=99)) as it:
        assert "these facts are of version 99, this page reads 1" in it.page.inner_text("#report")
