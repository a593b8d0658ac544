"""Scheme secagg with every party a process: key centres and servers die, standbys take over, contributors export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from place import Place, terms
from safetensors.numpy import load_file
from tests import anvil

from hansa.protocol import secagg
from hansa.records import Phase, RecordKind

pytestmark = pytest.mark.slow

MEMBERS, SERVERS, CENTRES = (0, 1, 2, 3), (4, 5), (6, 7)
TABLES = """
[aggregation]
rule = "clipped-mean"
clip_norm = 4.0
weight_cap = 1

[governance]
invitation = "vote"
seats = [{servers}]

[release]
min_share = 1.0

[secagg]
modulus = 2048
tolerance = 1.0
key_centres = [{centres}]
"""


def agreed(addresses: list[str]) -> str:
    named = {
        key: ", ".join(f'"{addresses[i]}"' for i in ids)
        for key, ids in (("servers", SERVERS), ("centres", CENTRES))
    }
    text = terms(
        "server", rounds=2, training='min_members = 3\ndeadline = "10s"', selection='rule = "none"',
        more=TABLES.format(**named),
    )  # fmt: skip
    return text.replace('scheme = "plaintext"', 'scheme = "secagg"')


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with anvil.anvil(*anvil.ZERO_FEE) as url:
        yield Place(tmp_path, url, len(MEMBERS + SERVERS + CENTRES), agreed)


def test_standbys_take_over_and_only_contributors_export(place: Place) -> None:
    federation = place.say("deploy", place.folder / "app")
    place.say("invite", federation, *place.addresses)
    for i in MEMBERS:
        place.say("join", federation, "--yes", key=i, app=place.folder / "app")
    place.say("join", federation, "--yes", key=SERVERS[0], role="server")
    early = place.run("start", federation)
    assert early.returncode == 3
    assert place.addresses[6] in early.stderr
    place.say("join", federation, "--yes", key=SERVERS[1], role="server")
    for i in CENTRES:
        place.say("join", federation, "--yes", key=i, role="key-centre")

    nodes = {i: place.holder("kgc", federation, i) for i in CENTRES}
    nodes |= {i: place.holder("server", federation, i) for i in SERVERS}
    nodes |= {i: place.trains(federation, i) for i in MEMBERS}
    try:
        place.until(
            federation,
            lambda state, _: all(
                secagg.certified(state, secagg.Parties(CENTRES, SERVERS), i) for i in MEMBERS
            ),
            nodes.values(),
        )
        place.say("away", federation, key=3)
        place.say("start", federation)
        place.until(federation, lambda state, _: state.version == 1, nodes.values())
        for i in (CENTRES[0], SERVERS[0]):
            nodes.pop(i).kill()
        place.until(federation, lambda state, _: state.phase is Phase.STOPPED, nodes.values())
        ends = {i: node.communicate(timeout=60)[0] for i, node in nodes.items()}
    finally:
        for node in nodes.values():
            node.kill()
    state, _ = place.look(federation)
    assert state.version == 2, ends
    halves = {i: [r for r, _ in state.recorded[RecordKind.OPENING, i]] for i in CENTRES + SERVERS}
    assert halves == {CENTRES[0]: [1], CENTRES[1]: [2], SERVERS[0]: [1], SERVERS[1]: [2]}
    out = place.folder / "ward.safetensors"
    assert state.model.hex() in place.ok("export", federation, out, key=0)
    assert load_file(out)["weight"].shape == (3, 4)
    refused = place.run("export", federation, place.folder / "other.safetensors", key=3)
    assert refused.returncode == 2
    assert "cannot read the current model: it is sealed to m0" in refused.stderr
