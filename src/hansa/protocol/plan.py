"""What a node should do next: a pure function of the chain, what the node knows, and the time.

Time within a phase: a node waits for everybody's part until half of the phase is over, then goes on with
what there is. Two relays of the roster batch messages at once; every node does so after a quarter, so
that no relay can censor; a member submits its own message alone after three quarters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hansa.protocol import enclave_plan, mpc_plan, opening_plan, phases, selection
from hansa.protocol.state import State, quorum
from hansa.records import Phase

RELAYS = 2

PHASE_OF: dict[str, Phase] = {
    "commit": Phase.COMMIT,
    "reveal": Phase.BEACON,
    "availability": Phase.AVAILABLE,
    "ballot": Phase.AVAILABLE,
    "opening": Phase.REVEAL,
    "precommit": Phase.AGGREGATE,
    "proposal": Phase.AGGREGATE,
    "vote": Phase.VERIFY,
    "opened": Phase.OPEN,
}
"""Message kind -> the phase in which the contract takes it."""

SHARING = frozenset({Phase.COMMIT, Phase.AVAILABLE, Phase.AGGREGATE, Phase.VERIFY})
"""Phases in which somebody may be waiting for a blob."""


@dataclass(frozen=True, slots=True)
class Train:
    """Train on the current model, seal the update, sign the commitment."""


@dataclass(frozen=True, slots=True)
class Send:
    """Sign a message of this kind and put it into the outbox."""

    kind: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Put the own sealed update into the store."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get, check and keep the blobs of these members."""

    ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Share:
    """Put those own and fetched blobs into the store that it lacks, once in this quarter of the phase."""

    quarter: int


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Judge the assigned updates on the own validation data."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Fold the selected updates into the next model."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Fetch and keep the proposed result, and hold it against the own one."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Batch the waiting messages of this kind to the chain; only the own one if `own`."""

    kind: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Choose:
    """Call `select` with the threshold and tie cut that the ballots give."""

    threshold: int
    cut: int


@dataclass(frozen=True, slots=True)
class Push:
    """Call `advance`."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """Seal the model that stands to those who cannot open it: they joined, or came back, since it was made."""


Step = (
    Welcome | Train | Send | Publish | Fetch | Share | Evaluate | Aggregate | Judge | Relay | Choose | Push
    | opening_plan.Step | enclave_plan.Step | mpc_plan.Step
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one node knows of the running round beyond the chain.

    `sent`: kinds already signed (votes and proposals as `kind:attempt`). `checked`: members whose blob is
    fetched and good; `refused`: those whose blob is bad for good. `waiting`: kind -> ids whose message
    lies in the outbox and not on the chain. `shared`: phase and quarter in which it last put back what it holds.
    `welcomed`, `evaluated`, `aggregated`: done. `judgement`: what the node
    thinks of the proposal of the current attempt, None before it could fetch it. `opening`: what it knows of keys
    and openings, `enclave`: of enclaves, `computing`: of computing parties, where the scheme has any.
    """

    id: int
    relay: bool = True
    trains: bool = True
    sent: frozenset[str] = frozenset()
    welcomed: bool = False
    published: bool = False
    shared: tuple[Phase, int] | None = None
    checked: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    evaluated: bool = False
    aggregated: bool = False
    judgement: bool | None = None
    waiting: Mapping[str, frozenset[int]] = field(default_factory=dict)
    opening: opening_plan.Knowledge | None = None
    enclave: enclave_plan.Knowledge | None = None
    computing: mpc_plan.Knowledge | None = None


def strangers(state: State) -> frozenset[int]:
    """Readers of the running round to whom the model that stands is not sealed."""
    if state.model_author is None:
        return frozenset()
    return frozenset(i for i, key in state.current.readers.items() if state.model_readers.get(i) != key)


def kinds_of(state: State) -> tuple[str, ...]:
    """Message kinds that the contract takes now."""
    p = state.parameters
    off = {"ballot": not p.evaluate, "precommit": not p.precommit}
    return tuple(k for k, phase in PHASE_OF.items() if phase is state.phase and not off.get(k))


