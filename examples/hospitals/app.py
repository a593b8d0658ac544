"""Heart disease in four real hospitals: each is one member and keeps its own patients."""

import csv
import hashlib
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import hansa

SHA256 = "4b810f39d816e2dff14e87a5ee2f3cf215e59ea92109ea1de88629ac91e1dcb5"
HOSPITALS = ("cleveland", "hungary", "switzerland", "long-beach")
# Rough centre and spread of each number, fixed beforehand so that no hospital must tell its own.
NUMBERS = {
    "age": (54, 9),
    "trestbps": (132, 19),
    "chol": (240, 60),
    "thalch": (138, 26),
    "oldpeak": (0.9, 1.1),
}
FLAGS = ("sex", "fbs", "exang")
WORDS = {"cp": ("typical", "atypical", "non-anginal"), "restecg": ("hypertrophy", "st-t")}


def features(row):
    """One patient as 13 numbers; cholesterol that was not measured counts as average."""
    numbers = [
        (float(row[k]) - centre) / spread if row[k] else 0.0 for k, (centre, spread) in NUMBERS.items()
    ]
    flags = [float(row[k]) for k in FLAGS]
    return numbers + flags + [float(row[k] == word) for k, words in WORDS.items() for word in words]


app = hansa.App(model=lambda: nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 1)))


@app.data
def data(site):
    """A deployed member's `site.path` is its own file; a simulation reads the vendored one, by hospital."""
    if site.path.is_file():
        rows = list(csv.DictReader(site.path.open()))
    else:
        vendored = Path(__file__).parent / "data" / "heart.csv"
        text = vendored.read_bytes()
        if hashlib.sha256(text).hexdigest() != SHA256:
            raise ValueError(f"{vendored} is not the file that this example was written for")
        rows = [
            r for r in csv.DictReader(text.decode().splitlines()) if r["hospital"] == HOSPITALS[site.index]
        ]
    labels = torch.tensor([int(row["disease"]) for row in rows])
    return torch.tensor([features(row) for row in rows]), labels


@app.train
def train(model, dataset, ctx):
    """`ctx.params.epochs` epochs of plain SGD, in place."""
    optimizer = torch.optim.SGD(model.parameters(), lr=ctx.params.lr)
    for _ in range(ctx.params.epochs):
        for patients, disease in ctx.loader(dataset, batch_size=16):
            patients, disease = patients.to(ctx.device), disease.to(ctx.device)
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(model(patients)[:, 0], disease.float()).backward()
            optimizer.step()


@app.evaluate
def evaluate(model, dataset, ctx):
    """Mean loss and accuracy."""
    loss, correct = 0.0, 0
    for patients, disease in ctx.loader(dataset, batch_size=1024, shuffle=False):
        patients, disease = patients.to(ctx.device), disease.to(ctx.device)
        scores = model(patients)[:, 0]
        loss += functional.binary_cross_entropy_with_logits(scores, disease.float(), reduction="sum").item()
        correct += ((scores > 0) == (disease > 0)).sum().item()
    return {"loss": loss / len(dataset), "accuracy": correct / len(dataset)}
