"""How a federation stands: as an object for programs, as a page for people, as one line of a log."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from hansa.cli.console import clock, columns, command, grid, percent
from hansa.cli.reading import Reading, Run
from hansa.protocol import awaiting, cohorts, plan
from hansa.protocol.attested import NO_PROTECTION, protection
from hansa.protocol.state import Member, State
from hansa.records import Outcome, Phase, Role
from hansa.summary import outcome_of, reasons

ENDED = (Phase.STOPPED, Phase.PAUSED)


def describe(reading: Reading) -> dict[str, Any]:
    """What `--json` prints.

    Times are in UNIX seconds; those of a run folder count from its chain's first block. `run`, `running` and
    the metrics are null on a shared chain, `federation` is null for a run folder.
    """
    state, terms, view, run = reading.view.state, reading.terms, reading.view, reading.run
    start, last = _start(reading), _last(run)
    leader = state.current.leader
    return {
        "run": None if run is None else str(run.folder),
        "federation": None if run is not None else reading.subject,
        "name": terms.name,
        "scheme": terms.scheme,
        "running": None if run is None else run.running,
        "phase": state.phase.name,
        "round": state.round,
        "rounds": state.version,
        "planned": terms.training.rounds,
        "model_digest": state.model.hex(),
        "failed_rounds": _failed(reading),
        "failed_in_a_row": state.voids,
        "leader": None if leader is None else reading.name(leader),
        "waiting_for": waiting_for(reading),
        "missing": list(awaiting.missing(terms, state)),
        "protection": protection(terms),
        "cohorts": _cohorts(reading),
        "now": view.now - start,
        "until": state.deadline - start if _timed(state) else None,
        "accuracy": last.get("accuracy"),
        "loss": last.get("loss"),
        "block": view.block,
        "block_hash": view.block_hash.hex(),
        "block_time": reading.block_time - start,
        "members": [_row(reading, m) for m in _members(state)],
        "invited": ["0x" + who.hex() for who in sorted(state.invited)],
        "motions_carried": state.motions,
        "motions": None if reading.motions is None else [dict(motion) for motion in reading.motions],
    }


def _row(reading: Reading, m: Member) -> dict[str, Any]:
    why = reasons(reading.story, m.id)
    return {
        "name": reading.name(m.id),
        "address": "0x" + m.address.hex(),
        "reputation": m.reputation,
        "active": m.member and m.active,
        "standing": _standing(reading.view.state, m),
        "left_out": sum(m.id in s.left_out for s in reading.story if s.outcome is Outcome.FINAL),
        "why": dict(why.most_common()),
        "remarks": list(awaiting.remarks(reading.terms, reading.view.state, m.id)),
        "suspicion": reading.view.state.suspicion.get(m.id, 0),
    }


def waiting_for(reading: Reading) -> dict[str, list[str]]:
    """Names of those whose message the chain still awaits, by kind of message."""
    state = reading.view.state
    awaited = {kind: plan.expected(state, kind) for kind in plan.kinds_of(state)}
    awaited |= awaiting.awaited(reading.terms, state)
    return {kind: [reading.name(id) for id in sorted(ids)] for kind, ids in awaited.items() if ids}


def page(reading: Reading) -> RenderableType:
    """All of it, for people."""
    state, terms, run = reading.view.state, reading.terms, reading.run
    table = grid()
    subject = f"{terms.name}, {terms.scheme.upper()}"
    if run is None:
        table.add_row("federation", f"{reading.subject}: {subject}")
    else:
        table.add_row("run", f"{reading.subject}: {subject}, simulated")
    if said := protection(terms):
        style = "bold yellow" if said == NO_PROTECTION else ""
        table.add_row("enclaves", Text(said, style=style))
    paused = state.phase is Phase.PAUSED
    table.add_row("state", Text(outcome_of(state), style="bold yellow" if paused else ""))
    if run is not None and state.phase not in ENDED:
        table.add_row("process", "running" if run.running else Text("stopped or killed", style="yellow"))
    if state.phase is Phase.IDLE:
        table.add_row("waiting", "for members to join and for the owner to start the first round")
        _add_set_up(table, reading)
    elif _timed(state):
        table.add_row("round", f"{state.round}, phase {state.phase.name}, {_leader(reading)}")
        table.add_row("waiting", f"{_whom(reading)}, {_times(reading)}")
    for k, names in enumerate(_cohorts(reading)):
        table.add_row("" if k else "cohorts", " ".join(names))
    _add_failures(table, reading)
    if last := _last(run):
        metric = "accuracy" if "accuracy" in last else "loss"
        table.add_row(metric, f"{percent(metric, last.get(metric))} after round {last['round']}")
    table.add_row("model", f"version {state.version}, sha256 {state.model.hex()}")
    age = ""
    if run is None:
        age = f" made {clock(max(0, reading.view.now - reading.block_time))} ago"
    table.add_row("chain", f"block {reading.view.block}{age}, 0x{reading.view.block_hash.hex()}")
    if state.invited:
        table.add_row("not joined", ", ".join("0x" + who.hex() for who in sorted(state.invited)))
    if reading.motions is None:
        table.add_row("motions", "the store, where they wait for signatures, does not answer")
    for motion in reading.motions or ():
        waits = (
            f"{motion['missing']} more must sign" if motion["missing"] else "complete, to be brought on chain"
        )
        table.add_row("motion", f"{motion['motion']} {motion['means']}; {waits}")
    parts: list[RenderableType] = [table, "", _member_table(reading)]
    if run is not None and state.phase not in ENDED and not run.running:
        again = command(run.folder)
        parts.append(f"\nGo on with it: the command that began it, --out {again} --resume")
    return Group(*parts)


def line(reading: Reading) -> str:
    """Round, phase, leader and whom it waits for; the same as long as nothing happens."""
    state = reading.view.state
    if not _timed(state):
        members = f", {len(_members(state))} members" if state.phase is Phase.IDLE else ""
        return outcome_of(state) + members
    until = _moment(reading, state.deadline)
    whom = _whom(reading)
    return f"round {state.round}, {state.phase.name}, {_leader(reading)}, waiting: {whom}, until {until}"


def moment_now(reading: Reading) -> str:
    """The time of a reading, as `line` gives times."""
    return _moment(reading, reading.view.now)


def _start(reading: Reading) -> int:
    return 0 if reading.run is None else reading.run.start


def _last(run: Run | None) -> dict[str, Any]:
    return run.metrics[-1] if run is not None and run.metrics else {}


def _timed(state: State) -> bool:
    """Whether a phase with a deadline is going on."""
    return state.phase is not Phase.IDLE and state.phase not in ENDED


def _members(state: State) -> list[Member]:
    return [m for m in state.members.values() if m.role is Role.MEMBER]


def _failed(reading: Reading) -> int:
    return sum(s.outcome not in (None, Outcome.FINAL) for s in reading.story)


def _standing(state: State, m: Member) -> str:
    if m.member:
        return "active" if m.active else "inactive"
    return "voted out" if m.address in state.excluded else "left"


def _leader(reading: Reading) -> str:
    leader = reading.view.state.current.leader
    return "no leader yet" if leader is None else f"leader {reading.name(leader)}"


def _whom(reading: Reading) -> str:
    return _awaited(reading) or "nobody: the phase can be closed"


def _awaited(reading: Reading) -> str:
    between = {kind: " or " for kind in awaiting.ANY_OF}
    found = waiting_for(reading).items()
    return "; ".join(f"{kind} of {between.get(kind, ' ').join(names)}" for kind, names in found)


def _times(reading: Reading) -> str:
    """Until when, and what time it is: the chain's clock in a run, one's own elsewhere."""
    state, now = reading.view.state, reading.view.now
    until = _moment(reading, state.deadline)
    if reading.run is not None:
        return f"until {until}, now {_moment(reading, now)} (chain's clock)"
    left = state.deadline - now
    return f"until {until}, " + (
        f"in {clock(left)}" if left > 0 else f"{clock(-left)} ago: anyone may close it"
    )


def _moment(reading: Reading, at: int) -> str:
    """A time of the chain: since a run's begin, or as the local clock shows it."""
    if reading.run is not None:
        return clock(at - reading.run.start)
    then, today = time.localtime(at), time.localtime(reading.view.now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)


