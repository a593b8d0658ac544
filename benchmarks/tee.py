"""What attested aggregation costs: `python benchmarks/tee.py`.

Verification: genuine and simulated quotes under a full policy, beside what the library `dcap-qvl` does alone, which
neither looks at the form of a quote nor at a policy. Both run in this process, in turns, and processor time is
counted. A quote's processor and its collateral are known from the first turn on, as they are to members that check
the same enclaves each epoch; "first seen" is with nothing known.

Sealing: 100 MB as members seal updates, streamed through buffers and in memory, beside one call of HPKE of the library
`cryptography`, which is one AES-GCM message and so has to lie in memory whole. Memory is the most that Python and its
extensions set aside in a call, beside what was there before.

Aggregation: the rules as they run in an enclave, without branches or indices that depend on data, beside the plain
ones.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import dcap_qvl
import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.quoted import DOMAIN, ENCLAVE, GENUINE, NOW, SIMULATED, SIMULATION, accepting, genuine, simulated

from hansa.attestation import Policy, examine, intel_root, signatures, verifying
from hansa.crypto import sealing
from hansa.enclave import oblivious
from hansa.protocol import aggregation
from hansa.protocol.aggregation import Contribution, WeightedSum
from hansa.records import AggregationTerms, Evidence

MEGABYTES = 100
MEMBERS, PARAMETERS = 10, 1_000_000


def forget() -> None:
    """As if no quote had been seen."""
    signatures.canonical_chain.cache_clear()
    verifying._collateral.cache_clear()
    verifying._for_library.cache_clear()


def fastest(turns: int, *calls: Callable[[], object], batch: int = 20) -> list[float]:
    """Least processor time of each call, seconds, over batches taken in turns."""
    best = [float("inf")] * len(calls)
    for _ in range(turns):
        for i, call in enumerate(calls):
            start = time.process_time()
            for _ in range(batch):
                call()
            best[i] = min(best[i], (time.process_time() - start) / batch)
    return best


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, data: memoryview) -> int:
        return len(data)


def peak(call: Callable[[], object]) -> str:
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return f"{most / 1e6:,.1f} MB"


def sealed(turns: int) -> Table:
    table = Table(title=f"Sealing {MEGABYTES} MB, MB a second of processor time, best of {turns}")
    for heading in ("", "seal", "open", "memory to seal", "memory to open"):
        table.add_column(heading, justify="right" if heading else "left")
    data = np.random.default_rng(0).bytes(MEGABYTES * 10**6)
    secret, grant, context = b"s" * 32, b"g" * 32, b"federation, round 3, member 1"
    entropy = np.random.default_rng(1).bytes
    blob = sealing.seal(data, secret, grant, context, entropy=entropy)
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    key = X25519PrivateKey.generate()
    one_shot = suite.encrypt(data, key.public_key(), context)
    to = (secret, grant, context)

    def seal_stream() -> None:
        sealing.seal_stream(BytesIO(data), Nowhere(), len(data), *to, entropy=entropy)

    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "streamed": (
            seal_stream,
            lambda: sealing.open_stream(BytesIO(blob), Nowhere(), secret, context, limit=len(data)),
        ),
        "in memory": (
            lambda: sealing.seal(data, *to, entropy=entropy),
            lambda: sealing.open_sealed(blob, secret, context, limit=len(data)),
        ),
        "one-shot HPKE": (
            lambda: suite.encrypt(data, key.public_key(), context),
            lambda: suite.decrypt(one_shot, key, context),
        ),
    }
    for name, (seals, opens) in ways.items():
        rates = [f"{MEGABYTES / seconds:,.0f}" for seconds in fastest(turns, seals, opens, batch=1)]
        table.add_row(name, *rates, peak(seals), peak(opens))
    return table


def in_enclave(terms: AggregationTerms, contributions: list[Contribution]) -> np.ndarray:
    """What an enclave computes."""
    if terms.rule in oblivious.RULES:
        return oblivious.RULES[terms.rule](terms, [c.values for c in contributions])
    total = WeightedSum(np.zeros(PARAMETERS, np.int64))
    for c in contributions:
        values = oblivious.clip(c.values, aggregation.clip_bound(terms, 16)) if terms.clip_norm else c.values
        total.add(Contribution(c.member, c.examples, values), aggregation.weight(terms, c.examples, 0))
    return total.divided()


def rules(turns: int) -> Table:
    table = Table(title=f"Aggregating {MEMBERS} updates of {PARAMETERS:,} parameters, ms, best of {turns}")
    for heading in ("rule", "plain", "oblivious", "times"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    draw = np.random.default_rng(0)
    updates = [
        Contribution(i, 100 + i, draw.normal(0, 2**14, PARAMETERS).astype(np.int32)) for i in range(MEMBERS)
    ]
    for rule, options in {
        "weighted-mean": {},
        "clipped-mean": {"clip_norm": 1.0},
        "median": {},
        "trimmed-mean": {},
        "krum": {"malicious": 3},
        "multi-krum": {"malicious": 3},
    }.items():
        terms = AggregationTerms(rule, **options)

        def plain(terms=terms) -> np.ndarray:
            return aggregation.mean_delta(terms, updates, PARAMETERS, 16)

        def ours(terms=terms) -> np.ndarray:
            return in_enclave(terms, updates)

        assert np.array_equal(plain(), ours())
        usual, hidden = fastest(turns, plain, ours, batch=1)
        table.add_row(rule, f"{1e3 * usual:,.0f}", f"{1e3 * hidden:,.0f}", f"{hidden / usual:.2f}")
    return table


def cases() -> dict[str, tuple[Evidence, Policy, int, bytes]]:
    """Evidence, policy, time and root by name."""
    names = {"sgx_quote": "SGX v3", "tdx_quote": "TDX v4", "tdx_quote_td15ex": "TDX v5"}
    found = {
        f"genuine {names[name]}": (genuine(name), accepting(name), at, intel_root())
        for name, at in GENUINE.items()
    }
    for tee, measured in (("SGX v3", ENCLAVE), ("TDX v4", DOMAIN)):
        found[f"simulated {tee}"] = (simulated(measured).quote(bytes(64)), SIMULATED, NOW, SIMULATION)
    return found


def verification(turns: int) -> Table:
    table = Table(title=f"Verifications a second, one core, best of {turns}")
    for heading in ("quote", "library alone", "full policy", "of library", "first seen"):
        table.add_column(heading, justify="left" if heading == "quote" else "right")
    for name, (evidence, policy, now, root) in cases().items():
        parts = dcap_qvl.QuoteCollateralV3.from_json(evidence.collateral.decode())

        def library(e=evidence, parts=parts, root=root, now=now) -> object:
            return dcap_qvl.verify_with_root_ca(e.quote, parts, root, now)

        def full(e=evidence, policy=policy, now=now) -> object:
            refusals = examine(e, policy, now).refusals
            assert not refusals
            return refusals

        def first(full=full) -> object:
            forget()
            return full()

        alone, ours, new = fastest(turns, library, full, first)
        table.add_row(name, f"{1 / alone:,.0f}", f"{1 / ours:,.0f}", f"{alone / ours:.0%}", f"{1 / new:,.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    console = Console()
    console.print(verification(options.turns))
    console.print(sealed(options.turns))
    console.print(rules(options.turns))
    console.print(
        f"dcap-qvl {dcap_qvl.__version__}, {platform.machine()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
