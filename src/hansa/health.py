"""Looking at a node from outside: `/healthz` for supervisors, `/metrics` for Prometheus. On loopback only.

Served from threads of their own, which only read what the node publishes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hansa import errors
from hansa.records import Phase
from hansa.serving import Service

OLD = 90.0
"""Seconds without a view, a step or an answer from which on a node is not well: three of its longest waits."""


def health(service: Service) -> dict[str, Any]:
    """What `/healthz` tells; `well` decides between 200 and 503. A node in the app's own code is at work."""
    pulse, meter = service.pulse, service.meter
    now, busy = meter.clock(), meter.busy
    reasons = [
        f"the {part} has not answered for {now - failure.since:.0f} s: {failure.text}"
        for part, failure in sorted(meter.failing.items())
        if now - failure.since > OLD
    ]
    if busy is None and now - pulse.viewed > OLD and not reasons:
        reasons.append(f"the last view of the chain is {now - pulse.viewed:.0f} s old")
    if busy is None and now - pulse.stepped > OLD:
        reasons.append(f"the last step ended {now - pulse.stepped:.0f} s ago")
    state = pulse.view.state if pulse.view else None
    return {
        "well": not reasons,
        "reasons": reasons,
        "member": service.node.me.id,
        "round": state.round if state else None,
        "phase": state.phase.name if state else None,
        "rounds_final": state.version if state else None,
        "paused": state is not None and state.phase is Phase.PAUSED,
        "clock": pulse.clock,
        "seconds_since_view": round(now - pulse.viewed, 3),
        "seconds_since_step": round(now - pulse.stepped, 3),
        "seconds_in_app": None if busy is None else round(now - busy, 3),
    }


class _Metrics(Collector):
    """Read anew at each scrape."""

    def __init__(self, service: Service, gas: Callable[[], int]) -> None:
        self._service = service
        self._gas = gas

    def collect(self) -> Iterator[Metric]:
        pulse, meter = self._service.pulse, self._service.meter
        now = meter.clock()
        yield _gauge("well", "1 if /healthz says 200", health(self._service)["well"])
        yield _gauge("seconds_since_view", "Age of the last view of the chain", now - pulse.viewed)
        yield _gauge("seconds_since_step", "Time since the last step ended", now - pulse.stepped)
        if pulse.view is not None:
            state = pulse.view.state
            yield _gauge("round", "The running round", state.round)
            yield _gauge("phase", "Phase by the contract's number; 8 is PAUSED, 9 STOPPED", state.phase)
            yield _gauge("rounds_final", "Final rounds: the model's version", state.version)
            yield _gauge("failed_rounds_in_a_row", "Void rounds since the last final one", state.voids)
            yield _gauge("block", "Newest block seen", pulse.view.block)
            member = state.members[self._service.node.me.id]
            yield _gauge("reputation", "The own reputation", member.reputation)
            yield _gauge("active", "1 if on the next roster", member.member and member.active)
        failed = CounterMetricFamily("hansa_errors", "Questions without a good answer", labels=["of"])
        for part in ("chain", "store"):
            failed.add_metric([part], meter.errors[part])
        yield failed
        moved = CounterMetricFamily("hansa_store_bytes", "Bytes to and from the store", labels=["way"])
        moved.add_metric(["up"], meter.up)
        moved.add_metric(["down"], meter.down)
        yield moved
        worked = CounterMetricFamily("hansa_app_seconds", "Seconds in the app's own code", labels=["what"])
        for what, seconds in meter.seconds.items():
            worked.add_metric([what], seconds)
        yield worked
        yield CounterMetricFamily("hansa_messages", "Messages left in the store", value=meter.messages)
        yield CounterMetricFamily(
            "hansa_transactions", "Calls sent to the contract", value=meter.transactions
        )
        yield CounterMetricFamily("hansa_gas", "Gas of the calls that succeeded", value=self._gas())


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hansa_{name}", what, value=float(value))


@contextmanager
def served(service: Service, gas: Callable[[], int], port: int) -> Iterator[int]:
    """Serve on this port of the loopback interface, 0 for any; gives the port. Raises `Misconfigured`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(service, gas))

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version, sys_version = "hansa", ""

        def do_GET(self) -> None:
            if self.path == "/healthz":
                told = health(service)
                body = json.dumps(told).encode() + b"\n"
                self._reply(200 if told["well"] else 503, "application/json", body)
            elif self.path == "/metrics":
                self._reply(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            else:
                self._reply(404, "text/plain", b"/healthz and /metrics are here\n")

        def _reply(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Whoever asks is no event of the node."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that hang up are no event of the node either."""

    try:
        server = Server(("127.0.0.1", port), Handler)
    except OSError as e:
        raise errors.Misconfigured(
            f"cannot serve health on port {port}: {e.strerror}", hint="Name another --health port, or 0."
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
