"""Sessions of real child processes over loopback: they train, and parties that die or hang cost nothing but time."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.mpc import tiny

from hansa import errors
from hansa.mpc import session
from hansa.mpc.dealing import reconstruct
from hansa.mpc.loopback import at_once, parties_on_loopback
from hansa.mpc.meeting import GivenUp
from hansa.mpc.program import Open, Program
from hansa.mpc.runtime import Runtime
from hansa.mpc.session import Party, Progress, Report, Trained, train
from hansa.mpc.setting import Setting
from hansa.mpc.traffic import by_layer

pytestmark = pytest.mark.slow

TIMEOUT = 20.0
"""Of silence, where none is expected: a busy machine must not look like a dead one."""

SHORT = 6.0
"""Where silence is what is waited for."""


@pytest.fixture(scope="module")
def regression() -> Program:
    return tiny.regression()


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[list[Party]]:
    with parties_on_loopback(tmp_path, tiny.JOB, Setting(), timeout=TIMEOUT, patience=60, every=3) as found:
        yield found


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The process of each party's newest child, by rank."""
    found: dict[int, int] = {}

    class Watched(Runtime):
        def __init__(self, job: bytes, where: Setting, rank: int, timeout: float) -> None:
            super().__init__(job, where, rank, timeout)
            found[rank] = self.pid

    monkeypatch.setattr(session, "Runtime", Watched)
    return found


def trained(
    parties: list[Party],
    program: Program,
    told: Callable[[Party, Progress], None] = lambda *_: None,
    notices: list[str] | None = None,
) -> list[Any]:
    shares = tiny.dealt(parties[0].setting)
    notice = (lambda _: None) if notices is None else notices.append
    return at_once(
        parties, lambda p: train(p, program, tiny.start(p, shares), Report(lambda x: told(p, x), notice))
    )


def check(results: list[Any], *, bias: bool = False, epochs: int = tiny.EPOCHS) -> None:
    """All came to the same end, the one of training in the clear; every row was counted once, exactly."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    w, b, seen = tiny.expected(bias=bias, epochs=epochs)
    np.testing.assert_allclose(reconstruct([r.outputs["w"] for r in results]), w, atol=2e-3)
    assert reconstruct([r.outputs["seen"] for r in results]) == seen
    if bias:
        np.testing.assert_allclose(reconstruct([r.outputs["bias"] for r in results]), b, atol=2e-3)


@pytest.mark.parametrize(
    "where", [Setting(), Setting("ABY3", "FM128"), Setting("CHEETAH"), Setting("SEMI2K_FOR_TESTS")]
)
def test_open_compute_and_share_train_as_in_the_clear(tmp_path: Path, where: Setting) -> None:
    progress: list[Progress] = []
    program = tiny.halved()
    with parties_on_loopback(tmp_path, tiny.JOB, where, timeout=TIMEOUT) as parties:
        results = trained(parties, program, lambda p, x: p.rank == 1 and progress.append(x))
    check(results, bias=True)
    assert [(x.epoch, x.done) for x in progress] == [(i // tiny.STEPS, i + 1) for i in range(8)]
    assert all(x.cost.sent > 0 and x.cost.sends > 0 and x.cost.seconds > 0 for x in progress)
    costs = by_layer(results[0].costs, program.layers)
    assert costs["linear"].times == 16
    assert costs["linear"].sent > 0
    assert costs["top"].sent > 0  # its components of what party 1 is shown


def test_training_ends_early_at_every_party_when_the_program_says_so(parties: list[Party]) -> None:
    program = tiny.regression(over=1e3, epochs=5)
    results = trained(parties, program)
    assert [r.steps for r in results] == [tiny.STEPS] * 3
    check(results, epochs=1)
    # Who asks again gets the same, from its checkpoint, and needs nobody.
    shares = tiny.dealt(parties[0].setting)
    for party, result in zip(parties, results, strict=True):
        assert train(party, program, tiny.start(party, shares)) == result
    # Whose process ended before it heard that all are done waits for them, but not in vain.
    (marker,) = parties[1].home.rglob("everybody-done")
    marker.unlink()
    hasty = replace(parties[1], timeout=0.5, patience=1)
    assert train(hasty, program, tiny.start(hasty, shares)) == results[1]


def test_children_killed_and_stopped_in_the_middle_cost_only_time(
    parties: list[Party], regression: Program, children: dict[int, int]
) -> None:
    wounds = [(4, 2, signal.SIGKILL), (7, 1, signal.SIGSTOP)]
    notices: list[str] = []

    def told(party: Party, progress: Progress) -> None:
        if party.rank == 0 and wounds and progress.done == wounds[0][0]:
            _, victim, how = wounds.pop(0)
            os.kill(children[victim], how)

    results = trained([replace(p, timeout=SHORT) for p in parties], regression, told, notices)
    check(results)
    assert results[0].attempts >= 3
    # Everybody is told of each by the one who knows.
    assert sum("the session process of party 2 died (exit code -9)" in n for n in notices) >= 3
    assert sum("the session process of party 1 said nothing for" in n for n in notices) >= 3


def _party_process(party: Party, program: Program, shares: list[Any], said: Any) -> None:
    """A party that is a process of its own."""
    result = train(party, program, tiny.start(party, shares), Report(said.send))
    said.send(result)


def test_a_party_killed_whole_and_one_frozen_come_back(parties: list[Party], regression: Program) -> None:
    """Supervisors, not only their children: the host is killed and started again, then party 2 is frozen."""
    context = multiprocessing.get_context("spawn")
    parties = [replace(p, timeout=SHORT) for p in parties]
    shares = tiny.dealt(Setting())
    noticed: queue.SimpleQueue[str] = queue.SimpleQueue()

    def begun(rank: int) -> Any:
        ear, mouth = context.Pipe(duplex=False)
        process = context.Process(target=_party_process, args=(parties[rank], regression, shares, mouth))
        process.start()
        mouth.close()
        return process, ear

    def until(ear: Any, what: Callable[[Any], bool]) -> Any:
        while not what(found := ear.recv()):
            pass
        return found

    def ended(process: Any, ear: Any) -> Trained:
        result = until(ear, lambda x: isinstance(x, Trained))
        process.join()
        return result

    def host() -> Trained:
        process, ear = begun(0)
        until(ear, lambda x: x.done == 4)
        process.kill()
        process.join()
        return ended(*begun(0))

    def frozen() -> Trained:
        process, ear = begun(2)
        until(ear, lambda x: x.attempt > 1 and x.done > 3)  # the host is back
        os.kill(process.pid, signal.SIGSTOP)
        while "party 2 is lost: it said nothing" not in noticed.get():
            pass
        os.kill(process.pid, signal.SIGCONT)
        return ended(process, ear)

    def looks_on() -> Trained:
        return train(parties[1], regression, tiny.start(parties[1], shares), Report(notice=noticed.put))

    check(at_once(parties, lambda p: (host, looks_on, frozen)[p.rank]()))


def test_nobody_gets_into_a_link_that_stands(parties: list[Party], regression: Program) -> None:
    """SPU's server takes plain connections too: when training begins its port takes none, even from a peer."""
    answers: list[str] = []

    def told(party: Party, progress: Progress) -> None:
        if party.rank == 0 and progress.done == 1:
            for place in party.places:
                with socket.socket() as caller:
                    caller.settimeout(0.1)
                    try:
                        caller.connect((place.host, place.link))
                        answers.append("connected")
                    except TimeoutError:
                        answers.append("dropped")

    check(trained(parties, regression, told))
    assert answers == ["dropped"] * 3


