from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.reported import small

from hansa import errors
from hansa.report.facts import Facts
from hansa.report.serve import LOOK, Latest, served, tag_of


@pytest.fixture
def ask() -> Iterator[Callable[..., Any]]:
    """Serves what `ask.facts` gives; asks for a path, by a method, under a Host."""
    told: list[Any] = [small()]

    def latest() -> Facts:
        if isinstance(told[0], Exception):
            raise told[0]
        return told[0]

    with served(latest, 0) as address:
        port = urlsplit(address).port

        def asked(path: str = "/", method: str = "GET", host: str | None = None, **headers: str) -> Any:
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            named = {"Host": host if host is not None else f"127.0.0.1:{port}"}
            connection.request(
                method, path, headers=named | {k.replace("_", "-"): v for k, v in headers.items()}
            )
            answer = connection.getresponse()
            found = answer.status, dict(answer.getheaders()), answer.read().decode()
            connection.close()
            return found

        asked.told, asked.port = told, port  # type: ignore[attr-defined]
        yield asked


def test_page_and_facts(ask: Any) -> None:
    status, headers, text = ask("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "connect-src &#x27;self&#x27;" in text
    status, headers, text = ask("/facts.json?now")
    told = json.loads(text)
    assert (status, told["live"], told["runs"][0]["name"]) == (200, True, "tiny")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "Access-Control-Allow-Origin" not in headers


def test_nothing_new_is_not_sent_again(ask: Any) -> None:
    tag = ask("/facts.json")[1]["ETag"]
    assert ask("/facts.json", If_None_Match=tag)[::2] == (304, "")
    ask.told[0] = replace(small(), made=1)
    assert ask("/facts.json", If_None_Match=tag)[0] == 304
    ask.told[0] = replace(small(), final=2)
    assert ask("/facts.json", If_None_Match=tag)[0] == 200
    assert tag != tag_of(ask.told[0])


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1.evil:{port}"]
)
def test_a_name_that_is_not_of_loopback_is_refused(ask: Any, host: str) -> None:
    for path in ("/", "/facts.json"):
        status, _, text = ask(path, host=host.format(port=ask.port))
        assert status == 421
        assert "tiny" not in text


@pytest.mark.parametrize("host", ["localhost:{port}", "[::1]:{port}"])
def test_names_of_loopback_are_answered(ask: Any, host: str) -> None:
    assert ask("/", host=host.format(port=ask.port))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_get(ask: Any, method: str) -> None:
    assert ask("/", method=method)[0] == 405


def test_other_paths_are_not_there(ask: Any) -> None:
    for path in ("/../run.cbor", "/report.html", "//evil.example/"):
        assert ask(path)[0] == 404


def test_a_chain_that_does_not_answer_is_said(ask: Any) -> None:
    ask.told[0] = errors.Unavailable("the chain is away", hint="Wait.")
    status, _, text = ask("/facts.json")
    assert (status, json.loads(text)) == (503, {"error": "the chain is away"})
    assert ask("/")[::2] == (503, "the chain is away Wait.\n")


def test_a_port_in_use_is_met_with_the_next_step() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(errors.Misconfigured, match="is in use") as caught,
            served(small, taken.getsockname()[1]),
        ):
            pass
    assert "--port" in caught.value.hint


def test_it_listens_on_loopback_only() -> None:
    with served(small, 0) as address:
        assert urlsplit(address).hostname == "127.0.0.1"


def test_many_who_ask_cost_one_reading() -> None:
    now, reads = [0.0], []
    latest = Latest(lambda: reads.append(now[0]) or small(), clock=lambda: now[0])
    for _ in range(3):
        latest()
    assert reads == [0.0]
    now[0] = LOOK
    latest()
    assert reads == [0.0, LOOK]


def test_slow_readings_are_rare() -> None:
    now, reads = [0.0], []

    def read() -> Facts:
        reads.append(now[0])
        now[0] += 10
        return small()

    latest = Latest(read, clock=lambda: now[0])
    latest()
    now[0] += 40
    latest()
    assert reads == [0.0]
    now[0] += 11
    latest()
    assert reads == [0.0, 61.0]
