"""What training costs: seconds, bytes and sends, by executable and boundary, and by layer."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_EXECUTION = re.compile(
    r"Link details: total send bytes (\d{1,18}), recv bytes (\d{1,18}), send actions (\d{1,12})"
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one party: how often, seconds, bytes sent and received, sends."""

    times: int = 0
    seconds: float = 0.0
    sent: int = 0
    received: int = 0
    sends: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.times + other.times,
            self.seconds + other.seconds,
            self.sent + other.sent,
            self.received + other.received,
            self.sends + other.sends,
        )


def by_layer(costs: Mapping[str, Cost], layers: Mapping[str, str]) -> dict[str, Cost]:
    """Costs by layer, of costs by executable's or variable's name; what belongs to no layer stands under its name."""
    found: dict[str, Cost] = {}
    for name, cost in costs.items():
        layer = layers.get(name, name)
        found[layer] = found.get(layer, Cost()) + cost
    return found


class ExecutionLog:
    """SPU's log, the only place where it tells the bytes of an execution. Sets up logging of this process."""

    def __init__(self, logging: Any) -> None:
        with tempfile.NamedTemporaryFile(prefix="hansa-spu-") as named:
            options = logging.LogOptions()
            options.enable_console_logger = False
            options.system_log_path = named.name
            logging.setup_logging(options)
            self._file = os.open(named.name, os.O_RDWR)

    def taken(self) -> tuple[int, int, int]:
        """Bytes sent, bytes received and sends since it was last asked; zeros if SPU did not tell."""
        text = os.pread(self._file, os.fstat(self._file).st_size, 0).decode("utf-8", "replace")
        # SPU appends: the file begins anew, and does not grow.
        os.ftruncate(self._file, 0)
        found = [tuple(map(int, groups)) for groups in _EXECUTION.findall(text)]
        sent, received, sends = (sum(column) for column in zip(*found, strict=True)) if found else (0, 0, 0)
        return sent, received, sends
