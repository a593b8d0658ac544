"""Flip bits of the two genuine quotes that the probes began with, and see that none is accepted.

`python -m tests.flips` flips all 76,848, in minutes; `make attestation-flips` does that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tests.quoted import GENUINE, accepting, raw

from hansa import errors
from hansa.attestation import examine, normalise
from hansa.records import Evidence

NAMES = ("sgx_quote", "tdx_quote")


def accepted(name: str, bits: Iterable[int]) -> list[int]:
    """Of these bits of a quote, as it came, those whose flip leaves it accepted under a policy made for it."""
    quote, collateral = raw(name)
    policy, now = accepting(name), GENUINE[name]
    found = []
    for bit in bits:
        flipped = bytearray(quote)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            if not examine(Evidence(normalise(bytes(flipped)), collateral), policy, now).refusals:
                found.append(bit)
        except errors.Untrusted:
            continue
    return found


def main() -> None:
    total = 0
    for name in NAMES:
        bits = 8 * len(raw(name)[0])
        assert not objections(name), f"{name} is not accepted as it is"
        found = accepted(name, range(bits))
        print(f"{name}: {bits:,} flips, {len(found)} accepted {found[:20] or ''}")
        total += len(found)
    sys.exit(bool(total))


def objections(name: str) -> tuple[errors.Untrusted, ...]:
    """What is held against the quote as it came."""
    quote, collateral = raw(name)
    return examine(Evidence(normalise(quote), collateral), accepting(name), GENUINE[name]).refusals


if __name__ == "__main__":
    main()
