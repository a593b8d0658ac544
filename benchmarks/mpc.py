"""A step of training under scheme `mpc`: all ciphertext, each arrangement, and SPU driven by jax.grad, in one run.

Three computing parties over loopback, each with SPU in a process of its own, linked by TLS as deployed. `--delay-ms 0
20` does all twice: with 20, every byte between two parties waits in a proxy, 20 ms one way. Prints for each case the
median step by the clock, megabytes of all parties and sends of one; by executable and boundary with `--layers`. The
environment is `.venv-mpc`. `--crypten E`, an interpreter, puts CrypTen's own step beside it, see `crypten_digits.py`.
Usage: .venv-mpc/bin/python benchmarks/mpc.py [--steps 6] [--delay-ms 0 20] [--layers] [--only NAME ...] [--crypten E]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hansa.app import Site
from hansa.mpc import (
    OWNERS,
    Dense,
    Network,
    ReLU,
    Reveal,
    Sgd,
    SoftmaxCrossEntropy,
    Squared,
    Training,
    inputs,
    lowering,
    outline,
    schedule,
    twin,
)
from hansa.mpc.dealing import make_shares
from hansa.mpc.loopback import HOST, at_once, parties_on_loopback
from hansa.mpc.outline import Graph
from hansa.mpc.program import Program
from hansa.mpc.session import Party, Progress, Report, Start, train
from hansa.mpc.setting import Setting
from hansa.mpc.training import load_training

BARE = Reveal(to=2)
EXAMPLE = Path(__file__).parent.parent / "examples" / "hospitals-mpc"


@dataclass(frozen=True)
class Case:
    name: str
    training: Training
    counts: tuple[int, ...]
    values: Mapping[str, Any]
    by_grad: bool = False


def digits(layers: Sequence[Any], **changes: Any) -> Training:
    options = {"loss": SoftmaxCrossEntropy(), "optimizer": Sgd(lr=0.5), "seed": 0, "bound": 16.0} | changes
    return Training(Network(layers, inputs=(64,)), epochs=20, batch=128, **options)


def cases() -> Iterator[Case]:
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = (found.data / 16).astype(np.float32), found.target
    rest = [Dense(64, at=2), ReLU(), Dense(10, at=2)]
    noised = Reveal(to=2, clip=1.0, noise=2.0, gradient_clip=2.0, gradient_noise=1.0)
    secret = digits([Dense(128), ReLU(), Dense(64), ReLU(), Dense(10)])
    hybrid = digits([Dense(128), ReLU(), BARE, *rest], labels=BARE, accept_leakage=True)
    bottom = digits(
        [Dense(128, at=OWNERS, frozen=True), ReLU(), Dense(10)], loss=Squared(), optimizer=Sgd(lr=0.05)
    )
    for name, training, by_grad in (
        ("digits, jax.grad on SPU", secret, True),
        ("digits, all ciphertext", secret, False),
        ("digits, as published", hybrid, False),
        ("digits, bottleneck", digits([Dense(16), ReLU(), noised, *rest], norm=8.0), False),
        ("digits, frozen bottom", bottom, False),
    ):
        labels = np.eye(10, dtype=np.float32)[y] if training is bottom else y
        yield case(name, training, [(range(1347), x[:1347], labels[:1347])], by_grad)
    for name in ("all_secret", "as_published", "bottleneck", "training"):
        training = load_training(EXAMPLE / f"{name}.py")
        rows = [training.read_rows(Site(EXAMPLE, f"m{i}", i, 0)) for i in range(4)]
        yield case(f"hospitals, {name}", training, rows)


def case(name: str, training: Training, rows: Sequence[Any], by_grad: bool = False) -> Case:
    """What owners of `rows` share."""
    checked = [inputs.check_rows(training, own, i) for i, own in enumerate(rows)]
    counts = tuple(len(own.ids) for own in checked)
    values: dict[str, Any] = {}
    for i, own in enumerate(checked):
        steps = training.declared.epochs * (sum(counts) // training.declared.batch)
        found = inputs.share_values(training, own, steps, len(counts), bytes([i]) * 32)
        values |= {f"{shared}.{i}": array for shared, array in found.items()}
    return Case(name, training, counts, values, by_grad)


def program_of(case: Case, steps: int) -> Program:
    """The case's program, cut short to `steps` in one epoch."""
    program = lowering.lower(case.training, case.counts)
    if case.by_grad:
        graph = outline.outline(case.training, case.counts).shared["train0"]
        program = replace(program, executables={**program.executables, "train0": differentiated(case, graph)})
    return replace(program, epochs=1, steps=steps)


def differentiated(case: Case, graph: Graph) -> bytes:
    """The same step as users of SPU write it: jax.grad of the mean loss."""
    import jax
    import jax.numpy as jnp

    layout, declared = case.training.layout, case.training.declared
    names = [name for segment in layout.segments for name in segment.parameters]

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        for placed in layout.layers:
            x = twin.apply(placed, parameters, x)
        z = x - jax.lax.stop_gradient(x.max(axis=1, keepdims=True))
        return -jnp.mean(jnp.sum(y * (z - jnp.log(jnp.sum(jnp.exp(z), axis=1, keepdims=True))), axis=1))

    def step(_xp: Any, *arrays: Any) -> list[Any]:
        parameters = dict(zip(names, arrays, strict=False))
        x, rows, y = arrays[len(names) :]
        gradients = jax.grad(loss)(parameters, x[rows], y[rows])
        return [parameters[n] - declared.optimizer.lr * gradients[n] for n in names]

    return lowering.compile_graph("train0", replace(graph, function=step))


