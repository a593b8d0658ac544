"""Worlds that fail: a lying store, a silent chain, a full disk, a node killed between any two steps."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from tests.adversary.hostile import ALL, Dead, Wrapped, faults, findings, outcomes
from tests.tiny import moved, node, tiny

from hansa import errors
from hansa.node.journal import open_journal
from hansa.records import Phase, Training

ONCE = Training(rounds=1, min_members=4, deadline=100)
TWICE = replace(ONCE, rounds=2)
PHASES = [Phase.COMMIT, Phase.BEACON, Phase.AVAILABLE, Phase.REVEAL, Phase.AGGREGATE, Phase.VERIFY]


@pytest.fixture(scope="module")
def honest():
    made = tiny(training=TWICE)
    made.run()
    return made


class WrongBytes(Wrapped):
    """A store that gives other bytes for the first `times` blobs asked for."""

    def __init__(self, inner, times: int) -> None:
        super().__init__(inner)
        self.left = times

    def get(self, digest, *, limit):
        data = self.inner.get(digest, limit=limit)
        if self.left > 0:
            self.left -= 1
            raise errors.Untrusted("other bytes", digest=hashlib.sha256(data + b"!").digest())
        return data


def test_a_store_that_gives_wrong_bytes_at_times_is_asked_again(honest):
    """Its lie does not count against the blob's author."""
    made = tiny(training=TWICE, worlds={1: lambda w: replace(w, store=WrongBytes(w.store, 9))})
    made.run()
    assert made.state.model == honest.state.model
    assert all(faults(made, i) == [] for i in range(5))


def test_a_store_that_always_lies_to_one_node_does_not_stop_the_others():
    made = tiny(
        training=TWICE, selection=ALL, worlds={1: lambda w: replace(w, store=WrongBytes(w.store, 10**6))}
    )
    made.run()
    assert outcomes(made) == [1, 1]
    reference = tiny(training=ONCE, selection=ALL)
    reference.run()
    assert made.state.models[1] == reference.state.model


class Forgetful(Wrapped):
    """A store that loses every blob once, after it said that it had it."""

    def __init__(self, inner, lost: set[bytes]) -> None:
        super().__init__(inner)
        self.lost = lost

    def put(self, data, digest=None):
        digest = hashlib.sha256(data).digest()
        if digest not in self.lost:
            self.lost.add(digest)
            return digest
        return self.inner.put(data, digest)


def test_a_store_that_loses_blobs_gets_them_again_from_their_authors():
    """Nobody else has them: only their author can bring them back, before the others go on without."""
    lost: set[bytes] = set()
    worlds = {i: lambda w: replace(w, store=Forgetful(w.store, lost)) for i in range(5)}
    made, reference = tiny(training=TWICE, selection=ALL, worlds=worlds), tiny(training=TWICE, selection=ALL)
    made.run()
    reference.run()
    assert len(lost) > 10
    assert made.state.model == reference.state.model
    assert all(faults(made, i) == [] for i in range(5))
    assert all(made.store.has(digest) for digest in lost)


@pytest.mark.parametrize("phase", PHASES)
def test_a_chain_that_stops_answering_for_a_while(phase):
    silence = {"left": 0}

    def off() -> bool:
        silence["left"] -= 1
        return silence["left"] >= 0

    worlds = {i: lambda w: replace(w, ledger=Dead(w.ledger, off)) for i in range(5)}
    made = tiny(training=TWICE, worlds=worlds)
    made.until(phase, 1)
    silence["left"] = 12
    made.run()
    assert made.state.phase is Phase.STOPPED
    assert made.state.version == 2
    assert any("no answer" in text for text in findings(made, range(5)))


def test_a_chain_that_takes_calls_and_breaks_off_before_the_answer(honest):
    """Each call is carried out and reported as failed: nothing is done twice."""

    class Broken(Wrapped):
        def submit(self, *calls) -> None:
            self.inner.submit(*calls)
            raise errors.Unavailable("connection lost")

    made = tiny(training=TWICE, worlds={i: lambda w: replace(w, ledger=Broken(w.ledger)) for i in range(5)})
    made.run()
    assert made.state.model == honest.state.model


@pytest.mark.parametrize("phase", PHASES)
def test_a_store_that_is_away_for_a_while(phase):
    silence = {"left": 0}

    def off() -> bool:
        silence["left"] -= 1
        return silence["left"] >= 0

    made = tiny(training=TWICE, worlds={i: lambda w: replace(w, store=Dead(w.store, off)) for i in range(5)})
    made.until(phase, 1)
    silence["left"] = 20
    made.run()
    assert made.state.phase is Phase.STOPPED
    assert made.state.version == 2


def fill(journal, size: int) -> None:
    """Write entries of this size until no other fits."""
    with pytest.raises(errors.Unavailable):  # noqa: PT012 - the write that fails is the last of many
        for k in range(9999):
            journal.put(8, {f"{size}/{k}": bytes(size)})


def test_a_full_disk_is_reported_with_advice_and_nothing_is_lost(honest, tmp_path):
    """The journal cannot grow; as soon as it can, the node goes on and signs what it had not."""
    made = tiny(training=TWICE)
    journal = open_journal(tmp_path / "j", made.state.domain, made.parties[2].address)
    victim = made.nodes[2] = moved(made.nodes[2], journal=journal)
    size = journal._db.execute("pragma page_count").fetchone()[0]
    journal._db.execute(f"pragma max_page_count = {size}")
    with pytest.raises(errors.Unavailable, match="full") as caught:
        journal.put(9, {"big": bytes(100_000)})
    assert "Free some space" in caught.value.hint
    assert journal.keys(9) == set()
    for size in (1000, 100, 10, 1):
        fill(journal, size)
    for n in made.nodes:
        n.step()
    victim.step()
    assert "commit" not in victim.messages.delivered or journal.get(1, "commit") is not None
    assert 2 not in made.state.current.commits
    assert any("the disk is full" in text and "Free some space" in text for text in victim.findings)
    journal._db.execute("pragma max_page_count = 1000000")
    made.run()
    assert made.state.model == honest.state.model
    assert faults(made, 2) == []


