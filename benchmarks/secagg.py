"""What hiding updates costs: scheme `secagg` beside other libraries and a plain sum.

All sides run in this one process on one thread, and processor time is counted: the least of some repetitions. Ten
members sum values of 24 bits. "client" is what one member does before it uploads, "add" what a server does with
all ten uploads, "open" all work on both halves until the sum is there. Primes are published test primes of
tests/trapdoors.py. A peer that is not installed is named; none is a dependency of Hansa. For all of them, in an
environment of their own: pip install '.[secagg]' tenseal flwr==1.41.0 phe sf-heu
Usage: python benchmarks/secagg.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hansa.crypto import double_trapdoor as dt
from hansa.crypto import kahe
from secagg_peers import BOUND, MEMBERS, PEERS, VALUE_BITS, Cost, draw_values, fastest, missing, plain

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.trapdoors import TEST_PRIMES

MODULUS = 3072
ROOM = 1_000
"""The cohort that wires and fields have room for; ten members use it as well."""
DIRECT_PLAINTEXTS = 20
CONTEXT = b"benchmark"
PUBLIC_KEY = bytes(range(32))
TRUST = "key centre and server not both: together they open every update"


@dataclass(frozen=True, slots=True)
class Keys:
    """A set-up and ten members' key pairs, with tables of their public keys."""

    setup: dt.SetUp
    members: list[dt.WeakKey]


@dataclass(frozen=True, slots=True)
class KeyPart:
    """What goes through the double trapdoor: numbers to encrypt, add and open. Processor seconds, and bytes."""

    client: float
    check: float
    add: float
    half: float
    combine: float
    size: int
    ciphertexts: int
    sums: NDArray[np.int64]

    @property
    def open(self) -> float:
        return 2 * self.half + self.combine


@dataclass(frozen=True, slots=True)
class Masked:
    """Masked mode, its parts: the keys of the masks, and what grows with the model."""

    keys: KeyPart
    mask: float
    add: float
    unmask: float
    size: int

    def cost(self, count: int, cohort: int) -> Cost:
        keys = self.keys
        return Cost(
            f"Hansa masked, cohort up to {cohort:,}",
            self.mask + keys.client, self.add + keys.add, self.unmask + keys.open,
            (self.size + keys.size) / count, TRUST,
        )  # fmt: skip


def make_keys(say: Console, draw: bool) -> Keys:
    """Set-up and key pairs; prints what they take, which is once a federation."""
    took, made = fastest(1, lambda: dt.split(*TEST_PRIMES[MODULUS], os.urandom))
    line = f"Once a federation: halves and proofs for given primes {took:.2f} s"
    if draw:
        line += f", with two safe primes drawn {fastest(1, lambda: dt.set_up(MODULUS, os.urandom))[0]:.0f} s"
    members, first = [], []
    for _ in range(MEMBERS):
        key = dt.derive_key(made.parameters, os.urandom(32))
        first.append(fastest(1, lambda key=key: dt.encrypt(made.parameters, key.public, 1, 1))[0])
        members.append(key)
    say.print(f"{line}; a member's table of its own key {min(first):.2f} s.")
    return Keys(made, members)


def through_trapdoor(
    keys: Keys, rows: list[NDArray[np.int32]], bound: int, cohort: int, runs: int
) -> KeyPart:
    """One row a member, encrypted with proof, added, opened by both halves, and compared with the plain sum."""
    parameters = keys.setup.parameters
    packing = dt.choose_packing(parameters, bound, cohort)

    def client(row: NDArray[np.int32], public: int) -> tuple[list[dt.Ciphertext], dt.Knowledge]:
        return dt.encrypt_and_prove(parameters, public, dt.pack(packing, row), CONTEXT, os.urandom)

    uploads = [
        fastest(runs, lambda row=row, key=key: client(row, key.public))
        for row, key in zip(rows, keys.members, strict=True)
    ]
    ciphertexts, proof = uploads[0][1]
    public = keys.members[0].public
    check, _ = fastest(runs, lambda: dt.check_knowledge(parameters, public, ciphertexts, proof, CONTEXT))
    size = len(dt.write_ciphertexts(parameters, ciphertexts) + dt.write_knowledge(parameters, proof))
    add, elements = fastest(runs, lambda: dt.add_across_keys(parameters, [c for _, (c, _) in uploads]))

    halves = (keys.setup.key_centre, keys.setup.server)
    answers = [
        fastest(runs, lambda half=half: dt.raise_to_half(parameters, elements, half, CONTEXT, os.urandom))
        for half in halves
    ]

    def combine() -> NDArray[np.int64]:
        for _, answer in answers:
            dt.check_half(parameters, elements, answer, CONTEXT)
        plaintexts = dt.combine(parameters, elements, [answer for _, answer in answers])
        return dt.unpack_sum(packing, plaintexts, rows[0].size, len(rows))

    combined, sums = fastest(runs, combine)
    assert np.array_equal(sums, np.sum(rows, axis=0, dtype=np.int64))
    return KeyPart(
        min(took for took, _ in uploads), check, add, max(took for took, _ in answers), combined,
        size, len(elements), sums,
    )  # fmt: skip


