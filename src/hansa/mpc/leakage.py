"""What each boundary gives away, in words, and the attacks that show it, as functions that tests run.

The figures in the words were measured on scikit-learn's digits (64 pixels, 10 classes) with the attacks below; a test
repeats them. An attack needs what an insider may have: some rows that it knows anyway, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.mpc import outline
from hansa.mpc.layout import Arrangement
from hansa.mpc.program import EVERYONE, Open, Operation
from hansa.mpc.training import Training

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Boundary:
    """One variable that is opened. to: a party, or `EVERYONE`. times: openings in a whole training, at most."""

    variable: str
    shape: tuple[int, ...]
    to: int
    times: int
    protected: bool
    words: str


def boundaries(training: Training, counts: Sequence[int]) -> tuple[Boundary, ...]:
    """All that is opened, in the order in which it happens; empty where nothing is."""
    program = outline.outline(training, counts).program
    found: list[Boundary] = []
    parts: tuple[tuple[tuple[Operation, ...], int], ...] = (
        (program.start, 1),
        (program.step, program.epochs * program.steps),
        (program.epoch, program.epochs),
    )
    for operations, times in parts:
        for operation in operations:
            if isinstance(operation, Open):
                v = operation.variable
                protected = training.layout.arrangement is Arrangement.BOTTLENECK and operation.to != EVERYONE
                words = _words(v.name, protected=protected)
                found.append(Boundary(v.name, v.shape, operation.to, times, protected, words))
    return tuple(found)


def _words(variable: str, *, protected: bool) -> str:
    if protected:
        if variable.endswith(".gradient"):
            return "sum over a batch, noised; what one label adds is bounded and drowned: see epsilon"
        return "clipped values with noise on each; a row cannot be told from another but as epsilon says"
    match variable:
        case "x":
            return "all features as they are: nothing is hidden from this party"
        case "y":
            return "all labels as they are: nothing is hidden from this party"
        case "stop":
            return "one bit an epoch: whether the error is under the limit"
    if variable.endswith(".returns"):
        return "gradients of single rows: their signs gave binary labels at 100 %"
    return (
        "values of single rows: with 200 known rows a ridge regression rebuilt inputs at R2 0.94 behind a ReLU, at 1.0 "
        "without one; several epochs show a row several times"
    )


def bottom_words(training: Training) -> str:
    """What a plain bottom at the owners gives away."""
    if not training.layout.bottom:
        return ""
    return "computed by each owner on its own rows; frozen, so no gradient comes back: nothing is given away"


ALPHAS = (1e-6, 1e-3, 1e-1, 1e1, 1e3, 1e5)


def ridge_r2(seen: Array, inputs: Array, known: int) -> float:
    """How well a ridge regression on `known` rows rebuilds the other rows' inputs from what was seen of them.

    seen: (rows, values); inputs: (rows, features). R2 is the share of the features' variance that is rebuilt, 1 for
    all, 0 for no better than the mean. The attacker's best regularisation is taken, which favours it.
    """
    values, rows = seen.astype(np.float64), inputs.astype(np.float64)
    values = (values - values[:known].mean(axis=0)) / np.maximum(values[:known].std(axis=0), 1e-12)
    mean = rows[:known].mean(axis=0)
    gram, cross = values[:known].T @ values[:known], values[:known].T @ (rows[:known] - mean)
    total = ((rows[known:] - rows[known:].mean(axis=0)) ** 2).sum()
    best = -np.inf
    for alpha in ALPHAS:
        weights = np.linalg.solve(gram + alpha * np.eye(len(gram)), cross)
        error = ((values[known:] @ weights + mean - rows[known:]) ** 2).sum()
        best = max(best, 1 - error / total)
    return float(best)


def labels_from_gradients(returned: Array) -> NDArray[np.bool_]:
    """Binary labels of a batch, up to exchanging the classes, from the gradients that come back to a plain bottom.

    (prediction - label) has the sign of the label alone, and the row's gradient is that times one direction: its
    sign along the strongest row's direction parts the classes (Li et al., "Label leakage and protection in two-party
    split learning", arXiv 2102.08504).
    """
    strongest = returned[np.linalg.norm(returned, axis=1).argmax()]
    return np.asarray(returned @ strongest > 0)


def labels_from_sums(rows: Array, gradient: Array, predictions: Array, noise: float) -> Array:
    """Best linear estimate of a batch's labels from a noised gradient of the top, (batch, outputs).

    rows^T (prediction - label) + noise is seen; labels are taken to scatter around predictions with variance 1/4. It is
    the posterior mean of that Gaussian model, so no linear attacker does better on one step.
    """
    gram = rows.T @ rows + 4 * noise**2 * np.eye(rows.shape[1])
    return np.asarray(predictions - rows @ np.linalg.solve(gram, gradient))


def agreement(guessed: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    """Share of labels guessed right, where the classes may be exchanged: 0.5 is chance."""
    right = float((guessed == labels).mean())
    return max(right, 1 - right)