def relay(delay: float, pairs: Sequence[tuple[int, int]], ready: Any) -> None:
    """Proxies (listening port, port behind it) that hold every byte back for `delay` seconds."""

    async def pump(reader: Any, writer: Any) -> None:
        waiting: asyncio.Queue[Any] = asyncio.Queue()

        async def out() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    writer.close()
                    return
                writer.write(data)

        task = asyncio.create_task(out())
        while data := await reader.read(1 << 18):
            waiting.put_nowait((time.monotonic() + delay, data))
        waiting.put_nowait((time.monotonic() + delay, b""))
        await task

    async def serve() -> None:
        for port, behind in pairs:

            async def accept(reader: Any, writer: Any, behind: int = behind) -> None:
                try:
                    back, forth = await asyncio.open_connection(HOST, behind)
                except OSError:
                    writer.close()
                    return
                for end in (writer, forth):
                    end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await asyncio.gather(pump(reader, forth), pump(back, writer), return_exceptions=True)

            await asyncio.start_server(accept, HOST, port)
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(serve())


@contextmanager
def delayed(parties: list[Party], milliseconds: float) -> Iterator[list[Party]]:
    """The same parties, each of which reaches the others through proxies."""
    if not milliseconds:
        yield parties
        return
    pairs, found = [], []
    with ExitStack() as held:
        for party in parties:
            places = list(party.places)
            for rank, place in enumerate(places):
                if rank == party.rank:
                    continue
                own = []
                for behind in (place.meeting, place.link):
                    free = held.enter_context(socket.socket())
                    free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    free.bind((HOST, 0))
                    own.append(free.getsockname()[1])
                    pairs.append((own[-1], behind))
                places[rank] = replace(place, meeting=own[0], link=own[1])
            found.append(replace(party, places=tuple(places)))
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=relay, args=(milliseconds / 1e3, pairs, ready), daemon=True)
    process.start()
    ready.wait(30)
    try:
        yield found
    finally:
        process.kill()
        process.join()


def measure(case: Case, steps: int, delay: float, layers: bool) -> tuple[float, float, float]:
    """Median milliseconds, megabytes and sends of a step, the first left out."""
    declared, job = case.training.declared, b"benchmarks/mpc".ljust(32, b".")
    program = program_of(case, steps)
    setting = Setting(declared.protocol, declared.field)
    dealt = {
        v.name: make_shares(np.asarray(case.values[v.name], np.float32), v, job=job, setting=setting)
        for v in program.inputs
    }
    total = outline.total_rows(case.training, case.counts)
    functions = lowering.functions(outline.outline(case.training, case.counts))
    told: dict[int, list[Progress]] = {r: [] for r in range(setting.parties)}

    def work(party: Party) -> Any:
        start = Start(
            {name: shares[party.rank] for name, shares in dealt.items()},
            schedule.initial(case.training.layout, declared.seed),
            lambda step: schedule.feeds(declared, total, step),
            functions,
        )
        return train(party, program, start, Report(told[party.rank].append))

    with (
        tempfile.TemporaryDirectory() as home,
        parties_on_loopback(Path(home), job, setting, timeout=60, patience=120, every=10**6) as near,
        delayed(near, delay) as parties,
    ):
        results = at_once(parties, work)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    if layers:
        for name, cost in results[0].costs.items():
            each = max(1, cost.times)
            millis, size, sends = 1e3 * cost.seconds / each, cost.sent / each / 1e3, cost.sends / each
            print(f"    {name:24} {millis:8.1f} ms {size:9.1f} kB sent {sends:6.1f} sends")
    later = {r: [p.cost for p in own[1:]] for r, own in told.items()}
    seconds = statistics.median(c.seconds for c in later[0])
    size = sum(sum(c.sent for c in own) / len(own) for own in later.values())
    sends = max(sum(c.sends for c in own) / len(own) for own in later.values())
    return 1e3 * seconds, size / 1e6, sends


def by_crypten(python: str, steps: int) -> str:
    """Its row: bytes of one party times three, and messages as it counts them, in rounds."""
    script = Path(__file__).with_name("crypten_digits.py")
    done = subprocess.run([python, script, str(steps)], capture_output=True, text=True, check=True)
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return (
        f"{'digits, CrypTen 0.4.1':28} {said['ms']:8.0f} {3 * said['bytes'] / 1e6:8.3f} {said['rounds']:6.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--delay-ms", type=float, nargs="+", default=[0.0])
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--crypten", metavar="E", default="")
    asked = parser.parse_args()
    for delay in asked.delay_ms:
        print(f"{'case':28} {'ms':>8} {'MB':>8} {'sends':>6}   a step, {delay:g} ms one way")
        for found in cases():
            if asked.only and not any(part in found.name for part in asked.only):
                continue
            millis, size, sends = measure(found, asked.steps, delay, asked.layers)
            print(f"{found.name:28} {millis:8.0f} {size:8.3f} {sends:6.1f}", flush=True)
    if asked.crypten:
        print(by_crypten(asked.crypten, asked.steps) + "   without delay")


if __name__ == "__main__":
    main()
