from __future__ import annotations

import pytest
from tests.tiny import tiny

from hansa import encoding, errors
from hansa.node import outbox
from hansa.protocol import messages as msg
from hansa.protocol.timing import pack_meta
from hansa.protocol.wire import encode_item


@pytest.fixture
def made():
    """Nobody but the test speaks."""
    return tiny(5, silent=frozenset(range(5)))


def commit(made, id: int, **changes) -> bytes:
    fields = {"base": 0, "digest": bytes([id]) * 32, "meta": pack_meta(1, 2, 3)} | changes
    signature = made.parties[id].sign(
        encoding.message_bytes(made.state.domain, "Commit", made.state.round, *fields.values())
    )
    return encode_item(msg.Commit(id, *fields.values(), signature))


def relay(made, ids, *, mine=None, again=frozenset(), dry_run=False, ledger=None):
    return outbox.relay(
        ledger or made.ledger(),
        made.store,
        made.state,
        "commit",
        "commit",
        ids,
        mine or {},
        again=again,
        dry_run=dry_run,
    )


def put(made, id: int, data: bytes) -> None:
    outbox.put(made.store, made.state, "commit", id, data)


def test_messages_are_found_under_their_authors(made):
    for id in (0, 3):
        put(made, id, commit(made, id))
    assert outbox.senders(made.store, made.state, "commit") == {0, 3}
    assert outbox.senders(made.store, made.state, "vote:1") == frozenset()
    assert outbox.get(made.store, made.state, "commit", 3) == commit(made, 3)
    with pytest.raises(errors.Unavailable):
        outbox.get(made.store, made.state, "commit", 1)


def test_names_that_are_no_ids_are_passed_over(made):
    folder = outbox.folder(made.state, "commit")
    for name in ("x", "12345", "-1", "1.5", "7"):
        made.store.put_at(f"{folder}/{name}".replace("/-1", "/_1"), b"")
    assert outbox.senders(made.store, made.state, "commit") == {7}


def test_rounds_attempts_and_federations_do_not_mix(made):
    folders = {outbox.folder(made.state, slot) for slot in ("vote:0", "vote:1", "commit")}
    other = tiny(5, silent=frozenset(range(5)), retain_rounds=1)
    folders.add(outbox.folder(other.state, "commit"))
    assert len(folders) == 4


@pytest.mark.parametrize("dry_run", [False, True])
def test_good_messages_pass_and_bad_ones_are_spoiled(made, dry_run):
    for id in (0, 1):
        put(made, id, commit(made, id))
    forged = commit(made, 2).replace(b"\2" * 32, b"\3" * 32)
    put(made, 2, forged)
    put(made, 3, b"\x80")
    put(made, 4, commit(made, 0))
    relayed = relay(made, range(5), dry_run=dry_run)
    assert relayed.sent
    assert made.state.current.commits.keys() == {0, 1}
    assert relayed.tried == ({0, 1} if dry_run else {0, 1, 2})
    assert len(relayed.findings) == 2
    later = relay(made, range(5), again=relayed.tried, dry_run=dry_run)
    bad = {(i, encoding.digest(d)) for i, d in enumerate((forged, b"\x80", commit(made, 0)), 2)}
    assert relayed.spoiled | later.spoiled == bad
    assert later.tried == {0, 1}
    assert not later.sent


def test_a_batch_of_bad_messages_only_is_refused_and_noted(made):
    put(made, 2, commit(made, 2).replace(b"\2" * 32, b"\3" * 32))
    relayed = relay(made, [2])
    assert not relayed.sent
    assert "refused" in relayed.findings[0]
    assert len(relay(made, [2], again={2}).spoiled) == 1


def test_what_was_undone_is_good_when_tried_again(made):
    """With confirmations to wait for, nobody can tell at once what is on the chain and what is lost."""
    put(made, 1, commit(made, 1))
    assert relay(made, [1]).sent
    waits = relay(made, [1], again={1})
    assert (waits.sent, waits.tried, waits.spoiled) == (False, {1}, frozenset())
    made.chain.undo(1)
    assert relay(made, [1], again={1}).sent
    assert made.state.current.commits.keys() == {1}


def test_a_dry_run_pays_for_nothing_that_would_be_refused(made):
    class Counting:
        def __init__(self, inner):
            self.inner, self.sent = inner, []

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def submit(self, *calls):
            self.sent += calls
            self.inner.submit(*calls)

    ledger = Counting(made.ledger())
    put(made, 2, commit(made, 2).replace(b"\2" * 32, b"\3" * 32))
    relay(made, [2], dry_run=True, ledger=ledger)
    assert ledger.sent == []
    put(made, 1, commit(made, 1))
    relay(made, [1, 2], dry_run=True, ledger=ledger)
    assert [i.id for i in ledger.sent[0].items] == [1]


def test_the_own_message_does_not_come_from_the_outbox(made):
    put(made, 1, b"somebody wrote over it")
    relayed = relay(made, [1], mine={1: commit(made, 1)})
    assert relayed.sent
    assert relayed.spoiled == frozenset()
    assert made.state.current.commits.keys() == {1}


def test_a_missing_message_is_waited_for(made):
    relayed = relay(made, [1, 2])
    assert relayed == outbox.Relayed()


def test_a_deadline_spoils_nothing(made):
    """The phase may be extended, and the messages are good then."""
    put(made, 1, commit(made, 1))
    made.now = made.state.deadline
    assert relay(made, [1]).spoiled == frozenset()
    made.ledger().submit(msg.Advance(1))
    assert relay(made, [1]).sent


def test_a_silent_chain_passes_its_error_on(made):
    class Silent:
        def submit(self, *calls):
            raise errors.Unavailable("no answer")

    put(made, 1, commit(made, 1))
    with pytest.raises(errors.Unavailable):
        relay(made, [1], ledger=Silent())


def test_many_messages_go_in_several_batches(made, monkeypatch):
    monkeypatch.setattr(outbox, "BATCH", 2)
    for id in range(5):
        put(made, id, commit(made, id))
    before = made.chain.block
    assert relay(made, range(5)).sent
    assert made.chain.block - before == 3
