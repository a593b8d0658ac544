"""`hansa status`: where a run stands and whom it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from hansa.cli.console import clock, columns, command, console, grid, percent, print_json
from hansa.records import Outcome, Phase, Role

if TYPE_CHECKING:
    from hansa.cli.reading import Reading

ENDED = (Phase.STOPPED, Phase.PAUSED)


def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show where a run stands: running, killed or finished. Reads only."""
    from hansa.cli.reading import read_run

    found = read_run(run)
    if as_json:
        print_json(describe(found))
    else:
        _show(found)


def describe(run: Reading) -> dict[str, Any]:
    """What `--json` prints. Times are seconds since the chain's first block, on the chain's clock."""
    state, terms = run.view.state, run.record.terms
    leader = state.current.leader
    last = run.metrics[-1] if run.metrics else {}
    return {
        "run": str(run.folder),
        "name": terms.name,
        "scheme": terms.scheme,
        "running": run.running,
        "phase": state.phase.name,
        "round": state.round,
        "rounds": state.version,
        "planned": terms.training.rounds,
        "model_digest": state.model.hex(),
        "failed_rounds": sum(s.outcome not in (None, Outcome.FINAL) for s in run.story),
        "failed_in_a_row": state.voids,
        "leader": None if leader is None else run.name(leader),
        "waiting_for": waiting_for(run),
        "now": run.view.now - run.start,
        "until": max(0, state.deadline - run.start) if state.phase not in ENDED else None,
        "accuracy": last.get("accuracy"),
        "loss": last.get("loss"),
        "block": run.view.block,
        "block_hash": run.view.block_hash.hex(),
        "members": [
            {
                "name": run.name(m.id),
                "address": "0x" + m.address.hex(),
                "reputation": m.reputation,
                "active": m.member and m.active,
                "left_out": sum(m.id in s.left_out for s in run.story if s.outcome is Outcome.FINAL),
            }
            for m in state.members.values()
            if m.role is Role.MEMBER
        ],
    }


def waiting_for(run: Reading) -> dict[str, list[str]]:
    """Names of those whose message the chain still awaits, by kind of message."""
    from hansa.protocol import plan

    state = run.view.state
    awaited = {kind: plan.expected(state, kind) for kind in plan.kinds_of(state)}
    return {kind: [run.name(id) for id in sorted(ids)] for kind, ids in awaited.items() if ids}


def _show(run: Reading) -> None:
    from hansa.summary import outcome_of, reasons

    out, state, terms = console(), run.view.state, run.record.terms
    table = grid()
    table.add_row("run", f"{run.folder}: {terms.name}, {terms.scheme.upper()}, simulated")
    table.add_row(
        "state", Text(outcome_of(state), style="" if state.phase is not Phase.PAUSED else "bold yellow")
    )
    if state.phase not in ENDED:
        table.add_row("process", "running" if run.running else Text("stopped or killed", style="yellow"))
        table.add_row("round", f"{state.round}, phase {state.phase.name}, {_leader(run)}")
        table.add_row("waiting", _waiting(run))
    if state.voids:
        table.add_row("failed", f"{state.voids} rounds in a row, {terms.training.max_failed_rounds} pause it")
    if run.metrics:
        last = run.metrics[-1]
        metric = "accuracy" if "accuracy" in last else "loss"
        table.add_row(metric, f"{percent(metric, last.get(metric))} after round {last['round']}")
    table.add_row("model", f"version {state.version}, sha256 {state.model.hex()}")
    table.add_row("chain", f"block {run.view.block}, 0x{run.view.block_hash.hex()}")
    out.print(table)
    out.print()
    members = columns(("member", "left"), ("reputation", "right"), ("left out", "right"), ("", "left"))
    for m in state.members.values():
        if m.role is Role.MEMBER:
            why = reasons(run.story, m.id)
            remarks = [reason for reason, _ in why.most_common()]
            remarks += [] if m.member and m.active else ["not active"]
            members.add_row(run.name(m.id), str(m.reputation), str(sum(why.values())), "; ".join(remarks))
    out.print(members)
    if state.phase not in ENDED and not run.running:
        out.print(f"\nGo on with it: the command that began it, --out {command(run.folder)} --resume")


def _leader(run: Reading) -> str:
    leader = run.view.state.current.leader
    return "no leader yet" if leader is None else f"leader {run.name(leader)}"


def _waiting(run: Reading) -> str:
    state = run.view.state
    whom = "; ".join(f"{kind} of {' '.join(names)}" for kind, names in waiting_for(run).items())
    times = (
        f"until {clock(state.deadline - run.start)}, now {clock(run.view.now - run.start)} (chain's clock)"
    )
    return f"{whom or 'nobody: the phase can be closed'}, {times}"
