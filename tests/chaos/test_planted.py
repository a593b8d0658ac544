"""Bugs planted into nodes and rules, each found by the campaign within a few fixed seeds.

Were one not found, the campaign would prove as little about the bugs that nobody planted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.chaos.campaign import run
from tests.chaos.schedule import draw

from hansa.node import daemon, journal, messages, models, outbox
from hansa.node.blobs import Blobs
from hansa.protocol import attested, election, items, phases, plan, rules
from hansa.protocol import messages as msg
from hansa.protocol.wire import encode_item
from hansa.records import Phase

SEEDS = range(100)
"""Without a bug none of them violates anything, which `test_campaign` shows."""

Patch = pytest.MonkeyPatch


def journal_forgets(patch: Patch) -> None:
    """What it is told it keeps in memory only."""

    def put(self, round, entries):
        self._entries(round).update(entries)

    patch.setattr(journal.Journal, "put", put)


def signs_before_it_writes_down(patch: Patch) -> None:
    def send(self, kind, state):
        slot = self._slot(kind, state)
        if self.world.journal.get(state.round, slot) is None:
            entries: dict[str, bytes] = {}
            entries[slot] = encode_item(self._make(kind, state, entries))
            outbox.put(self.world.store, state, slot, self.me.id, entries[slot])
            self.world.journal.put(state.round, entries)
        if kind == "opening":
            self.world.store.put(self._entry(state, "values"))
        self.deliver(kind, state)
        return True

    patch.setattr(messages.Messages, "send", send)


def draws_a_salt_anew_after_a_restart(patch: Patch) -> None:
    def salt(self, state, kind, entries):
        return self.world.entropy(f"salt/{kind}/{state.round}", 32)

    patch.setattr(messages.Messages, "_salt", salt)


def relays_drop_a_member_for_ever(patch: Patch) -> None:
    right = outbox.relay

    def relay(ledger, store, state, kind, slot, ids, mine, **options):
        ids = [i for i in ids if i != 2 or kind == "commit"]
        return right(ledger, store, state, kind, slot, ids, mine, **options)

    patch.setattr(outbox, "relay", relay)


def a_vote_counts_twice(patch: Patch) -> None:
    right = items.vote

    def lax(state, item):
        without = {i: v for i, v in state.current.votes.items() if i != item.id}
        return right(replace(state, current=replace(state.current, votes=without)), item)

    patch.setitem(rules._HANDLERS, msg.Votes, (lax, Phase.VERIFY, phases.close_votes))


def quorum_is_one_short(patch: Patch) -> None:
    patch.setattr(phases, "quorum", lambda n: 2 * n // 3)


def approves_without_comparing(patch: Patch) -> None:
    def judge(self, view):
        self.messages.judgement[messages.proposal_of(view.state)] = True
        return True

    patch.setattr(daemon.Node, "_judge", judge)


def election_ignores_the_attempt(patch: Patch) -> None:
    right = election.choose_leader

    def choose(state, attempt):
        return right(replace(state, current=replace(state.current, tried=frozenset())), 0)

    patch.setattr(election, "choose_leader", choose)


def beacon_closes_without_all(patch: Patch) -> None:
    right = phases._complete

    def complete(state):
        now = state.current
        return right(state) or (state.phase is Phase.BEACON and len(now.revealed) >= len(now.commits) - 1)

    patch.setattr(phases, "_complete", complete)


def timeouts_never_push(patch: Patch) -> None:
    patch.setattr(plan, "_after_deadline", lambda state, know, now: iter(()))


def a_store_that_lies_counts_against_the_author(patch: Patch) -> None:
    def get(self, digest):
        if digest in self.world.kept.blobs:
            return self.world.kept.get(digest, limit=1)
        blob = self.world.store.get(digest, limit=self.world.limits.blob)
        self.world.kept.put(blob)
        self._fetched[0].add(digest)
        return blob

    patch.setattr(Blobs, "get", get)


def trains_on_the_first_model_for_ever(patch: Patch) -> None:
    def standing(self, state):
        if self._base is None:
            self._base = self._load_model(state)
        return self._base

    patch.setattr(models.Models, "standing", standing)


def publishes_only_once(patch: Patch) -> None:
    """A publication that failed is not tried again."""
    right = daemon.Node._publish

    def publish(self, state):
        self._published = True
        return right(self, state)

    patch.setattr(daemon.Node, "_publish", publish)


def takes_what_no_enclave_signed(patch: Patch) -> None:
    patch.setattr(attested, "check_delivery", lambda *_: None)


BUGS = [
    journal_forgets,
    signs_before_it_writes_down,
    draws_a_salt_anew_after_a_restart,
    relays_drop_a_member_for_ever,
    a_vote_counts_twice,
    quorum_is_one_short,
    approves_without_comparing,
    election_ignores_the_attempt,
    beacon_closes_without_all,
    timeouts_never_push,
    a_store_that_lies_counts_against_the_author,
    trains_on_the_first_model_for_ever,
    publishes_only_once,
]


@pytest.mark.parametrize("plant", BUGS)
def test_a_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    plant(monkeypatch)
    for seed in SEEDS:
        report = run(draw(seed))
        if report.violations:
            return
    raise AssertionError(f"{plant.__name__} went unnoticed")


def test_a_bug_planted_under_tee_is_found(monkeypatch: Patch) -> None:
    """Under other schemes it changes nothing."""
    takes_what_no_enclave_signed(monkeypatch)
    lying = (draw(seed, "tee") for seed in SEEDS)
    lying = (s for s in lying if any(f.kind == "miscompute" for f in s.faults))
    assert any(run(schedule).violations for schedule in lying)
