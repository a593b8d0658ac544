"""Run schedules, many or one, and say what came of them."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from tests import sums
from tests.chaos.federation import Federation
from tests.chaos.invariants import Referee
from tests.chaos.schedule import ROUNDS, Schedule, draw

from hansa.crypto import double_trapdoor
from hansa.enclave import program
from hansa.records import Phase

PATIENCE = 700
"""Ticks after the last fault within which every job ends; one that has to void some rounds takes about 300."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one schedule. `trace`: SHA-256 of all events, the same in every run of the seed."""

    seed: int
    scheme: str
    evm: bool
    ticks: int
    steps: int
    blocks: int
    rounds: int
    injected: Counter[str]
    violations: tuple[str, ...]
    trace: str

    @property
    def replay(self) -> str:
        """The command that shows this run again."""
        scheme = "" if self.scheme == "plaintext" else f" --scheme {self.scheme}"
        return f"python -m tests.chaos --replay {self.seed}{scheme}{' --evm' if self.evm else ''}"


def run(schedule: Schedule, *, evm: bool = False, told: bool = False) -> Report:
    """Play one schedule to its end, or to the first violation. `told`: print each event as it happens."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(double_trapdoor, "set_up", sums.set_up))
        drawn = random.Random(f"hansa/chaos/{schedule.seed}/enclaves")
        secrets = SimpleNamespace(token_bytes=drawn.randbytes)
        stack.enter_context(mock.patch.object(program, "secrets", secrets))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if evm else None
        if evm:
            # The embedded chain makes its blocks at once, for good.
            faults = tuple(f for f in schedule.faults if f.kind not in ("reorg", "fork"))
            schedule = replace(schedule, confirmations=0, faults=faults)
        fed = Federation(schedule, folder)
        stack.callback(fed.close)
        referee = Referee(fed)
        printed = 0

        def judge() -> None:
            nonlocal printed
            referee.check()
            if told:
                printed = _tell(fed, printed)

        last = schedule.quiet + PATIENCE
        while not _over(fed) and not referee.violations and fed.ticks < last:
            fed.tick(judge)
        judge()
        violations = referee.violations
        if not violations:
            violations = list(_unfinished(fed))
        return _report(fed, evm, violations)


def _over(fed: Federation) -> bool:
    """The last version is final for everybody, and no fault can take it back."""
    return fed.state.phase is Phase.STOPPED and fed.chain.view().state.phase is Phase.STOPPED


def _unfinished(fed: Federation) -> Iterator[str]:
    if not _over(fed):
        yield f"the job has not ended: {fed.state.phase.name} of round {fed.state.round}"
    elif fed.state.version != ROUNDS:
        yield f"the job stopped at version {fed.state.version}"


def _report(fed: Federation, evm: bool, violations: Iterable[str]) -> Report:
    text = repr([(b.number, b.time, b.events) for b in fed.chain.blocks])
    return Report(
        seed=fed.schedule.seed,
        scheme=fed.schedule.scheme,
        evm=evm,
        ticks=fed.ticks,
        steps=fed.steps,
        blocks=len(fed.chain.blocks),
        rounds=fed.state.round,
        injected=fed.injected,
        violations=tuple(violations),
        trace=hashlib.sha256(text.encode()).hexdigest(),
    )


def _tell(fed: Federation, printed: int) -> int:
    printed = min(printed, len(fed.chain.blocks))
    for block in fed.chain.blocks[printed:]:
        for event in block.events:
            print(f"tick {fed.ticks:4} {block.time - 1_800_000_000:6} s  {_short(event)}")
    return len(fed.chain.blocks)


def _short(event: object) -> str:
    names = (n for n in type(event).__dataclass_fields__)
    values = ((n, getattr(event, n)) for n in names)
    shown = (f"{n}={v.hex()[:8] if isinstance(v, bytes) else v}" for n, v in values)
    return f"{type(event).__name__}({', '.join(shown)})"


def _one(scheme: str, evm_every: int, seed: int) -> Report:
    return run(draw(seed, scheme), evm=bool(evm_every) and seed % evm_every == evm_every - 1)


def reports(
    seeds: Iterable[int], *, scheme: str = "plaintext", evm_every: int = 0, processes: int = 1
) -> Iterator[Report]:
    """Reports of many seeds, in order; every `evm_every`-th runs on the EVM."""
    one = partial(_one, scheme, evm_every)
    if processes == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(one, seeds, chunksize=20)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 1 when an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--replay", type=int, metavar="SEED", help="one schedule, told event by event")
    parser.add_argument("--scheme", default="plaintext", choices=("plaintext", "secagg", "tee"))
    parser.add_argument("--evm", action="store_true", help="replay on the EVM")
    parser.add_argument(
        "--evm-every", type=int, default=100, help="every so many seeds on the EVM; 0 for none"
    )
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2))
    options = parser.parse_args(arguments)
    if options.replay is not None:
        return _replay(options.replay, options.scheme, evm=options.evm)
    return _campaign(options)


def _replay(seed: int, scheme: str, *, evm: bool) -> int:
    schedule = draw(seed, scheme)
    print(replace(schedule, faults=()))
    for fault in schedule.faults:
        print(f"  {fault}")
    report = run(schedule, evm=evm, told=True)
    print(f"{report.ticks} ticks, {report.steps} steps, {report.rounds} rounds, trace {report.trace[:16]}")
    for text in report.violations:
        print(f"VIOLATION {text}")
    return bool(report.violations)


def _campaign(options: argparse.Namespace) -> int:
    seeds = range(options.first, options.first + options.seeds)
    begun, injected = time.monotonic(), Counter[str]()
    done = steps = blocks = evm = 0
    bad: list[Report] = []
    given = {"scheme": options.scheme, "evm_every": options.evm_every, "processes": options.processes}
    for report in reports(seeds, **given):
        done, steps, blocks, evm = done + 1, steps + report.steps, blocks + report.blocks, evm + report.evm
        injected += report.injected
        for text in report.violations:
            print(f"VIOLATION seed {report.seed}: {text}\n  replay: {report.replay}", flush=True)
        if report.violations:
            bad.append(report)
        if done % 500 == 0:
            faults = injected.total()
            print(f"{done} schedules, {steps} steps, {faults} faults, {len(bad)} violated", flush=True)
    print(f"schedules  {done} ({evm} on the EVM), seeds {seeds.start} to {seeds.stop - 1}")
    print(f"steps      {steps} of nodes, {blocks} blocks, {time.monotonic() - begun:.0f} s")
    print(f"faults     {injected.total()}")
    for kind, count in sorted(injected.items()):
        print(f"  {kind:20} {count}")
    print(f"violations {len(bad)}" + (f", seeds {[r.seed for r in bad][:50]}" if bad else ""))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
