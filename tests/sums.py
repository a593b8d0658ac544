"""A federation under `secagg` of real nodes on the specification as ledger, with test primes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests import enclaved, tiny, trapdoors
from tests.tiny import Tiny

from hansa import encoding
from hansa.crypto import double_trapdoor as dt
from hansa.enclave.providers import simulated_measurement
from hansa.founding import Party
from hansa.ledger.specified import Specified
from hansa.node.world import World
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.terms import parameters
from hansa.records import (
    Accept,
    AggregationTerms,
    Governance,
    GovernanceTerms,
    Phase,
    Role,
    SecAgg,
    SelectionTerms,
    Tee,
    Terms,
    Training,
)
from hansa.stores import objects

BITS = 512
"""Far too small to keep a secret, and four times as fast: what is tested with it is the protocol. Whole runs
(`tests/e2e/test_secagg_run.py`), processes and vectors take 2048.
"""


@pytest.fixture(autouse=True, scope="module")
def published_primes() -> Iterator[None]:
    """Set-ups take primes that stand in the tests: drawing them takes seconds. For import by test modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dt, "set_up", set_up)
        yield


def set_up(bits: int, entropy: Any, mode: dt.Mode = "short") -> dt.SetUp:
    """`double_trapdoor.set_up` with published primes."""
    return dt.split(*trapdoors.TEST_PRIMES[bits], entropy, mode)


def terms(
    parties: list[Party], *, rounds: int = 3, least: int = 3, secagg: Any = None, **changes: Any
) -> Terms:
    """Terms of such a federation; `secagg`: fields of its table."""
    named = {r: tuple("0x" + p.address.hex() for p in parties if p.role is r) for r in Role}
    given: dict[str, Any] = {
        "scheme": "secagg",
        "governance": Governance.SERVER,
        "training": Training(rounds=rounds, min_members=least, deadline=100),
        "selection": SelectionTerms(rule="none"),
        "aggregation": AggregationTerms(weight_cap=1),
        "govern": GovernanceTerms(seats=named[Role.SERVER], invitation="vote"),
        "secagg": SecAgg(**{"modulus": BITS, "key_centres": named[Role.KEY_CENTRE]} | (secagg or {})),
    }
    return tiny.terms(parties, **given | changes)


def summed(
    members: int = 5,
    *,
    servers: int = 1,
    centres: int = 1,
    silent: frozenset[int] = frozenset(),
    idle: frozenset[int] = frozenset(),
    trainers: Mapping[int, Any] | None = None,
    worlds: Mapping[int, Callable[[World], World]] | None = None,
    newcomers: int = 0,
    **changes: Any,
) -> Tiny:
    """A federation in COMMIT of round 1, every key certified.

    Ids: members, then servers, then key centres, then newcomers, who are invited and have not joined yet. `silent`
    ones have no node, `idle` ones train nothing. With `tee` in `changes` servers run enclaves, see `inner`.
    """
    roles = [Role.MEMBER] * members + [Role.SERVER] * servers + [Role.KEY_CENTRE] * centres
    roles += [Role.MEMBER] * newcomers
    parties = [replace(tiny.party(0, f"m{i}"), role=role) for i, role in enumerate(roles)]
    agreed = terms(parties, **changes)
    domain = encoding.domain_separator(1, bytes(20), encoding.digest(encoding.encode(agreed)))
    seats = [p.address for p in parties if p.role is Role.SERVER]
    state = rules.found(parameters(agreed), seats, parties[0].address, domain, agreed.initial)
    made = Tiny(agreed, parties, Specified(state), store=objects.create("memory:///"))
    present = parties[: len(parties) - newcomers]
    made.ledger().submit(*(msg.Invite(p.address) for p in parties))
    made.ledger().submit(*(tiny.join(made, p) for p in present))
    for id in range(len(present)):
        if id not in silent:
            alter, trainer = (worlds or {}).get(id), (trainers or {}).get(id)
            start = enclaved.host if agreed.tee is not None else tiny.node
            made.nodes.append(start(made, id, trainer=trainer, alter=alter, trains=id not in idle))
    while any([node.step() for node in made.nodes]):
        made.now += 1
    made.ledger().submit(msg.Start())
    made.now += 1
    return made


def until_final(made: Tiny, version: int, passes: int = 400) -> None:
    """Go on until so many rounds are final."""
    for _ in range(passes):
        if made.state.version >= version or made.state.phase is Phase.STOPPED:
            return
        assert made.advance()
    raise AssertionError(f"still {made.state.version} final rounds, in {made.state.phase.name}")


def inner(members: int = 5, **changes: Any) -> Tiny:
    """The same where the servers' enclaves open the sums; `enclaved.close` ends them."""
    accept = Accept(root="simulation", enclaves=(simulated_measurement().mrenclave.hex(),))
    return summed(members, scheme="tee", tee=Tee(accept=accept, inner="secagg"), **changes)
