"""What supervisors and Prometheus see of a node, over HTTP on loopback."""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.test_serving import LONG, Place

from hansa import errors
from hansa.health import OLD, served
from hansa.records import Phase, Training


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        with connection.getresponse() as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def told(port: int) -> tuple[int, dict[str, Any]]:
    status, kind, body = ask(port, "/healthz")
    assert kind == "application/json"
    return status, json.loads(body)


def metrics(port: int) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    status, kind, body = ask(port, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    families = text_string_to_metric_families(body.decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def seen_in(place: Place, round: int, phase: Phase) -> bool:
    view = place.service.pulse.view
    return view is not None and (view.state.round, view.state.phase) == (round, phase)


def test_a_node_at_work_is_well_and_counts() -> None:
    place = Place()
    with served(place.service, lambda: 77, 0) as port:
        assert told(port)[0] == 200
        assert ("hansa_round",) not in metrics(port)
        place.run(lambda: seen_in(place, 2, Phase.BEACON))
        status, seen = told(port)
        assert status == 200
        assert (seen["well"], seen["reasons"], seen["member"], seen["paused"]) == (True, [], 1, False)
        assert (seen["round"], seen["phase"], seen["rounds_final"]) == (2, "BEACON", 1)
        found = metrics(port)
        assert found["hansa_round",] == 2
        assert found["hansa_phase",] == Phase.BEACON
        assert found["hansa_rounds_final",] == 1
        assert found["hansa_well",] == found["hansa_active",] == 1
        assert found["hansa_gas_total",] == 77
        assert found["hansa_messages_total",] == place.meter.messages > 0
        assert found["hansa_store_bytes_total", "up"] == place.meter.up > 0
        assert found["hansa_reputation",] == place.made.state.members[1].reputation
        assert found["hansa_errors_total", "chain"] == 0
        assert ("hansa_app_seconds_total", "train") in found


def test_every_metric_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "node.md").read_text()
    place = Place()
    place.run(lambda: seen_in(place, 1, Phase.BEACON))
    with served(place.service, lambda: 0, 0) as port:
        assert {name for name, *_ in metrics(port)} == set(
            re.findall(r"`(hansa_\w+)`", page.split("Worth an")[0])
        )


@pytest.mark.parametrize("part", ["chain", "store"])
def test_what_does_not_answer_for_long_makes_it_unwell(part: str) -> None:
    place = Place(training=LONG)
    with served(place.service, lambda: 0, 0) as port:
        place.run(lambda: bool(place.pauses))
        setattr(place.weather, part, "cannot be reached")
        begun = place.seconds
        place.run(lambda: place.seconds - begun > OLD / 2, others=False)
        assert told(port)[0] == 200
        place.run(lambda: place.seconds - begun > OLD + 1, others=False)
        status, seen = told(port)
        assert status == 503
        assert f"the {part} has not answered for" in seen["reasons"][0]
        assert "cannot be reached" in seen["reasons"][0]
        assert metrics(port)["hansa_well",] == 0
        assert metrics(port)["hansa_errors_total", part] > 3
        setattr(place.weather, part, "")
        place.run(lambda: not place.meter.failing)
        assert told(port)[0] == 200


def test_a_node_that_hangs_is_unwell_but_not_one_that_trains() -> None:
    place = Place(training=LONG)
    with served(place.service, lambda: 0, 0) as port:
        place.run(lambda: bool(place.pauses))
        place.seconds += OLD + 1
        with place.meter.working("train"):
            place.seconds += 3600
            status, seen = told(port)
            assert (status, seen["seconds_in_app"]) == (200, 3600)
        status, seen = told(port)
        assert status == 503
        assert "the last step ended" in " ".join(seen["reasons"])
        assert metrics(port)["hansa_app_seconds_total", "train"] >= 3600


def test_a_paused_federation_shows() -> None:
    place = Place(training=Training(rounds=3, min_members=4, deadline=100, max_failed_rounds=1))
    place.others.clear()
    place.run(lambda: place.made.state.phase is Phase.PAUSED and len(place.pauses) > 30)
    with served(place.service, lambda: 0, 0) as port:
        status, seen = told(port)
        assert (status, seen["paused"], seen["phase"]) == (200, True, "PAUSED")
        assert metrics(port)["hansa_failed_rounds_in_a_row",] == place.made.state.voids > 0


def test_other_paths_and_methods_and_a_port_that_is_taken() -> None:
    place = Place(training=LONG)
    with served(place.service, lambda: 0, 0) as port:
        assert ask(port, "/")[0] == 404
        assert ask(port, "/healthz", "POST")[0] == 501
        with (
            pytest.raises(errors.Misconfigured, match=f"cannot serve health on port {port}") as caught,
            served(place.service, lambda: 0, port),
        ):
            pass
        assert caught.value.hint
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/healthz")
