"""Whose updates are summed together: all of a round, or, after sabotage, disjoint cohorts of them.

A sum shows nothing of one update, so one member can spoil a round without being seen: the members vote the opened
sum down, and the round is burned. Then the beacon splits the contributors of the next rounds into cohorts, each no
smaller than the least number of updates that a round may have. Each cohort has a sum of its own, and the members
vote each of them up or down: the model takes those that pass. Who was in a cohort that failed gathers suspicion,
which members may take for a ground to exclude. Each burned round doubles the number of cohorts and of the rounds
for which they stay.
"""

from __future__ import annotations

from collections.abc import Mapping

from hansa.protocol import election
from hansa.protocol.state import State, quorum, record_of
from hansa.records import RecordKind

DOUBLINGS = 6
"""Burned rounds that count: at most 64 cohorts, for 64 rounds."""


def split(state: State) -> tuple[frozenset[int], ...]:
    """The cohorts of the running round's frozen set V; one, unless a round was burned lately.

    With fewer than twice the least number of updates there is no second cohort.
    """
    everyone = state.current.available
    doubled = 2 ** min(len(state.burned), DOUBLINGS)
    lately = bool(state.burned) and state.round <= state.burned[-1] + doubled
    count = min(doubled, len(everyone) // state.parameters.min_updates) if lately else 1
    if count < 2:
        return (everyone,)
    order = election.permute(state.beacon, everyone)
    return tuple(frozenset(order[k::count]) for k in range(count))


def encode_approvals(approved: frozenset[int]) -> bytes:
    """The digest field of a member's record of the cohorts that it approves: a bitmap of 32 bytes."""
    return sum(1 << k for k in approved).to_bytes(32, "big")


def approvals(state: State, cohorts: int) -> tuple[int, ...]:
    """For each cohort of the running round, how many members of V recorded that they approve of it."""
    bitmaps = [int.from_bytes(digest, "big") for digest in recorded(state).values()]
    return tuple(sum(bitmap >> k & 1 for bitmap in bitmaps) for k in range(cohorts))


def recorded(state: State) -> Mapping[int, bytes]:
    """Members of V that recorded what they approve of in the running round."""
    found = {id: record_of(state, state.round, RecordKind.COHORTS, id) for id in state.current.available}
    return {id: digest for id, digest in found.items() if digest is not None}


def accepted(state: State) -> frozenset[int]:
    """Indices of the cohorts that a quorum of V approves of. It only ever grows within a round."""
    groups, need = split(state), quorum(len(state.current.available))
    return frozenset(k for k, votes in enumerate(approvals(state, len(groups))) if votes >= need)


def settled(state: State) -> bool:
    """Whether no record that is still to come can change what is accepted."""
    everyone, votes = len(state.current.available), approvals(state, len(split(state)))
    awaited = everyone - len(recorded(state))
    return all(n >= quorum(everyone) or n + awaited < quorum(everyone) for n in votes)


def suspicions(state: State) -> Mapping[int, int]:
    """Suspicion as the running round leaves it: one more for everybody in a cohort that was not accepted.

    Nothing changes where nobody recorded a judgement: a round without cohorts, or one that never came so far.
    """
    groups = split(state) if state.parameters.opens else ()
    if len(groups) < 2 or not recorded(state):
        return state.suspicion
    passed = accepted(state)
    failed = {id for k, group in enumerate(groups) if k not in passed for id in group}
    return {**state.suspicion, **{id: state.suspicion.get(id, 0) + 1 for id in failed}}
