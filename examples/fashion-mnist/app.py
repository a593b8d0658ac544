"""Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv 1708.07747): pictures of clothes of ten kinds, and a small CNN."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import hansa
from hansa import errors

# The training files as they are after unpacking, with their SHA-256.
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the package dataset-fashion-mnist puts them
ROWS = 6_000  # of the 60,000, so that a run takes a minute or two on two cores


def find(site):
    """The folder with the files: the site's own, `data` beside this file, or that of Debian's package."""
    places = (site.path, Path(__file__).parent / "data", DEBIAN)
    for place in places:
        if any((place / f"{name}{end}").is_file() for name in FILES for end in ("", ".gz")):
            return place
    raise errors.Misconfigured(
        f"Fashion-MNIST is in none of {', '.join(map(str, places))}",
        hint="On Debian and Ubuntu: apt-get install dataset-fashion-mnist. Elsewhere put "
        f"{' and '.join(FILES)}, packed (.gz) or not, into {places[1]}.",
    )


def read(place, name):
    """An IDX file's values: three bytes say that they are bytes in so many dimensions, then come the sizes."""
    file = place / name
    data = file.read_bytes() if file.is_file() else gzip.decompress((place / f"{name}.gz").read_bytes())
    if hashlib.sha256(data).hexdigest() != FILES[name]:
        raise errors.Misconfigured(
            f"{file} is not the file of Fashion-MNIST that this example was written for",
            hint="Get it again, whole; its SHA-256 stands in app.py.",
        )
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def make_model():
    """Two convolutions, two dense layers, 26,698 parameters; a new model each time."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


app = hansa.App(model=make_model)


@app.data
def data(site):
    """A deployed member's own file: an .npz with `images` (rows, 28, 28; bytes) and `labels`.

    A simulation shares the first rows of the training set.
    """
    if site.path.is_file():
        with np.load(site.path) as own:
            images, labels = own["images"], own["labels"]
    else:
        place = find(site)
        images, labels = (read(place, name)[:ROWS] for name in FILES)
    features = torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 255
    return features, torch.tensor(labels, dtype=torch.int64)


@app.train
def train(model, dataset, ctx):
    """`ctx.params.epochs` epochs of SGD with momentum, in place."""
    optimizer = torch.optim.SGD(model.parameters(), lr=ctx.params.lr, momentum=0.9)
    # Members see some kinds rarely or never. Weighing scores by how often this member sees each kind
    # (FedLC, arXiv 2209.00189) keeps it from unlearning the others'.
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
