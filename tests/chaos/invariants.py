"""What must hold after every step, judged from the chain's events and what left the nodes, not by their word.

The referee follows the rules by its own reckoning, so that a fault in `hansa.protocol.rules` shows too:

- rounds end once; the version grows by one with a final aggregate, and only then; what a view of a node
  once showed as final no later view of any node shows otherwise, until a fork undoes more than views wait for;
- a final aggregate is the fold of the selected updates, recomputed here from the members' data, is the one
  that was proposed last, and has a quorum of approvals by different verifiers;
- a phase that waits for somebody ends no sooner than its deadline; what is selected was held by a quorum;
  the leader of another attempt is another one, as long as there is one;
- one slot (kind, round, attempt, id) is signed once, by all lives of a node together;
- under `secagg` a final aggregate was opened by a quorum of those whose updates are in it, and nobody who holds a
  half gives it for two openings of one round; all who hold the same half together do not, unless something final
  was undone in it;
- a slash is just: see `_excused`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests import tiny
from tests.chaos.chains import Block
from tests.chaos.federation import DEADLINE, Federation
from tests.chaos.schedule import ALL, SERVERS

from hansa.app import TrainTask
from hansa.protocol import attested
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import events as ev
from hansa.protocol.aggregation import Contribution
from hansa.protocol.checkpoint import Checkpoint
from hansa.protocol.model import from_arrays, to_arrays
from hansa.protocol.state import from_bitmap, quorum
from hansa.records import Fault, Governance, Outcome, Phase

GRACE = 50
"""Seconds within which a node that nothing hinders does all that a phase asks of it: half of each phase."""


@dataclass
class Round:
    """One round, by the referee's own reckoning."""

    committed: dict[int, int] = field(default_factory=dict)
    revealed: set[int] = field(default_factory=set)
    held: dict[int, frozenset[int]] = field(default_factory=dict)
    balloted: set[int] = field(default_factory=set)
    available: frozenset[int] = frozenset()
    selected: frozenset[int] = frozenset()
    since: int = 0
    leaders: list[int] = field(default_factory=list)
    votes: dict[int, bool] = field(default_factory=dict)
    opened: dict[int, bytes] = field(default_factory=dict)
    result: bytes = b""
    verifiers: frozenset[int] = frozenset()
    unready: frozenset[int] = frozenset()
    roster: frozenset[int] = frozenset()


