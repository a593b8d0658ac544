"""`retain_rounds` at work in whole federations of `tests.tiny`, whose nodes have disks of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.adversary.hostile import Wrapped
from tests.sums import published_primes, summed, until_final  # noqa: F401, a fixture
from tests.tiny import join, moved, node, party, tiny

from hansa import encoding, errors
from hansa.node.journal import open_journal
from hansa.node.retention import AT_ONCE, KEPT
from hansa.protocol import messages as msg
from hansa.records import Phase, RecordKind, Training
from hansa.stores import parts

EIGHT = Training(rounds=8, min_members=4, deadline=100)
WINDOW = 2


def outbox_rounds(made) -> set[int]:
    return {int(key.split("/")[2]) for key in made.store.list("outbox")}


def newcomer(made, id: int = 0, **changes):
    """The node of a member that lost its disk and its journal."""
    return node(made, id, **changes)


def sizes(made) -> list[int]:
    return [len(made.store.digests()), *(len(n.world.kept.digests()) for n in made.nodes)]


@pytest.fixture(scope="module")
def grown():
    """Number of blobs in the store and on each disk at the end of each round, with and without retention."""
    found = {}
    for window in (0, WINDOW):
        made = tiny(training=EIGHT, retain_rounds=window)
        found[window] = []
        for round in range(2, 9):
            made.until(Phase.COMMIT, round)
            made.advance()
            found[window].append(sizes(made))
            if window:
                assert outbox_rounds(made) <= set(range(round - WINDOW, round + 1))
        made.run()
        found[window, "end"] = made
    return found


def test_store_and_disks_stop_growing_after_the_window(grown):
    kept, bounded = grown[0], grown[WINDOW]
    assert all(later > now for now, later in zip(kept[0], kept[-1], strict=True))
    assert all(later <= now + 2 for now, later in zip(bounded[WINDOW], bounded[-1], strict=True))
    assert all(few < half / 2 for few, half in zip(bounded[-1], kept[-1], strict=True))


def test_the_job_ends_with_the_same_model(grown):
    with_all, bounded = grown[0, "end"], grown[WINDOW, "end"]
    assert bounded.state.version == with_all.state.version == 8
    assert not any("not deleted" in text for n in bounded.nodes for text in n.findings)


def test_who_keeps_all_keeps_no_list(grown):
    journal = grown[0, "end"].nodes[0].world.journal
    assert journal.outdated(99, AT_ONCE) == []


def test_what_the_window_used_is_there_whole(grown):
    """Of the last rounds every update, grant, row and model opens, on every disk and from the store alone."""
    made = grown[WINDOW, "end"]
    state = made.state
    for n in (*made.nodes, newcomer(made)):
        assert n.models.standing(state).digest == state.model
        n.blobs.turn()
        for id in state.current.available:
            assert n.blobs.update(state, id).member == id
            blob = n.world.kept.get(state.current.commits[id].digest, limit=9999)
            assert all(n.world.kept.has(grant) for grant in n.world.scheme.references(blob))
    for opened in state.current.opened.values():
        assert made.store.has(opened.values)


def test_a_member_that_joins_late_gets_the_model(grown):
    made = tiny(training=EIGHT, retain_rounds=1)
    made.until(Phase.COMMIT, 5)
    late = party(0, "m5")
    made.parties.append(late)
    made.ledger().submit(msg.Invite(late.address))
    made.ledger(5).submit(join(made, late))
    made.nodes.append(node(made, 5))
    made.run()
    assert made.state.version == 8
    assert made.nodes[5].models.standing(made.state).digest == made.state.model
    assert 5 in made.state.current.commits


def test_a_model_that_stands_for_long_stays(grown):
    """Rounds fail one after the other; who released the model of before them does not delete it."""
    made = tiny(training=replace(EIGHT, max_failed_rounds=9), retain_rounds=1)
    made.until(Phase.COMMIT, 3)
    author = made.state.model_author
    idle = [n for n in made.nodes if n.me.id != author][:2]
    for n in idle:
        made.nodes[n.me.id] = replaced = moved(n)
        replaced.me = replace(n.me, trains=False)
    made.until(Phase.COMMIT, 7, passes=2000)
    assert made.state.version == 2
    assert newcomer(made).models.standing(made.state).digest == made.state.model
    assert min(outbox_rounds(made)) >= 6
    made.nodes[idle[0].me.id] = moved(made.nodes[idle[0].me.id])
    for n in idle:
        made.nodes[n.me.id].me = n.me
    made.until(Phase.COMMIT, 9)
    assert made.state.version == 4


def test_whoever_lost_its_copy_of_the_release_deletes_nothing():
    made = tiny(training=EIGHT, retain_rounds=1)
    made.until(Phase.COMMIT, 4)
    author = made.nodes[made.state.model_author]
    author.world.kept.discard(made.state.model_evidence)
    before = author.world.journal.outdated(99, AT_ONCE)
    author.step()
    assert set(before) <= set(author.world.journal.outdated(99, AT_ONCE))
    other = next(n for n in made.nodes if n is not author)
    before = other.world.journal.outdated(99, AT_ONCE)
    other.step()
    assert not set(before) <= set(other.world.journal.outdated(99, AT_ONCE))


# nodes that are killed, stores that refuse


class Killed(BaseException):
    """Nothing catches it."""


class Deadly(Wrapped):
    """A store in which its node dies of the deletion after `left` others."""

    left = 0

    def _strike(self) -> None:
        if not self.left:
            raise Killed
        self.left -= 1

    def discard(self, digest):
        self._strike()
        self.inner.discard(digest)

    def delete(self, key):
        self._strike()
        self.inner.delete(key)


@pytest.mark.parametrize("left", [0, 1, 3, 5])
def test_a_node_killed_between_deletions_goes_on_with_them(left):
    made = tiny(training=EIGHT, retain_rounds=1)
    made.until(Phase.COMMIT, 4)
    victim = made.nodes[1]
    listed = set(victim.world.journal.outdated(3, AT_ONCE))
    deadly = Deadly(made.store)
    deadly.left = left
    made.nodes[1] = dying = moved(victim, store=deadly)
    with pytest.raises(Killed):
        dying.step()
    made.nodes[1] = moved(victim)
    made.nodes[1].step()
    gone = listed - set(victim.world.journal.outdated(99, AT_ONCE))
    assert {place for place, _ in gone} == {"stored", "named", "kept"}
    stored = {digest.hex() for digest in made.store.digests()} | set(made.store.list("outbox"))
    kept = {digest.hex() for digest in victim.world.kept.digests()}
    assert not [name for place, name in gone if name in (kept if place == KEPT else stored)]
    assert victim.world.journal.outdated(3, AT_ONCE) == []
    made.run()
    assert made.state.version == 8


def test_copies_that_a_killed_node_did_not_write_down_go_too(tmp_path):
    """It dies in the middle of round 2; the stamps of that round's copies were in memory only."""
    made = tiny(training=EIGHT, retain_rounds=1)
    journal = open_journal(tmp_path / "j", made.state.domain, made.parties[1].address)
    made.nodes[1] = moved(made.nodes[1], journal=journal)
    made.until(Phase.VERIFY, 2)
    lost = made.nodes[1].world.kept.digests() - {bytes.fromhex(n) for n in journal.holdings(KEPT)}
    assert len(lost) > 4
    made.nodes[1] = moved(made.nodes[1])
    made.until(Phase.COMMIT, 5)
    made.advance()
    assert not lost & made.nodes[1].world.kept.digests()


