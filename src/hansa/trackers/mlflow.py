"""MLflow: an experiment called as the federation, and in it a run called as the run's folder.

A file in the folder says which of the server's runs it is, so that a resumed run goes on there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, final
from urllib.parse import urlsplit

# Before MLflow is imported: it would report its use to its makers, and ask a server that is away for minutes.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from hansa import errors
from hansa.ports import Tracked
from hansa.trackers.scalars import rounds

Result = TypeVar("Result")
FILE: Final = "mlflow.json"
MARK: Final = "gas"
"""A figure that every round has: its history says which rounds are there."""

LIMIT: Final = 1000
"""Figures that MLflow takes at once."""


def _asked(where: str, call: Callable[[], Result]) -> Result:
    try:
        return call()
    except MlflowException as e:
        raise errors.Unavailable(
            f"MLflow at {where} does not take figures: {str(e)[:300]}",
            hint="Check its address, and that it runs; or leave --track out, metrics.jsonl has them all.",
        ) from e


@final
class MLflow:
    """A `Tracker`. `told`: the last round that the server has, whole, since a round is one request."""

    def __init__(self, client: MlflowClient, where: str, run: str, told: int) -> None:
        self.told = told
        self._client, self._where, self._run = client, where, run

    def tell(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """See `Tracker.tell`."""
        now = int(1000 * time.time())
        for step, figures in rounds(lines):
            found = [Metric(name, value, now, step) for name, value in figures.items()]
            # The mark goes last: with more figures than a request takes, it says that all are there.
            found.sort(key=lambda metric: metric.key == MARK)
            for start in range(0, len(found), LIMIT):
                part = found[start : start + LIMIT]
                _asked(self._where, lambda: self._client.log_batch(self._run, metrics=part))  # noqa: B023
            self.told = step

    def close(self, *, finished: bool) -> None:
        """See `Tracker.close`."""
        status = "FINISHED" if finished else "KILLED"
        _asked(self._where, lambda: self._client.set_terminated(self._run, status))


def create(run: Tracked, target: str) -> MLflow:
    """The run on the server or database at URI `target`; by default where MLflow itself would look.

    Raises `Misconfigured` for a URI that is none, `Unavailable` when nobody answers there.
    """
    address = urlsplit(target)
    if address.username or address.password:
        raise errors.Misconfigured(
            "an address of MLflow must not hold credentials",
            hint="Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead.",
        )
    uri = target or mlflow.get_tracking_uri()
    where = address.hostname or uri
    client = _asked(where, lambda: MlflowClient(tracking_uri=uri))
    known = _known(run, uri)
    if known is None:
        known = _asked(where, lambda: _begin(client, run))
        text = json.dumps({"uri": uri, "run": known}) + "\n"
        (run.folder / FILE).write_text(text)
        return MLflow(client, where, known, 0)
    history = _asked(where, lambda: client.get_metric_history(known, MARK))
    _asked(where, lambda: client.set_terminated(known, "RUNNING"))
    return MLflow(client, where, known, max((metric.step for metric in history), default=0))


def _known(run: Tracked, uri: str) -> str | None:
    """The server's name for this run, if it was there before."""
    path = run.folder / FILE
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text())
        return str(kept["run"]) if kept["uri"] == uri else None
    except (ValueError, KeyError, TypeError):
        return None


def _begin(client: MlflowClient, run: Tracked) -> str:
    found = client.get_experiment_by_name(run.name)
    experiment = found.experiment_id if found else client.create_experiment(run.name)
    made = client.create_run(experiment, run_name=run.folder.name)
    params = [Param(name, value) for name, value in run.params.items()]
    client.log_batch(made.info.run_id, params=params)
    return str(made.info.run_id)