def masked(keys: Keys, values: NDArray[np.int32], cohort: int, runs: int) -> Masked:
    """What `schemes.secagg` does with ten members' updates in masked mode, without store and ledger."""
    parameters, count = kahe.parameters(cohort, VALUE_BITS), values.size
    secrets = [kahe.draw_secret(os.urandom) for _ in range(MEMBERS)]
    uploads = [
        fastest(1, lambda s=s: kahe.mask(parameters, PUBLIC_KEY, s, values, os.urandom)) for s in secrets
    ]
    wires = [bytes(wire) for _, wire in uploads]

    def add() -> memoryview:
        running = kahe.Accumulator(parameters, count)
        running.add(*wires)
        return running.sum_bytes()

    added, total = fastest(runs, add)
    rows = [s.astype(np.int32) for s in secrets]
    key_part = through_trapdoor(keys, rows, kahe.SPREAD, cohort, runs)
    took, sums = fastest(
        runs, lambda: kahe.unmask(parameters, PUBLIC_KEY, key_part.sums, total, count, MEMBERS)
    )
    assert np.array_equal(sums, MEMBERS * values.astype(np.int64))
    return Masked(key_part, min(took for took, _ in uploads), added, took, len(wires[0]))


def direct(keys: Keys, count: int, runs: int) -> Cost:
    """Direct mode: every value through the double trapdoor. A slice, multiplied."""
    packing = dt.choose_packing(keys.setup.parameters, BOUND, MEMBERS)
    values = draw_values(DIRECT_PLAINTEXTS * packing.fields)
    part, times = (
        through_trapdoor(keys, [values] * MEMBERS, BOUND, MEMBERS, min(runs, 2)),
        count / values.size,
    )
    return Cost(
        f"Hansa direct (slice of {values.size:,})",
        part.client * times, part.add * times, part.open * times, part.size / values.size, TRUST,
    )  # fmt: skip


def goals(count: int, m: Masked) -> Table:
    """The wanted figures, which are for 10M parameters."""
    table = Table(title=f"To reach at 10M on one core, measured at {count:,}, cohort up to {ROOM:,}")
    for heading in ("figure", "measured", "wanted", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
    size = (m.size + m.keys.size) / count
    million = count / 1e6
    for figure, found, at_least, wanted, unit in (
        ("client", million / (m.mask + m.keys.client), True, 100, "Mparam/s"),
        ("server add", MEMBERS * million / (m.add + m.keys.add), True, 1000, "Mparam/s"),
        ("unmask", million / m.unmask, True, 100, "Mparam/s"),
        ("bytes a parameter", size, False, 6.1, ""),
        ("key part, a member", 1e3 * m.keys.client, False, 10, "ms"),
        ("opening, each half", m.keys.half, False, 0.8, "s"),
    ):
        reached = found >= wanted if at_least else found <= wanted
        table.add_row(
            figure, f"{found:.4g} {unit}", f"at {'least' if at_least else 'most'} {wanted} {unit}",
            "reached" if reached else "missed",
        )  # fmt: skip
    return table


def rows(keys: Keys, count: int, runs: int) -> Iterator[Cost | tuple[str, str]]:
    """All systems at one size but Hansa's masked mode; a pair says why a peer has no figures."""
    yield direct(keys, count, runs)
    for name, package, peer in PEERS:
        try:
            yield from peer(count, runs)
        except ImportError as e:
            yield name, missing(e, package)
    yield from plain(count, runs)


def compare(say: Console, keys: Keys, count: int, runs: int) -> Masked:
    table = Table(title=f"{count:,} parameters, {MEMBERS} members: processor seconds")
    for heading in ("system", "client", "add", "open", "bytes a parameter", "trusts"):
        table.add_column(heading, justify="left" if heading in ("system", "trusts") else "right")
    values = draw_values(count)
    measured = {cohort: masked(keys, values, cohort, runs) for cohort in (MEMBERS, ROOM)}
    for row in (*(m.cost(count, cohort) for cohort, m in measured.items()), *rows(keys, count, runs)):
        if isinstance(row, Cost):
            seconds = [f"{s:,.4g}" if s else "-" for s in (row.client, row.add, row.open)]
            table.add_row(row.system, *seconds, f"{row.bytes_a_parameter:,.4g}", row.trusts)
        else:
            table.add_row(row[0], "-", "-", "-", "-", row[1])
    say.print(table)
    part = measured[ROOM].keys
    say.print(
        f"In both masked rows the keys of the masks do not grow with the model. With room for {ROOM:,} they are"
        f" {part.ciphertexts} ciphertexts: client {1e3 * part.client:.1f} ms, add {1e3 * part.add:.1f} ms, a half"
        f" {part.half:.2f} s, both checked and combined {part.combine:.2f} s, {part.size:,} bytes. Verifying"
        f" one member's proof takes {1e3 * part.check:.0f} ms.\n"
    )
    return measured[ROOM]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1M parameters only, fewer repetitions")
    quick = parser.parse_args().quick
    say = Console(width=150)
    keys = make_keys(say, draw=not quick)
    masked(keys, draw_values(40_000), MEMBERS, 1)  # compiles the kernel
    masked(keys, draw_values(40_000), ROOM, 1)
    for count in (1_000_000,) if quick else (1_000_000, 10_000_000):
        measured = compare(say, keys, count, runs=1 if quick else 3)
    say.print(goals(count, measured))
    say.print(
        "Not counted, on any side: packing what was computed into messages; hashing, signing, store and ledger; the"
        f" exchange of keys and shares of SecAgg+. numpy {np.__version__}, Python {platform.python_version()},"
        f" {platform.machine()}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )


if __name__ == "__main__":
    main()