def test_a_store_that_lets_nobody_delete_stops_nothing():
    class Forbidding(Wrapped):
        def discard(self, digest):
            raise errors.Unavailable("no right", hint="Ask for it.")

        delete = discard

    made = tiny(training=EIGHT, retain_rounds=1, worlds={1: lambda w: replace(w, store=Forbidding(w.store))})
    made.run()
    assert made.state.version == 8
    assert any("old rounds were not deleted: no right Ask for it." in text for text in made.nodes[1].findings)
    assert made.nodes[1].world.journal.outdated(3, AT_ONCE)
    assert not made.nodes[2].world.journal.outdated(7, AT_ONCE)


def test_an_upload_that_was_never_finished_is_deleted(monkeypatch):
    """The stamp is journaled before the first part."""
    monkeypatch.setattr(parts, "PART", 64)
    made = tiny(training=EIGHT, retain_rounds=1)

    class Broken(Wrapped):
        def put(self, data, digest=None):
            if len(data) > 64 and made.state.round == 2:
                part = data[:64]
                self.inner.put_at(parts.part_key(encoding.digest(data), encoding.digest(part)), part)
                raise errors.Unavailable("broken off")
            return self.inner.put(data, digest)

    made.nodes[1] = moved(made.nodes[1], store=Broken(made.store))
    made.until(Phase.REVEAL, 2)
    torn = [d for d in made.store.digests() if not made.store.has(d)]
    assert torn
    made.until(Phase.COMMIT, 5)
    made.advance()
    assert not set(torn) & made.store.digests()


