"""What a node says while it works: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime

FIELDS = ("member", "round", "phase", "event")
"""What `serving` says about where a line belongs; other lines have none of it."""


class ForPeople(logging.Formatter):
    """`HH:MM:SS member 3: text`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        member = getattr(record, "member", None)
        who = "" if member is None else f"member {member}: "
        return f"{moment} {who}{record.getMessage()}"


class AsJson(logging.Formatter):
    """`{"time", "level", "member", "round", "phase", "event", "text"}`; times are UTC in ISO 8601."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **{name: getattr(record, name, None) for name in FIELDS},
            "text": record.getMessage(),
        }
        return json.dumps(line, ensure_ascii=False)


def begin(*, as_json: bool) -> None:
    """Write what the package logs to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(AsJson() if as_json else ForPeople())
    logger = logging.getLogger("hansa")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