class Referee:
    """Judges one federation. `violations`: each once, in order."""

    def __init__(self, fed: Federation) -> None:
        self.fed = fed
        self.violations: list[str] = []
        self._shown: dict[int, bytes] = {}
        self._forks = 0
        self._branches: dict[int, dict[bytes, Checkpoint]] = {}
        self._trainer = tiny.TinyTrainer()
        self._layout = fed.terms.layout
        first, _ = from_arrays(self._trainer.initial(0), self._layout.scale)
        start = ckpt.initial(fed.terms.aggregation, first)
        self._models: dict[bytes, Checkpoint] = {start.digest: start}
        self._first = start.digest
        self._judged: list[bytes] = []
        self._begin()

    def _begin(self) -> None:
        self._versions = [self._first]
        self._round = 0
        self._phase, self._deadline = Phase.IDLE, 0
        self._now = Round()
        self._judged.clear()

    def check(self) -> None:
        """Judge what is new; all of it anew after a reorganisation."""
        blocks = self.fed.chain.blocks
        known = len(self._judged)
        if known > len(blocks) or (known and blocks[known - 1].hash != self._judged[-1]):
            self._begin()
        for block in blocks[len(self._judged) :]:
            for event in block.events:
                for text in self._on(event, block):
                    self._violation(text)
            self._judged.append(block.hash)
        self._views()
        for slot, messages in self.fed.signed.items():
            if len(messages) > 1:
                self._violation(
                    f"member {slot[2]} signed {len(messages)} messages for {slot[0]}, round {slot[1]}"
                )
        for text in self.fed.stopped:
            self._violation(text)
        for text in self._openings():
            self._violation(text)

    def _openings(self) -> Iterator[str]:
        servers = self.fed.schedule.members + SERVERS
        sides: dict[tuple[int, bool], set[bytes]] = {}
        for (round, id), given in self.fed.answered.items():
            sides.setdefault((round, id < servers), set()).update(given)
            if len(given) > 1:
                yield f"party {id} gave its half for {len(given)} openings of round {round}"
        for (round, server), given in sides.items():
            if len(given) > 1 and round not in self.fed.forked:
                who = "servers" if server else "key centres"
                yield f"the {who} gave their half for {len(given)} openings of round {round}"

    def _violation(self, text: str) -> None:
        if text not in self.violations:
            self.violations.append(text)

    def _views(self) -> None:
        if self._forks != self.fed.forks:
            self._forks = self.fed.forks
            self._shown.clear()
        for version, model in enumerate(self.fed.chain.view().state.models):
            if self._shown.setdefault(version, model) != model:
                self._violation(f"version {version} was final as two different models")

    def _on(self, event: ev.Event, block: Block) -> Iterator[str]:
        now = self._now
        match event:
            case ev.Entered():
                yield from self._entered(event, block)
            case ev.Committed():
                now.committed[event.id] = event.base
            case ev.Revealed():
                now.revealed.add(event.id)
            case ev.BeaconSet():
                awaited = now.committed.keys() - now.revealed
                yield from self._early(bool(awaited), block, f"the beacon closed without {sorted(awaited)}")
            case ev.Held(_, id, held):
                now.held[id] = from_bitmap(held)
            case ev.Balloted():
                now.balloted.add(event.id)
            case ev.Frozen(_, available):
                yield from self._frozen(from_bitmap(available), block)
            case ev.Selected(_, selected):
                now.selected = from_bitmap(selected)
                right = self._recomputed()
                self._branches.setdefault(self._round, {})[right.digest] = right
                if not now.selected <= now.available:
                    yield f"round {self._round} selected what was not available"
            case ev.Elected(_, attempt, id):
                if attempt != len(now.leaders):
                    yield f"round {self._round} skipped to attempt {attempt}"
                peers = self.fed.schedule.governance is Governance.PEERS
                if peers and id in now.leaders and len(set(now.leaders)) < len(now.revealed):
                    yield f"attempt {attempt} of round {self._round} has the leader of an earlier one"
                now.leaders.append(id)
                now.votes = {}
            case ev.Proposed():
                now.result = event.result
                now.verifiers = block.state.current.verifiers
                if block.state.parameters.precommit:
                    now.unready = now.verifiers - block.state.current.precommits.keys()
            case ev.Voted(_, _, id, approve):
                if id in now.votes or id not in now.verifiers:
                    yield f"a vote of member {id} in round {self._round} counted that must not"
                now.votes[id] = approve
            case ev.OpenVoted(_, id, digest):
                if id in now.opened or id not in now.available:
                    yield f"an opened model of member {id} in round {self._round} counted that must not"
                now.opened[id] = digest
            case ev.Ended():
                yield from self._ended(event)
            case ev.Slashed(round, id, why):
                if not self._excused(round, id, Fault(why), block.time):
                    yield f"member {id} was slashed for {Fault(why).name} in round {round}, and no fault excuses it"

    def _early(self, awaited: bool, block: Block, what: str) -> Iterator[str]:
        if awaited and block.time < self._deadline:
            yield f"round {self._round}: {what}, {self._deadline - block.time} s before the deadline"

    def _entered(self, event: ev.Entered, block: Block) -> Iterator[str]:
        if event.round != self._round:
            if event.round != self._round + 1:
                yield f"round {event.round} follows round {self._round}"
            self._round, self._now = event.round, Round(roster=block.state.current.roster)
        if event.phase == Phase.BEACON:
            awaited = self._now.roster - self._now.committed.keys()
            full = 0 < self.fed.terms.training.buffer <= len(self._now.committed)
            yield from self._early(
                bool(awaited) and not full, block, f"training closed without {sorted(awaited)}"
            )
        if event.phase == Phase.AVAILABLE:
            self._now.since = block.time
        self._phase, self._deadline = Phase(event.phase), event.deadline

    def _frozen(self, available: frozenset[int], block: Block) -> Iterator[str]:
        now, n = self._now, len(block.state.current.verifiers) or self.fed.schedule.members
        if block.state.round == self._round:
            holders = Counter(id for held in now.held.values() for id in held)
            right = {id for id in now.revealed if 3 * holders[id] > 2 * n}
            if available != right:
                yield f"round {self._round} froze {sorted(available)}, a quorum holds {sorted(right)}"
            now.verifiers = block.state.current.verifiers
            awaited = block.state.current.verifiers - now.held.keys()
            if block.state.parameters.evaluate:
                awaited |= now.revealed - now.balloted
            yield from self._early(bool(awaited), block, f"availability closed without {sorted(awaited)}")
        now.available = available

    def _ended(self, event: ev.Ended) -> Iterator[str]:
        now, version = self._now, len(self._versions) - 1
        if event.round != self._round:
            yield f"round {event.round} ended, round {self._round} runs"
        if event.outcome != Outcome.FINAL:
            if (event.version, event.model) != (version, self._versions[-1]):
                yield f"round {event.round} ended without an aggregate and changed the model"
            return
        if event.version != version + 1:
            yield f"a final aggregate of round {event.round} makes version {version} version {event.version}"
        approvals = sum(now.votes.values())
        if 3 * approvals <= 2 * len(now.verifiers):
            yield f"round {event.round} is final with {approvals} of {len(now.verifiers)} approvals"
        if self.fed.schedule.scheme == "secagg":
            votes = Counter(now.opened.values())[event.model]
            if votes < quorum(len(now.available)):
                yield f"round {event.round} is final with {votes} of {len(now.available)} who opened it"
        elif event.model != now.result:
            yield f"the final aggregate of round {event.round} was not proposed"
        right = self._recomputed()
        if event.round in self.fed.forked:
            right = self._branches[event.round].get(event.model, right)
        self._models[right.digest] = right
        if event.model != right.digest:
            yield f"the final aggregate of round {event.round} is not the fold of {sorted(now.selected)}"
            self._models[event.model] = right
        self._versions.append(event.model)

    def _recomputed(self) -> Checkpoint:
        """The fold that an honest verifier gets, from the members' data."""
        version = len(self._versions) - 1
        base = self._models[self._versions[-1]]
        contributions = [
            Contribution(
                member=id,
                examples=10,
                staleness=version - self._now.committed[id],
                values=self._update(id, self._models[self._versions[self._now.committed[id]]]),
                indices=None,
            )
            for id in sorted(self._now.selected)
        ]
        return ckpt.advance(self.fed.terms.aggregation, base, contributions)

    def _update(self, id: int, base: Checkpoint) -> Any:
        task = TrainTask(dataset=f"m{id}/train", base=to_arrays(base.model), seed=0, round=0, params=())
        return ckpt.difference(base.model, self._trainer.train(task).values)

    def _excused(self, round: int, id: int, why: Fault, time: int) -> bool:
        """Whether a fault kept this member from its duty, so that the rules may hold it against it at `time`.

        A member is touched while it is down, cut off from chain or store, given other bytes or an old view,
        has a wrong clock, computes wrongly, or when a message or transaction of its own is lost or late; all
        are touched by a halt and by a reorganisation. Who had the last `GRACE` seconds of the phase for its
        own has no excuse: there are journal, other relays, and its own way to the chain. Beyond that

        - a blob is withheld also when more verifiers than a quorum can miss were touched while they waited
          for it, that is in the second quarter of the phase or later, or when the store lost a blob;
        - a proposal is rejected also when a third of the verifiers was touched, and a verifier is silent
          when it was touched before it had precommitted, or when a touched leader (its clock is fast) did
          not wait for its precommitment, as the rules let it;
        - under `tee` a leader is absent also when its enclave is no candidate, or may not be the one that was attested,
          or when more members than a quorum can miss were touched, whose signatures it needs;
        - all is excused in a round of which a fork undid what was final: what was signed on the other side
          does not fit, and may not be signed anew;
        - nothing excuses two messages for one slot.
        """
        now = self._now
        if round in self.fed.forked and why is not Fault.EQUIVOCATION:
            return True

        def touched(phase: Phase, since: int = 0) -> set[int]:
            keys = self.fed.marks.items()
            return {who for (r, p, who), last in keys if (r, p) == (round, phase) and last >= since}

        # After a reorganisation a phase may be ended again, long after the deadline up to which anybody could act.
        last, lost = min(time, self._deadline) - GRACE, round in self.fed.losses
        n = len(now.verifiers)
        match why:
            case Fault.WITHHELD_BEACON:
                return bool(touched(Phase.BEACON, last) & {id, ALL})
            case Fault.WITHHELD_BALLOT:
                return bool(touched(Phase.REVEAL, last) & {id, ALL})
            case Fault.WITHHELD_BLOB:
                met = touched(Phase.AVAILABLE, now.since + DEADLINE // 4)
                return lost or bool(met & {id, ALL}) or len(met & now.verifiers) > n - quorum(n)
            case Fault.ABSENT_LEADER:
                met = touched(Phase.AGGREGATE)
                return lost or bool(touched(Phase.AGGREGATE, last) & {id, ALL}) or self._unable(id, met)
            case Fault.REJECTED_PROPOSAL:
                met = touched(Phase.AGGREGATE) | touched(Phase.VERIFY)
                return lost or bool(met & {id, ALL}) or 3 * len(met & now.verifiers) > n
            case Fault.SILENT_VERIFIER:
                early = touched(Phase.AGGREGATE)
                hasty = id in now.unready and now.leaders[-1] in early
                return lost or hasty or bool((early | touched(Phase.VERIFY, last)) & {id, ALL})
            case _:
                return False

    def _unable(self, id: int, touched: set[int]) -> bool:
        """Whether a leader under `tee` may have had no enclave, or no manifest that a quorum signed."""
        if self.fed.schedule.scheme != "tee":
            return False
        n = len(self._now.roster)
        hosting = id in attested.candidates(self.fed.terms, self.fed.state) and id not in self.fed.fallen
        return not hosting or ALL in touched or len(touched & self._now.roster) > n - quorum(n)