# sums instead of updates


def recorded(made, kind, round=None):
    """Digests that anybody recorded under a kind, about whomever."""
    found = (r for (k, _), records in made.state.recorded.items() if k % 256 == kind for r in records)
    return {digest for of, digest in found if round in (None, of)}


def test_under_secagg_the_store_stops_growing_too():
    made = summed(4, rounds=8, retain_rounds=WINDOW)
    found = []
    for version in range(1, 8):
        until_final(made, version)
        made.advance()
        found.append(sizes(made))
    made.run()
    assert made.state.version == 8
    assert not any("not deleted" in text for n in made.nodes for text in n.findings)
    assert all(later <= now + 4 for now, later in zip(found[WINDOW + 1], found[-1], strict=True))
    halves = recorded(made, RecordKind.OPENING, 1) | recorded(made, RecordKind.RELEASE, 1)
    assert not halves & made.store.digests()
    for id in made.state.current.available:
        assert made.store.has(made.state.current.commits[id].digest)


def test_under_secagg_a_model_that_stands_for_long_can_be_had():
    """Rounds fail one after the other; then come a member that missed its opening, and one that lost its disk."""
    failing = Training(rounds=8, min_members=3, deadline=100, max_failed_rounds=9)
    made = summed(5, retain_rounds=1, training=failing)
    until_final(made, 1)
    sleeper = made.nodes.pop(4)
    until_final(made, 2)
    idle = made.nodes[1:3]
    for n in idle:
        made.nodes[n.me.id] = replaced = moved(n)
        replaced.me = replace(n.me, trains=False)
    made.until(Phase.COMMIT, 7, passes=2000)
    assert made.state.version == 2
    held = made.store.digests()
    for kind in (RecordKind.SETUP, RecordKind.KEY):
        assert recorded(made, kind) <= held
    for kind in (RecordKind.OPENING, RecordKind.RELEASE):
        assert recorded(made, kind, 2) <= held
        assert not recorded(made, kind, 1) & held
    (setup,) = recorded(made, RecordKind.SETUP)
    scheme = made.nodes[0].world.scheme
    assert set(scheme.references(made.store.get(setup, limit=99_999))) <= held
    assert newcomer(made).models.standing(made.state).digest == made.state.model
    for n in idle:
        made.nodes[n.me.id] = moved(made.nodes[n.me.id])
        made.nodes[n.me.id].me = n.me
    made.nodes.append(sleeper)
    until_final(made, 4, passes=1000)
    assert 4 in made.state.model_set
    assert recorded(made, RecordKind.READMISSION, 2)


def test_nothing_is_deleted_while_it_is_not_known_what_is_needed():
    made = tiny(training=EIGHT, retain_rounds=1)
    for each in made.nodes:
        inner = each.retention.turn
        each.retention.turn = lambda state, needed, inner=inner: inner(state, None)
    made.until(Phase.COMMIT, 2)
    early = made.store.digests()
    made.run()
    assert early <= made.store.digests()
