"""What SPU's log tells of an execution is read, whatever else stands in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hansa.mpc.traffic import Cost, ExecutionLog, by_layer

LINE = "2026 [info] [api.cc:233] Link details: total send bytes {}, recv bytes {}, send actions {}, recv actions 7\n"


class Logging:
    """As SPU's: opens the file that it is told and appends."""

    LogOptions = SimpleNamespace

    def setup_logging(self, options: Any) -> None:
        self.path = options.system_log_path
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115


def test_each_execution_is_counted_once_and_the_log_does_not_grow() -> None:
    logging = Logging()
    log = ExecutionLog(logging)
    assert not Path(logging.path).exists()  # nobody else reads it
    assert log.taken() == (0, 0, 0)
    logging.file.write(b"\xff\xfe Link details: total send bytes x\n" + LINE.format(10, 20, 3).encode())
    assert log.taken() == (10, 20, 3)
    assert log.taken() == (0, 0, 0)
    logging.file.write((LINE.format(1, 2, 3) + LINE.format(10**30, 2, 3) + LINE.format(4, 5, 6)).encode())
    assert log.taken() == (5, 7, 9)
    logging.file.close()


def test_costs_add_up_by_layer_and_what_has_none_keeps_its_name() -> None:
    costs = {"forward": Cost(2, 0.5, 10, 20, 3), "backward": Cost(1, 0.5, 1, 2, 3), "join": Cost(1)}
    layers = {"forward": "dense1", "backward": "dense1"}
    assert by_layer(costs, layers) == {"dense1": Cost(3, 1.0, 11, 22, 6), "join": Cost(1)}
