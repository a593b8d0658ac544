"""A federation's app: a model of scikit-learn, the data, how to train and how to evaluate.

This file stands alone: its digest is part of what members agree on, and files beside it are not. The four
parts below are all that Hansa asks for. Replace them by your own, then run `pytest` and `hansa check`.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

import hansa

# Typical size of each of the 30 measurements, fixed here so that nobody has to tell statistics of its rows.
TYPICAL = (
    *(15, 20, 90, 650, 0.1, 0.1, 0.1, 0.05, 0.2, 0.06),  # means
    *(0.4, 1.2, 3, 40, 0.007, 0.025, 0.03, 0.01, 0.02, 0.004),  # standard errors
    *(16, 25, 110, 900, 0.13, 0.25, 0.3, 0.1, 0.3, 0.08),  # worst
)
CLASSES = (0, 1)


def make_model():
    """A new estimator each time, of a kind that learns in steps: MLPClassifier is another.

    Fitted once on a row of zeros, it knows its features and classes, also those that a member never sees.
    """
    model = SGDClassifier(loss="log_loss", penalty=None, learning_rate="constant")
    return model.partial_fit(np.zeros((1, len(TYPICAL))), [0], classes=CLASSES)


app = hansa.App(model=make_model, framework="sklearn")


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
    return measured / np.array(TYPICAL) - 1, labels


@app.train
def train(model, dataset, ctx):
    """Train `model` in place. `ctx.params` is what federation.toml says under [training] params."""
    model.set_params(eta0=ctx.params.lr)
    for _ in range(ctx.params.epochs):
        # ctx.loader makes the same batches for the same member and round, so that a run can be repeated.
        for features, labels in ctx.loader(dataset, batch_size=ctx.params.batch_size):
            model.partial_fit(features, labels)


@app.evaluate
def evaluate(model, dataset, ctx):
    """Mean loss, by which members rank each other's updates, and whatever else you want to see."""
    features, labels = dataset
    return {
        "loss": log_loss(labels, model.predict_proba(features), labels=CLASSES),
        "accuracy": model.score(features, labels),
    }
