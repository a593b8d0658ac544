"""A federation whose store is an S3 server: it stops for a while, blobs go in parts, old rounds are deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests import s3
from tests.tiny import node, tiny

from hansa.records import Phase, Training
from hansa.stores import parts

pytestmark = pytest.mark.slow


def test_a_job_over_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 256)
    server = s3.Server(tmp_path)
    try:
        stores = {i: s3.opened(server.port, "job") for i in range(4)}
        made = tiny(
            4, stores=stores, training=Training(rounds=4, min_members=4, deadline=100), retain_rounds=1
        )
        made.until(Phase.AVAILABLE, 2)
        server.stop()
        for _ in range(2):
            made.advance()
        assert made.state.phase is Phase.AVAILABLE
        server.start()
        made.run()
        assert made.state.version == 4
        assert any("network" in text for n in made.nodes for text in n.findings)
        assert stores[0].list("large")
        assert {int(key.split("/")[2]) for key in stores[0].list("outbox")} == {3, 4}
        newcomer = node(made, 0, store=replace(stores[0]))
        assert newcomer.models.standing(made.state).digest == made.state.model
    finally:
        server.stop()
