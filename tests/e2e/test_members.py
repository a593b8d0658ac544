"""Members in processes of their own, by the commands alone: an owner, five members, a chain and a folder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest
from place import APP, PROGRAM, Place, terms
from safetensors.numpy import load_file
from tests import anvil

pytestmark = pytest.mark.slow

MEMBERS = 5


def agreed(_addresses: list[str]) -> str:
    return terms("peers", rounds=6, training="min_members = 4", selection="assume_malicious = 0.2")


def own_file(place: Place, federation: str, id: int) -> Path:
    """The member.toml of one that reaches the chain by two addresses."""
    other = place.rpc.replace("127.0.0.1", "localhost")
    lines = [f'federation = "{federation}"', f'rpc = ["{place.rpc}", "{other}"]', 'password_file = "password"',
             f'key = "m{id}.key"', f'data = "m{id}.npz"', f'home = "home{id}"', 'app = "app"', "look = 0.1",
             "health = 0", "json_logs = true", 'store = "store"']  # fmt: skip
    (place.folder / "member.toml").write_text("\n".join(lines))
    return place.folder / "member.toml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        yield Place(tmp_path_factory.mktemp("members"), url, MEMBERS, agreed)


@pytest.fixture(scope="module")
def federation(place: Place) -> str:
    address = place.ok("deploy", place.folder / "app")
    assert re.fullmatch(r"eip155:31337:0x[0-9a-f]{40}", address)
    return address


def test_five_members_train_one_model(place: Place, federation: str) -> None:
    refused = place.run("join", federation, "--yes", key=1, app=place.folder / "app")
    assert refused.returncode == 1
    assert "not invited" in refused.stderr.lower()
    assert place.ok("invite", federation, *place.addresses) == "5 invited"
    assert place.ok("invite", federation, *place.addresses) == "0 invited, 5 were before"
    for i in range(MEMBERS):
        assert place.ok("join", federation, "--yes", key=i, app=place.folder / "app") == f"member {i} of ward"
    assert place.ok("start", federation) == "round 1 has begun with 5 members"

    watch = subprocess.Popen(
        [*PROGRAM, *place.words("status", federation, "--watch", key=None, look=0.1)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    nodes = [place.trains(federation, i) for i in range(MEMBERS - 1)]
    words = [*PROGRAM, "node", "--config", str(own_file(place, federation, MEMBERS - 1))]
    by_file = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    nodes.append(by_file)
    lines: list[dict[str, Any]] = []
    assert by_file.stderr is not None
    reader = Thread(target=lambda: lines.extend(map(json.loads, by_file.stderr or ())))
    reader.start()
    try:
        # One is stopped in the middle and started again; while it runs, a second one is refused.
        while not (place.folder / "home2" / "journal.sqlite").exists():
            assert nodes[2].poll() is None
            time.sleep(0.1)
        second = place.run("node", federation, key=2, app=place.folder / "app", data=place.folder / "m2.npz",
                           home=place.folder / "home2")  # fmt: skip
        assert second.returncode == 2
        assert "another node is at work" in second.stderr
        second = place.run("node", federation, key=2, app=place.folder / "app", data=place.folder / "m2.npz",
                           home=place.folder / "elsewhere")  # fmt: skip
        assert second.returncode == 2
        assert "at work on this machine, with another home" in " ".join(second.stderr.split())
        while not (said := [line["text"] for line in lines if line["event"] == "health"]):
            assert by_file.poll() is None
            time.sleep(0.1)
        matched = re.search(r"http://127\.0\.0\.1:\d+", said[0])
        assert matched is not None
        with urlopen(f"{matched[0]}/healthz") as answer:
            assert json.load(answer)["member"] == MEMBERS - 1
        with urlopen(f"{matched[0]}/metrics") as answer:
            assert b"hansa_well 1.0" in answer.read()
        nodes[2].send_signal(signal.SIGTERM)
        assert nodes[2].communicate(timeout=60)[0].splitlines()[-1] == "stopped; start it again to go on"
        assert nodes[2].returncode == 0
        nodes[2] = place.trains(federation, 2)
        ends = [node.communicate(timeout=240)[0] for node in nodes[:-1]]
        by_file.wait(240)
        reader.join()
        assert by_file.stdout is not None
        ends.append(by_file.stdout.read())
        watched = watch.communicate(timeout=60)[0].splitlines()
    finally:
        for node in [*nodes, watch]:
            node.kill()
    assert watch.returncode == 0, watched
    assert "round 1, COMMIT, no leader yet, waiting: commit of " in watched[0]
    assert watched[-1].endswith("all 6 rounds are final")
    assert {line["phase"] for line in lines if line["event"] == "phase"} >= {"COMMIT", "VERIFY", "STOPPED"}
    assert {line["member"] for line in lines if line["event"] == "phase"} == {MEMBERS - 1}
    last = {out.splitlines()[-1] for out in ends}
    assert len(last) == 1, ends
    assert re.fullmatch(r"all done: 6 rounds are final, model sha256 [0-9a-f]{64}", last.pop())


def test_a_member_exports_and_audits_it(place: Place, federation: str, tmp_path: Path) -> None:
    said = json.loads(place.ok("status", federation, "--json", key=None))
    assert (said["phase"], said["rounds"], len(said["members"])) == ("STOPPED", 6, MEMBERS)
    out = place.ok("export", federation, tmp_path / "ward.safetensors", key=3)
    assert said["model_digest"] in out
    assert {k: v.shape for k, v in load_file(tmp_path / "ward.safetensors").items()} == {
        "weight": (3, 4),
        "bias": (3,),
    }
    app, anchors = place.folder / "app", tmp_path / "anchors.toml"
    report = json.loads(place.ok("audit", federation, "--json", key=3, app=app, anchors=anchors))
    assert (report["exit_code"], report["findings"], report["anchored"]) == (0, [], False)
    assert {check["verdict"] for check in report["checks"]} == {"verified"}
    shown = place.ok("audit", federation, key=3, app=app, trust=anchors)
    assert "Every check holds." in shown
    assert "Not checked" not in shown
    less = place.run("audit", federation, key=None)
    assert less.returncode == 3
    assert "not checked: keys, initial model" in less.stdout
    (tmp_path / "app.py").write_text(APP + "\n# and something else\n")
    other = place.run("audit", federation, key=3, app=tmp_path)
    assert other.returncode == 2, other.stdout


def test_what_is_not_the_federation_is_refused(place: Place, federation: str) -> None:
    chain, contract = federation.rsplit(":", 1)
    cases = {
        "ward": "is no federation",
        f"eip155:1:{contract}": "serves chain 31337, not 1",
        f"{chain}:0x{'11' * 20}": "there is no contract at",
    }
    for name, reason in cases.items():
        done = place.run("start", name)
        assert done.returncode == 2, done.stderr
        assert reason in " ".join(done.stderr.split()), done.stderr
    done = place.run("start", federation, store=place.folder / "elsewhere")
    assert done.returncode == 3
    assert "check --store" in " ".join(done.stderr.split())


def test_an_app_that_is_not_that_of_the_terms_is_refused(
    place: Place, federation: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP + "\n# and something else\n")
    done = place.run("join", federation, key=1, app=tmp_path)
    assert done.returncode == 2
    assert "is not the app of the terms" in " ".join(done.stderr.split())


def test_a_record_that_somebody_changed_is_found_out(place: Place, federation: str) -> None:
    """The store's operator puts other terms there: the transaction that made the contract says otherwise."""
    (path,) = (place.folder / "store" / "federations").iterdir()
    good = path.read_bytes()
    try:
        path.write_bytes(good.replace(b"ward", b"wart"))
        done = place.run("start", federation)
        assert done.returncode == 1
        assert "not made from this version's code with the terms" in " ".join(done.stderr.split())
        path.write_bytes(good[:-1])
        assert place.run("start", federation).returncode == 1
    finally:
        path.write_bytes(good)
