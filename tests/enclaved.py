"""A federation under `tee` of real nodes on the specification as ledger, each host's enclave in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests import tiny
from tests.enclaves import Threaded
from tests.tiny import Tiny

from hansa import encoding
from hansa.attestation.simulated import collected
from hansa.enclave.providers import simulated_measurement
from hansa.founding import Party
from hansa.ledger.specified import Specified
from hansa.node.daemon import Node
from hansa.node.enclosure import Enclosure, command
from hansa.node.world import World
from hansa.protocol import messages as msg
from hansa.protocol import rules
from hansa.protocol.terms import parameters
from hansa.records import (
    Accept,
    Governance,
    GovernanceTerms,
    Limits,
    Phase,
    SelectionTerms,
    Tee,
    Terms,
    Training,
)
from hansa.stores import objects


def terms(
    parties: list[Party], *, rounds: int = 3, least: int = 3, hosts: int = 3, tee: Any = None, **changes: Any
) -> Terms:
    """Terms of such a federation; the first `hosts` may lead, `tee`: fields of its table."""
    accept = Accept(root="simulation", enclaves=(simulated_measurement().mrenclave.hex(),))
    given: dict[str, Any] = {
        "scheme": "tee",
        "governance": Governance.COMMITTEE,
        "training": Training(rounds=rounds, min_members=least, deadline=100),
        "selection": SelectionTerms(rule="none"),
        "govern": GovernanceTerms(
            seats=tuple("0x" + p.address.hex() for p in parties[:hosts]), invitation="vote"
        ),
        "tee": Tee(**{"accept": accept} | (tee or {})),
    }
    return tiny.terms(parties, **given | changes)


def enclosure() -> Enclosure:
    """An enclave that runs the whole program in a thread."""
    return Threaded(command("simulated"), limit=Limits().blob, timeout=60)


def hosted(made: Tiny, world: World) -> World:
    """The world of a member that runs enclaves; the clock of their collateral is the chain's."""
    return replace(world, enclosure=enclosure, collateral=collected(made.clock))


def host(made: Tiny, id: int, alter: Callable[[World], World] | None = None, **more: Any) -> Node:
    """A node of member `id`, with what it takes to run an enclave if it has a seat."""
    seated = made.parties[id].address in made.state.seats

    def altered(world: World) -> World:
        world = hosted(made, world) if seated else world
        return alter(world) if alter else world

    return tiny.node(made, id, alter=altered, **more)


def enclaved(
    members: int = 5,
    *,
    silent: frozenset[int] = frozenset(),
    idle: frozenset[int] = frozenset(),
    trainers: Mapping[int, Any] | None = None,
    worlds: Mapping[int, Callable[[World], World]] | None = None,
    newcomers: int = 0,
    **changes: Any,
) -> Tiny:
    """A federation in COMMIT of round 1, the enclaves of the first `hosts` members attested; see `terms`.

    `silent` members have no node, `idle` ones train nothing; `newcomers` are invited and have not joined yet.
    `close` ends the enclaves.
    """
    parties = [tiny.party(0, f"m{i}") for i in range(members + newcomers)]
    agreed = terms(parties[:members], **changes)
    domain = encoding.domain_separator(1, bytes(20), encoding.digest(encoding.encode(agreed)))
    seats = [bytes.fromhex(text[2:]) for text in agreed.govern.seats]
    state = rules.found(parameters(agreed), seats, parties[0].address, domain, agreed.initial)
    made = Tiny(agreed, parties, Specified(state), store=objects.create("memory:///"))
    made.ledger().submit(*(msg.Invite(p.address) for p in parties))
    made.ledger().submit(*(tiny.join(made, p) for p in parties[:members]))
    for id in range(members):
        if id not in silent:
            alter, trainer = (worlds or {}).get(id), (trainers or {}).get(id)
            made.nodes.append(host(made, id, alter, trainer=trainer, trains=id not in idle))
    while any([node.step() for node in made.nodes]):
        made.now += 1
    made.ledger().submit(msg.Start())
    made.now += 1
    return made


def close(made: Tiny) -> None:
    """End all enclaves."""
    for node in made.nodes:
        node.close()


def until_final(made: Tiny, version: int, passes: int = 400) -> None:
    """Go on until so many rounds are final."""
    for _ in range(passes):
        if made.state.version >= version or made.state.phase is Phase.STOPPED:
            return
        assert made.advance()
    raise AssertionError(f"still {made.state.version} final rounds, in {made.state.phase.name}")
