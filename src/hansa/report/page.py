"""One file that shows facts: style, script and facts inline, and a policy under which it can ask nobody for anything.

All that comes from a run is text to the script, which sets it as text; nothing of it is ever read as HTML.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files

from hansa.report.facts import Facts
from hansa.runfolder import as_json

SCRIPTS = "draw.js", "charts.js", "page.js"


def page(facts: Sequence[Facts], *, live: bool = False) -> str:
    """The report of one run, or of several side by side. `live`: it asks its own server for newer facts."""
    style, script = _parts()
    connect = "'self'" if live else "'none'"
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src {connect}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    names = ", ".join(dict.fromkeys(f.name for f in facts))
    said = "".join(f"<p>{escape(f.subject)}: {escape(f.outcome)}. {escape(f.privacy)}</p>" for f in facts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(names)} · Hansa report</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<noscript>{said}<p>The charts of this page are drawn by a script inside it, which is switched off.</p></noscript>
<div id="report"></div>
<script type="application/json" id="facts">{inline(facts, live=live)}</script>
<script>{script}</script>
</body>
</html>
"""


def inline(facts: Sequence[Facts], *, live: bool = False) -> str:
    """JSON that can stand in a script element: no character in it means anything to a reader of HTML."""
    text = json.dumps(
        {"live": live, "runs": as_json(tuple(facts))},
        allow_nan=False,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _parts() -> tuple[str, str]:
    """Style and script."""
    here = files("hansa.report")
    script = "\n".join((here / name).read_text("utf-8") for name in SCRIPTS)
    return (here / "page.css").read_text("utf-8"), script


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