def _add_set_up(table: Any, reading: Reading) -> None:
    """What secagg and tee need before the first round."""
    terms = reading.terms
    absent = awaiting.missing(terms, reading.view.state)
    if absent:
        whom = "members with a seat" if terms.secagg is None else "key centres and servers of the terms"
        table.add_row("", f"for {whom} to join: {', '.join(absent)}")
    if awaited := _awaited(reading):
        table.add_row("", f"for {awaited}")


def _cohorts(reading: Reading) -> list[list[str]]:
    """Names by cohort while the updates of a round are summed in several; else none."""
    state = reading.view.state
    frozen = Phase.AGGREGATE <= state.phase <= Phase.OPEN
    groups = cohorts.split(state) if reading.terms.secagg is not None and frozen else ()
    return [[reading.name(id) for id in sorted(group)] for group in groups] if len(groups) > 1 else []


def _add_failures(table: Any, reading: Reading) -> None:
    state, allowed = reading.view.state, reading.terms.training.max_failed_rounds
    failed = [s for s in reading.story if s.outcome not in (None, Outcome.FINAL)]
    if state.voids:
        table.add_row("failed", f"{state.voids} rounds in a row, {allowed} pause it")
    elif failed:
        rounds = ", ".join(str(s.round) for s in failed[-10:])
        table.add_row("failed", f"{len(failed)} rounds in all, the last of them {rounds}")


def _member_table(reading: Reading) -> RenderableType:
    state = reading.view.state
    shared = [("address", "left")] if reading.run is None else []
    table = columns(("member", "left"), *shared, ("reputation", "right"), ("left out", "right"), ("", "left"))
    for m in _members(state):
        why = reasons(reading.story, m.id)
        remarks = [reason for reason, _ in why.most_common()]
        remarks += awaiting.remarks(reading.terms, state, m.id)
        remarks += [] if m.member and m.active else [_standing(state, m)]
        address = ["0x" + m.address.hex()] if reading.run is None else []
        counted = (str(m.reputation), str(sum(why.values())))
        table.add_row(reading.name(m.id), *address, *counted, "; ".join(remarks))
    return table
