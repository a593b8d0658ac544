"""What members rely on in app.py and federation.toml. Run it with: pytest"""

from pathlib import Path

import numpy as np
import pytest

from hansa.app import EvaluateTask, Site, TrainerOptions, TrainTask
from hansa.config import load_federation
from hansa.wiring import trainer as trainer_of

HERE = Path(__file__).parent
FILE = load_federation(HERE)
PARAMS = FILE.draft.training.params


@pytest.fixture(scope="module")
def trainer():
    """The app as `hansa run` loads it, with all simulated members."""
    simulated = FILE.simulation
    sites = tuple(Site(HERE, f"m{i}", i, simulated.seed) for i in range(simulated.members))
    options = TrainerOptions(HERE, sites, simulated.partition, holdout=simulated.holdout, seed=simulated.seed)
    made = trainer_of(options)
    yield made
    made.close()


def train(trainer, seed=1):
    """Member m0's first round."""
    return trainer.train(TrainTask("m0/train", trainer.initial(FILE.initial_seed), seed, 1, PARAMS))


def test_training_changes_the_model_and_keeps_its_shapes(trainer):
    before, after = trainer.initial(FILE.initial_seed), train(trainer).values
    assert {name: v.shape for name, v in after.items()} == {name: v.shape for name, v in before.items()}
    assert any(not np.array_equal(after[name], before[name]) for name in before)
    assert all(np.isfinite(v).all() for v in after.values())


def test_one_seed_gives_one_update(trainer):
    """Else a run cannot be repeated. Take randomness from torch, numpy or `ctx.seed` only."""
    first, second = train(trainer).values, train(trainer).values
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_training_lowers_the_loss_on_data_that_nobody_trains_on(trainer):
    models = (trainer.initial(FILE.initial_seed), train(trainer).values)
    before, after = trainer.evaluate(EvaluateTask("test", models, PARAMS))
    assert FILE.draft.selection.metric in after
    assert after["loss"] < before["loss"]
