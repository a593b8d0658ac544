"""The same patients, the last layer in the clear at party 2, behind a clipped and noised bottleneck of one value.

Labels stay shared, and `hansa mpc plan` states the epsilon. With 600 patients the noise costs much accuracy: see
README.md before choosing this.
"""

import csv
import hashlib
from pathlib import Path

from hansa.mpc import Dense, Logistic, Network, Reveal, Sgd, Training

training = Training(
    Network(
        [
            Dense(1, secret=True),
            Reveal(to=2, clip=1.0, noise=4.0, gradient_clip=1.0, gradient_noise=1.0),
            Dense(1, at=2),
        ],
        inputs=(13,),
    ),
    loss=Logistic(),
    optimizer=Sgd(lr=2.0, momentum=0.5),
    epochs=16,
    batch=128,
    seed=0,
    norm=3.6,
)

VENDORED = Path(__file__).parent.parent / "hospitals" / "data" / "heart.csv"
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


@training.rows
def rows(site):
    """A deployed hospital's `site.path` is its own file; a simulation reads the vendored one, by hospital."""
    text = (site.path if site.path.is_file() else VENDORED).read_bytes()
    if not site.path.is_file() and hashlib.sha256(text).hexdigest() != SHA256:
        raise ValueError(f"{VENDORED} is not the file that this example was written for")
    table = enumerate(csv.DictReader(text.decode().splitlines()))
    own = [(i, r) for i, r in table if site.path.is_file() or r["hospital"] == HOSPITALS[site.index]]
    ids = [f"{row['hospital']}-{i}" for i, row in own]
    return ids, [features(row) for _, row in own], [int(row["disease"]) for _, row in own]
