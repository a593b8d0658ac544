"""The specification as a chain: blocks, confirmations, reorganisations."""

from __future__ import annotations

import pytest
from tests.tiny import START, tiny

from hansa import errors
from hansa.ledger.specified import Specified, SpecifiedLedger
from hansa.protocol import messages as msg
from hansa.records import Phase


def world(confirmations: int):
    """A chain whose rounds are open, and an end of it; block 1 is a void push."""
    made = tiny()
    chain = Specified(made.state, confirmations=confirmations)
    clock = {"now": START}
    return chain, SpecifiedLedger(chain, made.parties[0].address, lambda: clock["now"]), clock


def extend(ledger, clock) -> None:
    """Nobody commits: the round is extended."""
    clock["now"] = ledger._chain.state.deadline
    ledger.submit(msg.Advance(1))


def test_a_view_waits_for_confirmations():
    chain, ledger, clock = world(2)
    extend(ledger, clock)
    assert chain.state.current.extensions == 1
    assert ledger.view().state.current.extensions == 0
    chain.mine(clock["now"])
    assert ledger.view().block == 0
    chain.mine(clock["now"])
    assert (ledger.view().block, ledger.view().state.current.extensions) == (1, 1)


def test_undone_blocks_leave_no_trace_and_can_come_again():
    chain, ledger, clock = world(0)
    extend(ledger, clock)
    before = ledger.view()
    extend(ledger, clock)
    extend(ledger, clock)
    assert (chain.state.phase, chain.state.round) == (Phase.COMMIT, 2)
    events = len(chain.events)
    undone = chain.undo(2)
    assert ledger.view().state == before.state
    assert ledger.view().block_hash == before.block_hash
    assert [b.number for b in undone] == [2, 3]
    assert len(chain.events) < events
    for block in undone:
        chain.mine(block.time, block.call, block.sender)
    assert chain.state == undone[-1].state
    assert chain.blocks[-1].hash != undone[-1].hash


def test_no_view_goes_back_within_the_confirmations():
    chain, ledger, clock = world(3)
    for _ in range(9):
        chain.mine(clock["now"])
    seen = ledger.view()
    chain.undo(3)
    assert chain.block == seen.block
    for _ in range(3):
        assert ledger.view().block_hash == seen.block_hash
        chain.mine(clock["now"])
    chain.mine(clock["now"])
    assert ledger.view().block == seen.block + 1
    chain.undo(4)
    assert ledger.view().block == seen.block


def test_the_first_block_stays():
    chain, _, _ = world(0)
    assert chain.undo(5) == []
    assert chain.block == 0


def test_a_refused_call_makes_no_block():
    chain, ledger, _ = world(0)
    with pytest.raises(errors.TooEarly):
        ledger.submit(msg.Advance(1))
    assert chain.block == 0
