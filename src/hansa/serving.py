"""A node at work for months: it steps, waits longer where nothing answers, says what happens, and can be looked at."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hansa import errors
from hansa.member import outside
from hansa.node import alone
from hansa.node.backoff import backoff
from hansa.node.daemon import Node
from hansa.node.meter import Failure, Meter, Part
from hansa.ports import View
from hansa.protocol import awaiting, opening_plan
from hansa.records import Phase

LONGEST = 30.0
"""Seconds between two tries when something does not answer, at most."""

SHARE = 8
"""And at most this part of a phase, so that a short one is not slept through."""

SKEW = 60
"""Seconds between this machine's clock and a new block's time from which on a node says so."""

FRESH = 10.0
"""Seconds since the last look within which a block that is new to us is new."""

log = logging.getLogger("hansa")


@dataclass(frozen=True, slots=True)
class Pulse:
    """What others may look at: the last view and when it came, and when the last step ended (monotonic seconds).

    `clock`: how this machine's clock was last seen to differ from the chain's, in words.
    """

    view: View | None = None
    viewed: float = -math.inf
    stepped: float = -math.inf
    clock: str = ""


class Service:
    """One node, its meter and its pulse. `look`: seconds between two looks when there is nothing to do."""

    def __init__(
        self,
        node: Node,
        meter: Meter,
        *,
        look: float,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.node = node
        self.meter = meter
        self.pulse = Pulse(viewed=meter.clock(), stepped=meter.clock())
        self._look = look
        self._clock = clock
        self._draw = draw
        self._at: tuple[int, Phase] | None = None
        self._cleared = 0
        self._awaited = ""
        self._failing: dict[Part, Failure] = {}
        self._failures = 0

    def run(self, stopped: Callable[[], bool], pause: Callable[[float], object]) -> View | None:
        """Step until there is nothing more to do, and give the last state; None if `stopped` says so first.

        That is when the federation has stopped, or its member has left or was voted out.

        `pause` waits so many seconds, or less when it is to stop. Raises what ends a node for good.
        """
        while not stopped():
            done = self._turn()
            self._tell()
            view = self.pulse.view
            if view is not None and self._over(view):
                return view
            if self._failing:
                self._failures += 1
                if not done:
                    pause(backoff(self._failures, self._draw(), first=self._look, most=self._longest()))
                continue
            self._failures = 0
            if not done:
                pause(self._look)
        return None

    def _over(self, view: View) -> bool:
        state, me = view.state, self.node.me
        stopped = state.phase is Phase.STOPPED and not (
            self.node.terms.secagg is not None and opening_plan.owes_release(state, me.id)
        )
        return stopped or outside(state, me.id, me.signer.address)

    def _turn(self) -> bool:
        """One step, with a look at the chain before and after; says whether anything was done."""
        done = False
        try:
            view = self._see()
            self._check(view)
            self._tell_awaited(view)
            done = self.node.step()
            self._see()
        except (errors.Unavailable, errors.Untrusted):
            # The meter knows, and what was not done is still to be done.
            return False
        finally:
            self.pulse = replace(self.pulse, stepped=self.meter.clock())
        return done

    def _see(self) -> View:
        view = self.node.world.ledger.view()
        clock = self._skew(view)
        if clock and not self.pulse.clock:
            self._say(
                logging.WARNING, "clock", f"{clock}: set it, best by NTP; deadlines are missed otherwise"
            )
        self.pulse = replace(self.pulse, view=view, viewed=self.meter.clock(), clock=clock)
        return view

    def _check(self, view: View) -> None:
        """Whether another node signs with this key. Raises `Misconfigured`."""
        state, me, world = view.state, self.node.me, self.node.world
        alone.check_chain(world.journal, state, me.id)
        if me.trains and state.phase is Phase.COMMIT and self._cleared != state.round:
            alone.check_outbox(world.journal, world.store, state, me.id)
            self._cleared = state.round

    def _skew(self, view: View) -> str:
        """How the clock differs from a block that came just now; a block from the future needs not be new."""
        before, ahead = self.pulse, self._clock() - view.stamped
        if not view.stamped:
            return ""
        if ahead < -SKEW:
            return f"this machine's clock is at least {-ahead:.0f} s behind the chain's blocks"
        if before.view is None or view.block == before.view.block:
            return before.clock
        if ahead > SKEW and self.meter.clock() - before.viewed < FRESH:
            return (
                f"this machine's clock is about {ahead:.0f} s ahead of the chain's blocks, or its node lags"
            )
        return "" if ahead <= SKEW else before.clock

    def _longest(self) -> float:
        view = self.pulse.view
        shortest = min(view.state.parameters.durations) if view else LONGEST * SHARE
        return max(self._look, min(LONGEST, shortest / SHARE))

    # what it says

    def _say(self, level: int, event: str, text: str) -> None:
        state = self.pulse.view.state if self.pulse.view else None
        log.log(
            level,
            text,
            extra={
                "event": event,
                "member": self.node.me.id,
                "round": state.round if state else None,
                "phase": state.phase.name if state else None,
            },
        )

    def _tell(self) -> None:
        self._tell_phase()
        self._tell_failures()
        known = tuple(failure.text for failure in self._failing.values())
        for text in self.node.news():
            if not text.endswith(known or ("\0",)):
                self._say(logging.WARNING, "finding", text)

    def _tell_phase(self) -> None:
        view = self.pulse.view
        if view is None or (view.state.round, view.state.phase) == self._at:
            return
        state = view.state
        self._at = (state.round, state.phase)
        self._say(logging.INFO, "phase", f"round {state.round}, {state.phase.name}")
        if state.phase is Phase.PAUSED:
            self._say(
                logging.WARNING,
                "paused",
                f"the federation is paused: {state.voids} rounds in a row failed. Nothing is lost; it goes on when"
                " members have voted to resume, and this node waits for that. See who was missing (hansa status),"
                " then: hansa propose FEDERATION resume.",
            )

    def _tell_awaited(self, view: View) -> None:
        """Whose turn it is, if this node can do nothing before: said beforehand, since a step may take long."""
        text = awaiting.sentence(self.node.terms, view.state, self.node.me.id, view.now)
        if text and text != self._awaited:
            self._say(logging.INFO, "awaiting", text)
        self._awaited = text

    def _tell_failures(self) -> None:
        now = dict(self.meter.failing)
        for part, failure in now.items():
            if part not in self._failing:
                text = f"{failure.text} Trying again, at least every {self._longest():.0f} s."
                self._say(logging.WARNING, "waiting", text)
        for part, failure in self._failing.items():
            if part not in now:
                gone = self.meter.clock() - failure.since
                self._say(logging.INFO, "back", f"the {part} answers again, after {gone:.0f} s")
        self._failing = now
