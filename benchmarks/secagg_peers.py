"""What other libraries take for the same sum, for benchmarks/secagg.py. None is a dependency of Hansa.

Each is called as its documentation says, on one thread where it lets one choose, and what it opens is checked. Where
the work is block by block, a slice is measured and the time multiplied; flwr and numpy go over all values.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

A = TypeVar("A")
Peer = Callable[[int, int], Iterator["Cost"]]
"""Takes the number of parameters and of repetitions."""

MEMBERS = 10
VALUE_BITS = 24
BOUND = 2 ** (VALUE_BITS - 1) - 1

ONE_KEY = "whoever has the one secret key reads every update"


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of one member, of adding all members' updates, and of all sides that open the sum."""

    system: str
    client: float
    add: float
    open: float
    bytes_a_parameter: float
    trusts: str


def fastest(runs: int, call: Callable[[], A]) -> tuple[float, A]:
    """The least processor time of a call, and what it gave last."""
    best = float("inf")
    for _ in range(runs):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def draw_values(count: int) -> NDArray[np.int32]:
    return np.random.default_rng(count).integers(-BOUND, BOUND, count, dtype=np.int32)


def plain(count: int, runs: int) -> Iterator[Cost]:
    """Float32 vectors added as they are; a member copies its own."""
    values, total = draw_values(count).astype(np.float32), np.zeros(count, np.float32)
    copied, _ = fastest(3 * runs, values.copy)
    added, _ = fastest(3 * runs, lambda: np.add(total, values, out=total))
    yield Cost("numpy, plain float32", copied, added * MEMBERS, 0, 4, "the server reads every update")


def flower(count: int, runs: int) -> Iterator[Cost]:
    """SecAgg+ as in `secaggplus_mod` and `SecAggPlusWorkflow`, nobody lost: masks only, no key exchange or shares."""
    package = "flwr.common.secure_aggregation"
    vectors = import_module(f"{package}.ndarrays_arithmetic")
    quantization = import_module(f"{package}.quantization")
    draw = import_module(f"{package}.secaggplus_utils").pseudo_rand_gen
    clip, target, modulus = 8.0, 1 << VALUE_BITS, 1 << 32
    values = [(draw_values(count) * (clip / BOUND)).astype(np.float32)]
    shapes = [(1,), (count,)]
    own = [os.urandom(32) for _ in range(MEMBERS)]
    pairs = {pair: os.urandom(32) for pair in combinations(range(MEMBERS), 2)}

    def client(i: int) -> list[NDArray[np.int64]]:
        found = vectors.factor_combine(1, quantization.quantize(values, clip, target))
        found = vectors.parameters_addition(found, draw(own[i], modulus, shapes))
        for (a, b), seed in pairs.items():
            if i in (a, b):
                change = vectors.parameters_addition if i == b else vectors.parameters_subtraction
                found = change(found, draw(seed, modulus, shapes))
        return vectors.parameters_mod(found, modulus)  # type: ignore[no-any-return]

    def opened() -> NDArray[np.float32]:
        found = total
        for seed in own:
            found = vectors.parameters_subtraction(found, draw(seed, modulus, shapes))
        _, found = vectors.factor_extract(vectors.parameters_mod(found, modulus))
        return quantization.dequantize(found, clip * MEMBERS, target * MEMBERS)[0]  # type: ignore[no-any-return]

    clients, wires = zip(*(fastest(1, lambda i=i: client(i)) for i in range(MEMBERS)), strict=True)
    added, total = fastest(
        runs, lambda: vectors.parameters_mod(reduce(vectors.parameters_addition, wires), modulus)
    )
    took, sums = fastest(runs, opened)
    assert np.abs(sums - MEMBERS * values[0]).max() < MEMBERS * 1e-4
    trusts = "a threshold of members, and the server's list of keys; the server reads the sum"
    yield Cost("flwr SecAgg+", min(clients), added, took, 8, trusts)


