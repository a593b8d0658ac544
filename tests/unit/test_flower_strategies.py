"""What strategies need, and what the terms refuse them before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flwr.serverapp.strategy as flower
import pytest
from tests.flowers import write_app

from hansa import errors
from hansa.app import Asked
from hansa.config import load_federation
from hansa.strategy import fitted
from hansa.trainers.flower.strategies import Needs, kind_of, weight_key

MEANS = ("FedAvg", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedProx")


class Quiet(flower.FedAdam):  # type: ignore[misc, name-defined]
    """Sends other settings, and leaves alone what becomes of replies."""

    def configure_train(self, *args: Any) -> Iterable[Any]:
        return super().configure_train(*args)  # type: ignore[no-any-return]


class Saving(flower.FedAvg):  # type: ignore[misc, name-defined]
    """Looks at every reply: nobody can know what for."""

    def aggregate_train(self, server_round: int, replies: Iterable[Any]) -> Any:
        return super().aggregate_train(server_round, replies)


class Weighing(flower.FedYogi):  # type: ignore[misc, name-defined]
    """Changes a step on the way."""

    def _compute_deltat_and_mt(self, aggregated: Any) -> Any:
        return super()._compute_deltat_and_mt(aggregated)


@pytest.mark.parametrize("name", MEANS)
def test_strategies_of_the_mean(name: str) -> None:
    kind = kind_of(getattr(flower, name)())
    assert (kind.name, kind.needs, kind.aggregation, kind.refused) == (name, Needs.MEAN, (), "")


def test_rules_that_members_apply_themselves() -> None:
    assert dict(kind_of(flower.FedMedian()).aggregation) == {"rule": "median"}
    assert dict(kind_of(flower.FedTrimmedAvg(beta=0.3)).aggregation) == {"rule": "trimmed-mean", "trim": 0.3}
    assert dict(kind_of(flower.Krum(num_malicious_nodes=2)).aggregation) == {"rule": "krum", "malicious": 2}


@pytest.mark.parametrize(
    "strategy",
    [
        flower.Bulyan(),
        flower.MultiKrum(num_nodes_to_select=3),
        flower.QFedAvg(client_learning_rate=0.1),
        Saving(),
        Weighing(),
        None,
    ],
)
def test_others_need_every_update(strategy: Any) -> None:
    kind = kind_of(strategy)
    assert (kind.needs, kind.aggregation, kind.refused) == (Needs.SINGLE, (), "")


def test_a_subclass_that_leaves_replies_alone_counts_as_its_parent() -> None:
    assert kind_of(Quiet()).needs is Needs.MEAN


def test_noise_that_all_could_repeat_and_trees_are_refused() -> None:
    private = flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(), 1.0, 1.0, 2)
    assert "seed" in kind_of(private).refused
    assert "trees" in kind_of(flower.FedXgbBagging()).refused


def test_the_weight_is_the_strategys() -> None:
    assert weight_key(flower.FedAvg(weighted_by_key="rows")) == "rows"
    assert weight_key(None) == "num-examples"


ASKED = Asked("FedAvg", 3, 28, mean=True, single=False)
MEDIAN = Asked("FedMedian", 3, 28, mean=False, single=False, rule=(("rule", "median"),))
SINGLE = Asked("Bulyan", 3, 28, mean=False, single=True)


def fit(folder: Path, scheme: str, asked: Asked, *changes: str) -> Any:
    return fitted(load_federation(write_app(folder), [f"federation.scheme={scheme}", *changes]), asked)


@pytest.mark.parametrize("asked", [MEDIAN, SINGLE])
@pytest.mark.parametrize("changes", [["secagg"], ["tee", "tee.inner=secagg"]])
def test_single_updates_are_not_to_be_had_under_sums(
    tmp_path: Path, asked: Asked, changes: list[str]
) -> None:
    with pytest.raises(errors.Misconfigured, match="needs every single update") as e:
        fit(tmp_path, changes[0], asked, *changes[1:])
    assert "--scheme plaintext" in e.value.hint


def test_an_enclave_runs_rules_and_no_code_of_an_app(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="no code of an app"):
        fit(tmp_path / "one", "tee", SINGLE)
    assert fit(tmp_path / "two", "tee", MEDIAN).draft.aggregation.rule == "median"
    assert fit(tmp_path / "three", "plaintext", SINGLE).draft.aggregation.rule == "weighted-mean"


def test_krum_needs_as_many_members_as_its_proof(tmp_path: Path) -> None:
    krum = Asked("Krum", 3, 28, mean=False, single=False, rule=(("rule", "krum"), ("malicious", 1)))
    made = fit(tmp_path, "plaintext", krum)
    assert (made.draft.aggregation.malicious, made.draft.training.min_members) == (1, 5)


def test_another_rule_than_the_strategys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match='runs as rule "median"'):
        fit(tmp_path / "one", "plaintext", MEDIAN, "aggregation.rule=trimmed-mean")
    assert (
        fit(tmp_path / "two", "plaintext", ASKED, "aggregation.rule=median").draft.aggregation.rule
        == "median"
    )


def test_rounds_are_those_of_the_app(tmp_path: Path) -> None:
    nine = replace(ASKED, rounds=9)
    assert fit(tmp_path / "one", "plaintext", nine).draft.training.rounds == 9
    assert fit(tmp_path / "two", "plaintext", replace(ASKED, rounds=None)).draft.training.rounds == 3
    with pytest.raises(errors.Misconfigured, match="plan 5 rounds, and the app starts its strategy for 9"):
        fit(tmp_path / "three", "plaintext", nine, "training.rounds=5")


def test_the_scale_follows_from_model_and_scheme(tmp_path: Path) -> None:
    assert fit(tmp_path / "one", "plaintext", ASKED).scale == 28
    assert fit(tmp_path / "two", "secagg", ASKED).scale == 20
    assert fit(tmp_path / "three", "plaintext", ASKED, "federation.scale=12").scale == 12


@pytest.mark.parametrize(
    "change",
    [
        "training.mode=asynchronous",
        "training.gamma=0.1",
        "aggregation.optimizer=adam",
        "federation.retain_rounds=3",
    ],
)
def test_terms_that_take_a_round_apart_are_refused(tmp_path: Path, change: str) -> None:
    more = ["training.buffer=2"] if "mode" in change else []
    with pytest.raises(errors.Misconfigured, match="a Flower app cannot run with"):
        fit(tmp_path, "plaintext", ASKED, change, *more)


def test_what_cannot_run_is_refused_by_its_reason(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="its noise"):
        fit(tmp_path, "plaintext", replace(SINGLE, refused="its noise would come from a seed"))
