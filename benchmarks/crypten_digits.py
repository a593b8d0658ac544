"""The digits network of `benchmarks/mpc.py`, all ciphertext, under CrypTen 0.4.1: one line of JSON, of one party.

Three processes over loopback, without TLS. CrypTen's products take triples that the first party makes and so knows:
whoever runs it can read everything, which SPU's ABY3 does not allow a single party. It runs in an environment of its
own, made by hand:

    python -m venv E && E/bin/pip install torch==2.13.0 onnx omegaconf scikit-learn
    E/bin/pip install --no-deps crypten==0.4.1

CrypTen was written for older releases of PyTorch. What it imports of `torch.onnx` is gone there; only its reading of
ONNX files, which nothing here does, would use it.
Usage: E/bin/python benchmarks/crypten_digits.py STEPS, or .venv-mpc/bin/python benchmarks/mpc.py --crypten E/bin/python
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import types

import torch
import torch.onnx

if "torch.onnx._internal.registration" not in sys.modules:
    gone = types.ModuleType("torch.onnx._internal.registration")
    gone.registry = None
    sys.modules[gone.__name__] = gone
if not hasattr(torch.onnx, "OperatorExportTypes"):
    torch.onnx.OperatorExportTypes = types.SimpleNamespace(ONNX=0, ONNX_ATEN=1, ONNX_ATEN_FALLBACK=2)

import crypten
import crypten.communicator
import crypten.mpc
import crypten.nn
from sklearn.datasets import load_digits

BATCH, ROWS, RATE = 128, 1347, 0.5
STEPS = int(sys.argv[1])


@crypten.mpc.run_multiprocess(world_size=3)
def train() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    crypten.cfg.communicator.verbose = True
    found = load_digits()
    x = crypten.cryptensor(torch.tensor(found.data[:ROWS] / 16, dtype=torch.float32), src=0)
    y = crypten.cryptensor(torch.eye(10)[found.target[:ROWS]], src=1)
    network = crypten.nn.Sequential(
        crypten.nn.Linear(64, 128),
        crypten.nn.ReLU(),
        crypten.nn.Linear(128, 64),
        crypten.nn.ReLU(),
        crypten.nn.Linear(64, 10),
    )
    network.encrypt()
    network.train()
    loss, comm = crypten.nn.CrossEntropyLoss(), crypten.communicator.get()
    seconds = []
    for step in range(STEPS):
        if step == 1:
            comm.reset_communication_stats()
        at = step * BATCH % (ROWS - BATCH)
        begun = time.monotonic()
        value = loss(network(x[at : at + BATCH]), y[at : at + BATCH])
        network.zero_grad()
        value.backward()
        network.update_parameters(RATE)
        seconds.append(time.monotonic() - begun)
    said = comm.get_communication_stats()
    if comm.get_rank() == 1:
        later = max(1, STEPS - 1)
        found = {"ms": 1e3 * statistics.median(seconds[1:] or seconds)}
        found |= {"bytes": said["bytes"] / later, "rounds": said["rounds"] / later}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    train()
