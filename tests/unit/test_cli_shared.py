"""`status` and `export` of a federation on a chain that others keep, and what they say when it cannot be had."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file
from tests.shared import START, Shared, served

from hansa import errors, motions, wiring
from hansa.cli import status
from hansa.cli.connection import Reached
from hansa.cli.following import Following
from hansa.cli.reading import Reading
from hansa.cli.standing import describe, line, page
from hansa.ledger.embedded import Chain
from hansa.protocol import checkpoint as ckpt
from hansa.protocol import messages as msg
from hansa.protocol.model import to_arrays
from hansa.records import Limits, Motion


@pytest.fixture(scope="module")
def url(shared: Shared) -> Iterator[str]:
    with served(shared.rpc) as url:
        yield url


def following(shared: Shared, clock: int | None = None) -> Following:
    return Following(
        Reached(shared.federation, shared.rpc, wiring.store(str(shared.store))),
        clock=shared.clock if clock is None else lambda: clock,
    )


def shown(reading: Reading) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(page(reading))
    return captured.get()


# status


def test_status_needs_no_key(shared: Shared, url: str, hansa: Any) -> None:
    code, out, err = hansa("status", shared.name, "--rpc", url, "--store", shared.store, "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    state = following(shared).read().view.state
    assert said["federation"] == shared.name
    assert (said["run"], said["running"], said["accuracy"]) == (None, None, None)
    assert (said["phase"], said["rounds"], said["planned"], said["until"]) == ("STOPPED", 2, 2, None)
    assert said["model_digest"] == state.model.hex()
    assert [(m["address"], m["reputation"]) for m in said["members"]] == [
        ("0x" + key.signer.address.hex(), state.members[id].reputation) for id, key in enumerate(shared.keys)
    ]
    assert sum(m["left_out"] for m in said["members"]) == 2, "each round leaves one of four out"
    code, out, _ = hansa("status", shared.name, "--rpc", url, "--store", shared.store)
    assert code == 0
    assert "all 2 rounds are final" in out
    assert "ranked below the best 3" in " ".join(out.split())


def test_invited_addresses_are_listed_until_they_join(fresh: Shared) -> None:
    ledger, follow = fresh.ledger(fresh.owner), following(fresh)
    for key in fresh.keys:
        ledger.submit(msg.Invite(key.signer.address))
    addresses = sorted("0x" + key.signer.address.hex() for key in fresh.keys)
    before = follow.read()
    assert describe(before)["invited"] == addresses
    assert all(address in shown(before) for address in addresses)
    assert "for members to join" in shown(before)
    fresh.start()
    after = follow.read()
    assert describe(after)["invited"] == []
    assert [m["standing"] for m in describe(after)["members"]] == ["active"] * 4


def test_it_says_whom_it_waits_for_and_until_when(fresh: Shared) -> None:
    fresh.start()
    fresh.nodes[1:2] = []
    fresh.run(lambda state: len(state.current.commits) == 3)
    reading = following(fresh).read()
    said = describe(reading)
    assert said["waiting_for"] == {"commit": ["m1"]}
    assert said["until"] == reading.view.state.deadline
    assert said["now"] == said["block_time"] == fresh.clock()
    assert "waiting: commit of m1, until " in line(reading)
    assert "commit of m1" in shown(reading)
    late = following(fresh, reading.view.state.deadline + 65).read()
    assert describe(late)["now"] == reading.view.state.deadline + 65
    assert describe(late)["block_time"] == fresh.clock()
    assert "1:05 ago: anyone may close it" in shown(late)


def test_a_failed_round_is_told(fresh: Shared) -> None:
    fresh.start()
    fresh.nodes[1:] = []
    fresh.rpc.set_time(START + 10_000)
    while following(fresh).read().view.state.round == 1:
        state = following(fresh).read().view.state
        fresh.rpc.set_time(max(fresh.clock(), state.deadline))
        fresh.ledger(fresh.owner).submit(msg.Advance(state.round))
    said = describe(following(fresh).read())
    assert (said["failed_rounds"], said["failed_in_a_row"]) == (1, 1)
    assert "1 rounds in a row" in shown(following(fresh).read())


class Forked:
    """A chain that can be replaced by another one."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def request(self, method: str, params: Any = ()) -> Any:
        return self.chain.request(method, params)

    def batch(self, calls: Any) -> list[Any]:
        return self.chain.batch(calls)


