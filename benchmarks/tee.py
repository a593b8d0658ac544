"""What attested aggregation costs: `python benchmarks/tee.py`.

Verification: genuine and simulated quotes under a full policy, beside what the library `dcap-qvl` does alone, which
neither looks at the form of a quote nor at a policy. Both run in this process, in turns, and processor time is
counted. A quote's processor and its collateral are known from the first turn on, as they are to members that check
the same enclaves each epoch; "first seen" is with nothing known.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dcap_qvl
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.quoted import DOMAIN, ENCLAVE, GENUINE, NOW, SIMULATED, SIMULATION, accepting, genuine, simulated

from hansa.attestation import Policy, examine, intel_root, signatures, verifying
from hansa.records import Evidence


def forget() -> None:
    """As if no quote had been seen."""
    signatures.canonical_chain.cache_clear()
    verifying._collateral.cache_clear()
    verifying._for_library.cache_clear()


def fastest(turns: int, *calls: Callable[[], object]) -> list[float]:
    """Least processor time of each call, seconds, over batches of 20 taken in turns."""
    best = [float("inf")] * len(calls)
    for _ in range(turns):
        for i, call in enumerate(calls):
            start = time.process_time()
            for _ in range(20):
                call()
            best[i] = min(best[i], (time.process_time() - start) / 20)
    return best


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
    console.print(
        f"dcap-qvl {dcap_qvl.__version__}, {platform.machine()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
