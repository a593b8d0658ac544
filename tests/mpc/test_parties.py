"""Computing parties and owners as processes on a chain that others keep; a party is killed in the middle."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from subprocess import STDOUT, Popen

import numpy as np
import pytest
from safetensors.numpy import load_file
from script import FEDERATION, PROGRAM
from tests import anvil
from tests.e2e.place import Place

from hansa.protocol import mpc
from hansa.records import Phase, RecordKind

pytestmark = pytest.mark.slow

OWNERS, PARTIES = (0, 1, 2), (3, 4, 5)
SCRIPT = """
import numpy as np
from hansa.mpc import Dense, Logistic, Network, Sgd, Training

training = Training(
    Network([Dense(1)], inputs=(4,)), loss=Logistic(), optimizer=Sgd(0.5, 0.9), epochs=20, batch=16, seed=0
)


@training.rows
def rows(site):
    own = np.load(site.path)
    return [f"{site.index}-{i}" for i in range(60)], own["x"], own["y"] > 0
"""


@pytest.fixture
def place(tmp_path: Path):
    def agreed(addresses: list[str]) -> str:
        text = FEDERATION.format(seats=[addresses[i] for i in PARTIES]).replace("small", "ward")
        return text[: text.index("[simulation]")]

    with anvil.anvil(*anvil.ZERO_FEE) as url:
        made = Place(tmp_path, url, len(OWNERS + PARTIES), agreed)
        (tmp_path / "app" / "training.py").write_text(SCRIPT)
        (tmp_path / "app" / "app.py").unlink()
        yield made


def party(place: Place, federation: str, id: int) -> Popen[str]:
    home, app = place.folder / f"home{id}", place.folder / "app"
    words = place.words("party", federation, key=id, home=home, app=app, look=0.2)
    log = (place.folder / f"log{id}").open("a")
    return Popen([*PROGRAM, *words], stdout=log, stderr=STDOUT, text=True)


def test_owners_share_parties_train_and_owners_alone_get_the_model(place: Place) -> None:
    app = place.folder / "app"
    federation = place.say("deploy", app)
    place.say("invite", federation, *place.addresses)
    wrong = place.run("join", federation, "--yes", key=3, app=app)
    assert wrong.returncode == 2
    assert "--role party" in wrong.stderr
    for i in OWNERS:
        place.say("join", federation, "--yes", key=i, app=app)
    for i in PARTIES:
        place.say("join", federation, "--yes", key=i, app=app, role="party")
    early = place.run("start", federation)
    assert early.returncode == 3
    assert "have recorded no certificate" in early.stderr
    nodes = {i: party(place, federation, i) for i in PARTIES}
    owners = {i: place.trains(federation, i) for i in OWNERS}
    try:
        place.until(
            federation,
            lambda state, _: all(mpc.certificate(state, i) for i in PARTIES),
            (*nodes.values(), *owners.values()),
        )
        place.say("start", federation)
        log = place.folder / "log4"
        while "epoch 4 of 20" not in log.read_text():
            assert all(n.poll() is None for n in (*nodes.values(), *owners.values())), log.read_text()
            time.sleep(0.1)
        # With its session's process, as a machine that loses power.
        nodes[4].send_signal(signal.SIGKILL)
        nodes[4].wait()
        nodes[4] = party(place, federation, 4)
        place.until(federation, lambda state, _: state.phase is Phase.STOPPED, owners.values())
        for node in (*owners.values(), *nodes.values()):
            node.wait(60)
    finally:
        for node in (*owners.values(), *nodes.values()):
            node.kill()
    state, _ = place.look(federation)
    assert state.version == 1
    assert mpc.recorded(state, RecordKind.OUTPUT).keys() == set(PARTIES)
    assert "epoch 20 of 20" in (place.folder / "log5").read_text()
    out = place.folder / "ward.safetensors"
    assert state.model.hex() in place.ok("export", federation, out, key=0)
    weight = load_file(out)["dense1.weight"]
    assert weight.shape == (4, 1)
    x, y = (np.concatenate([np.load(place.folder / f"m{i}.npz")[k] for i in OWNERS]) for k in "xy")
    right = ((x @ weight + load_file(out)["dense1.bias"])[:, 0] > 0) == (y > 0)
    assert right.mean() > 0.8
    refused = place.run("export", federation, place.folder / "other.safetensors", key=3)
    assert refused.returncode == 2
    said = place.run("audit", federation, key=0, app=app, json=True)
    assert said.returncode in (0, 3), said.stdout + said.stderr
    assert not json.loads(said.stdout)["findings"]
    found = {c["name"]: c["verdict"] for c in json.loads(said.stdout)["checks"]}
    assert found["models put together"] == "verified"
