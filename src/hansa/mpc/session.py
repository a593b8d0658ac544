"""A computing party's session: it performs a program with its peers, and goes on after any of them was lost.

    own = certificates.own_identity(home, job)     # its certificate's digest goes to the ledger
    places = (Place(host, meeting, link, certificate), ...)          # of all parties, checked against the ledger
    party = Party(job, rank, Setting(), places, own, checkpoints.own_key(home), home)
    trained = train(party, program, Start(shares, first, feeds, functions), report)

`shares` are what owners dealt to this party (`dealing.make_shares`, `shares.read_share`). `trained.outputs` are this
party's shares of the parameters, for the owners, who call `dealing.reconstruct`; `shares.component_digests` of them
are what parties record and others compare.

Each attempt has a child process with SPU's runtime (`child`), a meeting of the parties (`meeting`), a link with
mutual TLS (`places`, `certificates`), and begins at the last checkpoint that all hold (`checkpoints`).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hansa import encoding, errors
from hansa.mpc.certificates import Identity, bundle
from hansa.mpc.checkpoints import Checkpoint, Checkpoints
from hansa.mpc.meeting import Agreement, GivenUp, Guest, Hello, Host, Meeting, Surroundings, passes
from hansa.mpc.performing import Array, Function, Performer
from hansa.mpc.places import Place, probe
from hansa.mpc.program import LOSS, Program
from hansa.mpc.runtime import Runtime
from hansa.mpc.setting import Setting
from hansa.mpc.shares import Share
from hansa.mpc.traffic import Cost

FUTILE = 3
"""Attempts in a row that end at the step where the one before did, after which a party gives up."""

_GRACE = 0.2
"""Part of the time-out that a peer's word is waited for when the own link breaks: it tells why."""


@dataclass(frozen=True, slots=True)
class Party:
    """A party and what it needs to meet its peers. `job`: 32 bytes; `key`: 32 bytes, seals its checkpoints.

    timeout: seconds of silence after which a peer or child counts as lost; local work between two messages must take
    less. patience: seconds to wait for absent parties. every: steps between checkpoints. listener: a bound socket for
    party 0's meeting, where the session is not to open the port of its place.
    """

    job: bytes
    rank: int
    setting: Setting
    places: tuple[Place, ...]
    own: Identity
    key: bytes = field(repr=False)
    home: Path
    timeout: float = 10.0
    patience: float = 600.0
    every: int = 50
    listener: socket.socket | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """What a training begins with at one party.

    shares: of the program's inputs, by name. first: first values of its state, which everybody knows
    (`schedule.initial`); zero where none is named. feeds: public variables of a step, counted from 0; the same at
    every party and whenever it is asked (`schedule.feeds`). functions: of `Compute`s (`lowering.functions`).
    """

    shares: Mapping[str, Share]
    first: Mapping[str, Array]
    feeds: Callable[[int], Mapping[str, Array]]
    functions: Mapping[str, Function]


