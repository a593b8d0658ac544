"""What a node logs: lines for people, or JSON."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime

import pytest

from hansa.cli import logs

WHERE = {"member": 3, "round": 7, "phase": "COMMIT", "event": "finding"}


@pytest.fixture(autouse=True)
def as_before():
    logger = logging.getLogger("hansa")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_lines_for_people(capsys) -> None:
    logs.begin(as_json=False)
    logging.getLogger("hansa").warning("update of member 2 refused", extra=WHERE)
    logging.getLogger("hansa").info("no more")
    logging.getLogger("hansa").debug("nobody sees this")
    out = capsys.readouterr()
    assert out.out == ""
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d member 3: update of member 2 refused\n\d\d:\d\d:\d\d no more\n", out.err
    )


def test_one_json_object_a_line(capsys) -> None:
    logs.begin(as_json=True)
    logs.begin(as_json=True)
    logging.getLogger("hansa").warning('the app failed:\n  "ä" in line 3', extra=WHERE)
    logging.getLogger("hansa").info("the node at one is back")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert list(first) == ["time", "level", "member", "round", "phase", "event", "text"]
    assert {name: first[name] for name in WHERE} == WHERE
    assert (first["level"], first["text"]) == ("warning", 'the app failed:\n  "ä" in line 3')
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None
    assert (second["member"], second["event"], second["level"]) == (None, None, "info")
