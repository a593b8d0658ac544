from __future__ import annotations

from pathlib import Path

import pytest
from tests.shared import embedded, found
from tests.tiny import TinyTrainer

from hansa.app import TrainTask
from hansa.node.meter import Meter, MeteredTrainer
from hansa.protocol.timing import unpack_meta
from hansa.records import Phase


@pytest.mark.parametrize(("seconds", "millis"), [(0.0, 1), (0.0004, 1), (0.25, 250), (90.0, 90_000)])
def test_the_last_training_is_timed(seconds, millis):
    now = iter([10.0, 10.0 + 7, 20.0, 20.0 + seconds])
    meter = Meter(clock=lambda: next(now))
    trainer = MeteredTrainer(TinyTrainer(), meter)
    task = TrainTask(dataset="m0/train", base=TinyTrainer().initial(0), seed=0, round=1, params=())
    trainer.train(task)
    trainer.train(task)
    assert meter.trained() == millis
    assert meter.seconds["train"] == pytest.approx(7 + seconds)


def test_a_commitment_says_how_long_training_really_took(tmp_path: Path):
    with embedded(tmp_path) as chain:
        made = found(chain, tmp_path, lambda: chain.time)
        made.start()
        for node in made.nodes:
            meter = node.world.trainer.meter
            meter.clock = iter(range(0, 10_000, 3)).__next__
        made.run(lambda state: state.phase is Phase.BEACON)
        commits = made.nodes[0].world.ledger.view().state.current.commits
        assert {unpack_meta(c.meta)[1] for c in commits.values()} == {3000}