def tenseal(count: int, runs: int) -> Iterator[Cost]:
    """CKKS vectors, public key; the values are opened approximately."""
    ts = import_module("tenseal")
    values = (draw_values(min(count, 250_000)) / BOUND).astype(np.float64)
    times = count / values.size
    for degree, moduli in ((4096, [60, 49]), (8192, [60, 40, 60])):
        context = ts.context(ts.SCHEME_TYPE.CKKS, degree, -1, moduli, n_threads=1)
        context.global_scale = 2.0**40
        slots = degree // 2
        pieces = [values[at : at + slots].tolist() for at in range(0, values.size, slots)]
        client, wire = fastest(runs, lambda p=pieces, c=context: [ts.ckks_vector(c, x) for x in p])
        add, total = fastest(runs, lambda w=wire: [x + y for x, y in zip(w, w, strict=True)])
        took, opened = fastest(runs, lambda t=total: [x.decrypt() for x in t])
        assert np.abs(np.concatenate(opened) - 2 * values).max() < 1e-3
        size = sum(len(x.serialize()) for x in wire) / values.size
        yield Cost(
            f"tenseal CKKS-{degree}{_slice(values.size, count)}",
            client * times, add * times * MEMBERS, took * times, size, ONE_KEY,
        )  # fmt: skip


def paillier(count: int, runs: int) -> Iterator[Cost]:
    """One ciphertext a value, which is all that `phe` offers."""
    public, private = import_module("phe.paillier").generate_paillier_keypair(n_length=3072)
    values = draw_values(8).tolist()
    times = count / len(values)
    client, wire = fastest(runs, lambda: [public.encrypt(x) for x in values])
    add, total = fastest(3 * runs, lambda: [x + y for x, y in zip(wire, wire, strict=True)])
    took, opened = fastest(runs, lambda: [private.decrypt(x) for x in total])
    assert opened == [2 * x for x in values]
    yield Cost(
        f"phe Paillier-3072{_slice(len(values), count)}",
        client * times, add * times * MEMBERS, took * times, 2 * 3072 / 8, ONE_KEY,
    )  # fmt: skip


def heu(count: int, runs: int) -> Iterator[Cost]:
    """Its numpy interface, two values a ciphertext by its batch encoder: its fastest schemes at 3072 bits."""
    schemes, arrays = import_module("heu.phe").SchemaType, import_module("heu.numpy")
    for name, size in (("ZPaillier", 400), ("OU", 4_000)):
        kit = arrays.setup(getattr(schemes, name), 3072)
        encrypt, decrypt, evaluate = kit.encryptor(), kit.decryptor(), kit.evaluator()
        encoder = kit.batch_integer_encoder(1, 16)
        values = draw_values(size).reshape(-1, 2).astype(np.int64)
        plain, times = kit.array(values, encoder), count / size
        client, wire = fastest(runs, lambda e=encrypt, p=plain: e.encrypt(p))
        add, total = fastest(runs, lambda e=evaluate, w=wire: e.add(w, w))
        took, opened = fastest(runs, lambda d=decrypt, t=total: d.decrypt(t))
        assert (opened.to_numpy(encoder) == 2 * values).all()
        yield Cost(
            f"sf-heu {name}-3072{_slice(size, count)}",
            client * times, add * times * MEMBERS, took * times, len(wire.serialize()) / size, ONE_KEY,
        )  # fmt: skip


PEERS: tuple[tuple[str, str, Peer], ...] = (
    ("flwr SecAgg+", "flwr==1.41.0", flower),
    ("tenseal CKKS", "tenseal", tenseal),
    ("phe Paillier", "phe", paillier),
    ("sf-heu", "sf-heu", heu),
)
"""Name, what to install, and what measures it."""


def _slice(size: int, count: int) -> str:
    return f" (slice of {size:,})" if size < count else ""


def missing(error: ImportError, package: str) -> Any:
    """What stands in the row of a peer that cannot be imported."""
    known = isinstance(error, ModuleNotFoundError)
    return f"not installed: pip install {package}" if known else f"cannot be imported: {error}"