def test_a_full_disk_under_the_store_is_waited_for():
    class Full(Wrapped):
        left = 2

        def put(self, data, digest=None):
            if self.left:
                self.left -= 1
                raise errors.Unavailable("No space left", hint="The disk is full: free some space.")
            return self.inner.put(data, digest)

    full = {2: lambda w: replace(w, store=Full(w.store), kept=Full(w.kept))}
    made, reference = tiny(training=TWICE, selection=ALL, worlds=full), tiny(training=TWICE, selection=ALL)
    made.run()
    reference.run()
    assert made.state.model == reference.state.model
    assert "The disk is full" in findings(made, {2})[0]


# restarts


class Killed(BaseException):
    """As sudden as SIGKILL: nothing in the package catches it."""


def restarted(made, id: int, path, lost: bool):
    """A new node over the same journal. `lost`: with an empty disk for blobs."""
    old = next(n for n in made.nodes if n.me.id == id)
    old.world.journal._db.close()
    new = node(made, id, journal=open_journal(path, made.state.domain, made.parties[id].address))
    new.me = old.me
    made.nodes[made.nodes.index(old)] = new if lost else moved(new, kept=old.world.kept)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("passes", "lost"), [(0, False), (1, True)])
def test_a_node_restarted_in_any_phase_ends_with_the_same_model(honest, tmp_path, phase, passes, lost):
    made = tiny(training=TWICE)
    for id in (0, 3):
        journal = open_journal(tmp_path / str(id), made.state.domain, made.parties[id].address)
        made.nodes[id] = moved(made.nodes[id], journal=journal)
    made.until(phase, 1)
    for _ in range(passes):
        made.advance()
    for id in (0, 3):
        restarted(made, id, tmp_path / str(id), lost)
    made.run()
    assert made.state.model == honest.state.model
    assert all(faults(made, i) == [] for i in range(5))


def test_a_node_killed_before_every_single_effect_never_signs_two_messages_for_one_slot(honest, tmp_path):
    """It dies at its k-th contact with the world outside, for every k, and starts again from its journal.

    Deterministic keys would hide a double signature: its randomness is another after each start.
    """
    slots: dict[tuple[str, int, int], set[bytes]] = {}
    made = tiny(training=ONCE)
    path = tmp_path / "j"
    count = {"k": 0, "life": 0}

    class Mortal(Wrapped):
        def __getattr__(self, name):
            method = getattr(self.inner, name)

            def call(*args, **kwargs):
                count["k"] += 1
                if count["k"] > count["life"]:
                    raise Killed
                if name == "put_at":
                    _, _, round, slot, id = args[0].split("/")
                    slots.setdefault((slot, int(round), int(id)), set()).add(args[1])
                return method(*args, **kwargs)

            return call

    def born() -> None:
        count["k"] = 0
        count["life"] += 1
        life = count["life"]
        fresh = node(made, 0, journal=open_journal(path, made.state.domain, made.parties[0].address))
        world = fresh.world

        def entropy(label: str, n: int) -> bytes:
            return hashlib.shake_256(f"{life}/{label}".encode()).digest(n)

        world.scheme._entropy = entropy
        made.nodes[0] = moved(
            fresh,
            store=Mortal(world.store),
            ledger=Mortal(world.ledger),
            kept=made.nodes[0].world.kept,
            entropy=entropy,
        )

    born()
    for _ in range(2000):
        try:
            if not made.advance():
                break
        except Killed:
            made.nodes[0].world.journal._db.close()
            born()
    assert count["life"] > 10
    assert {slot.split("-")[0] for slot, _, _ in slots} >= {
        "commit",
        "reveal",
        "availability",
        "ballot",
        "opening",
    }
    assert all(len(messages) == 1 for messages in slots.values())
    assert outcomes(made) == [1]
    assert made.state.phase is Phase.STOPPED
    assert faults(made, 0) == []


def test_two_nodes_must_not_share_a_journal():
    """The second would sign another message for the same slot: the journal stops it before it signs."""
    made = tiny(training=ONCE)
    made.nodes[0].world.journal.put(1, {"commit": b"one"})
    with pytest.raises(errors.Misconfigured, match="already holds"):
        made.nodes[0].world.journal.put(1, {"commit": b"another"})


def test_a_journal_of_another_member_is_refused(tmp_path):
    made = tiny(training=ONCE)
    open_journal(tmp_path / "j", made.state.domain, made.parties[0].address).close()
    with pytest.raises(errors.Misconfigured, match="another member"):
        open_journal(tmp_path / "j", made.state.domain, made.parties[1].address)


def test_a_broken_journal_stops_the_node(tmp_path):
    (tmp_path / "j").write_bytes(b"this is no database, and long enough to be read as one" * 20)
    with pytest.raises(errors.Misconfigured, match="cannot be opened"):
        open_journal(tmp_path / "j", bytes(32), bytes(20))


def test_a_refused_call_does_not_stop_a_node(honest):
    """A relay that is always told no, as one behind the chain is."""

    class Refusing(Wrapped):
        def submit(self, *calls) -> None:
            raise errors.WrongPhase

    made = tiny(training=TWICE, worlds={0: lambda w: replace(w, ledger=Refusing(w.ledger))})
    made.run()
    assert made.state.model == honest.state.model
