"""What a strategy must see: the mean alone, something that a rule of Hansa's gives, or every single update.

Known strategies are judged by their class. A subclass counts as its parent as long as it leaves alone how replies
become arrays; any other is taken to need single updates, since nobody can know.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy


class Needs(Enum):
    """What goes into a strategy's step."""

    MEAN = "the weighted mean"
    RULE = "what a rule gives that members apply themselves"
    SINGLE = "every single update"


@dataclass(frozen=True, slots=True)
class Kind:
    """A strategy's class name, what it needs, and the `[aggregation]` keys that give that under Hansa."""

    name: str
    needs: Needs
    aggregation: tuple[tuple[str, str | int | float], ...] = ()
    refused: str = ""


MEANS: Final = (
    flower.FedAvg,
    flower.FedAvgM,
    flower.FedAdam,
    flower.FedYogi,
    flower.FedAdagrad,
    flower.FedProx,
)
_STEP: Final = ("aggregate_train", "_check_and_log_replies", "_compute_deltat_and_mt")
"""The methods by which replies become arrays."""

_NOISE: Final = (
    flower.DifferentialPrivacyClientSideAdaptiveClipping,
    flower.DifferentialPrivacyClientSideFixedClipping,
    flower.DifferentialPrivacyServerSideAdaptiveClipping,
    flower.DifferentialPrivacyServerSideFixedClipping,
)
_TREES: Final = (flower.FedXgbBagging, flower.FedXgbCyclic)


def kind_of(strategy: Strategy | None) -> Kind:
    """What a strategy needs; `refused` says why it cannot run at all. None is an app with a loop of its own."""
    if strategy is None:
        return Kind("the app's own loop", Needs.SINGLE)
    name = type(strategy).__name__
    if isinstance(strategy, _NOISE):
        return Kind(name, Needs.SINGLE, refused="its noise would come from a seed that every member knows")
    if isinstance(strategy, _TREES):
        return Kind(name, Needs.SINGLE, refused="it joins trees, which have no sum")
    if any(_steps_as(strategy, known) for known in MEANS):
        return Kind(name, Needs.MEAN)
    if isinstance(strategy, flower.FedMedian) and _steps_as(strategy, flower.FedMedian):
        return Kind(name, Needs.RULE, (("rule", "median"),))
    if isinstance(strategy, flower.FedTrimmedAvg) and _steps_as(strategy, flower.FedTrimmedAvg):
        return Kind(name, Needs.RULE, (("rule", "trimmed-mean"), ("trim", strategy.beta)))
    if isinstance(strategy, flower.Krum) and _steps_as(strategy, flower.Krum):
        return Kind(name, Needs.RULE, (("rule", "krum"), ("malicious", strategy.num_malicious_nodes)))
    return Kind(name, Needs.SINGLE)


def weight_key(strategy: Strategy | None) -> str:
    """The metric by which a strategy weighs."""
    found = getattr(strategy, "weighted_by_key", None)
    return found if isinstance(found, str) else "num-examples"


def _steps_as(strategy: Strategy, known: type[Strategy]) -> bool:
    """Whether an instance of `known`, or of a subclass, turns replies into arrays by the methods of `known`."""
    return isinstance(strategy, known) and all(
        getattr(type(strategy), step, None) is getattr(known, step, None) for step in _STEP
    )
