"""The story of a federation round by round, folded from its events: for reports, status and audit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hansa.protocol import events as ev
from hansa.protocol.state import State, from_bitmap
from hansa.records import Fault, Outcome, Role


@dataclass(frozen=True, slots=True)
class RoundStory:
    """What became of one round. `left_out`: committed, but not selected."""

    round: int
    committed: frozenset[int] = frozenset()
    available: frozenset[int] = frozenset()
    selected: frozenset[int] = frozenset()
    leaders: tuple[int, ...] = ()
    approvals: int = 0
    rejections: int = 0
    slashed: tuple[tuple[int, Fault], ...] = ()
    outcome: Outcome | None = None
    version: int = 0
    model: bytes = b""

    @property
    def left_out(self) -> frozenset[int]:
        """Members whose update did not go into the round's aggregate."""
        return self.committed - self.selected


def tell(story: tuple[RoundStory, ...], event: ev.Event) -> tuple[RoundStory, ...]:
    """Fold one event into the story."""
    number = getattr(event, "round", 0)
    if isinstance(event, ev.Entered) and (not story or story[-1].round < number):
        return (*story, RoundStory(number))
    if not story or story[-1].round != number:
        return story
    last = story[-1]
    match event:
        case ev.Committed(_, id):
            last = replace(last, committed=last.committed | {id})
        case ev.Frozen(_, available):
            last = replace(last, available=from_bitmap(available))
        case ev.Selected(_, selected):
            last = replace(last, selected=from_bitmap(selected))
        case ev.Elected(_, _, id):
            last = replace(last, leaders=(*last.leaders, id), approvals=0, rejections=0)
        case ev.Voted(_, _, _, approve):
            approvals, rejections = last.approvals + approve, last.rejections + (not approve)
            last = replace(last, approvals=approvals, rejections=rejections)
        case ev.Slashed(_, id, why):
            last = replace(last, slashed=(*last.slashed, (id, Fault(why))))
        case ev.Ended(_, outcome, version, model):
            last = replace(last, outcome=Outcome(outcome), version=version, model=model)
        case _:
            return story
    return (*story[:-1], last)


_LETTERS = {Role.SERVER: "s", Role.KEY_CENTRE: "k", Role.PARTY: "p"}


def names_of(state: State) -> dict[int, str]:
    """Parties by their ids: a member m and its id; servers s0, s1 ... and key centres k0, k1 ... as they joined."""
    names, seen = {}, dict.fromkeys(Role, 0)
    for id, party in sorted(state.members.items()):
        names[id] = f"m{id}" if party.role is Role.MEMBER else f"{_LETTERS[party.role]}{seen[party.role]}"
        seen[party.role] += 1
    return names