def test_after_a_reorganisation_nothing_is_left_of_what_is_gone(fresh: Shared) -> None:
    fresh.start()
    assert isinstance(fresh.rpc, Chain)
    copy = sqlite3.connect(":memory:", isolation_level=None)
    fresh.rpc._database.backup(copy)
    forked = Forked(fresh.rpc)
    follow = following(replace(fresh, rpc=forked))
    fresh.run(lambda state: len(state.current.commits) == 4)
    assert follow.read().story[-1].committed == {0, 1, 2, 3}
    forked.chain = Chain(copy, fresh.rpc.genesis)
    for _ in range(20):
        forked.chain.mine([], forked.chain.time + 1)
    after = follow.read()
    assert (after.view.block, after.view.block_hash) == (
        forked.chain.height,
        forked.chain.block(forked.chain.height).header.hash,
    )
    assert after.story[-1].committed == set()
    assert len(after.story) == 1


def test_open_motions_are_shown_until_they_are_carried(fresh: Shared) -> None:
    fresh.start()
    store, state = wiring.store(str(fresh.store)), fresh.ledger(fresh.owner).view().state
    what = motions.Proposed(Motion.PAUSE, bytes(20), bytes(32))
    for id in (0, 2):
        motions.sign(store, state, what, id, fresh.keys[id].signer)
    reading = following(fresh).read()
    (said,) = describe(reading)["motions"]
    assert (said["kind"], said["signed_by"], said["missing"]) == ("pause", [0, 2], 1)
    assert f"{said['motion']} pause: the running round is lost" in shown(reading)
    motions.sign(store, state, what, 3, fresh.keys[3].signer)
    (motion,) = motions.open_motions(store, state)
    fresh.ledger(fresh.owner).submit(motions.carried(motion))
    reading = following(fresh).read()
    assert describe(reading)["motions"] == []
    assert "PAUSED after 0 of 2 rounds: by a motion of its members" in line(reading)