def expected(state: State, kind: str) -> frozenset[int]:
    """Ids whose message of this kind the chain still awaits."""
    now = state.current
    match kind:
        case "commit":
            return now.roster - now.commits.keys()
        case "reveal":
            return frozenset(now.commits.keys() - now.revealed)
        case "availability":
            return now.verifiers - now.held.keys()
        case "ballot":
            return now.revealed - now.ballots.keys()
        case "opening":
            return frozenset(now.ballots.keys() - now.opened.keys())
        case "precommit":
            return now.verifiers - now.precommits.keys()
        case "proposal":
            return frozenset() if now.leader is None else frozenset({now.leader})
        case "opened":
            return now.available - now.open_votes.keys()
        case _:
            return now.verifiers - now.votes.keys()


def elapsed(state: State, now: int) -> float:
    """How much of the phase is over: 0 at its start, 1 at its deadline."""
    if state.phase not in phases.RUNNING:
        return 0.0
    duration = state.parameters.durations[state.phase - 1]
    return 1 - (state.deadline - now) / duration


def next_wake(state: State, now: int) -> int | None:
    """The next time at which a node may have something to do although nothing happened."""
    if state.phase not in phases.RUNNING:
        return None
    duration = state.parameters.durations[state.phase - 1]
    start = state.deadline - duration
    quarters = (start + -(-duration * k // 4) for k in range(1, 4))
    times = (*quarters, state.deadline, state.deadline + duration)
    return next((t for t in times if t > now), None)


def relay_rank(state: State, id: int) -> int:
    """Place of an id among the relays of this round; the first `RELAYS` act at once."""
    roster = sorted(state.current.roster)
    if id not in state.current.roster:
        return len(roster)
    return (roster.index(id) - state.round) % len(roster)


def next_steps(state: State, know: Knowledge, now: int) -> list[Step]:
    """Steps that are possible now, in the order in which to take them."""
    done = elapsed(state, now)
    opening: list[Step] = list(opening_plan.steps(state, know.opening, min(done, 1))) if know.opening else []
    opening += enclave_plan.steps(state, know.enclave, min(done, 1)) if know.enclave else ()
    opening += mpc_plan.steps(state, know.computing) if know.computing else ()
    if state.phase not in phases.RUNNING:
        return opening
    if done >= 1:
        return list(_after_deadline(state, know, now))
    return [
        *opening,
        *_own_part(state, know, done),
        *_sharing(state, know, done),
        *_relaying(state, know, done),
        *_closing(state, know),
    ]


def _own_part(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    current, me = state.current, know.id
    match state.phase:
        case Phase.COMMIT:
            lets_in = state.parameters.opens and know.enclave is None
            if not lets_in and not know.welcomed and _welcomes(state, me, done):
                yield Welcome()
            # A head of this very round has no layer to reveal in it.
            able = me in current.roster and state.members[me].onion_round < state.round
            able = able and (know.opening is None or opening_plan.ready(state, know.opening))
            able = able and (know.enclave is None or enclave_plan.ready(state, know.enclave))
            able = able and (know.computing is None or mpc_plan.ready(state, know.computing))
            if able and know.trains and "commit" not in know.sent:
                yield Train()
        case Phase.BEACON:
            if me in current.commits and "reveal" not in know.sent:
                yield Send("reveal")
        case Phase.AVAILABLE:
            yield from _availability(state, know, done)
        case Phase.REVEAL:
            if me in current.ballots and "opening" not in know.sent:
                yield Send("opening")
        case Phase.AGGREGATE:
            yield from _aggregation(state, know, done)
        case Phase.VERIFY:
            if me in current.verifiers and f"vote:{current.attempt}" not in know.sent:
                if know.judgement is None:
                    yield Judge()
                else:
                    yield Send("vote")
        case Phase.OPEN:
            judge = know.opening or know.computing
            if judge is not None and judge.decided and "opened" not in know.sent:
                yield Send("opened")


def _welcomes(state: State, me: int, done: float) -> bool:
    """Two of those who have the model at once, everybody after half of the phase."""
    new = strangers(state)
    hosts = sorted(state.current.roster - new)
    return bool(new) and me in hosts and (done >= 0.5 or me in hosts[:RELAYS])


def _availability(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    current, me = state.current, know.id
    if me in current.revealed and not know.published:
        yield Publish()
    verifies = me in current.verifiers and "availability" not in know.sent
    judges = state.parameters.evaluate and me in current.revealed and "ballot" not in know.sent
    wanted = frozenset(current.revealed) if verifies else frozenset()
    mine: frozenset[int] = frozenset()
    if judges:
        place = current.places.index(me)
        mine = frozenset(selection.targets_of(current.places, place, state.parameters.targets))
        wanted |= mine
    missing = wanted - know.checked - know.refused
    if missing:
        yield Fetch(missing)
    if verifies and (not missing or done >= 0.5):
        yield Send("availability")
    if judges and (not (mine & missing) or done >= 0.5):
        yield Send("ballot") if know.evaluated else Evaluate()


def _aggregation(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    current, me = state.current, know.id
    verifies = me in current.verifiers
    leads = me == current.leader
    if know.enclave is not None and not state.parameters.opens:
        verifies = False
        leads = leads and (know.aggregated or enclave_plan.leads(state, know.enclave))
    if know.computing is not None:
        verifies, leads = False, leads and mpc_plan.settled(state)
        if leads and not know.aggregated:
            yield Aggregate()
            return
    if (verifies or leads) and not know.aggregated:
        missing = current.selected - know.checked
        yield Fetch(missing) if missing else Aggregate()
        return
    if verifies and state.parameters.precommit and "precommit" not in know.sent:
        yield Send("precommit")
    if leads and f"proposal:{current.attempt}" not in know.sent:
        enough = len(current.precommits) >= quorum(len(current.verifiers))
        everyone = len(current.precommits) == len(current.verifiers)
        if not state.parameters.precommit or everyone or (enough and done >= 0.25):
            yield Send("proposal")


def _sharing(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    quarter = int(4 * done)
    if quarter and state.phase in SHARING and know.shared != (state.phase, quarter):
        yield Share(quarter)


def _relaying(state: State, know: Knowledge, done: float) -> Iterator[Step]:
    for kind in kinds_of(state):
        awaited = expected(state, kind)
        waiting = know.waiting.get(kind, frozenset()) & awaited
        if not waiting:
            continue
        first = relay_rank(state, know.id) < RELAYS
        if know.relay and (done >= 0.25 or (first and _enough(state, kind, waiting, awaited))):
            yield Relay(kind)
        elif know.id in waiting and done >= 0.75:
            yield Relay(kind, own=True)


def _enough(state: State, kind: str, waiting: frozenset[int], awaited: frozenset[int]) -> bool:
    """Whether a batch now closes the phase: nobody is missing, or the buffer of commitments is full."""
    buffer = state.parameters.buffer if kind == "commit" else 0
    full = 0 < buffer <= len(state.current.commits) + len(waiting)
    return full or waiting == awaited


def _closing(state: State, know: Knowledge) -> Iterator[Step]:
    current = state.current
    if know.relay and state.phase is Phase.REVEAL and len(current.opened) == len(current.ballots):
        yield from _choice(state)


def _choice(state: State) -> Iterator[Step]:
    arguments = selection.threshold_and_cut(state)
    if arguments is not None:
        yield Choose(*arguments)


def _after_deadline(state: State, know: Knowledge, now: int) -> Iterator[Step]:
    if not know.relay:
        return
    if state.phase is Phase.REVEAL:
        choice = list(_choice(state))
        grace = state.parameters.durations[Phase.REVEAL - 1]
        if choice:
            yield from choice
        elif not state.current.opened or now >= state.deadline + grace:
            yield Push()
    else:
        yield Push()
