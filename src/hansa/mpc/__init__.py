"""Scheme `mpc`: one network is trained on secret shares by computing parties, linked by SPU (source system D).

What training scripts import stands here; none of it needs jax or SPU.
"""

from hansa.mpc.network import (
    OWNERS,
    Conv,
    Dense,
    Flatten,
    Logistic,
    Network,
    ReLU,
    Reveal,
    Sgd,
    Sigmoid,
    SoftmaxCrossEntropy,
    Squared,
    Stop,
    SumPool,
)
from hansa.mpc.training import Training

__all__ = [
    "OWNERS",
    "Conv",
    "Dense",
    "Flatten",
    "Logistic",
    "Network",
    "ReLU",
    "Reveal",
    "Sgd",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Squared",
    "Stop",
    "SumPool",
    "Training",
]
