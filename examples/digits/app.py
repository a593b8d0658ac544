"""Handwritten digits (scikit-learn's copy of the UCI set, 1,797 images of 8x8) and a small network."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import hansa


def make_model():
    """One hidden layer; a new model each time."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


app = hansa.App(model=make_model)


@app.data
def data(site):
    """A deployed member's own file: 64 pixels and the digit in a row. A simulation shares the whole set."""
    if site.path.is_file():
        rows = np.loadtxt(site.path, delimiter=",", ndmin=2)
        images, labels = rows[:, :64], rows[:, 64].astype(np.int64)
    else:
        images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


@app.train
def train(model, dataset, ctx):
    """`ctx.params.epochs` epochs of plain SGD, in place."""
    optimizer = torch.optim.SGD(model.parameters(), lr=ctx.params.lr)
    # Members see some digits rarely or never. Weighing scores by how often this member sees each digit
    # (FedLC, arXiv 2209.00189) keeps it from unlearning the others' digits.
    seen = torch.bincount(dataset[:][1], minlength=10).to(ctx.device)
    prior = torch.log((seen + 0.1) / seen.sum())
    for _ in range(ctx.params.epochs):
        for images, labels in ctx.loader(dataset, batch_size=32):
            images, labels = images.to(ctx.device), labels.to(ctx.device)
            optimizer.zero_grad()
            functional.cross_entropy(model(images) + prior, labels).backward()
            optimizer.step()


@app.evaluate
def evaluate(model, dataset, ctx):
    """Mean loss, by which updates are ranked, and accuracy."""
    loss, correct = 0.0, 0
    for images, labels in ctx.loader(dataset, batch_size=1024, shuffle=False):
        images, labels = images.to(ctx.device), labels.to(ctx.device)
        scores = model(images)
        loss += functional.cross_entropy(scores, labels, reduction="sum").item()
        correct += (scores.argmax(1) == labels).sum().item()
    return {"loss": loss / len(dataset), "accuracy": correct / len(dataset)}