def test_a_store_that_fails_hides_motions_only(fresh: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise errors.Unavailable("the store is away")

    monkeypatch.setattr("hansa.cli.following.open_motions", away)
    reading = following(fresh).read()
    assert describe(reading)["motions"] is None
    assert "does not answer" in shown(reading)


def test_watch_tells_changes_once_and_ends_with_the_federation(
    fresh: Shared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    fresh.start()
    follow = following(fresh)

    class Playing:
        looks = 0

        def read(self) -> Reading:
            self.looks += 1
            if self.looks == 3:
                raise errors.Unavailable("the node is away")
            if self.looks % 2 == 0:
                for node in fresh.nodes:
                    node.step()
            return follow.read()

    playing = Playing()
    status._watch(playing, 0.0, False)
    written = capsys.readouterr()
    lines = [text.split(maxsplit=1)[1] for text in written.out.splitlines()]
    assert lines[0].startswith("round 1, COMMIT, no leader yet, waiting: commit of m0 m1 m2 m3")
    assert lines[-1] == "all 2 rounds are final"
    assert all(one != two for one, two in pairwise(lines))
    assert len(lines) < playing.looks
    assert written.err == "the node is away\n"


def test_watch_prints_an_object_a_line(shared: Shared, url: str, hansa: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    code, out, _ = hansa("status", shared.name, "--rpc", url, "--store", shared.store, "--watch", "--json")
    assert code == 0
    (only,) = out.splitlines()
    assert json.loads(only)["phase"] == "STOPPED"


# export


def test_a_member_exports_the_model(shared: Shared, url: str, hansa: Any, tmp_path: Path) -> None:
    words = ("--rpc", url, "--store", shared.store, "--key", shared.key_file(1))
    file = tmp_path / "m.safetensors"
    code, out, err = hansa("export", shared.name, file, *words, "--password-file", shared.password())
    assert (code, err) == (0, "")
    state = shared.nodes[0].world.ledger.view().state
    assert state.model.hex() in out
    (array,) = load_file(file).values()
    node = shared.nodes[0]
    kept = node.world.kept.get(state.model, limit=1 << 20)
    terms = shared.federation.terms
    model = ckpt.decode(kept, terms.aggregation, terms.layout, Limits()).model
    np.testing.assert_array_equal(array, to_arrays(model)["w"])


def test_a_key_that_is_no_reader_is_told_who_is(shared: Shared, url: str, hansa: Any, tmp_path: Path) -> None:
    words = ("--rpc", url, "--store", shared.store, "--password-file", shared.password())
    file = tmp_path / "m.safetensors"
    code, _, err = hansa("export", shared.name, file, *words, "--key", shared.folder / "owner.key")
    assert code == 2
    assert f"0x{shared.owner.signer.address.hex()} cannot read the current model" in err
    assert f"m3 (0x{shared.keys[3].signer.address.hex()})" in err
    code, _, err = hansa("export", shared.name, file, *words)
    assert code == 2
    assert "no key is given" in err
    assert not file.exists()


def test_no_model_before_a_final_round(fresh: Shared) -> None:
    follow = following(fresh)
    with pytest.raises(errors.Misconfigured, match="has no final round yet"):
        follow.model(follow.read())


def test_a_model_that_the_chain_does_not_name_is_not_written(
    shared: Shared, url: str, hansa: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Following.read

    def other(self: Following) -> Reading:
        reading = honest(self)
        state = replace(reading.view.state, model=bytes(32))
        return replace(reading, view=replace(reading.view, state=state))

    monkeypatch.setattr(Following, "read", other)
    words = ("--rpc", url, "--store", shared.store, "--key", shared.key_file(1))
    file = tmp_path / "m.safetensors"
    code, _, err = hansa("export", shared.name, file, *words, "--password-file", shared.password())
    assert code == 1
    assert "not the one that the chain names" in err
    assert not file.exists()


# what cannot be had

READERS = [("status",), ("audit",), ("export", "m.safetensors")]


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("command", READERS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"name": "ward"}, 2, "'ward' is neither a run folder nor a federation"),
        ({"name": "eip155:1337:0x12"}, 2, "is no federation"),
        ({"rpc": None}, 2, "--rpc URL is needed"),
        ({"rpc": None, "store": None}, 2, "--rpc URL and --store URL is needed"),
        ({"chain": 1}, 2, "serves chain 1337, not 1"),
        ({"contract": "11" * 20}, 2, "there is no contract at"),
        ({"rpc": "closed"}, 3, "cannot reach the node"),
        ({"rpc": "ftp://x"}, 2, "is no URL of HTTP"),
        ({"store": "empty"}, 3, "check --store"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_said_in_one_paragraph(
    shared: Shared,
    url: str,
    hansa: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    change: dict[str, Any],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"name": shared.name, "rpc": url, "store": shared.store} | change
    if given["rpc"] == "closed":
        given["rpc"] = closed_port()
    if given["store"] == "empty":
        given["store"] = tmp_path / "store"
    _, chain, contract = given["name"].split(":") if change.keys() & {"chain", "contract"} else ("",) * 3
    if contract:
        contract = "0x" + change["contract"] if "contract" in change else contract
        given["name"] = f"eip155:{change.get('chain', chain)}:{contract}"
    flags = [w for name in ("rpc", "store") if given[name] for w in (f"--{name}", given[name])]
    found, out, err = hansa(command[0], given["name"], *command[1:], *flags)
    assert found == code, err
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2
