"""One key, one node: locks on one machine, and what betrays a second node elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.tiny import Tiny, moved, tiny

from hansa import errors
from hansa.node import alone, outbox
from hansa.node.journal import Journal, open_journal
from hansa.protocol.wire import decode_item, encode_item
from hansa.records import Phase

FEDERATION, ADDRESS, OTHER = b"\x01" * 20, b"\x02" * 20, b"\x03" * 20


def test_a_second_node_is_kept_out_whatever_its_home(tmp_path: Path) -> None:
    def lock(home: str, address: bytes = ADDRESS, federation: bytes = FEDERATION):
        return alone.locked(tmp_path / home, federation, address, runtime=tmp_path / "run")

    with lock("a"):
        with pytest.raises(errors.Misconfigured, match="another node is at work in .*a"), lock("a", OTHER):
            pass
        with pytest.raises(errors.Misconfigured, match="0x0202.*with another home") as caught, lock("b"):
            pass
        assert caught.value.hint
        with lock("c", OTHER), lock("d", federation=OTHER):
            pass
    with lock("b"):
        pass


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(errors.Misconfigured, match="cannot use"),
        alone.locked(tmp_path / "file" / "home", FEDERATION, ADDRESS, runtime=tmp_path / "run"),
    ):
        pass


def lost(made: Tiny) -> Journal:
    return open_journal(None, made.state.domain, made.parties[1].address)


@pytest.mark.parametrize(
    ("phase", "slot"),
    [
        (Phase.BEACON, "commit"),
        (Phase.REVEAL, "availability"),
        (Phase.VERIFY, "precommit"),
    ],
)
def test_what_the_chain_has_and_the_journal_not_stops_a_node(phase: Phase, slot: str) -> None:
    made = tiny()
    made.until(phase)
    journal = made.nodes[1].world.journal
    alone.check_chain(journal, made.state, 1)
    empty = lost(made)
    for key in journal.keys(1):
        if key != slot:
            empty.put(1, {key: journal.get(1, key) or b""})
    with pytest.raises(errors.Misconfigured, match=rf"the chain has a message \({slot}\)") as caught:
        alone.check_chain(empty, made.state, 1)
    assert "start again when round 1 is over" in caught.value.hint


def test_a_lost_journal_is_no_matter_in_the_next_round() -> None:
    made = tiny()
    made.until(Phase.COMMIT, round=2)
    made.nodes[1] = moved(made.nodes[1], journal=lost(made))
    made.run()
    assert made.state.version == 3


def test_a_commitment_in_the_store_shows_a_second_node() -> None:
    made = tiny(relays=frozenset())
    node = made.nodes[1]
    node.step()
    alone.check_outbox(node.world.journal, made.store, made.state, 1)
    with pytest.raises(errors.Misconfigured, match=r"the store has a message \(commit\) of this member"):
        alone.check_outbox(lost(made), made.store, made.state, 1)


def test_what_others_write_there_proves_nothing() -> None:
    made = tiny(relays=frozenset())
    made.nodes[1].step()
    data = outbox.get(made.store, made.state, "commit", 1)
    forged = replace(decode_item("commit", data), digest=bytes(32))
    for junk in (b"", b"junk", encode_item(forged)):
        outbox.put(made.store, made.state, "commit", 1, junk)
        alone.check_outbox(lost(made), made.store, made.state, 1)
    empty = tiny(relays=frozenset())
    alone.check_outbox(lost(empty), empty.store, empty.state, 1)