def test_an_opened_value_that_a_party_alters_is_not_used(
    parties: list[Party], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third party shows a digest of what the second sends: here party 2 holds something else."""
    program = tiny.halved()
    program = replace(
        program, step=tuple(op for op in program.step if not isinstance(op, Open) or op.to == 1)
    )
    put = Runtime.put

    async def altered(self: Runtime, share: Any) -> None:
        if share.rank == 2 and share.variable.name == "y":
            share = replace(share, content=bytes(len(share.content)))
        await put(self, share)

    monkeypatch.setattr(Runtime, "put", altered)
    results = trained(parties, program)
    assert all(isinstance(e, errors.Untrusted) for e in results)
    assert all("parties 0 and 2 hold different bytes of batch_y" in str(e) for e in results)


def test_values_that_would_be_garbled_end_it_for_all(parties: list[Party]) -> None:
    program = tiny.halved()
    shares = tiny.dealt(Setting())

    def exploding(out: Any, y: Any, bias: Any) -> tuple[Any, Any]:
        return np.full(out.shape, 1e9, np.float32), bias

    results = at_once(
        parties, lambda p: train(p, program, replace(tiny.start(p, shares), functions={"top": exploding}))
    )
    assert isinstance(results[1], errors.Misconfigured)
    assert all(isinstance(e, GivenUp) for e in (results[0], results[2]))
    assert all("gradient holds a value as large as 1e+09" in str(e) for e in results)


def test_a_link_to_the_wrong_place_is_not_used(parties: list[Party], regression: Program) -> None:
    """Somebody led party 0 to party 2's address in place of party 1's, and the other way round."""
    places = list(parties[0].places)
    places[1], places[2] = replace(places[1], link=places[2].link), replace(places[2], link=places[1].link)
    results = trained([replace(parties[0], places=tuple(places)), *parties[1:]], regression)
    assert all(isinstance(e, errors.Untrusted) for e in results)
    assert "presents the certificate of party" in str(results[0])


def test_what_cannot_begin_is_refused_before_anything_starts(
    parties: list[Party], regression: Program, tmp_path: Path
) -> None:
    shares = tiny.dealt(Setting())
    begin = tiny.start(parties[0], shares)
    with pytest.raises(errors.Misconfigured, match="nothing to begin with: y"):
        train(parties[0], regression, replace(begin, shares={"x": shares[0]["x"]}))
    with pytest.raises(errors.Misconfigured, match="recorded for party 0 is not the one in its home"):
        train(replace(parties[0], own=parties[1].own), regression, begin)
    with pytest.raises(errors.Misconfigured, match="CHEETAH needs 2 parties, 3 are named"):
        train(replace(parties[0], setting=Setting("CHEETAH")), regression, begin)
