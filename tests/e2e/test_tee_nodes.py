"""Scheme tee with every member a process, and every enclave another: the leader's two are killed in mid-round."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from place import Place, terms
from safetensors.numpy import load_file
from tests import anvil
from tests.forked import Forked

from hansa.attestation import NO_PROTECTION
from hansa.cli.connection import reached
from hansa.ledger.evm import Fold
from hansa.protocol import attested
from hansa.protocol.events import Committed, Event
from hansa.protocol.state import State
from hansa.records import Phase

pytestmark = pytest.mark.slow

MEMBERS = (0, 1, 2, 3)
TABLES = """
[governance]
invitation = "vote"
seats = [{seats}]

[tee]
epoch = 2
accept = {{ root = "simulation" }}
"""


def agreed(addresses: list[str]) -> str:
    seats = ", ".join(f'"{address}"' for address in addresses)
    text = terms(
        "committee", rounds=6, training='min_members = 4\ndeadline = "12s"', selection='rule = "none"',
        more=TABLES.format(seats=seats),
    )  # fmt: skip
    return text.replace('scheme = "plaintext"', 'scheme = "tee"')


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        yield Place(tmp_path, url, len(MEMBERS), agreed)


def enclave_of(node: Forked) -> int:
    """The process of a node's enclave."""
    (child,) = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    return int(child)


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie that waits for its parent."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Watch:
    """The federation as anybody sees it, looked at again and again."""

    def __init__(self, fold: Fold) -> None:
        self.events: list[Event] = []
        self._fold = fold
        fold.observe(lambda event, _block: self.events.append(event))

    @property
    def state(self) -> State:
        return self._fold.view(lambda: 0).state

    def until(self, holds: Any, nodes: dict[int, Forked]) -> State:
        """The first state seen in which something holds. A node that ends badly meanwhile fails the test."""
        while not holds(state := self.state):
            for node in nodes.values():
                assert node.poll() in (None, 0), node.communicate()[0]
            time.sleep(0.02)
        return state


def leads_now(state: State) -> bool:
    """A leader is chosen, and has not proposed."""
    return state.phase is Phase.AGGREGATE and state.current.leader is not None and state.current.attempt == 0


def kill_a_leader(watch: Watch, nodes: dict[int, Forked]) -> tuple[int, State]:
    """Stop whoever leads before it has proposed, then kill its node and its enclave; its id, and the state."""
    for _ in range(5):
        state = watch.until(leads_now, nodes)
        leader = state.current.leader
        assert leader is not None
        nodes[leader].send_signal(signal.SIGSTOP)
        enclave = enclave_of(nodes[leader])
        os.kill(enclave, signal.SIGSTOP)
        state = watch.state
        if leads_now(state) and state.current.leader == leader:
            node = nodes.pop(leader)
            node.kill()
            os.kill(enclave, signal.SIGKILL)
            node.wait()
            return leader, state
        # It was faster: it goes on, and the next leader is tried.
        os.kill(enclave, signal.SIGCONT)
        nodes[leader].send_signal(signal.SIGCONT)
        round = state.round
        watch.until(lambda s, round=round: s.round > round, nodes)
    raise AssertionError("every leader proposed before it could be stopped")


def test_the_leader_and_its_enclave_are_killed_and_another_enclave_goes_on(place: Place) -> None:
    federation = place.say("deploy", place.folder / "app")
    place.say("invite", federation, *place.addresses)
    for i in MEMBERS:
        place.say("join", federation, "--yes", key=i, app=place.folder / "app")
    early = place.run("start", federation)
    assert early.returncode == 3
    assert "no enclave to which members could seal" in early.stderr
    assert "the attestation of m0, m1, m2, m3" in early.stderr

    nodes = {i: place.node(federation, i, data=place.folder / f"m{i}.npz", look=0.3) for i in MEMBERS}
    started = dict(nodes)
    try:
        with reached(federation, [place.rpc], str(place.folder / "store")) as it:
            watch = Watch(Fold(it.rpc, it.federation.deployment))
            agreed_on = it.federation.terms
            watch.until(lambda s: len(attested.vouched(s)) == len(MEMBERS), nodes)
            said = json.loads(place.ok("status", federation, key=None, json=True))
            assert said["protection"] == NO_PROTECTION
            assert all(
                row["remarks"] == [f"its enclave is attested ({NO_PROTECTION})"] for row in said["members"]
            )
            place.say("start", federation)
            watch.until(lambda s: s.version == 1, nodes)

            dead, killed_in = kill_a_leader(watch, nodes)
            round = killed_in.round
            sealed = {i: c.digest for i, c in killed_in.current.commits.items()}
            assert set(sealed) == set(MEMBERS)
            after = watch.until(lambda s: s.round > round, nodes)
            assert after.model_round == round, "the round is final"
            assert after.model_author in set(MEMBERS) - {dead}
            assert after.model_set == set(MEMBERS), "the update of the one that was killed counts too"
            sent = [e for e in watch.events if isinstance(e, Committed) and e.round == round]
            assert sorted(e.id for e in sent) == sorted(MEMBERS), "nobody sent again"

            old = attested.candidates(agreed_on, after).get(dead)
            nodes[dead] = started[dead + len(MEMBERS)] = place.node(
                federation, dead, data=place.folder / f"m{dead}.npz", look=0.3
            )
            back = watch.until(
                lambda s: attested.candidates(agreed_on, s).get(dead) not in (None, old), nodes
            )
            enclaves = {i: enclave_of(node) for i, node in nodes.items() if node.poll() is None}
            last = watch.until(lambda s: s.phase is Phase.STOPPED, nodes)
        ends = {i: node.communicate(timeout=60)[0] for i, node in nodes.items()}
    finally:
        for node in started.values():
            node.send_signal(signal.SIGCONT)
            node.kill()
    assert back.round > round
    assert last.version == 6, ends
    assert {i: node.returncode for i, node in nodes.items()} == dict.fromkeys(nodes, 0), ends
    assert all(NO_PROTECTION in text for text in ends.values())
    assert not any(runs(pid) for pid in enclaves.values()), "an enclave ends with its node"

    out = place.folder / "ward.safetensors"
    assert last.model.hex() in place.ok("export", federation, out, key=1)
    assert load_file(out)["weight"].shape == (3, 4)

    audited = place.run("audit", federation, key=2, app=place.folder / "app", json=True)
    found = json.loads(audited.stdout)
    assert audited.returncode == 0, found
    assert found["findings"] == []
    assert NO_PROTECTION in audited.stdout
