"""A host whose enclave ends: its node says so, and has another one attested."""

from __future__ import annotations

from dataclasses import replace

from tests.enclaved import close, enclaved, until_final

from hansa.node.enclosure import Enclosure, command
from hansa.protocol import attested
from hansa.records import Limits


def test_an_enclave_that_is_killed_is_told_of_and_replaced() -> None:
    started: list[Enclosure] = []

    def start() -> Enclosure:
        started.append(Enclosure(command("simulated"), limit=Limits().blob))
        return started[-1]

    made = enclaved(worlds={0: lambda world: replace(world, enclosure=start)}, rounds=4)
    try:
        (first,) = started
        before = attested.candidates(made.terms, made.state)[0]
        first._process.kill()
        first._process.wait()
        until_final(made, 2)
        (said,) = [text for text in made.nodes[0].findings if "the own enclave has ended" in text]
        assert "(exit code -9), and its keys with it" in said
        assert len(started) == 2
        assert attested.candidates(made.terms, made.state)[0] != before
    finally:
        close(made)
