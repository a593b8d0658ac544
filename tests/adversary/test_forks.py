"""A chain that goes back beyond what nodes took for final, as whoever makes its blocks can do to it."""

from __future__ import annotations

from functools import cache

import pytest
from tests.tiny import moved, tiny

from hansa.node import outbox
from hansa.protocol.messages import Commits
from hansa.records import GovernanceTerms, Outcome, Phase, SelectionTerms, Training

ALL = SelectionTerms(rule="none")
ONCE = Training(rounds=1, min_members=4, deadline=100)
LOST = 4


def founded(*, precommit: bool, silent: frozenset[int] = frozenset()):
    return tiny(selection=ALL, training=ONCE, govern=GovernanceTerms(precommit=precommit), silent=silent)


@cache
def without_the_lost_one() -> bytes:
    made = founded(precommit=True, silent=frozenset({LOST}))
    made.run()
    return made.state.model


def fork(made) -> None:
    """The chain goes back to before the first commitment, and a member goes away, with its messages."""
    commits = [b.number for b in made.chain.blocks if isinstance(b.call, Commits)]
    made.chain.undo(made.chain.block - commits[0] + 1)
    assert made.state.current.commits == {}
    made.nodes = [n for n in made.nodes if n.me.id != LOST]
    for slot in ("commit", "reveal"):
        made.store.delete(f"{outbox.folder(made.state, slot)}/{LOST}")


@pytest.mark.parametrize("precommit", [True, False])
def test_a_fold_of_the_other_branch_gets_no_votes(precommit):
    """All have folded five updates, and none has voted, when the chain goes back to before the fifth was committed."""
    made = founded(precommit=precommit)
    made.until(Phase.VERIFY)
    fork(made)
    made.run()
    ended = [e.outcome for e in made.chain.events if hasattr(e, "outcome")]
    assert ended[-1] == Outcome.FINAL
    assert made.state.model == without_the_lost_one()


def test_a_member_signs_no_second_message_for_a_slot_after_a_fork():
    made = founded(precommit=True)
    made.until(Phase.VERIFY)
    before = {n.me.id: n.world.journal.get(1, "precommit") for n in made.nodes}
    fork(made)
    made.nodes = [moved(n) for n in made.nodes]
    made.run()
    assert {n.me.id: n.world.journal.get(1, "precommit") for n in made.nodes}.items() <= before.items()
    assert any("the chain went back" in text for n in made.nodes for text in n.findings)


def test_what_a_fork_undid_is_sent_again():
    made = founded(precommit=True)
    made.until(Phase.VERIFY)
    made.chain.undo(3)
    made.run()
    assert [e.outcome for e in made.chain.events if hasattr(e, "outcome")] == [Outcome.FINAL]
