"""Scheme tee over masked uploads with every party a process: the servers' enclaves open sums, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from place import Place, terms
from safetensors.numpy import load_file
from tests import anvil

from hansa.attestation import NO_PROTECTION
from hansa.protocol import attested, secagg
from hansa.records import Phase, RecordKind

pytestmark = pytest.mark.slow

MEMBERS, SERVERS, CENTRE = (0, 1, 2, 3), (4, 5), 6
TABLES = """
[aggregation]
rule = "clipped-mean"
clip_norm = 4.0
weight_cap = 1

[governance]
invitation = "vote"
seats = [{servers}]

[tee]
inner = "secagg"
accept = {{ root = "simulation" }}

[secagg]
modulus = 2048
tolerance = 1.0
key_centres = ["{centre}"]
"""


def agreed(addresses: list[str]) -> str:
    tables = TABLES.format(servers=", ".join(f'"{addresses[i]}"' for i in SERVERS), centre=addresses[CENTRE])
    training = 'min_members = 3\ndeadline = "20s"'
    text = terms("server", rounds=2, training=training, selection='rule = "none"', more=tables)
    return text.replace('scheme = "plaintext"', 'scheme = "tee"')


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        yield Place(tmp_path, url, len(MEMBERS + SERVERS) + 1, agreed)


def test_a_standby_server_s_enclave_opens_the_sums_when_the_first_is_gone(place: Place) -> None:
    federation = place.say("deploy", place.folder / "app")
    place.say("invite", federation, *place.addresses)
    for i in MEMBERS:
        place.say("join", federation, "--yes", key=i, app=place.folder / "app")
    for i in SERVERS:
        place.say("join", federation, "--yes", key=i, role="server")
    place.say("join", federation, "--yes", key=CENTRE, role="key-centre")

    nodes = {CENTRE: place.holder("kgc", federation, CENTRE)}
    nodes |= {i: place.holder("server", federation, i) for i in SERVERS}
    nodes |= {i: place.trains(federation, i) for i in MEMBERS}
    parties = secagg.Parties((CENTRE,), SERVERS)
    try:
        place.until(
            federation,
            lambda state, _: (
                len(attested.vouched(state)) == len(SERVERS)
                and all(secagg.certified(state, parties, i) for i in MEMBERS)
            ),
            nodes.values(),
        )
        place.say("start", federation)
        place.until(federation, lambda state, _: state.version == 1, nodes.values())
        nodes.pop(SERVERS[0]).kill()
        place.until(federation, lambda state, _: state.phase is Phase.STOPPED, nodes.values())
        ends = {i: node.communicate(timeout=60)[0] for i, node in nodes.items()}
    finally:
        for node in nodes.values():
            node.kill()
    state, _ = place.look(federation)
    assert state.version == 2, ends
    gave = {i: [r for r, _ in state.recorded.get((RecordKind.DELIVERY, i), ())] for i in SERVERS}
    assert gave[SERVERS[0]] == [1]
    assert state.model_round in gave[SERVERS[1]]
    assert NO_PROTECTION in ends[SERVERS[1]]
    out = place.folder / "ward.safetensors"
    assert state.model.hex() in place.ok("export", federation, out, key=2)
    assert load_file(out)["weight"].shape == (3, 4)
    audited = place.run("audit", federation, key=2, app=place.folder / "app", json=True)
    assert json.loads(audited.stdout)["findings"] == []
    assert audited.returncode == 0
