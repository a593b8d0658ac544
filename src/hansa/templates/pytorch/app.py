"""What every member runs: a model, its data, how to train and how to evaluate.

This file stands alone: its digest is part of what members agree on, and files beside it are not. The four
parts below are all that Hansa asks for. Replace them by your own, then run `pytest` and `hansa check`.
"""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn import functional

import hansa

# Typical size of each of the 30 measurements, fixed here so that nobody has to tell statistics of its rows.
TYPICAL = (
    *(15, 20, 90, 650, 0.1, 0.1, 0.1, 0.05, 0.2, 0.06),  # means
    *(0.4, 1.2, 3, 40, 0.007, 0.025, 0.03, 0.01, 0.02, 0.004),  # standard errors
    *(16, 25, 110, 900, 0.13, 0.25, 0.3, 0.1, 0.3, 0.08),  # worst
)


def make_model():
    """A new model each time; all members and all rounds use this one."""
    return nn.Sequential(nn.Linear(len(TYPICAL), 16), nn.ReLU(), nn.Linear(16, 2))


app = hansa.App(model=make_model)


@app.data
def data(site):
    """Rows and labels of one member. PUT YOUR OWN DATA HERE.

    A deployed member's `site.path` is a file of its own that never leaves its machine: here a CSV without a
    heading, 30 measurements and the label (0 malignant, 1 benign) in a row. A simulation (`hansa run`) has no such
    file: it takes the breast cancer data that come with scikit-learn, and shares them among its members.
    """
    if site.path.is_file():
        rows = np.loadtxt(site.path, delimiter=",", ndmin=2)
        measured, labels = rows[:, :-1], rows[:, -1].astype(np.int64)
    else:
        measured, labels = load_breast_cancer(return_X_y=True)
    features = measured / np.array(TYPICAL) - 1
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


@app.train
def train(model, dataset, ctx):
    """Train `model` in place. `ctx.params` is what federation.toml says under [training] params."""
    optimizer = torch.optim.SGD(model.parameters(), lr=ctx.params.lr)
    for _ in range(ctx.params.epochs):
        # ctx.loader makes the same batches for the same member and round, so that a run can be repeated.
        for features, labels in ctx.loader(dataset, batch_size=ctx.params.batch_size):
            features, labels = features.to(ctx.device), labels.to(ctx.device)
            optimizer.zero_grad()
            functional.cross_entropy(model(features), labels).backward()
            optimizer.step()


@app.evaluate
def evaluate(model, dataset, ctx):
    """Mean loss, by which members rank each other's updates, and whatever else you want to see."""
    loss, correct = 0.0, 0
    for features, labels in ctx.loader(dataset, batch_size=1024, shuffle=False):
        features, labels = features.to(ctx.device), labels.to(ctx.device)
        scores = model(features)
        loss += functional.cross_entropy(scores, labels, reduction="sum").item()
        correct += (scores.argmax(1) == labels).sum().item()
    return {"loss": loss / len(dataset), "accuracy": correct / len(dataset)}
