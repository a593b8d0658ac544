"""Owners' rows under a training script, and training in the clear beside it; needs no SPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa import encoding, errors
from hansa.app import EvaluateTask, Site, TrainerOptions, TrainTask
from hansa.mpc.computing import check_rows
from hansa.partition import Partition
from hansa.ports import Job
from hansa.records import Mpc
from hansa.trainers.script import ScriptTrainer, create

HEAD = """
import numpy as np
from hansa.mpc import *
x = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)
y = (x[:, 0] + x[:, 1] > 0).astype(int)
ids = [f"r{i}" for i in range(120)]
"""
ROWS = """
training = Training(Network([Dense(6), ReLU(), Dense(1)], inputs=(4,)), loss=Logistic(), optimizer=Sgd(0.5, 0.9),
    epochs=20, batch=16, seed=0)
@training.rows
def rows(site):
    return ids, x, y
"""
COLUMNS = """
training = Training(Network([Dense(1)], inputs=(4,)), loss=Logistic(), optimizer=Sgd(0.5), epochs=2, batch=16,
    seed=0, columns=(3, 1), labels_by=1)
@training.rows
def rows(site):
    if site.index == 0:
        return ids, x[:, :3], None
    return {other}, x[:, 3:], y
"""
TERMS = Mpc(rows=200)
KEY = bytes(range(32))


def trainer(at: Path, script: str, sites: int = 3, partition: str = "iid") -> ScriptTrainer:
    (at / "training.py").write_text(HEAD + script)
    places = tuple(Site(at, f"m{i}", i, 0) for i in range(sites))
    return create(TrainerOptions(at, places, Partition(partition), script="training.py"))


def test_rows_are_shared_out_and_none_is_in_two_places(tmp_path: Path) -> None:
    made = trainer(tmp_path, ROWS)
    keys = [f"m{i}/{part}" for i in range(3) for part in ("train", "validation")]
    assert sum(made.examples(key) for key in (*keys, "test")) == 120
    assert made.examples("pooled/train") == sum(made.examples(f"m{i}/train") for i in range(3))
    tables = [made.table(f"m{i}/train", TERMS, 3, KEY) for i in range(3)]
    assert len({t.ids for t in tables}) == 3
    assert made.table("m0/train", TERMS, 3, bytes(32)).ids != tables[0].ids, (
        "a list that is guessed is not confirmed"
    )
    for table in tables:
        assert table.arrays.keys() == {"x", "y"}
        assert table.arrays["x"].shape == (table.rows, 4)
        assert table.arrays["y"].shape == (table.rows, 1)


def test_training_in_the_clear_learns_and_is_repeatable(tmp_path: Path) -> None:
    made = trainer(tmp_path, ROWS)
    base = made.initial(0)
    assert base.keys() == {"dense1.weight", "dense1.bias", "dense3.weight", "dense3.bias"}
    task = TrainTask("pooled/train", base, 1, 1)
    first, again = made.train(task), made.train(task)
    assert all((first.values[name] == again.values[name]).all() for name in base)
    before, after = made.evaluate(EvaluateTask("test", (base, first.values)))
    assert after["loss"] < before["loss"]
    assert after["accuracy"] > 0.9


def test_the_terms_take_network_and_reveals_from_the_script(tmp_path: Path) -> None:
    found = trainer(tmp_path, ROWS).declared(TERMS)
    assert (found.protocol, found.field, found.reveals, found.accept_leakage) == ("ABY3", "FM64", (), False)
    assert found.network[0].startswith("dense1, 4 to 6: on shares")
    published = ROWS.replace("Dense(1)]", "Dense(1, at=2)]").replace("ReLU(), ", "ReLU(), Reveal(to=2), ")
    published = published.replace("seed=0)", "seed=0, labels=Reveal(to=2), accept_leakage=True)")
    found = trainer(tmp_path, published).declared(TERMS)
    assert found.accept_leakage
    assert [(r.to, r.per, r.noise) for r in found.reveals] == [(2, "step", 0.0), (2, "training", 0.0)]


def test_a_noised_bottleneck_needs_the_most_rows_and_gets_noise_for_so_many(tmp_path: Path) -> None:
    noised = ROWS.replace(
        "Dense(6), ReLU()",
        "Dense(3, secret=True), Reveal(to=1, clip=1.0, noise=2.0, "
        "gradient_clip=1.0, gradient_noise=1.0), Dense(4, at=1), ReLU()",
    )
    noised = noised.replace("Dense(1)]", "Dense(1, at=1)]").replace("seed=0)", "seed=0, norm=1.0)")
    made = trainer(tmp_path, noised)
    with pytest.raises(errors.Misconfigured, match="do not say how many"):
        made.declared(Mpc())
    found = made.declared(TERMS)
    assert found.reveals
    assert all(r.noise > 0 and r.clip > 0 for r in found.reveals)
    table = made.table("m0/train", TERMS, 3, KEY)
    slots = 20 * (200 // 16)
    shown = next(a for name, a in table.arrays.items() if a.ndim == 3 and a.shape[1:] == (16, 3))
    assert shown.shape[0] == slots
    assert np.std(shown) == pytest.approx(2.0 / np.sqrt(2), rel=0.05), "two of three owners make it whole"


def test_owners_of_columns_hold_the_same_rows(tmp_path: Path) -> None:
    made = trainer(tmp_path, COLUMNS.format(other="ids"), sites=2, partition="natural")
    one, two = (made.table(f"m{i}/train", TERMS, 2, KEY) for i in range(2))
    assert one.ids == two.ids
    assert made.table("m0/train", TERMS, 2, bytes(32)).ids == one.ids, "parties compare them"
    assert (set(one.arrays), set(two.arrays)) == ({"x"}, {"x", "y"})
    assert one.rows + made.examples("test") == 120
    base = made.initial(0)
    assert made.evaluate(EvaluateTask("test", (base,)))[0].keys() == {"loss", "accuracy"}
    with pytest.raises(errors.AppFailed, match="cannot evaluate"):
        made.evaluate(EvaluateTask("m0/train", (base,)))


def test_rows_that_are_not_aligned_are_refused(tmp_path: Path) -> None:
    made = trainer(tmp_path, COLUMNS.format(other="ids[::-1]"), sites=2, partition="natural")
    with pytest.raises(errors.Misconfigured, match="same rows in the same order"):
        made.examples("m0/train")


@pytest.mark.parametrize(
    ("owners", "other", "message"),
    [((0, 1), b"b", "owners 1 of columns hold other rows"), ((0,), b"a", "those accepted are")],
)
def test_parties_refuse_columns_that_do_not_belong_together(
    tmp_path: Path, owners: tuple[int, ...], other: bytes, message: str
) -> None:
    training = trainer(tmp_path, COLUMNS.format(other="ids"), sites=2, partition="natural").training
    ids = {owner: encoding.digest(b"a" if owner == 0 else other) for owner in owners}
    job = Job(b"", 0, (), (), dict.fromkeys(owners, 99), ids, {})
    with pytest.raises(errors.Untrusted, match=message):
        check_rows(training, job)
    good = Job(b"", 0, (), (), {0: 99, 1: 99}, dict.fromkeys((0, 1), bytes(32)), {})
    check_rows(training, good)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("return ids, x * np.nan, y", "NaN or infinity"),
        ("return ids, x * 1e6, y", "outside"),
        ("return ids, x, y + 1", "not one of the classes"),
        ("return ids[:-1], x, y", "shape"),
        ("return ids, x[:, :3], y", "shape"),
        ("return ids[:1] * 120, x, y", "1 of them different"),
    ],
)
def test_rows_that_the_script_cannot_take_stay_at_home(tmp_path: Path, change: str, message: str) -> None:
    made = trainer(tmp_path, ROWS.replace("return ids, x, y", change))
    with pytest.raises(errors.Misconfigured, match=message):
        made.table("m0/train", TERMS, 3, KEY)


def test_a_script_that_raises_is_told_as_its_own_fault(tmp_path: Path) -> None:
    made = trainer(tmp_path, ROWS.replace("return ids, x, y", "return undefined"))
    with pytest.raises(errors.AppFailed, match=r"the script failed in rows\(site\) of m0") as failed:
        made.examples("m0/train")
    assert "training.py" in failed.value.hint


def test_a_script_other_than_that_of_the_terms_is_refused(tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text(HEAD + ROWS)
    options: Any = TrainerOptions(tmp_path, (), script="training.py", digest=bytes(32))
    with pytest.raises(errors.Misconfigured, match="the terms pin 0000"):
        create(options)


def test_parties_refuse_fewer_rows_than_a_batch(tmp_path: Path) -> None:
    training = trainer(tmp_path, ROWS).training
    few = Job(b"", 0, (), (), {0: 7, 1: 8}, {}, {})
    with pytest.raises(errors.Untrusted, match="share 15 rows together, and a batch is 16"):
        check_rows(training, few)
    check_rows(training, Job(b"", 0, (), (), {0: 8, 1: 8}, {}, {}))
