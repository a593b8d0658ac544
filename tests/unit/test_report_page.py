from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.reported import HOSTILE, large, small, strange

from hansa.report.page import page


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.last = ""
        self.inside: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.last = tag

    def handle_endtag(self, tag: str) -> None:
        self.last = ""

    def handle_data(self, data: str) -> None:
        if self.last in ("script", "style"):
            self.inside.append((*self.elements[-1], data))

    def policy(self) -> dict[str, str]:
        content = next(
            a["content"] for t, a in self.elements if a.get("http-equiv") == "Content-Security-Policy"
        )
        return dict(part.strip().split(" ", 1) for part in (content or "").split(";"))


def test_the_page_asks_nobody_for_anything() -> None:
    text = page([small()])
    parsed = Parsed(text)
    assert parsed.policy()["default-src"] == "'none'"
    assert parsed.policy()["connect-src"] == "'none'"
    addresses = [v for _, a in parsed.elements for k, v in a.items() if k in ("src", "href") and v]
    assert addresses == ["data:,"]
    assert set(re.findall(r"https?://[^\s\"'<)]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "url(" not in text


def test_the_policy_names_the_very_script_and_style() -> None:
    parsed = Parsed(page([small()]))
    found = {}
    for tag, attributes, text in parsed.inside:
        if "id" not in attributes:
            found[f"{tag}-src"] = (
                "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
            )
    assert found == {name: parsed.policy()[name] for name in ("script-src", "style-src")}


def test_a_live_page_may_ask_its_own_server() -> None:
    assert Parsed(page([small()], live=True)).policy()["connect-src"] == "'self'"


def test_names_by_strangers_are_text() -> None:
    text = page([strange()])
    assert "alert(1)" in text
    tags = [tag for tag, _ in Parsed(text).elements]
    assert tags.count("script") == 2
    assert "img" not in tags
    for start in re.finditer(r"<(script|img)", text):
        assert not text[start.start() :].startswith(HOSTILE[:20])


def test_the_facts_in_the_page_are_the_facts() -> None:
    one = replace(small(), name="a\u2028b & <c>")
    data = next(text for _, attributes, text in Parsed(page([one])).inside if attributes.get("id") == "facts")
    assert not {"\u2028", "<", ">", "&"} & set(data)
    told = json.loads(data)
    assert told["live"] is False
    (run,) = told["runs"]
    assert (run["name"], run["version"], run["rounds"][0]["leaders"]) == (
        one.name,
        1,
        list(one.rounds[0].leaders),
    )


@pytest.mark.parametrize(("members", "rounds"), [(100, 50)])
def test_a_hundred_members_and_fifty_rounds_fit_into_two_megabytes(members: int, rounds: int) -> None:
    assert len(page([large(members, rounds)]).encode()) < 2_000_000
