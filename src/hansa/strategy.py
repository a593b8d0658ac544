"""A Flower app's strategy and the terms: what it asks of them, and what they refuse it, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hansa import errors
from hansa.app import Asked
from hansa.config import FederationFile
from hansa.protocol.terms import Draft, check_terms, sums_only
from hansa.records import AggregationTerms, Training

SUMMED_SCALE = 20
"""Bits after the point where updates are summed under masks: with 24 bits a value, one may change by 8 in a round."""


def fitted(file: FederationFile, asked: Asked) -> FederationFile:
    """The file with what the app's strategy asks for, where nobody wrote otherwise. Raises `Misconfigured`."""
    if asked.refused:
        raise errors.Misconfigured(
            f"strategy {asked.strategy} cannot run under Hansa: {asked.refused}",
            hint="docs/coming-from-flower.md lists the strategies that run.",
        )
    _check_scheme(file.draft, asked)
    draft = replace(file.draft, training=_training(file, asked), aggregation=_aggregation(file, asked))
    for problem, hint in _problems(draft):
        raise errors.Misconfigured(f"a Flower app cannot run with {problem}", hint=hint)
    check_terms(draft)
    scale = file.scale
    if "federation.scale" not in file.said:
        scale = min(asked.scale, SUMMED_SCALE) if sums_only(draft) else asked.scale
    return replace(file, draft=draft, scale=scale)


def _check_scheme(draft: Draft, asked: Asked) -> None:
    """Whoever compares updates must see them."""
    if asked.mean:
        return
    if sums_only(draft):
        name = "secagg" if draft.scheme == "secagg" else 'tee with inner = "secagg"'
        raise errors.Misconfigured(
            f"strategy {asked.strategy} needs every single update, and {name} shows nobody more than their sum",
            hint="Use a strategy that needs the mean alone (FedAvg, FedAvgM, FedAdam, FedYogi, FedAdagrad, FedProx), "
            "or --scheme plaintext, in which every member sees every update.",
        )
    if draft.scheme == "tee" and asked.single:
        raise errors.Misconfigured(
            f"strategy {asked.strategy} needs every single update, and under tee only the enclave sees them, which "
            "runs Hansa's own rules and no code of an app",
            hint="Krum, FedMedian and FedTrimmedAvg run as rules in there; this one runs with --scheme plaintext.",
        )


def _training(file: FederationFile, asked: Asked) -> Training:
    training = file.draft.training
    if asked.rounds is not None and asked.rounds != training.rounds:
        if "training.rounds" in file.said:
            raise errors.Misconfigured(
                f"the terms plan {training.rounds} rounds, and the app starts its strategy for {asked.rounds}",
                hint="Change the number in the app's own config, or take it out of the command and federation.toml.",
            )
        training = replace(training, rounds=max(1, asked.rounds))
    hostile = dict(asked.rule).get("malicious")
    if isinstance(hostile, int) and "training.min_members" not in file.said:
        training = replace(training, min_members=max(training.min_members, 2 * hostile + 3))
    return training


def _aggregation(file: FederationFile, asked: Asked) -> AggregationTerms:
    aggregation, rule = file.draft.aggregation, dict(asked.rule)
    if not rule:
        return aggregation
    if "aggregation.rule" in file.said and aggregation.rule != rule["rule"]:
        raise errors.Misconfigured(
            f'strategy {asked.strategy} runs as rule "{rule["rule"]}", and [aggregation] says "{aggregation.rule}"',
            hint="Take [aggregation] rule out, or choose another strategy.",
        )
    return replace(aggregation, **rule)  # type: ignore[arg-type]


def _problems(draft: Draft) -> Iterator[tuple[str, str]]:
    """What takes away a round's full mean, or the models from which a strategy is brought up to date."""
    training = draft.training
    if training.mode != "synchronous":
        yield 'training.mode = "asynchronous"', "Its strategy goes round by round: leave mode out."
    if training.gamma < 1:
        yield f"training.gamma = {training.gamma}", "Its strategy takes whole models: leave gamma out."
    if draft.aggregation.optimizer != "none":
        yield f'aggregation.optimizer = "{draft.aggregation.optimizer}"', "Its strategy is the optimiser."
    if draft.retain_rounds:
        yield (
            f"federation.retain_rounds = {draft.retain_rounds}",
            "A strategy is brought up to date from the models of all rounds: leave it out.",
        )
