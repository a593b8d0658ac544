from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.shared import Shared, embedded, found

from hansa import wiring
from hansa.records import Phase
from hansa.report.shared import SharedFacts


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    with embedded(tmp_path) as chain:
        yield found(chain, tmp_path, lambda: chain.time, members=5)


def reader(shared: Shared) -> SharedFacts:
    return SharedFacts(shared.federation, shared.rpc, wiring.store(str(shared.store)), shared.clock)


def test_before_the_start_there_are_no_rounds(shared: Shared) -> None:
    facts = reader(shared).read()
    assert (facts.kind, facts.state, facts.phase, facts.rounds) == ("federation", "at work", "IDLE", ())
    assert facts.subject == shared.name


def test_a_federation_is_followed_to_its_end(shared: Shared) -> None:
    shared.start()
    read = reader(shared)
    shared.run(until=lambda state: state.phase is Phase.REVEAL)
    facts = read.read()
    assert (facts.round, facts.phase, facts.rounds[0].outcome) == (1, "REVEAL", "running")
    assert facts.rounds[0].spans[0].begin == 0
    assert facts.waiting
    shared.run()
    facts = read.read()
    assert (facts.state, facts.final, [r.outcome for r in facts.rounds]) == ("stopped", 2, ["final", "final"])
    assert all(r.matrix is not None and len(r.matrix) == 5 for r in facts.rounds)
    assert replace(reader(shared).read(), made=0) == replace(facts, made=0)


def test_what_only_members_know_is_absent_and_said_so(shared: Shared) -> None:
    shared.start()
    shared.run()
    facts = reader(shared).read()
    assert any("Accuracy" in text for text in facts.absent)
    assert all(r.value is None for r in facts.rounds)
    assert all(c.gas is None and c.store_bytes is None and c.seconds is None for c in facts.costs)
    assert all(p.rows == 10 and p.joint is None for p in facts.parties)
    assert (facts.running, facts.simulated, facts.seed) == (None, False, None)


def test_a_store_that_lacks_the_rows_leaves_the_matrix_out(shared: Shared) -> None:
    shared.start()
    shared.run()
    empty = wiring.store("memory:///")
    read = SharedFacts(shared.federation, shared.rpc, empty, shared.clock)
    assert all(r.matrix is None for r in read.read().rounds)
    full = wiring.store(str(shared.store))
    for digest in full.digests():
        empty.put(full.get(digest, limit=1 << 24))
    assert all(r.matrix is not None for r in read.read().rounds)
