"""Digits and declarations that several tests train."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from hansa.mpc import Network, Sgd, SoftmaxCrossEntropy, Training, inputs, outline
from hansa.mpc.schedule import steps_an_epoch


def training(layers: Sequence[Any], **changes: Any) -> Training:
    options: dict[str, Any] = {
        "inputs": (64,),
        "loss": SoftmaxCrossEntropy(),
        "optimizer": Sgd(lr=0.5),
        "epochs": 2,
        "batch": 64,
        "seed": 11,
        "bound": 8.0,
    } | changes
    return Training(Network(layers, inputs=options.pop("inputs")), **options)


def digits() -> tuple[Any, Any]:
    """1,797 digits of 64 pixels in [0, 1]; their classes."""
    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target


def shared(declared: Training, counts: Sequence[int], x: Any, y: Any) -> Mapping[str, Any]:
    """What all owners share of the first rows, owner after owner, with noise from fixed bytes."""
    found: dict[str, Any] = {}
    for owner, (at, count) in enumerate(zip(itertools.accumulate(counts, initial=0), counts, strict=False)):
        own = range(at, at + count)
        checked = inputs.check_rows(declared, (own, x[at : at + count], y[at : at + count]), owner)
        found |= named(declared, checked, owner, counts)
    return found


def named(
    declared: Training, checked: inputs.Shared, owner: int, counts: Sequence[int], draw: int = 0
) -> Mapping[str, Any]:
    """What one of the owners shares, as the program calls it; noise from fixed bytes, others in each `draw`."""
    steps = declared.declared.epochs * steps_an_epoch(declared.declared, outline.total_rows(declared, counts))
    found = inputs.share_values(declared, checked, steps, len(counts), bytes([owner + 10 * draw]) * 32)
    return {f"{name}.{owner}": array for name, array in found.items()}


def joined(
    declared: Training, counts: Sequence[int], values: Mapping[str, Any]
) -> tuple[Any, Any, Mapping[str, Any]]:
    """Features, labels and noise as the parties hold them together."""
    x = np.concatenate([values[v.name] for v in outline.features_of(declared, counts).values()])
    y = np.concatenate([values[v.name] for v in outline.labels_of(declared, counts).values()])
    noise = {
        whole.name: sum(values[v.name] for v in parts.values())
        for whole, parts in outline.noise_of(declared, counts).items()
    }
    return x, y, noise