@dataclass(frozen=True, slots=True)
class Progress:
    """After a step: the attempt, steps done, epoch from 0, and what the step cost this party by the clock.

    loss: of the step's batch, where this party sees it by what the script declares.
    """

    attempt: int
    epoch: int
    done: int
    cost: Cost
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Who is told of progress; and, in words, of what is waited for or went wrong."""

    progress: Callable[[Progress], None] = lambda _: None
    notice: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Trained:
    """What a party has at the end: steps and attempts made, its shares of the outputs, and what all cost it, by
    executable or variable (see `traffic.by_layer`); what a killed process did after its last checkpoint is not in it.
    """

    steps: int
    attempts: int
    outputs: Mapping[str, Share]
    costs: Mapping[str, Cost]


def program_digest(program: Program) -> bytes:
    """Digest of a program, by which parties see that they perform the same."""
    return encoding.digest(encoding.encode(program))


def train(party: Party, program: Program, start: Start, report: Report | None = None) -> Trained:
    """Perform a program to its end.

    Raises `Misconfigured` for what is wrong here, before or while it runs; `Untrusted` when a peer is not what it
    claims or alters what is opened; `Unavailable` when a peer does not come for `patience` seconds, ended its part,
    or attempts end where they began. Parties lost for a while are only told to `report.notice`.
    """
    _check(party, program, start)
    return asyncio.run(_Session(party, program, start, report or Report()).trained())


def _check(party: Party, program: Program, start: Start) -> None:
    if len(party.places) != party.setting.parties:
        raise errors.Misconfigured(
            f"{party.setting.protocol} needs {party.setting.parties} parties, {len(party.places)} are named"
        )
    if party.places[party.rank].certificate != party.own.certificate:
        raise errors.Misconfigured(
            f"the certificate recorded for party {party.rank} is not the one in its home folder",
            hint="Use the home folder that the party registered with, and its own rank.",
        )
    missing = {v.name for v in program.inputs} - start.shares.keys()
    if missing:
        raise errors.Misconfigured(
            f"nothing to begin with: {', '.join(sorted(missing))}", hint="An owner has to share it first."
        )


class _Session:
    """A party's training over all attempts; runs inside one event loop."""

    def __init__(self, party: Party, program: Program, start: Start, report: Report) -> None:
        self._party, self._program, self._start, self._report = party, program, start, report
        self._digest = program_digest(program)
        self._total = program.epochs * program.steps
        self._folder = party.home / party.job.hex()[:16]
        self._kept = Checkpoints(
            self._folder / self._digest.hex()[:16],
            party.key,
            job=party.job,
            program=self._digest,
            rank=party.rank,
            setting=party.setting,
        )
        self._plain = program.plain_state.get(party.rank, ())
        self._variables = {v.name: v for v in (*program.state, *self._plain, *program.outputs)}
        self._costs: dict[str, Cost] = {}
        self._attempt = self._done = 0
        self._final: Checkpoint | None = None
        self._said = ""

    async def trained(self) -> Trained:
        """Attempt after attempt, until one comes to the end."""
        self._remember()
        if self._final and self._kept.everybody_done:
            return self._outcome(self._final)
        party = self._party
        around = Surroundings(
            party.rank, party.places, party.own, party.timeout, party.patience, self._notice
        )
        meeting: Meeting = Host(around, party.listener) if party.rank == 0 else Guest(around)
        futile, reached = 0, -1
        try:
            while True:
                try:
                    return await self._attempted(meeting)
                except errors.HansaError as e:
                    await meeting.abandon(e)
                    if not passes(e):
                        raise
                    futile, reached = (futile + 1 if self._done == reached else 1), self._done
                    if futile == FUTILE:
                        raise GivenUp(
                            f"given up after {FUTILE} attempts at step {reached}: {e}", hint=e.hint
                        ) from e
                    self._notice(f"{e}. {e.hint}")
                except Exception as e:
                    # A fault of this program; the others need not wait for what does not come back.
                    await meeting.abandon(errors.HansaError(f"party {party.rank} failed: {type(e).__name__}"))
                    raise
        finally:
            await meeting.close()

    def _remember(self) -> None:
        """What an earlier process of this party came to."""
        if steps := self._kept.held():
            newest = self._kept.load(steps[-1], self._variables)
            self._attempt = newest.attempt
            self._costs.update(newest.costs)
            self._final = newest if newest.last else None

    def _notice(self, words: str) -> None:
        """Tell what is new: while it waits, a party hears the same over and over."""
        if words != self._said:
            self._report.notice(words)
        self._said = words

    def _outcome(self, final: Checkpoint) -> Trained:
        outputs = {v.name: final.shares[v.name] for v in self._program.outputs}
        return Trained(final.step, final.attempt, outputs, self._costs)

    async def _attempted(self, meeting: Meeting) -> Trained:
        party = self._party
        # The child says nothing a little sooner than the link times out, so that its parent tells the others why.
        runtime = Runtime(party.job, party.setting, party.rank, 0.8 * party.timeout)
        try:
            await runtime.ready()
            try:
                agreed = await self._agreed(meeting)
            except GivenUp:
                # Others who do not come hold theirs too, or would have come.
                if self._final:
                    return self._outcome(self._final)
                raise
            self._attempt, self._done = agreed.attempt, agreed.step
            return await _unless_lost(self._worked(runtime, meeting, agreed), meeting, party.timeout)
        finally:
            runtime.kill()

    async def _agreed(self, meeting: Meeting) -> Agreement:
        """An agreement; who comes and goes before there is one costs no attempt."""
        while True:
            hello = Hello(self._party.job, self._digest, self._attempt, tuple(self._kept.held()))
            try:
                return await meeting.agree(hello)
            except errors.HansaError as e:
                if not passes(e):
                    raise
                await meeting.abandon(e)
                self._notice(f"{e}. {e.hint}")
                await asyncio.sleep(self._party.timeout / 5)

    async def _worked(self, runtime: Runtime, meeting: Meeting, agreed: Agreement) -> Trained:
        held = self._kept.load(agreed.step, self._variables) if agreed.step else None
        if held is None or not held.last:
            await self._linked(runtime, meeting, agreed)
            held = await self._steps(runtime, agreed, held)
            self._final = held
            with suppress(errors.Unavailable):  # all is done here, and held; a peer may be gone already
                await runtime.unlink()
        await meeting.all_done()
        self._kept.note_everybody_done()
        return self._outcome(held)

    async def _linked(self, runtime: Runtime, meeting: Meeting, agreed: Agreement) -> None:
        """A link whose every end is who it should be."""
        party = self._party
        trusted = self._folder / "trusted.crt"
        trusted.write_text(bundle([p.certificate for p in party.places]))
        addresses = [f"{p.host}:{p.link}" for p in party.places]
        others = [rank for rank in range(len(party.places)) if rank != party.rank]
        probes = [probe(party.own, party.places, rank, party.timeout) for rank in others]
        await _all([runtime.link(agreed.link, addresses, party.own, trusted), *probes])
        await meeting.all_linked()
        await runtime.shut()

    async def _steps(self, runtime: Runtime, agreed: Agreement, held: Checkpoint | None) -> Checkpoint:
        program, start = self._program, self._start
        known = (*program.state, *self._plain)
        first = {v.name: start.first.get(v.name, np.zeros(v.shape, v.dtype)) for v in known}
        plain = {v.name: first[v.name] for v in self._plain}
        performer = Performer(self._party.rank, runtime, start.functions, plain, self._costs)
        for name, executable in program.executables.items():
            await runtime.load(name, executable)
        for share in start.shares.values():
            await runtime.put(share)
        for variable in program.state:
            await runtime.feed(variable, first[variable.name])
        await performer.perform(program.start, start.feeds(0))
        if held is not None:
            for share in held.shares.values():
                await runtime.put(share)
            performer.plain.update(held.plain)
        for step in range(agreed.step, self._total):
            stopped = await self._step(performer, step)
            self._done = step + 1
            last = stopped or self._done == self._total
            if last:
                await performer.perform(program.finish, self._start.feeds(step))
            if last or self._done % self._party.every == 0:
                held = await self._saved(runtime, performer, last)
            if last:
                break
        assert held is not None
        return held

    async def _step(self, performer: Performer, step: int) -> bool:
        """Perform one step, and what ends an epoch; whether the training ends early here."""
        program, feeds, begun = self._program, self._start.feeds(step), time.monotonic()
        epoch, place = divmod(step, program.steps)
        cost = await performer.perform(program.step, feeds)
        stopped = False
        if place + 1 == program.steps:
            cost += await performer.perform(program.epoch, feeds)
            stopped = program.stop is not None and bool(performer.plain[program.stop.name].any())
        cost = replace(cost, times=1, seconds=time.monotonic() - begun)
        seen = performer.plain.get(LOSS.name)
        loss = None if seen is None else float(seen[0])
        self._report.progress(Progress(self._attempt, epoch, step + 1, cost, loss))
        return stopped

    async def _saved(self, runtime: Runtime, performer: Performer, last: bool) -> Checkpoint:
        # When all are here, all have written the checkpoint before: of two each, one is common.
        await runtime.barrier()
        plain = {v.name: performer.plain[v.name] for v in self._plain}
        shared = {v.name: v for v in (*self._program.state, *(self._program.outputs if last else ()))}
        shares = await runtime.get(list(shared.values()))
        found = Checkpoint(self._done, shares, plain, last, self._attempt, dict(self._costs))
        await asyncio.to_thread(self._kept.save, found)
        return found


async def _unless_lost(work: Coroutine[Any, Any, Trained], meeting: Meeting, timeout: float) -> Trained:
    """What `work` gives, unless a party is lost before it is done."""
    working, losing = asyncio.create_task(work), asyncio.create_task(meeting.lost())
    try:
        await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and isinstance(working.exception(), errors.Unavailable):
            await asyncio.wait({losing}, timeout=_GRACE * timeout)
            if losing.done():
                losing.result()
        if not working.done():
            losing.result()
        return working.result()
    finally:
        for task in (working, losing):
            task.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)


async def _all(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all at once; the first error ends the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
