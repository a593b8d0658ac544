"""What owners agree on under `mpc`: a network declared layer by layer, its loss, its training. Imports no jax.

A *training script* is one Python file with a variable `training`; its digest stands in the terms:

    from hansa.mpc import Dense, Logistic, Network, ReLU, Sgd, Training

    training = Training(
        Network([Dense(16), ReLU(), Dense(1)], inputs=(13,)),
        loss=Logistic(), optimizer=Sgd(lr=0.5), epochs=20, batch=32, seed=0,
    )

    @training.rows
    def rows(site): ...                     # ids, features, labels of one owner, site as in hansa.App

A layer computes on shares unless its declaration says otherwise: `at=OWNERS` puts it in the clear at each owner,
before anything is shared; `at=2` in the clear at computing party 2, behind a `Reveal` that says what that party is
shown. Layers without weights stand where the values before them are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, final

from hansa.encoding import digest as digest_of
from hansa.encoding import encode

FORMAT: Final = "hansa/mpc/1"
OWNERS: Final = "owners"
"""`at` of a layer that every owner computes for itself on its own rows, in the clear."""

PARTIES: Final = {"ABY3": 3, "CHEETAH": 2, "SEMI2K_FOR_TESTS": 2}
"""Computing parties of each protocol. SEMI2K's default triples come from a party that could open everything."""

FIELDS: Final = ("FM64", "FM128")

Place = int | str | None
"""Where a layer computes: a party's number, `OWNERS`, or None on shares."""


@dataclass(frozen=True, slots=True)
class Dense:
    """`x @ weight + bias`. With `weights`, a frozen layer reads `weight` and `bias` from a safetensors file.

    weights: its name beside the script. digest: its SHA-256 in hex, so that all owners have the same.
    """

    width: int
    _: KW_ONLY
    secret: bool | None = None
    at: Place = None
    frozen: bool = False
    weights: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution of (height, width, channels) with `filters` squares of `size`, without padding."""

    filters: int
    size: int
    _: KW_ONLY
    secret: bool | None = None
    at: Place = None
    frozen: bool = False
    weights: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ReLU:
    """`max(x, 0)`."""


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """`1 / (1 + exp(-x))`."""


@dataclass(frozen=True, slots=True)
class SumPool:
    """Sums of squares of `size` that do not overlap; a mean would cost a truncation and gives the same network."""

    size: int


@dataclass(frozen=True, slots=True)
class Flatten:
    """(height, width, channels) in a row."""


@dataclass(frozen=True, slots=True)
class Reveal:
    """From here on party `to` sees values in the clear, until a secret layer follows.

    clip: values are cut to [-clip, clip], after a ReLU to [0, clip]. noise: standard deviation of the Gaussian noise
    on each value, in units of `clip`; owners draw it, and no party knows it. gradient_clip: the most that exchanging
    one row may change a layer's gradient, summed over a batch (Euclidean norm). gradient_noise: standard deviation of
    the noise on that sum, in units of `gradient_clip`. All four belong together; without them what is opened is
    opened as it is.
    """

    _: KW_ONLY
    to: int
    clip: float | None = None
    noise: float | None = None
    gradient_clip: float | None = None
    gradient_noise: float | None = None

    @property
    def protected(self) -> bool:
        """Whether values and gradients are clipped and noised."""
        return None not in (self.clip, self.noise, self.gradient_clip, self.gradient_noise)


Weighted = Dense | Conv
Layer = Dense | Conv | ReLU | Sigmoid | SumPool | Flatten
Item = Layer | Reveal


@dataclass(frozen=True, slots=True)
class SoftmaxCrossEntropy:
    """Labels are classes 0, 1, ..., one output each. Gradient of the outputs: softmax minus one-hot label."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """Labels are 0 or 1, one output. Gradient: sigmoid minus label. On shares the sigmoid is the dearest step."""


@dataclass(frozen=True, slots=True)
class Squared:
    """Half the squared difference; labels are numbers, as many a row as outputs. Gradient: output minus label."""


Loss = SoftmaxCrossEntropy | Logistic | Squared


@dataclass(frozen=True, slots=True)
class Sgd:
    """`v = momentum * v + gradient of the batch's mean; w = w - lr * v`."""

    lr: float
    momentum: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """Training ends after an epoch whose mean squared difference of prediction and label is under `below`.

    Whether it is, is one bit an epoch that every party learns.
    """

    below: float


@final
class Network:
    """Layers and reveals in order; `inputs` is the shape of one row of features."""

    def __init__(self, layers: Sequence[Item], inputs: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self.inputs = tuple(inputs)


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that a script declares, as one value; `describe` gives its canonical bytes."""

    layers: tuple[Item, ...]
    inputs: tuple[int, ...]
    loss: Loss
    optimizer: Sgd
    epochs: int
    batch: int
    seed: int
    protocol: str
    field: str
    accept_leakage: bool
    labels: Reveal | None
    stop: Stop | None
    bound: float
    norm: float | None
    delta: float
    columns: tuple[int, ...]
    labels_by: int


def _plain(value: Any) -> Any:
    """Dataclasses as maps that also name their kind: `ReLU()` and `Sigmoid()` have the same fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def describe(declared: Declaration) -> bytes:
    """Canonical bytes of a declaration: the same for all who read the same script."""
    return encode({"format": FORMAT, **_plain(declared)})


def description_digest(declared: Declaration) -> bytes:
    """SHA-256 of the canonical description, 32 bytes."""
    return digest_of(describe(declared))
