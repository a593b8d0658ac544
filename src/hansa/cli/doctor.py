"""`hansa doctor`: would a node run here, with what is installed, on this chain, with this store?"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hansa import errors
from hansa.cli.connection import own_file
from hansa.cli.console import columns, console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from hansa.doctor import Finding
    from hansa.stores.objects import ObjectStore

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
PATIENCE = 10.0
"""Seconds for one answer of the chain's node."""


def doctor(
    rpc: Annotated[
        list[str] | None,
        typer.Option("--rpc", metavar="URL", help="The chain's node, HTTP or HTTPS; repeatable."),
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="The object store: a folder, s3://bucket/path, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this machine before a node runs, and its chain and store if they are named; say what to change.

    With --config, the enclave of your member.toml is started too, and ended. Sends nothing to the chain; writes
    a few probes into the store and deletes them again. Exits with 0 if nothing failed, 3 if the chain or the
    store did not answer, 1 if something must be changed.
    """
    from hansa import doctor as examine
    from hansa.ledger.rpc import Endpoint

    out = console(stderr=as_json)
    found: dict[str, tuple[Finding, ...]] = {}
    names: dict[str, str] = {}
    # What cannot be used at all is said before anything is waited for.
    route = own_file().route()
    endpoints = [Endpoint(url, None, route=route, timeout=PATIENCE, attempts=2) for url in rpc or ()]
    opened = None if store is None else _open(store)
    for k, (url, endpoint) in enumerate(zip(rpc or (), endpoints, strict=True)):
        part = f"chain {k + 1}" if k else "chain"
        names[part] = endpoint.host
        with _busy(out, f"asking the node at {endpoint.host}"):
            found[part] = examine.examine_chain(endpoint, secrets=examine.secrets_of(url))
        endpoint.close()
    if opened is not None:
        names["store"] = opened.place
        with _busy(out, f"writing to and reading from {opened.place}"):
            found["store"] = examine.examine_store(opened)
    found["machine"] = examine.examine_machine(Path.cwd(), time.time())
    found["extras"] = examine.examine_extras()
    with _busy(out, "looking for enclaves"):
        found["enclaves"] = tuple(examine.examine_enclaves(own_file().enclave))
    findings = [finding for part in found.values() for finding in part]
    code = examine.exit_code(findings)
    if as_json:
        print_json(describe(found, names, examine.worst(findings), code))
    else:
        _show(out, found, names)
    raise typer.Exit(code)


def _open(url: str) -> ObjectStore:
    from hansa.stores import objects

    store = objects.create(url, **own_file().store_options(url))
    if store.place.startswith("memory:"):
        raise errors.Misconfigured(
            "a store in memory is seen by one process only",
            hint="Name a folder that all members share, or a bucket such as s3://bucket/path.",
        )
    return store


def _busy(out: Console, text: str) -> AbstractContextManager[object]:
    """Shows what takes time; on a terminal only."""
    return out.status(text) if out.is_terminal else nullcontext()


def describe(
    found: dict[str, tuple[Finding, ...]], names: dict[str, str], verdict: str, code: int
) -> dict[str, Any]:
    """What `--json` prints. The chain is named by its host alone: the rest of its URL may be a key."""
    return {
        "verdict": verdict,
        "exit_code": code,
        **names,
        "checks": [
            {
                "of": part,
                "name": finding.name,
                "verdict": finding.verdict,
                "seen": finding.seen,
                "advice": finding.advice,
                "unreachable": finding.unreachable,
                "measured": dict(finding.measured),
            }
            for part, findings in found.items()
            for finding in findings
        ],
    }


def _show(out: Console, found: dict[str, tuple[Finding, ...]], names: dict[str, str]) -> None:
    table = columns(("check", "left"), ("verdict", "left"), ("seen", "left"))
    for part, findings in found.items():
        table.add_row(Text(part, style="bold"), "", names.get(part, ""))
        for finding in findings:
            seen = Text(finding.seen)
            if finding.advice:
                seen.append(f"\n-> {finding.advice}", style=STYLES[finding.verdict])
            table.add_row(f"  {finding.name}", Text(finding.verdict, style=STYLES[finding.verdict]), seen)
    out.print(table)
    every = [finding.verdict for findings in found.values() for finding in findings]
    failed, warned = every.count("fail"), every.count("warn")
    out.print()
    if failed:
        out.print(Text(f"{failed} of {len(every)} checks failed: see what the arrows say.", STYLES["fail"]))
    elif warned:
        out.print(Text(f"Nothing failed; {warned} of {len(every)} checks warn.", STYLES["warn"]))
    else:
        out.print(Text("Every check is good.", STYLES["ok"]))
